// Tables from columns ({ header, key, format, optional, folded }) and rows, as tables.py makes them.
const tables = (() => {
  const BAD = new Set(["SLOWER", "LOST"]);

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const empty = (value) => value === null || value === undefined || value === "";
  const cell = (column, row) => {
    const value = row[column.key];
    if (empty(value)) return "";
    return column.format ? text[column.format](value) : String(value);
  };

  // Columns worth showing, and a sentence on those with the same value in every row.
  function folded(columns, rows) {
    const present = columns.filter(
      (column) => !(column.optional && rows.every((row) => empty(row[column.key]))),
    );
    const same = present.filter(
      (column) =>
        column.folded && rows.length && new Set(rows.map((row) => row[column.key])).size === 1,
    );
    const facts = same.map((column) => `${column.header} ${cell(column, rows[0])}`);
    const said = facts.length ? `The same in every row: ${facts.join("; ")}.` : "";
    return { kept: present.filter((column) => !same.includes(column)), said };
  }

  function body(columns, rows, more = () => []) {
    const lines = rows.map((row) => {
      const cells = columns.map((column, place) => {
        const made = element(
          place ? "td" : "th",
          column.format ? {} : { class: "t" },
          cell(column, row),
        );
        if (!place) made.setAttribute("scope", "row");
        return made;
      });
      const marked =
        BAD.has(row.verdict) || (row.status !== undefined && !row.status.startsWith("ok"));
      return element("tr", marked ? { class: "marked" } : {}, ...cells, ...more(row));
    });
    return element("tbody", {}, ...lines);
  }

  function header(column) {
    return element("th", { scope: "col", ...(column.format ? {} : { class: "t" }) }, column.header);
  }

  const scroll = (name, table) =>
    element("div", { class: "scroll", role: "region", "aria-label": name, tabindex: "0" }, table);

  // Fills a holder with a plain table.
  function fill(holder, columns, rows, name) {
    const { kept, said } = folded(columns, rows);
    const head = element("thead", {}, element("tr", {}, ...kept.map(header)));
    holder.replaceChildren(
      element(
        "p",
        { class: "note" },
        ["An empty cell: there is no such number.", said].join(" ").trim(),
      ),
      scroll(name, element("table", {}, head, body(kept, rows))),
    );
  }

  return { element, empty, cell, folded, body, header, scroll, fill };
})();
