// Figures over what a sweep varies: latency against sizes, speed-up over batch and channels.
// Each takes a view and gives null where there is nothing to draw, else what counts.js gives.
const sweeps = (() => {
  const MOST_SERIES = 6;
  // what varies along the axis, and what is held still along a line
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

  // What else separates the cases of a run.
  function others(row) {
    const parts = [
      row.logits ? "logits" : "",
      row.directions > 1 ? `${row.directions} directions` : "",
      row.chunking,
      row.part === "kernel" ? "" : row.part,
      row.proxy === null ? "" : `C_proxy ${row.proxy}`,
    ];
    return parts.filter((part) => part && part !== "whole scan").join(", ");
  }

  // Latency along one of AXES: a line for each rung and for what is held still.
  function scaling(view, name) {
    const { title, value, held } = AXES[name];
    const still = (row) => [held(row), others(row)].filter(Boolean).join(", ");
    const lines = [...views.grouped(view.timed, still)].filter(
      ([, rows]) => new Set(rows.map(value)).size > 1,
    );
    const shown = lines.slice(0, MOST_SERIES);
    if (!shown.length) return null;
    const tick = views.namer(view.timed);
    const several = shown.length > 1;
    const data = [];
    const legend = [];
    const drawn = shown.flatMap(([label, found], line) => {
      const sorted = [...found].sort((a, b) => value(a) - value(b));
      for (const [rung, rows] of views.grouped(found, tick)) {
        const style = theme.look(view, rows[0].rung, line);
        const series = several ? `${rung}, ${label}` : rung;
        const along = sorted.filter((row) => rows.includes(row));
        legend.push({ ...style, name: series });
        data.push({
          type: "scatter",
          mode: "lines+markers",
          name: text.label(series, 60),
          x: along.map(value),
          y: along.map((row) => row.latency_ms),
          error_y: theme.interval(
            along.map((row) => ({
              value: row.latency_ms,
              low: row.latency_ms_low,
              high: row.latency_ms_high,
            })),
          ),
          line: { color: style.colour, dash: style.dash, width: 2 },
          marker: {
            color: style.colour,
            symbol: along.map((row) => theme.open(style.symbol, row)),
            size: 9,
          },
          hoverinfo: "text",
          hovertext: along.map((row) =>
            theme.hover(series, row, `${text.number(row.latency_ms)} ms`),
          ),
        });
      }
      return sorted.map((row) => ({ ...row, tick: tick(row), along: value(row), held: label }));
    });
    const floor = floors(shown, value);
    if (floor.x.length) {
      data.push(floor);
      legend.push({ key: "floor-line", name: "floor of the case" });
    }
    if (drawn.some((row) => row.l2 === "warm"))
      legend.push({ glyph: "○", name: "open marker: warm L2" });
    const latencies = drawn
      .flatMap((row) => [row.latency_ms, row.floor_ms])
      .filter((each) => each > 0);
    const steps = [...new Set(drawn.map(value))].sort((a, b) => a - b);
    return {
      data,
      layout: theme.layout(360, {
        xaxis: theme.logAxis(title, steps, (step) => text.plain(step, 4), steps),
        yaxis: theme.logAxis("latency, ms (log scale)", latencies),
      }),
      legend,
      rows: drawn,
      note:
        lines.length > shown.length
          ? `The first ${shown.length} of ${lines.length} lines; the table of all rows has every one.`
          : "",
    };
  }

  // The floor along each line, of the rung with the fewest bytes; null parts one line from the next.
  function floors(lines, value) {
    const points = lines.flatMap(([, rows]) => {
      const least = new Map();
      for (const row of rows) {
        if (row.floor_ms > 0)
          least.set(value(row), Math.min(row.floor_ms, least.get(value(row)) ?? Infinity));
      }
      return least.size ? [...[...least].sort((a, b) => a[0] - b[0]), [null, null]] : [];
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

  // Ticks of a colour bar of speed-ups; Plotly's own would show a slow-down as a number below 1.
  function ratioTicks(ratios) {
    const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
    if (low >= 1) return { ticksuffix: text.TIMES };
    const tickvals = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
    return { tickvals, ticktext: tickvals.map((ratio) => text.speedup(ratio)) };
  }

  // Speed-up of one rung over the base, over batch and channels: of the last rung chosen that has one.
  function heat(view) {
    const faster = view.timed.filter(views.hasSpeedup);
    const planes = [];
    for (const rung of [...view.rungs].reverse()) {
      const rows = faster.filter((row) => row.rung === rung);
      const still = (row) => [`${row.height}x${row.width}`, others(row)].filter(Boolean).join(", ");
      for (const [held, found] of views.grouped(rows, still)) {
        const wide = new Set(found.map((row) => row.channels)).size > 1;
        const high = new Set(found.map((row) => row.batch)).size > 1;
        if (wide && high) planes.push({ rung, held, found });
      }
      if (planes.length) break;
    }
    if (!planes.length) return null;
    const { rung, held, found } = planes.reduce((a, b) =>
      b.found.length > a.found.length ? b : a,
    );
    const ascending = (column) =>
      [...new Set(found.map((row) => row[column]))].sort((a, b) => a - b);
    const channels = ascending("channels");
    const batches = ascending("batch");
    const cells = batches.map((batch) =>
      channels.map(
        (wide) => found.find((row) => row.batch === batch && row.channels === wide) ?? null,
      ),
    );
    const category = (title, values) =>
      theme.axis(title, { type: "category", categoryarray: values.map(String), showgrid: false });
    const what = `${rung} over ${[...new Set(found.map((row) => row.base_rung))].join(", ")} at ${held}`;
    return {
      data: [
        {
          type: "heatmap",
          x: channels.map(String),
          y: batches.map(String),
          z: cells.map((line) => line.map((row) => row?.speedup ?? null)),
          text: cells.map((line) => line.map((row) => (row ? text.speedup(row.speedup) : ""))),
          texttemplate: "%{text}",
          hoverinfo: "text",
          hovertext: cells.map((line) =>
            line.map((row) =>
              row ? theme.hover(rung, row, text.speedup(row.speedup)) : "not measured",
            ),
          ),
          hoverongaps: false,
          colorscale: "Cividis",
          colorbar: {
            title: { text: "speed-up", side: "right" },
            ...ratioTicks(found.map((row) => row.speedup)),
            thickness: 12,
            outlinewidth: 0,
          },
          xgap: 2,
          ygap: 2,
        },
      ],
      layout: theme.layout(110 + 44 * batches.length, {
        xaxis: category("channels, C", channels),
        yaxis: category("batch, N", batches),
      }),
      legend: [{ glyph: "■", name: `speed-up of ${what}, ${view.timing} time` }],
      rows: found.map((row) => ({ ...row, tick: row.rung })),
      note:
        planes.length > 1
          ? `One of ${planes.length} planes, that with the most cells; a cell is empty where nothing was measured.`
          : "A cell is empty where nothing was measured.",
    };
  }

  return { scaling, heat };
})();
