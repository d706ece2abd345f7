// @ts-check
// Figures of bars: the ladder, launches, bytes.
const barFigures = (() => {
  const MOST_CASES = 24;

  /**
   * Latency of each rung with its 95 % interval, and published figures beside it.
   * @type {FigureBuilder}
   */
  function ladder(view) {
    if (!view.timed.length) return null;
    const ours = { key: "ours", name: measuredName(view) };
    /** @type {Map<string, Series>} */
    const sources = new Map();
    /** @type {TableRow[]} */
    const tableRows = [];
    const groups = drawnCases(view.rows).map(({ title, rows }) => {
      const name = views.namer(rows);
      const bars = rows.flatMap((row) => {
        const published = row.beside.map((index) => view.data.published[index]);
        const line = { ...row, title, tick: name(row) };
        tableRows.push(
          ...(published.length ? published.map((each) => ({ ...line, ...each })) : [line]),
        );
        return [
          measuredBar(ours, name(row), row),
          ...published.flatMap((figure) => publishedBars(figure, sources)),
        ];
      });
      return { title, bars };
    });
    const floors = view.timed.some((row) => views.isPositive(row.floor_ms))
      ? [{ key: "floor", name: "floor of the case" }]
      : [];
    const rates = tableRows.some((row) => Number(row.published_gbps) > 0)
      ? "Published GB/s appear only in the table: a source may count bytes differently from our model."
      : "";
    return {
      ...barChart.figure(groups, "latency, ms (log scale)"),
      legend: [ours, ...sources.values(), ...floors],
      rows: tableRows,
      note: [cutNote(view.rows), rates].filter(Boolean).join(" "),
    };
  }

  /** @param {View} view */
  function measuredName({ record, timed, timing }) {
    const states = new Set(timed.map((row) => row.l2));
    const l2 = states.size === 1 ? `, ${[...states][0]} L2` : "";
    return `measured: ${record.machine}, ${timing} time${l2}; median and 95 % interval`;
  }

  /**
   * @param {Series} series
   * @param {string} tick
   * @param {Row} row
   * @returns {Bar}
   */
  function measuredBar(series, tick, row) {
    if (!views.hasLatency(row))
      return { series, tick, value: null, text: row.withheld || row.status };
    return {
      series,
      tick,
      value: row.latency_ms,
      text: `${formatting.number(row.latency_ms)} ms`,
      more: views.hasSpeedup(row) ? ` · ${formatting.speedup(row.speedup)}` : "",
      low: row.latency_ms_low,
      high: row.latency_ms_high,
      mark: row.floor_ms,
    };
  }

  /**
   * The bar of a published latency; none for a published rate. The patterns of sources repeat after
   * four; their names differ.
   * @param {Published} figure
   * @param {Map<string, Series>} sources by name, extended here
   * @returns {Bar[]}
   */
  function publishedBars(figure, sources) {
    const value = figure.published_ms;
    if (value === null) return [];
    const name = `published: ${figure.published_machine}; ${figure.published_source}`;
    const series = sources.get(name) ?? { key: `published-${sources.size % 4}`, name };
    sources.set(name, series);
    return [{ series, tick: "published", value, text: `${formatting.number(value)} ms` }];
  }

  /** @typedef {"launches_expected" | "launches_observed" | "bytes_model" | "bytes_traced" | "bytes_dram"} CountColumn */
  /** @typedef {{ column: CountColumn, name: string, series: Series }} Quantity a bar of each row */

  /**
   * Kernel launches per call, expected by formula and observed.
   * @type {FigureBuilder}
   */
  function launches(view) {
    const observed = view.record.simulated ? "counted in the simulator" : "observed by CUPTI";
    /** @type {Quantity[]} */
    const quantities = [
      {
        column: "launches_expected",
        name: "expected",
        series: { key: "expected", name: "expected by formula" },
      },
      {
        column: "launches_observed",
        name: "observed",
        series: { key: "observed", name: observed },
      },
    ];
    const title = "launches of one call (log scale)";
    return compared(view, quantities, title, formatting.count, formatting.count, 0.5);
  }

  /**
   * Global-memory bytes per call: of the model, traced, and counted by the hardware.
   * @type {FigureBuilder}
   */
  function traffic(view) {
    /** @type {Quantity[]} */
    const quantities = [
      {
        column: "bytes_model",
        name: "model",
        series: { key: "model", name: "model: inputs and outputs once each" },
      },
      {
        column: "bytes_traced",
        name: "traced",
        series: { key: "traced", name: "traced in the simulator" },
      },
      {
        column: "bytes_dram",
        name: "DRAM",
        series: { key: "dram", name: "DRAM, by hardware counters" },
      },
    ];
    /** @param {number} tick */
    const tickText = (tick) => formatting.size(tick, formatting.compact);
    return compared(view, quantities, "bytes of one call (log scale)", formatting.size, tickText);
  }

  /**
   * A bar per quantity and row; the text of each but the first states its ratio to the first.
   * @param {View} view
   * @param {Quantity[]} quantities
   * @param {string} title of the axis
   * @param {(value: number) => string} form
   * @param {(tick: number) => string} tickText
   * @param {number} [start] of the axis, at most
   * @returns {Figure | null}
   */
  function compared(view, quantities, title, form, tickText, start) {
    const columns = quantities.map(({ column }) => column);
    const known = merged(view, columns);
    const present = quantities.filter(({ column }) => known.some((row) => row[column] !== null));
    if (!present.length) return null;
    /** @type {TableRow[]} */
    const tableRows = [];
    const groups = drawnCases(known).map((each) => {
      const name = views.namer(each.rows);
      const bars = each.rows.flatMap((row) => {
        tableRows.push({ ...row, title: each.title, tick: name(row) });
        return countBars(row, name(row), present, form);
      });
      return { title: each.title, bars };
    });
    return {
      ...barChart.figure(groups, title, tickText, start),
      legend: present.map(({ series }) => series),
      rows: tableRows,
      note: cutNote(known),
    };
  }

  /**
   * The bars of one row. Ticks name the quantity only where there are several; the legend names a
   * single one.
   * @param {Row} row
   * @param {string} tick
   * @param {Quantity[]} quantities
   * @param {(value: number) => string} form
   * @returns {Bar[]}
   */
  function countBars(row, tick, quantities, form) {
    const first = row[quantities[0].column];
    return quantities.flatMap(({ column, name, series }) => {
      const value = row[column];
      if (value === null) return [];
      const differs = value > 0 && views.isPositive(first) && value !== first;
      const more = differs ? ` · ${formatting.number(value / first)}${formatting.TIMES}` : "";
      const quantity = quantities.length > 1 ? name : "";
      return [{ series, tick, quantity, value, text: form(value), more }];
    });
  }

  /**
   * One row per case, rung and direction: that of the chosen timing, if there is one. Counts do not
   * depend on the timing, so a count that the row lacks is taken from a different timing.
   * @param {View} view
   * @param {CountColumn[]} columns
   */
  function merged(view, columns) {
    const green = view.counted.filter(
      (row) => row.gate_green && columns.some((column) => row[column] !== null),
    );
    const same = views.grouped(green, (row) =>
      JSON.stringify([row.title, row.rung, row.direction]),
    );
    return [...same.values()].map((rows) => {
      const chosen = { ...(rows.find((row) => row.timing === view.timing) ?? rows[0]) };
      for (const column of columns) {
        chosen[column] ??= rows.find((row) => row[column] !== null)?.[column] ?? null;
      }
      return chosen;
    });
  }

  /** @param {Row[]} rows */
  const drawnCases = (rows) => views.cases(rows).slice(0, MOST_CASES);

  /** @param {Row[]} rows */
  function cutNote(rows) {
    const many = views.cases(rows).length;
    return many > MOST_CASES
      ? `The first ${MOST_CASES} of ${many} cases; the table of all rows lists every case.`
      : "";
  }

  return { ladder, launches, traffic };
})();
