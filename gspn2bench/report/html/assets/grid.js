// @ts-check
// The table of all rows: sorted, filtered, shown a page at a time, and saved.
const grid = (() => {
  const { element } = tables;
  const PAGE = 100;

  /**
   * The order of two values: numbers by size, texts as a reader would sort them, empty ones last.
   * @param {unknown} a
   * @param {unknown} b
   */
  function compare(a, b) {
    if (tables.isEmpty(a) || tables.isEmpty(b))
      return Number(tables.isEmpty(a)) - Number(tables.isEmpty(b));
    return typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  }

  class Grid {
    /**
     * @param {{ holder: HTMLElement, filter: HTMLInputElement, state: HTMLElement, showAll: HTMLElement }} elements
     *   where the table goes, the words to filter by, how many rows there are, and a button
     * @param {Column[]} columns
     * @param {(row: Row) => void} showSamples called with a row whose samples are wanted
     */
    constructor(elements, columns, showSamples) {
      this.elements = elements;
      this.columns = columns;
      this.showSamples = showSamples;
      /** @type {Row[]} */
      this.rows = [];
      /** @type {keyof Row | null} the column to sort by */
      this.key = null;
      this.descending = false;
      elements.filter.addEventListener("input", () => this.show());
      elements.showAll.addEventListener("click", () => this.show(Infinity));
    }

    /** @param {Row[]} rows */
    setRows(rows) {
      this.rows = rows;
      this.show();
    }

    /** The rows that contain every word of the filter, in the chosen order. */
    matches() {
      const words = this.elements.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = words.length
        ? this.rows.filter((row) => words.every((word) => this.textOf(row).includes(word)))
        : [...this.rows];
      return this.key === null ? rows : this.sorted(rows, this.key);
    }

    /** @param {Row} row */
    textOf(row) {
      const cells = this.columns.map((column) => tables.cell(column, row));
      return cells.join(" ").toLowerCase();
    }

    /**
     * Rows by one column. Missing numbers are last in both orders.
     * @param {Row[]} rows
     * @param {keyof Row} key
     */
    sorted(rows, key) {
      const sign = this.descending ? -1 : 1;
      return rows.sort((a, b) => {
        const missing = tables.isEmpty(a[key]) || tables.isEmpty(b[key]);
        return (missing ? 1 : sign) * compare(a[key], b[key]);
      });
    }

    show(most = PAGE) {
      const { holder, state, showAll } = this.elements;
      const rows = this.matches();
      const shown = rows.slice(0, most);
      const { kept, note } = tables.fold(this.columns, rows);
      const headers = kept.map((column) => this.sortingHeader(column));
      const head = element("tr", {}, ...headers, tables.header({ header: "samples" }));
      const body = tables.body(kept, shown, (row) => [this.samplesCell(row)]);
      const table = element("table", {}, element("thead", {}, head), body);
      holder.replaceChildren(
        element("p", { class: "note" }, note),
        tables.scrolling("All rows", table),
      );
      showAll.hidden = shown.length === rows.length;
      showAll.textContent = `Show all ${rows.length} rows`;
      const cut = shown.length < rows.length ? `, the first ${shown.length} shown` : "";
      state.textContent = `${rows.length} of ${formatting.plural(this.rows.length, "row")}${cut}.`;
    }

    /** @param {Column} column */
    sortingHeader(column) {
      const cell = tables.header(column);
      const button = element("button", { type: "button" }, column.header);
      if (this.key === column.key)
        cell.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      button.addEventListener("click", () => this.sortBy(column));
      cell.replaceChildren(button);
      return cell;
    }

    /**
     * Sorts by a column, in the other order at the second click. The focus stays on its header,
     * although the table is a new one.
     * @param {Column} column
     */
    sortBy(column) {
      this.descending = this.key === column.key && !this.descending;
      this.key = /** @type {keyof Row} */ (column.key);
      this.show();
      const buttons = this.elements.holder.querySelectorAll("button");
      [...buttons].find((button) => button.textContent === column.header)?.focus();
    }

    /** @param {Row} row */
    samplesCell(row) {
      if (!row.samples) return element("td");
      const name = `Samples of ${row.rung}, ${row.title}, ${row.phase}, ${row.timing}`;
      const attributes = { type: "button", "aria-label": name };
      const button = element("button", attributes, formatting.count(row.samples));
      button.addEventListener("click", () => this.showSamples(row));
      return element("td", {}, button);
    }
  }

  /**
   * Rows as CSV. A text that a spreadsheet would read as a formula is quoted with an apostrophe.
   * @param {string[]} keys
   * @param {readonly TableRow[]} rows
   */
  function csv(keys, rows) {
    /** @param {unknown} value */
    const quoted = (value) => {
      if (tables.isEmpty(value)) return "";
      const formula = typeof value === "string" && /^[=+\-@\t\r]/.test(value);
      const safe = formula ? `'${value}` : String(value);
      return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [keys, ...rows.map((row) => keys.map((key) => row[key]))]
      .map((line) => line.map(quoted).join(",") + "\r\n")
      .join("");
  }

  /**
   * Has the browser save a file.
   * @param {string} name
   * @param {string} type
   * @param {string} content
   */
  function save(name, type, content) {
    const address = URL.createObjectURL(new Blob([content], { type }));
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  return { Grid, csv, save };
})();
