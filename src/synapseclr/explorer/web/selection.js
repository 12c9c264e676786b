// A set of synapses: what it is like, saved, labelled, and searched for more.
import { byId, download, element, say, thumbnails } from "./page.js";

const SHOWN = 24;
let asked = 0;

const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;

/** Ids, and the value of the colour chosen, as CSV. */
export function asCsv(run, rows, column, values) {
  const head = column ? `synapse_id,${quoted(column.name)}` : "synapse_id";
  const lines = rows.map((row) => {
    if (!column) return run.idOf(row);
    const value = values[row];
    return `${run.idOf(row)},${Number.isNaN(value) ? "" : column.classes.length ? quoted(column.classes[value]) : value}`;
  });
  return [head, ...lines, ""].join("\n");
}

/** Show the selected set in the panel. */
export async function showSelection(run, rows, { column, values, chosenBy, onChoose, onFound, onClear }) {
  const panel = byId("selection");
  const mine = ++asked;
  byId("tab-selection").textContent = rows.length ? `Selection (${rows.length.toLocaleString("en")})` : "Selection";
  if (!rows.length) {
    panel.replaceChildren(element("p", { className: "muted" }, "Draw a lasso around points, or select all that pass the filters."));
    return;
  }
  const ids = rows.map((row) => run.idOf(row));
  const pictures = run.hasPictures ? (id) => run.picture(id, "thumbnail.jpg") : null;
  const results = element("div", { id: "found" });
  const summary = element("div", { id: "summary" });
  const few = ids.slice(0, SHOWN).map((id) => ({ id }));
  panel.replaceChildren(
    element("h2", { id: "count" }, `${rows.length.toLocaleString("en")} synapses selected`),
    element("div", { className: "row" },
      element("button", { type: "button", id: "export", onclick: () => download("synapses.csv", asCsv(run, rows, column, values)) }, "Save as CSV"),
      element("button", { type: "button", id: "clear", onclick: onClear }, "Clear")),
    ...(run.canAsk ? [searchControls(run, ids, pictures, results, onChoose, onFound)] : []),
    ...(run.canAsk && run.about.can_save ? [labelControls(run, ids, chosenBy)] : []),
    results,
    summary,
    element("h2", {}, rows.length > SHOWN ? `The first ${SHOWN}` : "The set"),
    thumbnails(few, () => "", pictures, onChoose),
  );
  if (!run.canAsk) return;
  try {
    const found = await run.summary(ids);
    if (mine === asked) summary.replaceChildren(summaryTable(found.summary));
  } catch (error) {
    if (mine === asked) summary.replaceChildren(element("p", { role: "alert" }, error.message));
  }
}

function summaryTable(rows) {
  const head = element("tr", {}, ...["", "selected", "all"].map((name) => (name ? element("th", { scope: "col" }, name) : element("td"))));
  return element("details", { open: true }, element("summary", {}, "Summary: medians, and commonest classes"), element("table", {},
    element("thead", {}, head),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, element("th", { scope: "row" }, row.label, " ", element("small", {}, row.group.toLowerCase())),
      element("td", {}, row.set), element("td", {}, row.all))))));
}

function labelControls(run, ids, chosenBy) {
  const input = element("input", { id: "label", maxLength: 64, autocomplete: "off", placeholder: "a label" });
  const save = async (label) => {
    try {
      const saved = await run.saveLabel(ids, label, chosenBy());
      say(`Saved: ${saved.n} synapses labelled “${label}” in ${saved.table}.`);
      input.value = "";
    } catch (error) {
      say(error.message);
    }
  };
  const form = element("form", { className: "row", onsubmit: (event) => { event.preventDefault(); save(input.value); } },
    element("label", { for: "label" }, "Label"), input, element("button", { type: "submit", id: "save-label" }, "Save label"),
    element("button", { type: "button", id: "mark", onclick: () => save("defective") }, "Mark as defective"));
  return form;
}

function searchControls(run, ids, pictures, results, onChoose, onFound) {
  const find = async (kind) => {
    results.replaceChildren(element("p", { className: "muted" }, "Searching …"));
    try {
      const found = await run.search(ids, kind, 24);
      const said = kind === "similar" ? "Most similar to the set" : "Likely defective, like the set";
      results.replaceChildren(element("h2", {}, said),
        thumbnails(found.found, (synapse) => `${found.measure} ${synapse.value.toPrecision(3)}`, pictures, onChoose),
        element("div", { className: "row" }, element("button", { type: "button", id: "select-found",
          onclick: () => onFound(found.found.map((synapse) => synapse.id)) }, "Select these")));
    } catch (error) {
      results.replaceChildren(element("p", { role: "alert" }, error.message));
    }
  };
  return element("div", { className: "row" },
    element("button", { type: "button", id: "find-similar", onclick: () => find("similar") }, "Find similar"),
    element("button", { type: "button", id: "find-defective", onclick: () => find("defective") }, "Find defects like these"));
}
