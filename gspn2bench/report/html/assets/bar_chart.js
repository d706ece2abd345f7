// @ts-check
// Horizontal bars on a log axis, in groups: the bars of one case under its title.
const barChart = (() => {
  /** Pixels per bar and per character. */
  const SLOT = 24;
  const CHARACTER = 7;
  /** Most characters of a tick, of a group's title, and of a tick and the text beside its bar. */
  const [TICK_ROOM, TITLE_ROOM, ROW_ROOM] = matchMedia("(width < 600px)").matches
    ? [18, 44, 28]
    : [36, 64, Infinity];
  /** @type {Record<string, NonNullable<PlotlyMarker["pattern"]>["shape"]>} */
  const PATTERNS = {
    "published-0": "/",
    "published-1": "x",
    "published-2": "\\",
    "published-3": ".",
    expected: "/",
    traced: "x",
    dram: ".",
  };

  /** @typedef {Bar & { y: number }} PlacedBar a bar with its place on the vertical axis */
  /** @typedef {PlacedBar & { value: number }} DrawnBar */

  /**
   * Data and layout of a chart; its axis starts at `start` or below.
   * @param {BarGroup[]} groups
   * @param {string} title of the axis
   * @param {(tick: number) => string} tickText
   * @returns {Pick<Figure, "data" | "layout">}
   */
  function figure(groups, title, tickText = (tick) => formatting.compact(tick), start = Infinity) {
    const { placed, headings, bottom } = place(fitted(groups));
    const drawn = placed.filter(isDrawn);
    const ends = axisEnds(drawn, start);
    const traces = [...views.grouped(drawn, (bar) => bar.series.key)].map(([key, bars]) =>
      barTrace(bars, key, ends[0]),
    );
    const left = 18 + CHARACTER * longestTick(placed);
    const right = 12 + CHARACTER * Math.max(0, ...drawn.map((bar) => bar.text.length));
    const xaxis = theme.logAxisBetween(title, ends, theme.logTicks(...ends), tickText);
    const layout = theme.layout(Math.round(SLOT * bottom) + 64, {
      margin: { l: left, r: right, t: 8, b: 56 },
      bargap: 0,
      barmode: "overlay",
      xaxis: { ...xaxis, tickangle: 0 },
      yaxis: theme.axis("", {
        range: [bottom, 0],
        tickvals: placed.map((bar) => bar.y),
        ticktext: placed.map((bar) => tickLabel(bar)),
        ticks: "",
        ticklabelstandoff: 6,
        showgrid: false,
        automargin: false,
      }),
      annotations: headings.map((heading) => annotation(heading, left)),
      shapes: drawn.flatMap(floorMark),
    });
    return { data: [...traces, barTexts(placed, ends[0])], layout };
  }

  /** @param {Bar} bar */
  const wholeText = (bar) => bar.text + (bar.more ?? "");

  /** @param {Bar} bar */
  const wholeTick = (bar) => (bar.quantity ? `${bar.tick} ${bar.quantity}` : bar.tick);

  /**
   * A tick cut to the room for it; the quantity stays whole.
   * @param {Bar} bar
   */
  function tickLabel({ tick, quantity }) {
    if (!quantity) return formatting.label(tick, TICK_ROOM);
    return `${formatting.label(tick, TICK_ROOM - quantity.length - 1)} ${quantity}`;
  }

  /** @param {Bar[]} bars */
  const longestTick = (bars) =>
    Math.max(...bars.map((bar) => Math.min(wholeTick(bar).length, TICK_ROOM)));

  /**
   * The groups with whole texts, if there is room for all of them.
   * @param {BarGroup[]} groups
   * @returns {BarGroup[]}
   */
  function fitted(groups) {
    const all = groups.flatMap(({ bars }) => bars);
    const longestText = Math.max(...all.map((bar) => wholeText(bar).length));
    if (longestTick(all) + longestText > ROW_ROOM) return groups;
    return groups.map(({ title, bars }) => ({
      title,
      bars: bars.map((bar) => ({ ...bar, text: wholeText(bar), more: "" })),
    }));
  }

  /**
   * Bars and headings with their places, from the top down; one unit of the axis per bar.
   * @param {BarGroup[]} groups
   */
  function place(groups) {
    /** @type {PlacedBar[]} */
    const placed = [];
    const headings = [];
    let bottom = 0;
    for (const { title, bars } of groups) {
      const first = bottom + 1.5;
      headings.push({ title, y: bottom + 0.5 });
      placed.push(...bars.map((bar, index) => ({ ...bar, y: first + index })));
      bottom += bars.length + 1.35;
    }
    return { placed, headings, bottom };
  }

  /**
   * @param {PlacedBar} bar
   * @returns {bar is DrawnBar}
   */
  const isDrawn = (bar) => bar.value !== null;

  /**
   * The ends of the axis: below every value, so each bar is visible, and at the largest.
   * @param {DrawnBar[]} drawn
   * @param {number} start
   * @returns {[low: number, high: number]}
   */
  function axisEnds(drawn, start) {
    const values = drawn.flatMap((bar) => [bar.value, bar.mark]).filter(views.isPositive);
    if (!values.length) return [0.5, 10];
    const least = Math.min(start, Math.min(...values) / 1.8);
    const power = 10 ** Math.floor(Math.log10(least));
    const round = [1, 2, 5].map((digit) => power * digit).filter((end) => end <= least * 1.0001);
    const low = Math.max(...round);
    return [low, Math.max(...values, ...drawn.map((bar) => bar.high ?? 0), low * 10)];
  }

  /**
   * The bars of one series.
   * @param {DrawnBar[]} bars
   * @param {string} key of the series
   * @param {number} low end of the axis
   * @returns {PlotlyTrace}
   */
  function barTrace(bars, key, low) {
    const colour = `var(--${key.split("-")[0]})`;
    const series = formatting.label(bars[0].series.name, 90);
    return {
      type: "bar",
      orientation: "h",
      name: series,
      y: bars.map((bar) => bar.y),
      // a log axis has no place for 0: such a bar is a stub, and its text says 0
      x: bars.map((bar) => Math.max(bar.value, low)),
      width: 0.78,
      marker: {
        color: colour,
        line: { color: colour, width: 1.2 },
        pattern: {
          shape: PATTERNS[key] ?? "",
          fillmode: "replace",
          bgcolor: "var(--surface)",
          size: 7,
          solidity: 0.35,
        },
      },
      hoverinfo: "text",
      hovertext: bars.map(
        (bar) =>
          `${formatting.label(wholeTick(bar))}: ${formatting.label(wholeText(bar))}<br>${series}`,
      ),
      error_x: {
        ...theme.errorBars(bars),
        visible: bars.some((bar) => views.isPositive(bar.high)),
      },
    };
  }

  /**
   * The texts to the right of the bars and their intervals; they may extend into the margin.
   * @param {PlacedBar[]} placed
   * @param {number} low end of the axis
   * @returns {PlotlyTrace}
   */
  function barTexts(placed, low) {
    return {
      type: "scatter",
      mode: "text",
      showlegend: false,
      y: placed.map((bar) => bar.y),
      x: placed.map((bar) => Math.max(low, bar.value ?? 0, bar.high ?? 0)),
      text: placed.map((bar) => " " + formatting.label(bar.text)),
      textposition: "middle right",
      cliponaxis: false,
      hoverinfo: "skip",
    };
  }

  /**
   * The title of a group, at the left edge of the chart.
   * @param {{ title: string, y: number }} heading
   * @param {number} left margin, pixels
   * @returns {PlotlyAnnotation}
   */
  function annotation({ title, y }, left) {
    return {
      text: `<b>${formatting.label(title, TITLE_ROOM)}</b>`,
      x: 0,
      xref: "paper",
      xanchor: "left",
      xshift: 4 - left,
      y,
      yref: "y",
      showarrow: false,
      // hides the grid lines behind the title
      bgcolor: "var(--surface)",
      align: "left",
    };
  }

  /**
   * The floor as a line across a bar, on a wider line that makes it visible on any background.
   * @param {DrawnBar} bar
   * @returns {PlotlyShape[]}
   */
  function floorMark({ mark, y }) {
    if (!views.isPositive(mark)) return [];
    /** @type {PlotlyLine[]} */
    const lines = [
      { color: "var(--surface)", width: 7 },
      { color: "var(--floor)", width: 3 },
    ];
    return lines.map((line) => ({
      type: "line",
      x0: mark,
      x1: mark,
      y0: y - 0.5,
      y1: y + 0.5,
      line,
    }));
  }

  return { figure };
})();
