// Puts figures into the page: drawing, legend, note, the table behind; and makes pictures of them.
const drawing = (() => {
  const BUILDERS = {
    ladder: counts.ladder,
    size: (view) => sweeps.scaling(view, "size"),
    channels: (view) => sweeps.scaling(view, "channels"),
    batch: (view) => sweeps.scaling(view, "batch"),
    slices: (view) => sweeps.scaling(view, "slices"),
    heat: sweeps.heat,
    roofline: roofline.figure,
    launches: counts.launches,
    bytes: counts.traffic,
    samples: raw.samples,
    timeline: raw.timeline,
  };
  function legendEntry(entry) {
    const glyph = entry.glyph ?? (entry.symbol && theme.glyph(entry));
    const swatch = tables.element(
      "span",
      { "aria-hidden": "true", class: glyph ? "glyph" : `swatch ${entry.key}` },
      glyph ?? "",
    );
    if (entry.colour) swatch.style.color = entry.colour;
    if (entry.dash && entry.line !== null) swatch.prepend(theme.stroke(entry));
    return tables.element("li", {}, swatch, entry.name);
  }

  function plot(chart, made, more, config) {
    chart.style.height = `${made.layout.height}px`;
    const layout = { ...made.layout, ...more };
    Plotly.react(chart, theme.resolved(made.data), theme.resolved(layout), config);
    // its scattered words say little without the drawing; the table says it all
    chart
      .querySelectorAll(".main-svg")
      .forEach((drawing) => drawing.setAttribute("aria-hidden", "true"));
  }

  function nothing(view, id) {
    const { timed, nothing: why } = view.data.figures[id];
    return view.record.simulated && timed ? view.record.why : why;
  }

  // Draws a figure of the page and its legend, note and table; or says why there is nothing to draw.
  // `more` is of the layout.
  function draw(figure, view, more = {}) {
    const { data } = view;
    const id = figure.dataset.figure;
    const made = BUILDERS[id](view);
    const chart = figure.querySelector(".chart");
    const [words, details, note] = [".words", ".data", ".note"].map((name) =>
      figure.querySelector(name),
    );
    const empty = !made?.data.length;
    details.hidden = made === null;
    chart.hidden = note.hidden = empty;
    words.hidden = !empty;
    figure.querySelector(".legend").replaceChildren(...(made?.legend ?? []).map(legendEntry));
    if (empty) {
      words.textContent = made?.note ?? nothing(view, id);
      Plotly.purge(chart);
    } else {
      note.textContent = made.note;
      plot(chart, made, more, data.config);
    }
    if (made === null) return;
    const columns = data.figures[id].columns;
    const table = () =>
      tables.fill(details.querySelector(".holder"), columns, made.rows, data.figures[id].title);
    details.ontoggle = () => details.open && table();
    if (details.open) table();
  }

  // For `gspn2bench report --png`: each figure as a picture, with its title and legend in it.
  async function pictures(view) {
    const { data } = view;
    for (const id of Object.keys(data.figures)) {
      const made = BUILDERS[id](view);
      if (!made?.data.length) continue;
      const told = new Set(
        made.data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name),
      );
      const floor = made.legend
        .filter((entry) => entry.key === "floor")
        .map((entry) => ({
          type: "scatter",
          mode: "lines",
          x: [null],
          y: [null],
          name: entry.name,
          line: { color: "var(--floor)", width: 3 },
        }));
      const title = `${data.figures[id].title}: ${view.record.title}`;
      const under = `${view.record.machine}, ${view.phase}, ${view.timing} time, ${view.dtype}`;
      const lines = told.size + floor.length;
      const top = 64 + 20 * lines;
      const layout = {
        ...made.layout,
        title: {
          text: `${text.label(title, 90)}<br><sub>${text.label(under, 110)}</sub>`,
          x: 0.01,
          xanchor: "left",
          y: 1 - 16 / (made.layout.height + top),
          yref: "container",
          yanchor: "top",
        },
        showlegend: true,
        legend: { x: 0, xanchor: "left", y: 1, yanchor: "bottom", orientation: "v" },
        margin: { ...made.layout.margin, t: top },
        paper_bgcolor: "var(--surface)",
      };
      const shape = { format: "png", width: 960, height: made.layout.height + top, scale: 2 };
      const figure = theme.resolved({ data: [...made.data, ...floor], layout });
      const address = await Plotly.toImage(figure, shape);
      document.body.append(tables.element("img", { "data-picture": id, src: address, alt: "" }));
    }
    document.body.dataset.pictures = "yes";
  }

  return { draw, pictures };
})();
