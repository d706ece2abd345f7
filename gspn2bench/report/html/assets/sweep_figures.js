// @ts-check
// Figures over what a sweep varies: latency against sizes, speed-up over batch and channels.
const sweepFigures = (() => {
  const MOST_LINES = 6;

  /** @typedef {{ title: string, value: (row: Row) => number, held: (row: Row) => string }} Axis */
  /** @typedef {{ label: string, rows: TimedRow[] }} Line rows that differ along an axis only */

  /**
   * What varies along an axis, and what is constant along a line.
   * @type {Record<"size" | "channels" | "batch" | "slices", Axis>}
   */
  const AXES = {
    size: {
      title: "size: √(height × width) (log scale)",
      value: (row) => Math.sqrt(row.height * row.width),
      held: (row) => `N${row.batch} C${row.channels}`,
    },
    channels: {
      title: "channels, C (log scale)",
      value: (row) => row.channels,
      held: (row) => `N${row.batch} ${row.height}x${row.width}`,
    },
    batch: {
      title: "batch, N (log scale)",
      value: (row) => row.batch,
      held: (row) => `C${row.channels} ${row.height}x${row.width}`,
    },
    slices: {
      title: "slices, N × C (log scale)",
      value: (row) => row.batch * row.channels,
      held: (row) => `${row.height}x${row.width}`,
    },
  };

  /**
   * What is constant, and what else separates the cases of a run.
   * @param {string} held
   * @param {Row} row
   */
  function heldText(held, row) {
    const parts = [
      held,
      row.logits ? "logits" : "",
      row.directions > 1 ? `${row.directions} directions` : "",
      row.chunking === "whole scan" ? "" : row.chunking,
      row.part === "kernel" ? "" : row.part,
      row.proxy === null ? "" : `C_proxy ${row.proxy}`,
    ];
    return parts.filter(Boolean).join(", ");
  }

  /**
   * Latency along one of AXES: a line for each rung and each set of constants.
   * @param {View} view
   * @param {keyof AXES} axisName
   * @returns {Figure | null}
   */
  function scaling(view, axisName) {
    const { title, value, held } = AXES[axisName];
    const groups = views.grouped(view.timed, (row) => heldText(held(row), row));
    const lines = [...groups]
      .map(([label, rows]) => ({ label, rows }))
      .filter(({ rows }) => new Set(rows.map(value)).size > 1);
    const shown = lines.slice(0, MOST_LINES);
    if (!shown.length) return null;
    const name = views.namer(view.timed);
    const drawn = shown.map((line, index) => latencyLines(view, line, index, shown, name, value));
    const data = drawn.flatMap(({ traces }) => traces);
    const legend = drawn.flatMap(({ entries }) => entries);
    const floor = floorLines(shown, value);
    if (floor.x?.length) {
      data.push(floor);
      legend.push({ key: "floor-line", name: "floor of the case" });
    }
    const shownRows = shown.flatMap((line) => line.rows);
    if (shownRows.some((row) => row.l2 === "warm"))
      legend.push({ glyph: "○", name: "open marker: warm L2" });
    const latencies = shownRows
      .flatMap((row) => [row.latency_ms, row.floor_ms])
      .filter(views.isPositive);
    const steps = views.ascending(shownRows.map(value));
    return {
      data,
      layout: theme.layout(360, {
        xaxis: theme.logAxis(title, steps, (step) => formatting.compact(step, 4), steps),
        yaxis: theme.logAxis("latency, ms (log scale)", latencies),
      }),
      legend,
      rows: drawn.flatMap((line) => line.tableRows),
      note:
        lines.length > shown.length
          ? `The first ${shown.length} of ${lines.length} lines; the table of all rows lists every case.`
          : "",
    };
  }

  /**
   * Latency along one line: a trace for each rung.
   * @param {View} view
   * @param {Line} line
   * @param {number} index of the line among those shown
   * @param {Line[]} shown
   * @param {(row: Row) => string} name of a row's rung
   * @param {(row: Row) => number} value along the axis
   */
  function latencyLines(view, { label, rows }, index, shown, name, value) {
    /** @type {PlotlyTrace[]} */
    const traces = [];
    /** @type {LegendEntry[]} */
    const entries = [];
    const sorted = [...rows].sort((a, b) => value(a) - value(b));
    for (const [rung, members] of views.grouped(rows, name)) {
      const style = { ...theme.look(view, members[0].rung), dash: theme.dash(index) };
      const series = shown.length > 1 ? `${rung}, ${label}` : rung;
      entries.push({ ...style, name: series });
      const along = sorted.filter((row) => name(row) === rung);
      traces.push({
        type: "scatter",
        mode: "lines+markers",
        name: formatting.label(series, 60),
        x: along.map(value),
        y: along.map((row) => row.latency_ms),
        error_y: theme.errorBars(
          along.map((row) => ({
            value: row.latency_ms,
            low: row.latency_ms_low,
            high: row.latency_ms_high,
          })),
        ),
        line: { color: style.colour, dash: style.dash, width: 2 },
        marker: {
          color: style.colour,
          symbol: along.map((row) => theme.rowSymbol(style.symbol, row)),
          size: 9,
        },
        hoverinfo: "text",
        hovertext: along.map((row) =>
          theme.hover(series, row, `${formatting.number(row.latency_ms)} ms`),
        ),
      });
    }
    const tableRows = sorted.map((row) => ({
      ...row,
      tick: name(row),
      along: value(row),
      held: label,
    }));
    return { traces, entries, tableRows };
  }

  /**
   * The floor along each line, of the rung with the fewest bytes; a null separates two lines.
   * @param {Line[]} lines
   * @param {(row: Row) => number} value along the axis
   * @returns {PlotlyTrace}
   */
  function floorLines(lines, value) {
    /** @type {[x: number | null, y: number | null][]} */
    const points = lines.flatMap(({ rows }) => {
      /** @type {Map<number, number>} */
      const least = new Map();
      for (const row of rows) {
        if (views.isPositive(row.floor_ms))
          least.set(value(row), Math.min(row.floor_ms, least.get(value(row)) ?? Infinity));
      }
      if (!least.size) return [];
      return [...[...least].sort(([a], [b]) => a - b), [null, null]];
    });
    return {
      type: "scatter",
      mode: "lines",
      name: "floor",
      x: points.map(([x]) => x),
      y: points.map(([, y]) => y),
      line: { color: "var(--floor)", dash: "dot", width: 2 },
      hoverinfo: "skip",
    };
  }

  /** @typedef {TimedRow & { speedup: number }} FasterRow */
  /** @typedef {{ rung: string, held: string, rows: FasterRow[] }} Plane */

  /**
   * The batches and channels of the last chosen rung that has a speed-up over both.
   * @param {View} view
   * @returns {Plane[]} one for each size of the map
   */
  function planes(view) {
    const faster = view.timed.filter(views.hasSpeedup);
    for (const rung of [...view.rungs].reverse()) {
      const groups = views.grouped(
        faster.filter((row) => row.rung === rung),
        (row) => heldText(`${row.height}x${row.width}`, row),
      );
      const varied = [...groups]
        .map(([held, rows]) => ({ rung, held, rows }))
        .filter(
          ({ rows }) =>
            new Set(rows.map((row) => row.channels)).size > 1 &&
            new Set(rows.map((row) => row.batch)).size > 1,
        );
      if (varied.length) return varied;
    }
    return [];
  }

  /**
   * Speed-up of one rung over its base, over batch and channels.
   * @type {FigureBuilder}
   */
  function heat(view) {
    const candidates = planes(view);
    if (!candidates.length) return null;
    const plane = candidates.reduce((a, b) => (b.rows.length > a.rows.length ? b : a));
    const { rung, held, rows } = plane;
    const channels = views.ascending(rows.map((row) => row.channels));
    const batches = views.ascending(rows.map((row) => row.batch));
    const bases = new Set(rows.map((row) => row.base_rung));
    const name = `speed-up of ${rung} over ${[...bases].join(", ")} at ${held}, ${view.timing} time`;
    return {
      data: [heatmap(plane, channels, batches)],
      layout: theme.layout(110 + 44 * batches.length, {
        xaxis: categoryAxis("channels, C", channels),
        yaxis: categoryAxis("batch, N", batches),
      }),
      legend: [{ glyph: "■", name }],
      rows: rows.map((row) => ({ ...row, tick: row.rung })),
      note:
        candidates.length > 1
          ? `The largest of ${candidates.length} planes. Empty cells were not measured.`
          : "Empty cells were not measured.",
    };
  }

  /**
   * @param {string} title
   * @param {number[]} values
   */
  const categoryAxis = (title, values) =>
    theme.axis(title, { type: "category", categoryarray: values.map(String), showgrid: false });

  /**
   * @param {Plane} plane
   * @param {number[]} channels
   * @param {number[]} batches
   * @returns {PlotlyTrace}
   */
  function heatmap({ rung, rows }, channels, batches) {
    const cells = batches.map((batch) =>
      channels.map((many) => rows.find((row) => row.batch === batch && row.channels === many)),
    );
    return {
      type: "heatmap",
      x: channels.map(String),
      y: batches.map(String),
      z: cells.map((line) => line.map((row) => row?.speedup ?? null)),
      text: cells.map((line) => line.map((row) => formatting.speedup(row?.speedup))),
      texttemplate: "%{text}",
      hoverinfo: "text",
      hovertext: cells.map((line) =>
        line.map((row) =>
          row ? theme.hover(rung, row, formatting.speedup(row.speedup)) : "not measured",
        ),
      ),
      hoverongaps: false,
      colorscale: "Cividis",
      colorbar: {
        title: { text: "speed-up", side: "right" },
        ...ratioTicks(rows.map((row) => row.speedup)),
        thickness: 12,
        outlinewidth: 0,
      },
      xgap: 2,
      ygap: 2,
    };
  }

  /**
   * The ticks of a colour bar of speed-ups. Plotly's own would show a slow-down as a number below 1.
   * @param {number[]} ratios
   */
  function ratioTicks(ratios) {
    const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
    if (low >= 1) return { ticksuffix: formatting.TIMES };
    const tickvals = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
    return { tickvals, ticktext: tickvals.map((ratio) => formatting.speedup(ratio)) };
  }

  return { scaling, heat };
})();
