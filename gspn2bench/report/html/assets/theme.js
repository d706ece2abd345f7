// What all figures share: a palette told apart by colour-blind readers, shapes and dashes that repeat
// what it says, and the look of axes. Colours are names of CSS variables until a figure is drawn.
const theme = (() => {
  const VARIABLE = /^var\((--[\w-]+)\)$/;
  const SHAPES = [
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
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const STROKES = ["none", "8 4", "2 4", "8 3 2 3", "14 4", "14 3 2 3"];
  const COLOURS = 8;

  // The value with each CSS variable in it replaced by what it stands for now.
  function resolved(value, style = getComputedStyle(document.body)) {
    if (typeof value === "string") {
      const name = VARIABLE.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolved(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, resolved(item, style)]),
      );
    }
    return value;
  }

  const colour = (place) => `var(--rung-${place % COLOURS})`;

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

  // The interval of a value, as Plotly's error bars; empty where there is none.
  function interval(points) {
    const gap = (a, b) => (a === null || a === undefined || b === null ? 0 : Math.max(0, a - b));
    return {
      type: "data",
      symmetric: false,
      array: points.map(({ value, high }) => gap(high, value)),
      arrayminus: points.map(({ value, low }) => gap(value, low ?? value)),
      color: "var(--ink)",
      thickness: 1.5,
      width: 5,
    };
  }

  // Ticks of a log axis at 1, 2, 5 times powers of ten, fewer where it is long.
  function ticks(low, high) {
    const span = Math.log10(high / low);
    const steps = span < 1.3 ? [1, 2, 5] : [1];
    const every = Math.max(1, Math.ceil(span / 5));
    const found = [];
    for (
      let power = Math.floor(Math.log10(low));
      power <= Math.ceil(Math.log10(high));
      power += every
    ) {
      found.push(...steps.map((step) => step * 10 ** power));
    }
    return found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  }

  // A log axis that holds the values with room to spare; `steps` are ticked themselves if they are few.
  function logAxis(title, values, tickText = text.plain, steps = []) {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const room = most / least < 5 ? 2.5 : 1.25;
    const [low, high] = [least / room, most * room];
    const tickvals = steps.length > 0 && steps.length <= 14 ? steps : ticks(low, high);
    return axis(title, {
      type: "log",
      range: [Math.log10(low), Math.log10(high)],
      tickvals,
      ticktext: tickvals.map((tick) => tickText(tick)),
      ...(steps.length ? {} : { tickangle: 0 }),
    });
  }

  // Colour, shape and dash of a rung; `line` tells lines of one rung apart.
  const look = (view, rung, line = 0) => ({
    place: view.order.get(rung),
    colour: colour(view.order.get(rung)),
    symbol: SHAPES[view.order.get(rung) % SHAPES.length],
    dash: DASHES[line % DASHES.length],
    line,
  });

  // Open where the L2 was warm.
  const open = (symbol, row) => (row.l2 === "warm" ? `${symbol}-open` : symbol);

  const glyph = ({ symbol }) => GLYPHS[SHAPES.indexOf(symbol)];

  // The dash of a line, for a legend.
  function stroke({ dash }) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    made.setAttribute("viewBox", "0 0 36 4");
    path.setAttribute("d", "M0 2H36");
    path.setAttribute("stroke-dasharray", STROKES[DASHES.indexOf(dash)]);
    made.append(path);
    return made;
  }

  const hover = (series, row, said) =>
    `${text.label(series, 60)}: ${said}<br>${text.label(row.title, 60)}, ${row.l2} L2`;

  return { resolved, axis, logAxis, layout, interval, ticks, look, glyph, stroke, open, hover };
})();
