"use strict";
// Draws each figure from the JSON beside it; colours are CSS variables, read when drawing.
(() => {
  const VARIABLE = /^var\((--[\w-]+)\)$/;

  function themed(value, style) {
    if (typeof value === "string") {
      const name = VARIABLE.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    }
    return value;
  }

  function draw(chart) {
    // a chart inside closed details has no width yet; it is drawn when they open
    if (chart.clientWidth === 0) return;
    const figure = JSON.parse(chart.nextElementSibling.textContent);
    const { data, layout } = themed({ data: figure.data, layout: figure.layout }, getComputedStyle(document.body));
    Plotly.react(chart, data, layout, figure.config);
  }

  const drawAll = (root) => root.querySelectorAll(".chart").forEach(draw);

  drawAll(document);
  document.querySelectorAll("details.more").forEach((more) => more.addEventListener("toggle", () => drawAll(more)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
})();
