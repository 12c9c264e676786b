// Numbers for people: three significant digits, never an exponent, the unit behind.

/** The same wording as the server's number_text. */
export function numberText(value, unit = "") {
  if (!Number.isFinite(value)) return "no value";
  const size = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  const text = value.toLocaleString("en", { maximumFractionDigits: Math.min(Math.max(2 - size, 0), 12) });
  return (text === "-0" ? "0" : text) + (unit && unit !== "°" ? " " : "") + unit;
}

/** Name of a column with its unit. */
export const labelled = (column) => (column.unit ? `${column.label} (${column.unit})` : column.label);

/** A column's value at a row, as text. */
export function valueText(column, value) {
  if (Number.isNaN(value)) return "no value";
  return column.classes.length ? column.classes[value] : numberText(value, column.unit);
}

export const counted = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
