// The table of all rows, which can be sorted, filtered and saved.
const grid = (() => {
  const { element, empty, cell, folded, body, scroll } = tables;
  const PAGE = 100;

  function compared(a, b) {
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    return typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  }

  // The table of all rows: headers sort, words filter, a page at a time until all are asked for.
  class Grid {
    constructor(root, columns, showSamples) {
      this.columns = columns;
      this.showSamples = showSamples;
      this.holder = root.querySelector(".grid");
      this.words = root.querySelector("#filter");
      this.state = root.querySelector("#found");
      this.all = root.querySelector("#show-all");
      this.rows = [];
      this.key = null;
      this.descending = false;
      this.words.addEventListener("input", () => this.show());
      this.all.addEventListener("click", () => this.show(Infinity));
    }

    set(rows) {
      this.rows = rows;
      this.show();
    }

    // Rows in which every word of the filter is found, in the order asked for.
    found() {
      const words = this.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const says = (row) =>
        this.columns
          .map((column) => cell(column, row))
          .join(" ")
          .toLowerCase();
      const rows = words.length
        ? this.rows.filter((row) => words.every((word) => says(row).includes(word)))
        : [...this.rows];
      if (!this.key) return rows;
      const ascending = (a, b) => compared(a[this.key], b[this.key]);
      // a missing number stays at the end either way
      const turned = (a, b) =>
        empty(a[this.key]) || empty(b[this.key]) ? ascending(a, b) : -ascending(a, b);
      return rows.sort(this.descending ? turned : ascending);
    }

    show(most = PAGE) {
      const rows = this.found();
      const { kept, said } = folded(this.columns, rows);
      const head = element(
        "tr",
        {},
        ...kept.map((column) => this.header(column)),
        tables.header({ header: "samples" }),
      );
      const shown = rows.slice(0, most);
      const table = element(
        "table",
        {},
        element("thead", {}, head),
        body(kept, shown, (row) => [this.samples(row)]),
      );
      this.holder.replaceChildren(element("p", { class: "note" }, said), scroll("All rows", table));
      this.all.hidden = shown.length === rows.length;
      this.all.textContent = `Show all ${rows.length} rows`;
      const cut = shown.length < rows.length ? `, the first ${shown.length} shown` : "";
      this.state.textContent = `${text.plural(rows.length, "row")} of ${this.rows.length}${cut}.`;
    }

    header(column) {
      const made = tables.header(column);
      const button = element("button", { type: "button" }, column.header);
      if (this.key === column.key)
        made.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      button.addEventListener("click", () => {
        this.descending = this.key === column.key && !this.descending;
        this.key = column.key;
        this.show();
        [...this.holder.querySelectorAll("th button")]
          .find((each) => each.textContent === column.header)
          ?.focus();
      });
      made.replaceChildren(button);
      return made;
    }

    samples(row) {
      if (!row.samples) return element("td");
      const button = element(
        "button",
        {
          type: "button",
          "aria-label": `Samples of ${row.rung}, ${row.title}, ${row.phase}, ${row.timing}`,
        },
        text.count(row.samples),
      );
      button.addEventListener("click", () => this.showSamples(row));
      return element("td", {}, button);
    }
  }

  // What a spreadsheet would take for a formula is kept from being one.
  function csv(keys, rows) {
    const quoted = (value) => {
      if (empty(value)) return "";
      const safe =
        typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
      return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [keys, ...rows.map((row) => keys.map((key) => row[key]))]
      .map((line) => line.map(quoted).join(",") + "\r\n")
      .join("");
  }

  function save(name, type, content) {
    const address = URL.createObjectURL(new Blob([content], { type }));
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  return { Grid, csv, save };
})();
