// What lies behind a number: the samples of one row, the launches of one call. Both give what
// counts.js gives.
const raw = (() => {
  // Samples of the view's chosen row in the order taken, beside their histogram.
  function samples(view) {
    const row = view.sampled;
    const taken = row && view.data.samples[row.place];
    if (!taken?.length || !views.hasLatency(row)) return null;
    const style = theme.look(view, row.rung);
    const name = `${row.rung}, ${row.title}, ${row.phase}, ${row.timing} time`;
    const band = {
      type: "rect",
      xref: "paper",
      x0: 0,
      x1: 0.72,
      y0: row.latency_ms_low,
      y1: row.latency_ms_high,
    };
    const median = {
      type: "line",
      xref: "paper",
      x0: 0,
      x1: 1,
      y0: row.latency_ms,
      y1: row.latency_ms,
    };
    return {
      data: [
        {
          type: "scatter",
          mode: "markers",
          name: text.label(name, 90),
          x: taken.map((_, place) => place + 1),
          y: taken,
          marker: { color: style.colour, symbol: style.symbol, size: 7 },
          hoverinfo: "text",
          hovertext: taken.map(
            (value, place) => `sample ${place + 1}: ${text.number(value, 5)} ms`,
          ),
        },
        {
          type: "histogram",
          name: "histogram",
          showlegend: false,
          y: taken,
          xaxis: "x2",
          marker: { color: style.colour, opacity: 0.75 },
          hovertemplate: "%{x} samples<extra></extra>",
        },
      ],
      layout: theme.layout(340, {
        bargap: 0.06,
        xaxis: theme.axis("sample, in the order taken", { domain: [0, 0.72], rangemode: "tozero" }),
        xaxis2: theme.axis("samples", { domain: [0.77, 1] }),
        yaxis: theme.axis("latency, ms", { exponentformat: "none" }),
        shapes: [
          ...(row.latency_ms_low === null
            ? []
            : [{ ...band, fillcolor: "var(--floor)", opacity: 0.2, line: { width: 0 } }]),
          { ...median, line: { color: "var(--floor)", width: 2, dash: "dot" } },
        ],
      }),
      legend: [
        { ...style, line: null, name },
        {
          key: "floor-line",
          name: `median ${text.number(row.latency_ms)} ms, in its 95 % interval`,
        },
      ],
      rows: taken.map((value, place) => ({ tick: String(place + 1), sample_ms: value })),
      note: view.data.thinned
        ? `At most ${view.data.thinned} samples of a row are kept in this page, evenly spaced; the run holds all.`
        : "",
    };
  }

  // The launches of one call of each profiled trial, one above the other on one time axis. Launches
  // without a start, which Nsight Compute runs one by one, are of any latency and stand in the table.
  function timeline(view) {
    const trials = view.data.trials.filter(
      (trial) =>
        trial.run === view.run &&
        trial.phase === view.phase &&
        (trial.timing === null || trial.timing === view.timing || !trial.starts.length) &&
        view.counted.some((row) => row.case === trial.case && row.rung === trial.rung),
    );
    if (!trials.length) return null;
    const order = (trial) => view.order.get(trial.rung);
    const sorted = [...views.grouped(trials, (trial) => trial.case).values()].flatMap((found) =>
      found.sort((a, b) => order(a) - order(b)),
    );
    const drawn = sorted.filter((trial) => trial.starts.length);
    const cases = new Set(drawn.map((trial) => trial.case)).size;
    const name = (trial) => (cases > 1 ? `${trial.rung} ${trial.case}` : trial.rung);
    const ends = drawn.flatMap((trial) =>
      trial.starts.map((start, place) => start + trial.durations[place]),
    );
    return {
      data: drawn.map((trial, place) => ({
        type: "bar",
        orientation: "h",
        name: text.label(name(trial)),
        base: trial.starts,
        x: trial.durations,
        y: trial.starts.map(() => place),
        width: 0.6,
        marker: { color: theme.look(view, trial.rung).colour, line: { width: 0 } },
        hoverinfo: "text",
        hovertext: trial.starts.map(
          (start, launch) =>
            `${text.label(trial.names[trial.named[launch]])}<br>launch ${launch + 1} at ${text.number(start)} µs: ${text.number(trial.durations[launch])} µs`,
        ),
      })),
      layout: theme.layout(90 + 46 * Math.max(1, drawn.length), {
        barmode: "overlay",
        // a thousand slivers want a closer look: drag to zoom, double-click to go back
        dragmode: "zoom",
        xaxis: theme.axis("time since the call's first launch, µs", {
          range: [0, Math.max(1, ...ends) * 1.02],
          fixedrange: false,
          exponentformat: "none",
        }),
        yaxis: theme.axis("", {
          range: [drawn.length - 0.5, -0.5],
          tickvals: drawn.map((_, place) => place),
          ticktext: drawn.map((trial) => text.label(name(trial), 24)),
          showgrid: false,
        }),
      }),
      legend: drawn.map((trial) => ({
        ...theme.look(view, trial.rung),
        line: null,
        glyph: "■",
        name: `${name(trial)}: ${text.count(trial.starts.length)} of ${text.count(trial.launches_expected)} launches drawn`,
      })),
      rows: sorted.map((trial) => ({ ...trial, tick: trial.rung })),
      note:
        drawn.length < sorted.length
          ? "A profile of Nsight Compute runs launches one by one and has no time line; the table has its durations."
          : "Drag over the figure to look closer; double-click to go back.",
    };
  }

  return { samples, timeline };
})();
