// Names and numbers as text, as text.py writes them: safe in Plotly's labels, short, no exponents.
const text = (() => {
  const TIMES = "x";
  const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };
  const fixed = new Map();

  // With so many decimals, thousands grouped.
  function decimals(value, places) {
    if (!fixed.has(places)) {
      const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
      fixed.set(places, new Intl.NumberFormat("en-US", digits));
    }
    return fixed.get(places).format(value);
  }

  // What is missing is an empty text.
  const written = (form) => (value, more) =>
    value === null || value === undefined ? "" : form(value, more);

  // To some significant digits, thousands grouped: 0.770, 31.6, 4,185.
  function number(value, digits = 3) {
    if (value === 0) return "0";
    return decimals(
      value,
      Math.min(20, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))))),
    );
  }

  // A speed-up; below 1 it is a slow-down: 2.30x slower.
  function speedup(ratio) {
    const factor = number(Math.max(ratio, 1 / ratio));
    return factor + TIMES + (ratio < 1 && factor !== number(1) ? " slower" : "");
  }

  // As short as it can be said to some significant digits: 64, 0.002, 45.3.
  const plain = (value, digits = 12) =>
    new Intl.NumberFormat("en-US", { maximumSignificantDigits: digits }).format(value);

  // Bytes in decimal units: 3.22 GB.
  function size(value, form = number) {
    const power =
      value >= 1 ? Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(value) / 3)) : 0;
    return power
      ? `${form(value / 1000 ** power)} ${BYTE_UNITS[power]}`
      : `${decimals(value, 0)} B`;
  }

  // 1.2e-06, with two digits of exponent at the least.
  const scientific = (value) => value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");

  // A name for a Plotly label, which Plotly reads as HTML of a kind: cut first, then escaped.
  function label(name, limit = 44) {
    const printable = String(name).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
    const cut = printable.length > limit ? printable.slice(0, limit - 1) + "…" : printable;
    return cut.replace(/[&<>"']/g, (char) => ENTITIES[char]);
  }

  return {
    TIMES,
    label,
    plain,
    number: written(number),
    size: written(size),
    speedup: written(speedup),
    count: written((value) => decimals(value, 0)),
    percent: written((share) => `${(100 * share).toFixed(1)} %`),
    scientific: written(scientific),
    plural: (many, noun) => `${decimals(many, 0)} ${noun}${many === 1 ? "" : "s"}`,
  };
})();
