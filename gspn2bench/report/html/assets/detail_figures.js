// @ts-check
// Figures of the detail behind a number: the samples of one row, and the launches of one call.
const detailFigures = (() => {
  /** The share of the width that the samples take; their histogram is to the right of it. */
  const SAMPLES_END = 0.72;

  /**
   * The samples of the view's chosen row in order, and their histogram.
   * @type {FigureBuilder}
   */
  function samples(view) {
    const row = view.sampled;
    if (!row) return null;
    const values = view.data.samples[row.index];
    if (!values.length) return null;
    const style = theme.look(view, row.rung);
    const name = `${row.rung}, ${row.title}, ${row.phase}, ${row.timing} time`;
    return {
      data: sampleTraces(values, name, style),
      layout: theme.layout(340, {
        bargap: 0.06,
        xaxis: theme.axis("sample, in order", {
          domain: [0, SAMPLES_END],
          rangemode: "tozero",
        }),
        xaxis2: theme.axis("samples", {
          domain: [SAMPLES_END + 0.05, 1],
          nticks: 4,
          tickangle: 0,
        }),
        yaxis: theme.axis("latency, ms", { exponentformat: "none" }),
        shapes: medianShapes(row),
      }),
      legend: [
        { ...style, name },
        {
          key: "floor-line",
          name: `median ${formatting.number(row.latency_ms)} ms and its 95 % interval`,
        },
      ],
      rows: values.map((value, index) => ({ tick: String(index + 1), sample_ms: value })),
      note: view.data.thinned
        ? `This page keeps at most ${view.data.thinned} samples per row, evenly spaced; the run has all of them.`
        : "",
    };
  }

  /**
   * @param {number[]} values ms
   * @param {string} name
   * @param {{ colour: string, symbol: MarkerSymbol }} style
   * @returns {PlotlyTrace[]}
   */
  const sampleTraces = (values, name, { colour, symbol }) => [
    {
      type: "scatter",
      mode: "markers",
      name: formatting.label(name, 90),
      x: values.map((_, index) => index + 1),
      y: values,
      marker: { color: colour, symbol, size: 7 },
      hoverinfo: "text",
      hovertext: values.map(
        (value, index) => `sample ${index + 1}: ${formatting.number(value, 5)} ms`,
      ),
    },
    {
      type: "histogram",
      name: "histogram",
      showlegend: false,
      y: values,
      xaxis: "x2",
      marker: { color: colour, opacity: 0.75 },
      hovertemplate: "%{x} samples<extra></extra>",
    },
  ];

  /**
   * The median as a line, over its interval as a band.
   * @param {TimedRow} row
   * @returns {PlotlyShape[]}
   */
  function medianShapes(row) {
    /** @type {PlotlyShape} */
    const band = {
      type: "rect",
      xref: "paper",
      x0: 0,
      x1: SAMPLES_END,
      y0: row.latency_ms_low,
      y1: row.latency_ms_high,
      fillcolor: "var(--floor)",
      opacity: 0.2,
      line: { width: 0 },
    };
    /** @type {PlotlyShape} */
    const median = {
      type: "line",
      xref: "paper",
      x0: 0,
      x1: 1,
      y0: row.latency_ms,
      y1: row.latency_ms,
      line: { color: "var(--floor)", width: 2, dash: "dot" },
    };
    return row.latency_ms_low === null ? [median] : [band, median];
  }

  /**
   * The launches of one call of each profiled trial, one row per trial on a common time axis. Nsight
   * Compute runs launches one by one. Such launches have no start: they are not drawn, and appear in
   * the table whatever the timing.
   * @type {FigureBuilder}
   */
  function timeline(view) {
    const trials = chosenTrials(view);
    if (!trials.length) return null;
    const drawn = trials.filter((trial) => trial.starts.length);
    const severalCases = new Set(drawn.map((trial) => trial.case)).size > 1;
    /** @param {Trial} trial */
    const name = (trial) => (severalCases ? `${trial.rung} ${trial.case}` : trial.rung);
    return {
      data: drawn.map((trial, index) => trialTrace(view, trial, name(trial), index)),
      layout: timelineLayout(drawn, name),
      legend: drawn.map((trial) => ({
        ...theme.look(view, trial.rung),
        glyph: "■",
        name: `${name(trial)}: ${formatting.count(trial.starts.length)} of ${formatting.count(trial.launches_expected)} launches drawn`,
      })),
      rows: trials.map((trial) => ({ ...trial, tick: trial.rung })),
      note:
        drawn.length < trials.length
          ? "Nsight Compute runs launches one by one, so its profiles have no timeline; the table has the durations."
          : "Drag to zoom; double-click to reset.",
    };
  }

  /**
   * The trials that fit the view, by case and then by rung.
   * @param {View} view
   */
  function chosenTrials(view) {
    const trials = view.data.trials.filter(
      (trial) =>
        trial.run === view.run &&
        trial.phase === view.phase &&
        (trial.timing === null || trial.timing === view.timing || !trial.starts.length) &&
        view.counted.some((row) => row.case === trial.case && row.rung === trial.rung),
    );
    return [...views.grouped(trials, (trial) => trial.case).values()].flatMap((members) =>
      members.sort((a, b) => views.rungIndex(view, a.rung) - views.rungIndex(view, b.rung)),
    );
  }

  /**
   * @param {View} view
   * @param {Trial} trial
   * @param {string} name
   * @param {number} index row of the timeline
   * @returns {PlotlyTrace}
   */
  function trialTrace(view, trial, name, index) {
    /** @param {number} launch */
    const hover = (launch) => {
      const kernel = formatting.label(trial.names[trial.named[launch]]);
      const start = formatting.number(trial.starts[launch]);
      const duration = formatting.number(trial.durations[launch]);
      return `${kernel}<br>launch ${launch + 1} at ${start} µs: ${duration} µs`;
    };
    return {
      type: "bar",
      orientation: "h",
      name: formatting.label(name),
      base: trial.starts,
      x: trial.durations,
      y: trial.starts.map(() => index),
      width: 0.6,
      marker: { color: theme.look(view, trial.rung).colour, line: { width: 0 } },
      hoverinfo: "text",
      hovertext: trial.starts.map((_, launch) => hover(launch)),
    };
  }

  /**
   * @param {Trial[]} trials
   * @param {(trial: Trial) => string} name
   */
  function timelineLayout(trials, name) {
    const ends = trials.flatMap(({ starts, durations }) =>
      starts.map((start, launch) => start + durations[launch]),
    );
    return theme.layout(90 + 46 * Math.max(1, trials.length), {
      barmode: "overlay",
      // with a thousand launches the reader needs to zoom
      dragmode: "zoom",
      xaxis: theme.axis("time since the call's first launch, µs", {
        range: [0, Math.max(1, ...ends) * 1.02],
        fixedrange: false,
        exponentformat: "none",
      }),
      yaxis: theme.axis("", {
        range: [trials.length - 0.5, -0.5],
        tickvals: trials.map((_, index) => index),
        ticktext: trials.map((trial) => formatting.label(name(trial), 24)),
        showgrid: false,
      }),
    });
  }

  return { samples, timeline };
})();
