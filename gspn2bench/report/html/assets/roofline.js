// @ts-check
// The roofline: rate against bytes, and below it the share of the floor that each point reaches.
const roofline = (() => {
  /** @type {FigureBuilder} */
  function figure(view) {
    const rows = view.timed.filter((row) => views.isPositive(row.gbps));
    if (!rows.length) return null;
    const name = views.namer(rows);
    const roofs = [...new Set(rows.map((row) => row.copy_gbps).filter(views.isPositive))];
    const bytes = rows.map((row) => row.bytes_model ?? NaN);
    const xaxis = theme.logAxis("model bytes of one call (log scale)", bytes, (tick) =>
      formatting.size(tick, formatting.compact),
    );
    const ends = xaxis.range.map((end) => 10 ** end);
    const rates = [...rows.map((row) => row.gbps ?? NaN), ...roofs];
    const shares = rows.map((row) => 100 * (row.floor_share ?? 0));
    return {
      data: [
        ...[...views.grouped(rows, name)].flatMap(([rung, members]) =>
          rungPoints(view, rung, members),
        ),
        ...roofs.map((roof) => level(roof, "y", "copy bandwidth", ends)),
        level(100, "y2", "floor", ends),
      ],
      layout: theme.layout(480, {
        xaxis: { ...xaxis, anchor: "y2" },
        yaxis: { ...theme.logAxis("GB/s (log scale)", rates), domain: [0.44, 1] },
        yaxis2: theme.axis("floor / latency, %", {
          domain: [0, 0.34],
          range: [0, Math.max(110, ...shares) * 1.05],
        }),
      }),
      legend: legend(view, rows, name, roofs),
      rows: rows.map((row) => ({ ...row, tick: name(row) })),
      note: "",
    };
  }

  /**
   * The points of one rung: rates, and shares of the floor.
   * @param {View} view
   * @param {string} name
   * @param {TimedRow[]} rows
   */
  function rungPoints(view, name, rows) {
    const { colour, symbol } = theme.look(view, rows[0].rung);
    /**
     * @param {"y" | "y2"} yaxis
     * @param {(row: Row) => number | null} value
     * @param {(row: Row) => string} hover
     * @returns {PlotlyTrace}
     */
    const points = (yaxis, value, hover) => ({
      type: "scatter",
      mode: "markers",
      name: formatting.label(name),
      showlegend: yaxis === "y",
      x: rows.map((row) => row.bytes_model),
      y: rows.map(value),
      yaxis,
      marker: { color: colour, symbol: rows.map((row) => theme.rowSymbol(symbol, row)), size: 10 },
      hoverinfo: "text",
      hovertext: rows.map((row) => theme.hover(name, row, hover(row))),
    });
    return [
      points(
        "y",
        (row) => row.gbps,
        (row) =>
          `${formatting.number(row.gbps, 4)} GB/s, ${formatting.percent(row.copy_share)} of copy bandwidth`,
      ),
      points(
        "y2",
        (row) => row.floor_share && 100 * row.floor_share,
        (row) => `floor / latency ${formatting.percent(row.floor_share)}`,
      ),
    ];
  }

  /**
   * A horizontal line from end to end.
   * @param {number} value
   * @param {"y" | "y2"} yaxis
   * @param {string} name
   * @param {number[]} ends
   * @returns {PlotlyTrace}
   */
  const level = (value, yaxis, name, ends) => ({
    type: "scatter",
    mode: "lines",
    name,
    showlegend: yaxis === "y",
    x: ends,
    y: [value, value],
    yaxis,
    line: { color: "var(--floor)", width: 2, dash: yaxis === "y" ? "solid" : "dot" },
    hoverinfo: "name",
  });

  /**
   * @param {View} view
   * @param {TimedRow[]} rows
   * @param {(row: Row) => string} name of a row's rung
   * @param {number[]} roofs GB/s
   */
  function legend(view, rows, name, roofs) {
    /** @type {LegendEntry[]} */
    const entries = [...views.grouped(rows, name)].map(([rung, members]) => ({
      ...theme.look(view, members[0].rung),
      name: rung,
    }));
    if (roofs.length) {
      const rates = roofs.map((roof) => formatting.number(roof, 4)).join(", ");
      entries.push({ key: "roof", name: `copy bandwidth of this run: ${rates} GB/s` });
    }
    entries.push({ key: "floor-line", name: "100 %: the floor of the case" });
    if (rows.some((row) => row.l2 === "warm"))
      entries.push({ glyph: "○", name: "open marker: warm L2" });
    return entries;
  }

  return { figure };
})();
