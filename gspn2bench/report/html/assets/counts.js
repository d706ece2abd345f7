// Figures of bars: the ladder, launches, bytes. Each takes a view and gives null where there is
// nothing to draw, else { data, layout, legend, rows, note }: rows are those of the table behind it.
const counts = (() => {
  const MOST_CASES = 24;

  // Latency of each rung with its 95 % interval, published figures beside it.
  function ladder(view) {
    if (!view.timed.length) return null;
    const l2 = views.common(view.timed, "l2");
    const ours = {
      key: "ours",
      name: `measured: ${view.record.machine}, ${view.timing} time${l2 && `, ${l2} L2`}; median and 95 % interval`,
    };
    const sources = new Map();
    const rows = [];
    const groups = drawnCases(view.rows).map(([title, found]) => {
      const tick = views.namer(found);
      const bars = found.flatMap((row) => {
        const beside = row.beside.map((place) => view.data.published[place]);
        const line = { ...row, title, tick: tick(row) };
        rows.push(...(beside.length ? beside.map((figure) => ({ ...line, ...figure })) : [line]));
        const given = beside.filter((figure) => figure.published_ms !== null);
        return [
          measured(ours, tick(row), row),
          ...given.map((figure) => published(figure, sources)),
        ];
      });
      return { title, bars };
    });
    const floors = view.timed.some((row) => row.floor_ms > 0)
      ? [{ key: "floor", name: "floor of the case" }]
      : [];
    const rates = rows.some((row) => row.published_gbps > 0)
      ? "Published GB/s stand in the table only: they are a rate as the source counts it, not model bytes over latency."
      : "";
    return {
      ...bars.figure(groups, "latency, ms (log scale)"),
      legend: [ours, ...sources.values(), ...floors],
      rows,
      note: [cut(view.rows), rates].filter(Boolean).join(" "),
    };
  }

  function measured(series, tick, row) {
    if (!views.hasLatency(row))
      return { series, tick, value: null, text: row.withheld || row.status };
    return {
      series,
      tick,
      value: row.latency_ms,
      text: `${text.number(row.latency_ms)} ms`,
      more: views.hasSpeedup(row) ? ` · ${text.speedup(row.speedup)}` : "",
      low: row.latency_ms_low,
      high: row.latency_ms_high,
      mark: row.floor_ms,
    };
  }

  // Beyond four sources patterns repeat, and names tell.
  function published(figure, sources) {
    const name = `published: ${figure.published_machine}; ${figure.published_source}`;
    if (!sources.has(name)) sources.set(name, { key: `published-${sources.size % 4}`, name });
    const value = figure.published_ms;
    return {
      series: sources.get(name),
      tick: "published",
      value,
      text: `${text.number(value)} ms`,
    };
  }

  // Kernel launches of one call, expected by formula and observed.
  function launches(view) {
    const how = view.record.simulated ? "counted in the simulator" : "observed by CUPTI";
    const quantities = [
      {
        column: "launches_expected",
        tick: "expected",
        series: { key: "expected", name: "expected by formula" },
      },
      { column: "launches_observed", tick: "observed", series: { key: "observed", name: how } },
    ];
    return compared(
      view,
      quantities,
      "launches of one call (log scale)",
      text.count,
      text.count,
      0.5,
    );
  }

  // Global-memory bytes of one call: the model's, traced, and the hardware's where there are any.
  function traffic(view) {
    const quantities = [
      {
        column: "bytes_model",
        tick: "model",
        series: { key: "model", name: "model: inputs and outputs once each" },
      },
      {
        column: "bytes_traced",
        tick: "traced",
        series: { key: "traced", name: "traced in the simulator" },
      },
      {
        column: "bytes_dram",
        tick: "DRAM",
        series: { key: "dram", name: "DRAM, by hardware counters" },
      },
    ];
    const short = (value) => text.size(value, text.plain);
    return compared(view, quantities, "bytes of one call (log scale)", text.size, short);
  }

  // Counted columns, one bar each; the text of all but the first says how many times the first it is.
  function compared(view, quantities, axis, form, tickText, start) {
    const columns = quantities.map((quantity) => quantity.column);
    const known = merged(view, columns);
    const present = quantities.filter(({ column }) => known.some((row) => row[column] !== null));
    if (!present.length) return null;
    const rows = [];
    const groups = drawnCases(known).map(([title, found]) => {
      const name = views.namer(found);
      const bars = found.flatMap((row) => {
        rows.push({ ...row, title, tick: name(row) });
        const first = row[present[0].column];
        return present
          .filter(({ column }) => row[column] !== null)
          .map(({ column, tick, series }) => {
            const value = row[column];
            const times =
              value > 0 && first > 0 && value !== first
                ? ` · ${text.number(value / first)}${text.TIMES}`
                : "";
            return { series, tick: `${name(row)} ${tick}`, value, text: form(value) + times };
          });
      });
      return { title, bars };
    });
    return {
      ...bars.figure(groups, axis, tickText, start),
      legend: present.map((quantity) => quantity.series),
      rows,
      note: cut(known),
    };
  }

  // A row for each case, rung and direction: of the chosen timing if there is one, and what it does not
  // know from another timing; counts do not depend on it, but one timing may know more than another.
  function merged(view, columns) {
    const green = view.counted.filter(
      (row) => row.gate_green && columns.some((name) => row[name] !== null),
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

  const drawnCases = (rows) => views.cases(rows).slice(0, MOST_CASES);

  function cut(rows) {
    const many = views.cases(rows).length;
    return many > MOST_CASES
      ? `The first ${MOST_CASES} of ${many} cases; the table of all rows has every one.`
      : "";
  }

  return { ladder, launches, traffic };
})();
