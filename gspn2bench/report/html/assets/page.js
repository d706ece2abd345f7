// The page: reads the data and the controls, and has every figure and table follow them. A figure is
// drawn in a turn of its own, so that the page is there before the last of them is.
(() => {
  const PRINT_WIDTH = 690;
  const find = (id) => document.getElementById(id);
  const data = decode(JSON.parse(find("data").textContent));
  const controls = find("controls");
  let width = null;
  let turn = 0;

  // Rows from columns: { all } holds one value, { names, at } places in a list, { values } each value.
  function decode(packed) {
    const at = (column, place) => {
      if ("all" in column) return column.all;
      return "names" in column ? column.names[column.at[place]] : column.values[place];
    };
    const columns = Object.entries(packed.columns);
    const rows = Array.from({ length: packed.count }, (_, place) => ({
      ...Object.fromEntries(columns.map(([key, column]) => [key, at(column, place)])),
      place,
      samples: packed.samples[place].length || null,
    }));
    return { ...packed, rows };
  }

  function choice() {
    const form = new FormData(controls);
    const keys = ["run", "phase", "timing", "dtype", "weights", "direction"];
    const values = Object.fromEntries(keys.map((key) => [key, form.get(key)]));
    return { ...values, rungs: form.getAll("rung") };
  }

  // What the controls choose, and the row whose samples are shown: the one wanted, else the first.
  function chosen(wanted = find("sample-row")?.value) {
    const view = views.view(data, choice());
    const rows = view.timed.filter((row) => row.samples);
    const sampled = rows.find((row) => String(row.place) === String(wanted)) ?? rows[0];
    const name = views.namer(view.timed);
    const options = rows.map((row) => {
      const said = `${name(row)}, ${row.title}, ${row.l2} L2`;
      return tables.element("option", { value: row.place }, said);
    });
    find("sample-row")?.replaceChildren(...options);
    if (sampled) find("sample-row").value = sampled.place;
    return { ...view, sampled };
  }

  function summary(view) {
    const said = [
      data.runs.length > 1 ? `run ${view.run}` : "",
      view.rungs.join(", ") || "no rung",
      view.phase,
      `${view.timing} time`,
      view.dtype,
      `${view.weights} weights`,
      view.direction === "any" ? "any direction" : `direction ${view.direction}`,
    ].filter(Boolean);
    const rows = `${text.plural(view.rows.length, "row")}, ${view.timed.length} with a latency.`;
    return `Shown: ${said.join(" · ")}. ${rows}`;
  }

  const everything = new grid.Grid(find("rows"), data.rowColumns, (row) => {
    // the row may be of another view, where all rows are listed
    for (const key of ["run", "phase", "timing", "dtype", "weights"]) {
      controls.elements[key].value = row[key];
    }
    controls.elements.direction.value = "any";
    for (const box of controls.querySelectorAll("[name=rung]")) {
      box.checked ||= box.value === row.rung;
    }
    update(row.place);
    find("samples").scrollIntoView();
    find("sample-row").focus();
  });

  // Everything follows the controls; figures one by one, `now` all at once.
  function update(wanted, now = false) {
    const view = chosen(wanted);
    find("shown").textContent = summary(view);
    everything.set(find("follow").checked ? view.rows : data.rows);
    for (const holder of document.querySelectorAll("[data-changes]")) showChanges(holder, view);
    const figures = [...document.querySelectorAll("figure")];
    const draw = (figure) => drawing.draw(figure, view, width ? { width } : {});
    const mine = ++turn;
    document.body.dataset.drawn = "no";
    const next = () => {
      if (mine !== turn) return;
      if (figures.length) draw(figures.shift());
      if (figures.length) setTimeout(next);
      else document.body.dataset.drawn = "yes";
    };
    if (!now) return setTimeout(next);
    figures.forEach(draw);
    document.body.dataset.drawn = "yes";
  }

  // Verdicts on the rows of one comparison that fit the controls; its runs are named in the heading.
  function showChanges(holder, view) {
    const fits = ["phase", "timing", "dtype", "weights"];
    const rows = data.changes[holder.dataset.changes].filter(
      (row) =>
        fits.every((key) => row[key] === view[key]) &&
        view.rungs.includes(row.rung) &&
        (view.direction === "any" || row.direction === view.direction),
    );
    tables.fill(holder, data.changeColumns, rows, "Changes from base to new");
  }

  function printing(on) {
    document.documentElement.classList.toggle("printing", on);
    width = on ? PRINT_WIDTH : null;
    update(undefined, on);
    if (on) everything.show(Infinity);
  }

  function saveAs(format) {
    const keys = Object.keys(data.columns).filter((key) => key !== "beside");
    const rows = everything.found();
    const name = data.runs
      .map((run) => run.id)
      .join("+")
      .replace(/[^\w.+-]+/g, "_")
      .slice(0, 120);
    if (format === "csv") return grid.save(`${name}.csv`, "text/csv", grid.csv(keys, rows));
    const samples = data.thinned ? "samples_ms_thinned" : "samples_ms";
    const records = rows.map((row) => ({
      ...Object.fromEntries(keys.map((key) => [key, row[key]])),
      [samples]: data.samples[row.place],
    }));
    return grid.save(`${name}.json`, "application/json", JSON.stringify(records, null, 1));
  }

  if (location.search === "?pictures") {
    drawing.pictures(chosen());
    return;
  }
  controls.addEventListener("change", () => update());
  controls.addEventListener("submit", (event) => event.preventDefault());
  // the form is reset after this event
  controls.addEventListener("reset", () => setTimeout(() => update()));
  find("follow").addEventListener("change", () => update());
  find("sample-row")?.addEventListener("change", (event) => update(event.target.value));
  find("save-csv").addEventListener("click", () => saveAs("csv"));
  find("save-json").addEventListener("click", () => saveAs("json"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update());
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  update();
})();
