// @ts-check
// The page: reads the data and the controls, and updates every figure and table. Each figure is drawn
// in a task of its own, so the browser can show the page before the last figure is drawn.
(() => {
  const PRINT_WIDTH = 690;
  /** @type {(keyof Choice & keyof Row)[]} the controls that choose one value of a column */
  const COLUMNS = ["run", "phase", "timing", "dtype", "weights"];

  /** @param {string} id */
  const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const data = unpack(JSON.parse(byId("data").textContent ?? ""));
  const controls = /** @type {HTMLFormElement} */ (byId("controls"));
  const follow = /** @type {HTMLInputElement} */ (byId("follow"));
  /** @type {HTMLSelectElement | null} there is none without latencies */
  const sampleRow = document.querySelector("#sample-row");
  /** @type {number | null} the width of figures, pixels; null where it follows the window */
  let width = null;
  /** Number of updates so far; an update stops drawing once the next has begun. */
  let updates = 0;

  /**
   * The data with its rows unpacked.
   * @param {Payload} payload
   * @returns {ReportData}
   */
  function unpack({ columns, count, ...rest }) {
    const entries = Object.entries(columns);
    const rows = Array.from({ length: count }, (_, index) => ({
      ...Object.fromEntries(entries.map(([key, column]) => [key, unpackValue(column, index)])),
      index,
      samples: rest.samples[index].length || null,
    }));
    return { ...rest, keys: Object.keys(columns), rows: /** @type {Row[]} */ (rows) };
  }

  /**
   * @param {PackedColumn<unknown>} column
   * @param {number} index of the row
   */
  function unpackValue(column, index) {
    if ("all" in column) return column.all;
    return "names" in column ? column.names[column.at[index]] : column.values[index];
  }

  /** @returns {Choice} */
  function choice() {
    const form = new FormData(controls);
    /** @param {string} key */
    const value = (key) => String(form.get(key));
    return {
      run: value("run"),
      phase: value("phase"),
      timing: value("timing"),
      dtype: value("dtype"),
      weights: value("weights"),
      direction: value("direction"),
      rungs: form.getAll("rung").map(String),
    };
  }

  /**
   * What the controls choose, and the row whose samples are shown.
   * @param {string | undefined} wanted index of that row; without it, or where it is not in the view,
   *   the first
   * @returns {SampledView}
   */
  function chosen(wanted = sampleRow?.value) {
    const view = views.view(data, choice());
    const rows = view.timed.filter((row) => row.samples);
    const sampled = rows.find((row) => String(row.index) === wanted) ?? rows[0];
    const name = views.namer(view.timed);
    const options = rows.map((row) => {
      const label = `${name(row)}, ${row.title}, ${row.l2} L2`;
      return tables.element("option", { value: String(row.index) }, label);
    });
    sampleRow?.replaceChildren(...options);
    if (sampleRow && sampled) sampleRow.value = String(sampled.index);
    return { ...view, sampled };
  }

  /** @param {View} view */
  function summary(view) {
    const parts = [
      data.runs.length > 1 ? `run ${view.run}` : "",
      view.rungs.join(", ") || "no rung",
      view.phase,
      `${view.timing} time`,
      view.dtype,
      `${view.weights} weights`,
      view.direction === "any" ? "any direction" : `direction ${view.direction}`,
    ].filter(Boolean);
    const rows = `${formatting.plural(view.rows.length, "row")}, ${view.timed.length} with a latency.`;
    return `Shown: ${parts.join(" · ")}. ${rows}`;
  }

  const allRows = new grid.Grid(
    {
      holder: /** @type {HTMLElement} */ (byId("rows").querySelector(".grid")),
      filter: /** @type {HTMLInputElement} */ (byId("filter")),
      state: byId("row-count"),
      showAll: byId("show-all"),
    },
    data.rowColumns,
    showSamples,
  );

  /**
   * Shows the samples of any row: the controls are set to a view that has it.
   * @param {Row} row
   */
  function showSamples(row) {
    /** @param {string} name */
    const select = (name) => /** @type {HTMLSelectElement} */ (controls.elements.namedItem(name));
    for (const key of COLUMNS) select(key).value = String(row[key]);
    select("direction").value = "any";
    /** @type {NodeListOf<HTMLInputElement>} */
    const boxes = controls.querySelectorAll("[name=rung]");
    for (const box of boxes) box.checked ||= box.value === row.rung;
    update(String(row.index));
    byId("samples").scrollIntoView();
    sampleRow?.focus();
  }

  /**
   * Updates everything to the controls: figures one by one, or all at once where `now` is set.
   * @param {string} [wanted] index of the row whose samples are shown
   */
  function update(wanted, now = false) {
    const view = chosen(wanted);
    byId("shown").textContent = summary(view);
    allRows.setRows(follow.checked ? view.rows : data.rows);
    for (const holder of document.querySelectorAll("[data-changes]"))
      showChanges(/** @type {HTMLElement} */ (holder), view);
    const panels = [...document.querySelectorAll("figure")];
    /** @param {HTMLElement} panel */
    const draw = (panel) => renderer.draw(panel, view, width === null ? {} : { width });
    const mine = ++updates;
    document.body.dataset.drawn = "no";
    const drawNext = () => {
      if (mine !== updates) return;
      const panel = panels.shift();
      if (panel) draw(panel);
      if (panels.length) setTimeout(drawNext);
      else document.body.dataset.drawn = "yes";
    };
    if (now) {
      panels.forEach(draw);
      document.body.dataset.drawn = "yes";
    } else {
      setTimeout(drawNext);
    }
  }

  /**
   * The verdicts of one comparison on the rows that fit the controls; its heading names its runs.
   * @param {HTMLElement} holder
   * @param {View} view
   */
  function showChanges(holder, view) {
    const rows = data.changes[Number(holder.dataset.changes)].filter(
      (row) =>
        row.phase === view.phase &&
        row.timing === view.timing &&
        row.dtype === view.dtype &&
        row.weights === view.weights &&
        view.rungs.includes(row.rung) &&
        (view.direction === "any" || row.direction === view.direction),
    );
    tables.fill(holder, data.changeColumns, rows, "Changes from base to new");
  }

  /** @param {boolean} on */
  function setPrinting(on) {
    document.documentElement.classList.toggle("printing", on);
    width = on ? PRINT_WIDTH : null;
    update(undefined, on);
    if (on) allRows.show(Infinity);
  }

  /** @param {"csv" | "json"} format */
  function saveAs(format) {
    const keys = data.keys.filter((key) => key !== "beside");
    /** @type {(Row & TableRow)[]} */
    const rows = allRows.matches();
    const name = data.runs
      .map((run) => run.id)
      .join("+")
      .replace(/[^\w.+-]+/g, "_")
      .slice(0, 120);
    if (format === "csv") {
      grid.save(`${name}.csv`, "text/csv", grid.csv(keys, rows));
      return;
    }
    const samples = data.thinned ? "samples_ms_thinned" : "samples_ms";
    const records = rows.map((row) => ({
      ...Object.fromEntries(keys.map((key) => [key, row[key]])),
      [samples]: data.samples[row.index],
    }));
    grid.save(`${name}.json`, "application/json", JSON.stringify(records, null, 1));
  }

  if (location.search === "?pictures") {
    renderer.addPictures(chosen());
    return;
  }
  controls.addEventListener("change", () => update());
  controls.addEventListener("submit", (event) => event.preventDefault());
  // the form is reset after this event
  controls.addEventListener("reset", () => setTimeout(() => update()));
  follow.addEventListener("change", () => update());
  sampleRow?.addEventListener("change", () => update());
  byId("save-csv").addEventListener("click", () => saveAs("csv"));
  byId("save-json").addEventListener("click", () => saveAs("json"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update());
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
  update();
})();
