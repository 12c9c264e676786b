// Numbers for people: three significant digits, never as 1e+04, the unit behind.

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** The same wording as the server's number_text. */
export function numberText(value, unit = "") {
  if (!Number.isFinite(value)) return "no value";
  const size = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  const small = () => `${(value / 10 ** size).toFixed(1)} × 10${[...String(size)].map((digit) => RAISED[digit]).join("")}`;
  const text = size < -5 ? small() : value.toLocaleString("en", { maximumFractionDigits: Math.max(2 - size, 0) });
  return (text === "-0" ? "0" : text) + (unit && unit !== "°" ? " " : "") + unit;
}

/** Name of a column with its unit. */
export const labelled = (column) => (column.unit ? `${column.label} (${column.unit})` : column.label);

/** A text in which long ids are shortened in the middle, where room is short: their ends tell them apart. */
export const shortIds = (text) => text.replace(/\d{12,}/g, (id) => `${id.slice(0, 4)}…${id.slice(-6)}`);

/** A column's value at a row, as text. */
export function valueText(column, value) {
  if (Number.isNaN(value)) return "no value";
  return column.classes.length ? column.classes[value] : numberText(value, column.unit);
}

export const counted = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
