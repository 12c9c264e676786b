// Filters: which synapses are shown.
import { byId, element } from "./page.js";

/** Rows that pass every filter. */
export async function shownRows(run, filters) {
  let rows = Array.from({ length: run.n }, (_, row) => row);
  for (const filter of filters) {
    if (!run.columnNamed(filter.name)) continue;
    const values = await run.values(filter.name);
    if (filter.classes) {
      const wanted = new Set(filter.classes);
      rows = rows.filter((row) => wanted.has(values[row]));
    } else {
      const low = filter.low ?? -Infinity;
      const high = filter.high ?? Infinity;
      rows = rows.filter((row) => values[row] >= low && values[row] <= high);
    }
  }
  return rows;
}

/** Offer all columns, under their headings. */
export function offerColumns(select, run, first) {
  const groups = new Map();
  for (const column of run.about.columns) {
    if (!groups.has(column.group)) groups.set(column.group, []);
    groups.get(column.group).push(column);
  }
  select.replaceChildren(element("option", { value: "" }, first), ...[...groups].map(([group, columns]) =>
    element("optgroup", { label: group }, ...columns.map((column) => element("option", { value: column.name }, column.label)))));
}

/** Draw the controls of the filters; every change calls back with the new list. */
export function drawFilters(run, filters, onChange) {
  const controls = filters.map((filter, place) => {
    const column = run.columnNamed(filter.name);
    const changed = (part) => onChange(filters.map((other, i) => (i === place ? { ...other, ...part } : other)));
    const remove = element("button", { type: "button", className: "remove", "aria-label": `Remove the filter ${column?.label ?? filter.name}`,
      onclick: () => onChange(filters.filter((_, i) => i !== place)) }, "×");
    const inputs = !column ? [element("p", {}, "This run has no such column.")]
      : filter.classes ? classInputs(column, filter, changed) : rangeInputs(column, filter, changed);
    return element("fieldset", {}, element("legend", {}, column?.label ?? filter.name), remove, ...inputs);
  });
  byId("filters").replaceChildren(...controls);
}

function classInputs(column, filter, changed) {
  return column.classes.map((name, code) => {
    const box = element("input", { type: "checkbox", checked: filter.classes.includes(code), onchange: () =>
      changed({ classes: box.checked ? [...filter.classes, code] : filter.classes.filter((other) => other !== code) }) });
    return element("div", {}, element("label", {}, box, ` ${name}`));
  });
}

function rangeInputs(column, filter, changed) {
  const input = (end, said) => {
    const box = element("input", { type: "number", step: "any", value: String(filter[end] ?? ""),
      "aria-label": `${column.label}, ${said}`, placeholder: said,
      onchange: () => changed({ [end]: box.value === "" ? null : Number(box.value) }) });
    return box;
  };
  return [element("div", { className: "row" }, input("low", "at least"), input("high", "at most"))];
}
