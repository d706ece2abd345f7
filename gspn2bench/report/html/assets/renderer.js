// @ts-check
// Draws figures into the page, each with its legend, note and table, or into pictures.
const renderer = (() => {
  /** @type {Record<FigureId, FigureBuilder>} */
  const BUILDERS = {
    ladder: barFigures.ladder,
    size: (view) => sweepFigures.scaling(view, "size"),
    channels: (view) => sweepFigures.scaling(view, "channels"),
    batch: (view) => sweepFigures.scaling(view, "batch"),
    slices: (view) => sweepFigures.scaling(view, "slices"),
    heat: sweepFigures.heat,
    roofline: roofline.figure,
    launches: barFigures.launches,
    bytes: barFigures.traffic,
    samples: detailFigures.samples,
    timeline: detailFigures.timeline,
  };

  /** @param {LegendEntry} entry */
  function legendItem({ name, key, colour, symbol, dash, glyph = symbol && theme.glyph(symbol) }) {
    const style = glyph ? "glyph" : `swatch ${key}`;
    const swatch = tables.element("span", { "aria-hidden": "true", class: style }, glyph ?? "");
    if (colour) swatch.style.color = colour;
    if (dash) swatch.prepend(theme.dashedLine(dash));
    return tables.element("li", {}, swatch, name);
  }

  /**
   * @param {HTMLElement} chart
   * @param {Figure} figure
   * @param {Partial<PlotlyLayout>} more
   * @param {PlotlyConfig} config
   */
  function plot(chart, figure, more, config) {
    chart.style.height = `${figure.layout.height}px`;
    const layout = { ...figure.layout, ...more };
    Plotly.react(chart, theme.resolve(figure.data), theme.resolve(layout), config);
    // read aloud, the texts of a drawing say little; the table has the same numbers
    for (const svg of chart.querySelectorAll(".main-svg")) svg.setAttribute("aria-hidden", "true");
  }

  /**
   * Draws a figure of the page, or states why there is nothing to draw.
   * @param {HTMLElement} panel the <figure>
   * @param {SampledView} view
   * @param {Partial<PlotlyLayout>} more of the layout
   */
  function draw(panel, view, more = {}) {
    const { data, record } = view;
    const id = /** @type {FigureId} */ (panel.dataset.figure);
    const texts = /** @type {FigureText} */ (data.figures[id]);
    const figure = BUILDERS[id](view);
    /** @param {string} name */
    const part = (name) => /** @type {HTMLElement} */ (panel.querySelector(name));
    const [chart, words, note] = [part(".chart"), part(".words"), part(".note")];
    const drawn = figure !== null && figure.data.length > 0;
    chart.hidden = note.hidden = !drawn;
    words.hidden = drawn;
    part(".legend").replaceChildren(...(figure?.legend ?? []).map(legendItem));
    if (drawn) {
      note.textContent = figure.note;
      plot(chart, figure, more, data.config);
    } else {
      const nothing = record.simulated && texts.timed ? record.why : texts.nothing;
      words.textContent = figure ? figure.note : nothing;
      Plotly.purge(chart);
    }
    showTable(/** @type {HTMLDetailsElement} */ (part(".data")), figure, texts);
  }

  /**
   * The table of a figure, made when the reader opens it.
   * @param {HTMLDetailsElement} details
   * @param {Figure | null} figure
   * @param {FigureText} texts
   */
  function showTable(details, figure, { columns, title }) {
    details.hidden = figure === null;
    if (figure === null) return;
    const holder = /** @type {HTMLElement} */ (details.querySelector(".holder"));
    const fill = () => tables.fill(holder, columns, figure.rows, title);
    details.ontoggle = () => details.open && fill();
    if (details.open) fill();
  }

  /**
   * For `gspn2bench report --png`: adds each figure to the page as an image.
   * @param {SampledView} view
   */
  async function addPictures(view) {
    for (const [name, texts] of Object.entries(view.data.figures)) {
      const figure = BUILDERS[/** @type {FigureId} */ (name)](view);
      if (!figure?.data.length) continue;
      const { height, ...drawing } = picture(view, figure, texts.title);
      const shape = { format: /** @type {const} */ ("png"), width: 960, height, scale: 2 };
      const address = await Plotly.toImage(theme.resolve(drawing), shape);
      document.body.append(tables.element("img", { "data-picture": name, src: address, alt: "" }));
    }
    document.body.dataset.pictures = "yes";
  }

  /**
   * A figure with its title and legend inside it.
   * @param {View} view
   * @param {Figure} figure
   * @param {string} title
   */
  function picture(view, figure, title) {
    const floors = figure.legend.filter((entry) => entry.key === "floor").map(floorEntry);
    const named = figure.data.filter((trace) => trace.showlegend !== false);
    const lines = new Set(named.map((trace) => trace.name)).size + floors.length;
    const top = 64 + 20 * lines;
    const height = figure.layout.height + top;
    const heading = formatting.label(`${title}: ${view.record.title}`, 90);
    const subtitle = `${view.record.machine}, ${view.phase}, ${view.timing} time, ${view.dtype}`;
    const layout = {
      ...figure.layout,
      title: {
        text: `${heading}<br><sub>${formatting.label(subtitle, 110)}</sub>`,
        x: 0.01,
        xanchor: "left",
        y: 1 - 16 / height,
        yref: "container",
        yanchor: "top",
      },
      showlegend: true,
      legend: { x: 0, xanchor: "left", y: 1, yanchor: "bottom", orientation: "v" },
      margin: { ...figure.layout.margin, t: top },
      paper_bgcolor: "var(--surface)",
    };
    return { data: [...figure.data, ...floors], layout, height };
  }

  /**
   * A trace without points, which adds the floor to Plotly's legend.
   * @param {LegendEntry} entry
   * @returns {PlotlyTrace}
   */
  const floorEntry = ({ name }) => ({
    type: "scatter",
    mode: "lines",
    x: [null],
    y: [null],
    name,
    line: { color: "var(--floor)", width: 3 },
  });

  return { addPictures, draw };
})();
