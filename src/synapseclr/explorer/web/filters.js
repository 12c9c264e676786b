// Filters: which synapses are shown.
import { rangeSlider } from "./histogram.js";
import { labelled, shortIds } from "./numbers.js";
import { byId, element } from "./page.js";

const MISSING = -1; // code of synapses without a value, in filters by class

/** Rows that pass every filter. */
export async function shownRows(run, filters) {
  let rows = Array.from({ length: run.n }, (_, row) => row);
  for (const filter of filters) {
    if (!run.columnNamed(filter.name)) continue;
    const values = await run.values(filter.name);
    if (filter.classes) {
      const wanted = new Set(filter.classes);
      rows = rows.filter((row) => wanted.has(Number.isNaN(values[row]) ? MISSING : values[row]));
    } else {
      const low = filter.low ?? -Infinity;
      const high = filter.high ?? Infinity;
      rows = rows.filter((row) => (values[row] >= low && values[row] <= high) || (filter.missing && Number.isNaN(values[row])));
    }
  }
  return rows;
}

/** A new filter, which passes everything. */
export const openFilter = (column) => (column.classes.length
  ? { name: column.name, classes: [...column.classes.map((_, code) => code), MISSING] }
  : { name: column.name, low: null, high: null, missing: true });

function columnOption(column) {
  const [full, short] = [labelled(column), shortIds(labelled(column))];
  return element("option", { value: column.name, ...(short === full ? {} : { title: full, "aria-label": full }) }, short);
}

/** Offer all columns, under their headings. */
export function offerColumns(select, run, first) {
  const chosen = select.value;
  const groups = new Map();
  for (const column of run.about.columns) {
    if (!groups.has(column.group)) groups.set(column.group, []);
    groups.get(column.group).push(column);
  }
  select.replaceChildren(element("option", { value: "" }, first), ...[...groups].map(([group, columns]) =>
    element("optgroup", { label: group }, ...columns.map(columnOption))));
  select.value = chosen;
}

/** Draw the controls of the filters; every change calls back with the new list. */
export function drawFilters(run, filters, onChange) {
  const controls = filters.map((filter, place) => {
    const column = run.columnNamed(filter.name);
    const changed = (part) => onChange(filters.map((other, i) => (i === place ? { ...other, ...part } : other)));
    const remove = element("button", { type: "button", className: "remove", "aria-label": `Remove the filter ${column?.label ?? filter.name}`,
      onclick: () => onChange(filters.filter((_, i) => i !== place)) }, "×");
    const inputs = !column ? [element("p", {}, "This run has no such column.")]
      : filter.classes ? classInputs(column, filter, changed) : rangeInputs(run, column, filter, changed);
    return element("fieldset", {}, element("legend", {}, column ? labelled(column) : filter.name), remove, ...inputs);
  });
  byId("filters").replaceChildren(...controls);
}

function classInputs(column, filter, changed) {
  const toggled = (code, on) => changed({ classes: on ? [...filter.classes, code] : filter.classes.filter((other) => other !== code) });
  return [...column.classes.map((name, code) => [name, code]), ["no value", MISSING]].map(([name, code]) => {
    const box = element("input", { type: "checkbox", checked: filter.classes.includes(code), onchange: () => toggled(code, box.checked) });
    return element("div", { className: code === MISSING ? "muted" : "" }, element("label", {}, box, ` ${name}`));
  });
}

function rangeInputs(run, column, filter, changed) {
  const input = (end, said) => {
    const box = element("input", { type: "number", step: "any", value: String(filter[end] ?? ""),
      "aria-label": `${column.label}, ${said}`, placeholder: said,
      onchange: () => changed({ [end]: box.value === "" ? null : Number(box.value) }) });
    return box;
  };
  const slider = element("div", { className: "range" });
  const missing = element("input", { type: "checkbox", checked: Boolean(filter.missing), onchange: () => changed({ missing: missing.checked }) });
  const said = element("label", {}, missing, " no value");
  run.histogram(column).then((bins) => {
    slider.replaceWith(rangeSlider(column, bins, filter, changed));
    said.lastChild.textContent = ` no value (${bins.nMissing.toLocaleString("en")})`;
  }).catch(() => {});
  return [slider, element("div", { className: "row" }, input("low", "at least"), input("high", "at most")), said];
}
