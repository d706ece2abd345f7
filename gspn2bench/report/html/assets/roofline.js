// Rate and share of the floor against bytes. Takes a view and gives what counts.js gives.
const roofline = (() => {
  // Rate against bytes under the copy bandwidth, and the share of the floor that each point reaches.
  function figure(view) {
    const rows = view.timed.filter((row) => row.gbps > 0);
    if (!rows.length) return null;
    const tick = views.namer(rows);
    const data = [];
    const legend = [];
    for (const [name, found] of views.grouped(rows, tick)) {
      const style = theme.look(view, found[0].rung);
      legend.push({ ...style, line: null, name });
      const points = (y, yaxis, said) => ({
        type: "scatter",
        mode: "markers",
        name: text.label(name),
        showlegend: yaxis === "y",
        x: found.map((row) => row.bytes_model),
        y: found.map(y),
        yaxis,
        marker: {
          color: style.colour,
          symbol: found.map((row) => theme.open(style.symbol, row)),
          size: 10,
        },
        hoverinfo: "text",
        hovertext: found.map((row) => theme.hover(name, row, said(row))),
      });
      data.push(
        points(
          (row) => row.gbps,
          "y",
          (row) => `${text.number(row.gbps, 4)} GB/s, ${text.percent(row.copy_share)} of the copy`,
        ),
        points(
          (row) => row.floor_share && 100 * row.floor_share,
          "y2",
          (row) => `${text.percent(row.floor_share)} of the floor`,
        ),
      );
    }
    const bytes = rows.map((row) => row.bytes_model);
    const roofs = [...new Set(rows.map((row) => row.copy_gbps).filter((roof) => roof > 0))];
    const xaxis = theme.logAxis("model bytes of one call (log scale)", bytes, (value) =>
      text.size(value, text.plain),
    );
    const across = xaxis.range.map((end) => 10 ** end);
    const roof = (value, yaxis, name) => ({
      type: "scatter",
      mode: "lines",
      name,
      showlegend: yaxis === "y",
      x: across,
      y: [value, value],
      yaxis,
      line: { color: "var(--floor)", width: 2, dash: yaxis === "y" ? "solid" : "dot" },
      hoverinfo: "name",
    });
    data.push(
      ...roofs.map((value) => roof(value, "y", "copy bandwidth")),
      roof(100, "y2", "floor"),
    );
    if (roofs.length) {
      legend.push({
        key: "roof",
        name: `copy bandwidth of the run, ${roofs.map((value) => text.number(value, 4)).join(", ")} GB/s`,
      });
    }
    legend.push({ key: "floor-line", name: "100 %: the floor of the case" });
    if (rows.some((row) => row.l2 === "warm"))
      legend.push({ glyph: "○", name: "open marker: warm L2" });
    const shares = rows.map((row) => 100 * (row.floor_share ?? 0));
    return {
      data,
      layout: theme.layout(480, {
        xaxis: { ...xaxis, anchor: "y2" },
        yaxis: {
          ...theme.logAxis("GB/s (log scale)", [...rows.map((row) => row.gbps), ...roofs]),
          domain: [0.44, 1],
        },
        yaxis2: theme.axis("floor / latency, %", {
          domain: [0, 0.34],
          range: [0, Math.max(110, ...shares) * 1.05],
        }),
      }),
      legend,
      rows: rows.map((row) => ({ ...row, tick: tick(row) })),
      note: "",
    };
  }

  return { figure };
})();
