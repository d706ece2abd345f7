// @ts-check
// What all figures share: the look of axes, and a palette that colour-blind readers can tell apart,
// repeated by shapes and dashes. Colours are names of CSS variables until a figure is drawn.
const theme = (() => {
  const VARIABLE = /^var\((--[\w-]+)\)$/;
  /** @type {MarkerSymbol[]} */
  const SYMBOLS = [
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "x",
    "star",
  ];
  const GLYPHS = ["●", "■", "◆", "▲", "▼", "✚", "✖", "★"];
  /** @type {Dash[]} */
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const DASH_ARRAYS = ["none", "8 4", "2 4", "8 3 2 3", "14 4", "14 3 2 3"];
  const COLOURS = 8;

  /**
   * The value with every CSS variable in it replaced by its present value.
   * @template Value
   * @param {Value} value
   * @returns {Value}
   */
  function resolve(value, style = getComputedStyle(document.body)) {
    /** @type {unknown} */
    let resolved = value;
    if (typeof value === "string") {
      const variable = VARIABLE.exec(value);
      if (variable) resolved = style.getPropertyValue(variable[1]).trim();
    } else if (Array.isArray(value)) {
      resolved = value.map((item) => resolve(item, style));
    } else if (value !== null && typeof value === "object") {
      const entries = Object.entries(value);
      resolved = Object.fromEntries(entries.map(([key, item]) => [key, resolve(item, style)]));
    }
    return /** @type {Value} */ (resolved);
  }

  /**
   * @param {string} title
   * @param {PlotlyAxis} more
   * @returns {PlotlyAxis}
   */
  function axis(title, more = {}) {
    return {
      title: { text: title, standoff: 8 },
      gridcolor: "var(--line)",
      linecolor: "var(--line)",
      zeroline: false,
      fixedrange: true,
      automargin: true,
      ...more,
    };
  }

  /**
   * @param {number} height pixels
   * @param {Partial<PlotlyLayout>} more
   * @returns {PlotlyLayout}
   */
  function layout(height, more = {}) {
    return {
      height,
      margin: { l: 56, r: 16, t: 12, b: 48 },
      showlegend: false,
      dragmode: false,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: "var(--ink)", size: 12, family: "system-ui, sans-serif" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "var(--muted)", activecolor: "var(--ink)" },
      hoverlabel: {
        bgcolor: "var(--surface)",
        bordercolor: "var(--line)",
        font: { color: "var(--ink)" },
        align: "left",
      },
      ...more,
    };
  }

  /**
   * Error bars from values to the ends of their intervals; of length 0 where there is no interval.
   * @param {Interval[]} points
   * @returns {PlotlyErrorBars}
   */
  function errorBars(points) {
    return {
      type: "data",
      symmetric: false,
      array: points.map(({ value, high }) => Math.max(0, (high ?? value) - value)),
      arrayminus: points.map(({ value, low }) => Math.max(0, value - (low ?? value))),
      color: "var(--ink)",
      thickness: 1.5,
      width: 5,
    };
  }

  /**
   * Ticks of a log axis at 1, 2 and 5 times powers of ten, or fewer where the axis is long.
   * @param {number} low
   * @param {number} high
   */
  function logTicks(low, high) {
    const span = Math.log10(high / low);
    const steps = span < 1.3 ? [1, 2, 5] : [1];
    const stride = Math.max(1, Math.ceil(span / 5));
    /** @type {number[]} */
    const ticks = [];
    for (
      let power = Math.floor(Math.log10(low));
      power <= Math.ceil(Math.log10(high));
      power += stride
    ) {
      ticks.push(...steps.map((step) => step * 10 ** power));
    }
    return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  }

  /**
   * A log axis from `low` to `high`.
   * @param {string} title
   * @param {[low: number, high: number]} ends
   * @param {number[]} tickvals
   * @param {(tick: number) => string} tickText
   * @returns {PlotlyAxis & { range: [number, number] }}
   */
  function logAxisBetween(title, [low, high], tickvals, tickText) {
    return {
      ...axis(title),
      type: "log",
      range: [Math.log10(low), Math.log10(high)],
      tickvals,
      ticktext: tickvals.map((tick) => tickText(tick)),
    };
  }

  /**
   * A log axis with some room around the values. `steps` are its ticks, unless they are too many.
   * @param {string} title
   * @param {number[]} values
   * @param {(tick: number) => string} tickText
   * @param {number[]} steps
   */
  function logAxis(title, values, tickText = (tick) => formatting.compact(tick), steps = []) {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const room = most / least < 5 ? 2.5 : 1.25;
    const [low, high] = [least / room, most * room];
    const ticks = steps.length > 0 && steps.length <= 14 ? steps : logTicks(low, high);
    const drawn = logAxisBetween(title, [low, high], ticks, tickText);
    return steps.length ? drawn : { ...drawn, tickangle: 0 };
  }

  /**
   * Colour and marker of a rung. Where the colours repeat, they go with different markers.
   * @param {View} view
   * @param {string} rung
   */
  function look(view, rung) {
    const index = views.rungIndex(view, rung);
    return {
      colour: `var(--rung-${index % COLOURS})`,
      symbol: SYMBOLS[(index + Math.floor(index / COLOURS)) % SYMBOLS.length],
    };
  }

  /**
   * The dash that distinguishes one line of a rung from its others.
   * @param {number} line
   */
  const dash = (line) => DASHES[line % DASHES.length];

  /**
   * The marker of a row: open where the L2 was warm.
   * @param {MarkerSymbol} symbol
   * @param {Row} row
   */
  const rowSymbol = (symbol, row) => (row.l2 === "warm" ? `${symbol}-open` : symbol);

  /**
   * A marker as a character, for a legend.
   * @param {MarkerSymbol} symbol
   */
  const glyph = (symbol) => GLYPHS[SYMBOLS.indexOf(symbol)];

  /**
   * A dashed line as SVG, for a legend.
   * @param {Dash} name
   */
  function dashedLine(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 36 4");
    path.setAttribute("d", "M0 2H36");
    path.setAttribute("stroke-dasharray", DASH_ARRAYS[DASHES.indexOf(name)]);
    svg.append(path);
    return svg;
  }

  /**
   * The hover text of one point.
   * @param {string} series
   * @param {Row} row
   * @param {string} value with its unit
   */
  const hover = (series, row, value) =>
    `${formatting.label(series, 60)}: ${value}<br>${formatting.label(row.title, 60)}, ${row.l2} L2`;

  return {
    axis,
    dash,
    dashedLine,
    errorBars,
    glyph,
    hover,
    layout,
    logAxis,
    logAxisBetween,
    logTicks,
    look,
    resolve,
    rowSymbol,
  };
})();
