// A table of a set for other programs: ids, root ids, and the columns that were chosen.
import { labelled } from "./numbers.js";
import { element } from "./page.js";

const quoted = (text) => (/[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : String(text));

/** Ids and chosen columns of the rows as CSV. Classes by name, missing values empty, root ids in full. */
export async function asCsv(run, rows, names) {
  const parts = await Promise.all(names.map(async (name) => {
    if (run.about.roots.includes(name)) {
      const roots = await run.roots(name);
      return (row) => (roots[row] ? roots[row].toString() : "");
    }
    const column = run.columnNamed(name);
    const values = await run.values(name);
    return (row) => (Number.isNaN(values[row]) ? "" : column.classes.length ? quoted(column.classes[values[row]]) : String(values[row]));
  }));
  const head = ["synapse_id", ...names.map(quoted)].join(",");
  return [head, ...rows.map((row) => [run.idOf(row), ...parts.map((part) => part(row))].join(",")), ""].join("\n");
}

/** The choice of columns, and the button that saves. `first` is chosen from the start. */
export function csvControls(run, set, first, onFailure) {
  const groups = new Map(run.about.roots.length ? [["Neurites", run.about.roots.map((name) => ({ name, label: `${name.split("_")[0]}synaptic root id` }))]] : []);
  for (const column of run.about.columns) groups.set(column.group, [...(groups.get(column.group) ?? []), { name: column.name, label: labelled(column) }]);
  const boxes = [];
  const box = ({ name, label }) => {
    const made = element("input", { type: "checkbox", value: name, checked: name === first });
    boxes.push(made);
    return element("label", {}, made, ` ${label}`);
  };
  const tick = (on) => boxes.forEach((each) => { each.checked = on; });
  const list = [...groups].map(([group, columns]) => element("fieldset", {}, element("legend", {}, group), ...columns.map(box)));
  const save = async () => {
    try {
      await run.saveCsv(set, boxes.filter((each) => each.checked).map((each) => each.value));
    } catch (error) {
      onFailure(error.message, save);
    }
  };
  return [
    element("button", { type: "button", id: "export", onclick: save }, "Save as CSV"),
    element("details", { id: "csv-columns" }, element("summary", {}, "Columns of the CSV"),
      element("div", { className: "row" }, element("button", { type: "button", onclick: () => tick(true) }, "All"),
        element("button", { type: "button", onclick: () => tick(false) }, "None")), ...list),
  ];
}
