// What the controls choose: rows of a run, in the order of the ladder, and how they are grouped.
const views = (() => {
  // Items under their keys, in the order of the first of each.
  function grouped(items, key) {
    const groups = new Map();
    for (const item of items) {
      const name = key(item);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(item);
    }
    return groups;
  }

  // Rows of a run that fit the choice: `rows` of its timing, `counted` of every timing.
  function view(data, choice) {
    const order = new Map(data.rungs.map((rung, place) => [rung, place]));
    const counted = data.rows.filter(
      (row) =>
        row.run === choice.run &&
        row.phase === choice.phase &&
        row.dtype === choice.dtype &&
        row.weights === choice.weights &&
        (choice.direction === "any" || row.direction === choice.direction) &&
        choice.rungs.includes(row.rung),
    );
    counted.sort((a, b) => order.get(a.rung) - order.get(b.rung));
    const run = data.runs.find((each) => each.id === choice.run);
    const rows = counted.filter((row) => row.timing === choice.timing);
    return { ...choice, data, record: run, order, counted, rows, timed: rows.filter(hasLatency) };
  }

  const hasLatency = (row) => row.latency_ms !== null;

  // Over another rung; not in eager time, which holds the launch cost of Numba.
  const hasSpeedup = (row) =>
    row.speedup !== null && row.base_rung !== row.rung && row.timing !== "eager";

  // [title, rows] of each case, as recorded; the title tells cold from warm where a run has both.
  function cases(rows) {
    const inOrder = [...rows].sort((a, b) => a.place - b.place);
    const mixed = new Set(inOrder.filter(hasLatency).map((row) => row.l2)).size > 1;
    const name = (row) => (mixed ? `${row.title}, ${row.l2} L2` : row.title);
    return [...grouped(inOrder, name)].map(([title, found]) => [
      title,
      rows.filter((row) => found.includes(row)),
    ]);
  }

  // Names of rungs, with the direction where one rung has several.
  function namer(rows) {
    const ways = grouped(rows, (row) => row.rung);
    const several = [...ways.values()].some(
      (found) => new Set(found.map((row) => row.direction)).size > 1,
    );
    return (row) => (several ? `${row.rung} ${row.direction}` : row.rung);
  }

  // The values of a column, where all rows agree; else "".
  function common(rows, column) {
    const values = new Set(rows.map((row) => row[column]));
    return values.size === 1 ? [...values][0] : "";
  }

  return { view, cases, grouped, namer, common, hasLatency, hasSpeedup };
})();
