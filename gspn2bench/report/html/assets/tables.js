// @ts-check
// HTML elements, and tables of columns and rows.
const tables = (() => {
  const BAD_VERDICTS = ["SLOWER", "LOST"];

  /**
   * @template {keyof HTMLElementTagNameMap} Name
   * @param {Name} name
   * @param {Record<string, string>} attributes
   * @param {Child[]} children
   */
  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /**
   * @param {unknown} value
   * @returns {value is null | undefined | ""}
   */
  const isEmpty = (value) => formatting.isMissing(value) || value === "";

  /**
   * The text of a cell.
   * @param {Column} column
   * @param {TableRow} row
   */
  function cell(column, row) {
    const value = row[column.key];
    if (isEmpty(value)) return "";
    return column.format ? formatting[column.format](Number(value)) : String(value);
  }

  /**
   * The columns to show, and a sentence about those that have the same value in every row.
   * @param {Column[]} columns
   * @param {readonly TableRow[]} rows
   */
  function fold(columns, rows) {
    const present = columns.filter(
      (column) => !(column.optional && rows.every((row) => isEmpty(row[column.key]))),
    );
    const same = present.filter(
      (column) => column.folded && new Set(rows.map((row) => row[column.key])).size === 1,
    );
    const facts = same.map((column) => `${column.header} ${cell(column, rows[0])}`);
    const note = facts.length ? `The same in every row: ${facts.join("; ")}.` : "";
    return { kept: present.filter((column) => !same.includes(column)), note };
  }

  /**
   * @param {{ format?: FormatName | null }} column
   * @returns {Record<string, string>}
   */
  const alignment = (column) => (column.format ? {} : { class: "t" });

  /**
   * @template {TableRow} Line
   * @param {Column[]} columns
   * @param {readonly Line[]} rows
   * @param {(row: Line) => HTMLElement[]} moreCells
   */
  function body(columns, rows, moreCells = () => []) {
    const lines = rows.map((row) => {
      const cells = columns.map((column, index) =>
        index === 0
          ? element("th", { ...alignment(column), scope: "row" }, cell(column, row))
          : element("td", alignment(column), cell(column, row)),
      );
      const line = element("tr", {}, ...cells, ...moreCells(row));
      line.classList.toggle("marked", isBad(row));
      return line;
    });
    return element("tbody", {}, ...lines);
  }

  /**
   * Whether a row is highlighted: a regression, or a row that is not ok.
   * @param {TableRow} row
   */
  function isBad({ verdict, status }) {
    const failed = typeof status === "string" && !status.startsWith("ok");
    return failed || (typeof verdict === "string" && BAD_VERDICTS.includes(verdict));
  }

  /** @param {{ header: string, format?: FormatName | null }} column */
  const header = (column) => element("th", { scope: "col", ...alignment(column) }, column.header);

  /**
   * A table in a region that scrolls by itself.
   * @param {string} name
   * @param {HTMLElement} table
   */
  const scrolling = (name, table) =>
    element("div", { class: "scroll", role: "region", "aria-label": name, tabindex: "0" }, table);

  /**
   * Replaces what an element contains by a table.
   * @param {HTMLElement} holder
   * @param {Column[]} columns
   * @param {readonly TableRow[]} rows
   * @param {string} name
   */
  function fill(holder, columns, rows, name) {
    const { kept, note } = fold(columns, rows);
    const head = element("thead", {}, element("tr", {}, ...kept.map(header)));
    const notes = ["An empty cell means that there is no such number.", note].join(" ").trim();
    holder.replaceChildren(
      element("p", { class: "note" }, notes),
      scrolling(name, element("table", {}, head, body(kept, rows))),
    );
  }

  return { body, cell, element, fill, fold, header, isEmpty, scrolling };
})();
