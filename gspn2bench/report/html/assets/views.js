// @ts-check
// The rows that the controls choose, in the order of the ladder, and how they are grouped.
const views = (() => {
  /**
   * Items by key, in the order in which the keys first occur.
   * @template Item
   * @param {readonly Item[]} items
   * @param {(item: Item) => string} key
   * @returns {Map<string, Item[]>}
   */
  function grouped(items, key) {
    /** @type {Map<string, Item[]>} */
    const groups = new Map();
    for (const item of items) {
      const group = groups.get(key(item));
      if (group) group.push(item);
      else groups.set(key(item), [item]);
    }
    return groups;
  }

  /**
   * Different values in ascending order.
   * @param {readonly number[]} values
   */
  const ascending = (values) => [...new Set(values)].sort((a, b) => a - b);

  /**
   * The rows of one run that fit the choice.
   * @param {ReportData} data
   * @param {Choice} choice
   * @returns {View}
   */
  function view(data, choice) {
    const record = data.runs.find((run) => run.id === choice.run) ?? data.runs[0];
    const order = new Map(data.rungs.map((rung, index) => [rung, index]));
    const counted = data.rows.filter(
      (row) =>
        row.run === choice.run &&
        row.phase === choice.phase &&
        row.dtype === choice.dtype &&
        row.weights === choice.weights &&
        (choice.direction === "any" || row.direction === choice.direction) &&
        choice.rungs.includes(row.rung),
    );
    counted.sort((a, b) => (order.get(a.rung) ?? 0) - (order.get(b.rung) ?? 0));
    const rows = counted.filter((row) => row.timing === choice.timing);
    return { ...choice, data, record, counted, rows, timed: rows.filter(hasLatency) };
  }

  /**
   * Position of a rung in the ladder.
   * @param {View} view
   * @param {string} rung
   */
  const rungIndex = ({ data }, rung) => data.rungs.indexOf(rung);

  /**
   * @param {Row} row
   * @returns {row is TimedRow}
   */
  const hasLatency = (row) => row.latency_ms !== null;

  /**
   * Whether a row has a speed-up over a different rung. Eager time includes the launch cost of
   * Numba, so its speed-ups are not drawn.
   * @template {Row} Member
   * @param {Member} row
   * @returns {row is Member & { speedup: number }}
   */
  const hasSpeedup = (row) =>
    row.speedup !== null && row.base_rung !== row.rung && row.timing !== "eager";

  /**
   * @param {number | null | undefined} value
   * @returns {value is number}
   */
  const isPositive = (value) => !formatting.isMissing(value) && value > 0;

  /**
   * The rows of each case, in the order recorded. Titles state the L2 where a run has cold and warm.
   * @template {Row} Member
   * @param {readonly Member[]} rows
   * @returns {Case<Member>[]}
   */
  function cases(rows) {
    const recorded = [...rows].sort((a, b) => a.index - b.index);
    const mixed = new Set(recorded.filter(hasLatency).map((row) => row.l2)).size > 1;
    /** @param {Row} row */
    const title = (row) => (mixed ? `${row.title}, ${row.l2} L2` : row.title);
    const members = grouped(rows, title);
    return [...new Set(recorded.map(title))].map((name) => ({
      title: name,
      rows: members.get(name) ?? [],
    }));
  }

  /**
   * A function that names the rung of a row, with the direction where one rung has several.
   * @param {readonly Row[]} rows
   * @returns {(row: Row) => string}
   */
  function namer(rows) {
    const several = [...grouped(rows, (row) => row.rung).values()].some(
      (members) => new Set(members.map((row) => row.direction)).size > 1,
    );
    return (row) => (several ? `${row.rung} ${row.direction}` : row.rung);
  }

  return {
    ascending,
    cases,
    grouped,
    hasLatency,
    hasSpeedup,
    isPositive,
    namer,
    rungIndex,
    view,
  };
})();
