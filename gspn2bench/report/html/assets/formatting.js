// @ts-check
// Names and numbers as text, as formatting.py writes them: short, without exponents, and safe in
// Plotly's labels. A missing number is an empty text.
const formatting = (() => {
  const TIMES = "x";
  const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
  /** @type {Record<string, string>} */
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };
  /** @type {Map<number, Intl.NumberFormat>} by the number of decimals */
  const decimalFormats = new Map();

  /**
   * A fixed number of decimals, thousands grouped.
   * @param {number} value
   * @param {number} places
   */
  function decimals(value, places) {
    let format = decimalFormats.get(places);
    if (!format) {
      const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
      format = new Intl.NumberFormat("en-US", digits);
      decimalFormats.set(places, format);
    }
    return format.format(value);
  }

  /**
   * @param {unknown} value
   * @returns {value is null | undefined}
   */
  const isMissing = (value) => value === null || value === undefined;

  /**
   * Significant digits, thousands grouped: 0.770, 31.6, 4,185.
   * @param {number | null | undefined} value
   */
  function number(value, digits = 3) {
    if (isMissing(value)) return "";
    if (value === 0) return "0";
    const places = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
    return decimals(value, Math.min(20, Math.max(0, places)));
  }

  /**
   * A speed-up: 40.3x. Below 1 it is a slow-down: 2.30x slower.
   * @param {number | null | undefined} ratio
   */
  function speedup(ratio) {
    if (isMissing(ratio)) return "";
    const factor = number(Math.max(ratio, 1 / ratio));
    const slower = ratio < 1 && factor !== number(1);
    return factor + TIMES + (slower ? " slower" : "");
  }

  /**
   * Significant digits without trailing zeros: 64, 0.002, 45.3.
   * @param {number} value
   */
  const compact = (value, digits = 12) =>
    new Intl.NumberFormat("en-US", { maximumSignificantDigits: digits }).format(value);

  /**
   * A whole number, thousands grouped: 1,024.
   * @param {number | null | undefined} value
   */
  const count = (value) => (isMissing(value) ? "" : decimals(value, 0));

  /**
   * Bytes in decimal units: 3.22 GB.
   * @param {number | null | undefined} value
   * @param {(value: number) => string} form of the number
   */
  function size(value, form = number) {
    if (isMissing(value)) return "";
    const power =
      value >= 1 ? Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(value) / 3)) : 0;
    if (power === 0) return `${decimals(value, 0)} B`;
    return `${form(value / 1000 ** power)} ${BYTE_UNITS[power]}`;
  }

  /**
   * A share as a percentage: 0.987 is "98.7 %".
   * @param {number | null | undefined} share
   */
  const percent = (share) => (isMissing(share) ? "" : `${(100 * share).toFixed(1)} %`);

  /**
   * An exponent of at least two digits: 1.2e-06.
   * @param {number | null | undefined} value
   */
  const scientific = (value) =>
    isMissing(value) ? "" : value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");

  /**
   * 1 row, 2 rows.
   * @param {number} many
   * @param {string} noun
   */
  const plural = (many, noun) => `${decimals(many, 0)} ${noun}${many === 1 ? "" : "s"}`;

  /**
   * A name for a label of Plotly, which reads labels as HTML: cut to `limit` characters, then
   * escaped.
   * @param {string} name
   */
  function label(name, limit = 44) {
    const printable = name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
    const cut = printable.length > limit ? printable.slice(0, limit - 1) + "…" : printable;
    return cut.replace(/[&<>"']/g, (char) => ENTITIES[char]);
  }

  return {
    TIMES,
    compact,
    count,
    isMissing,
    label,
    number,
    percent,
    plural,
    scientific,
    size,
    speedup,
  };
})();
