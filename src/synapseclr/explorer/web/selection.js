// A set of synapses: what it is like, its pictures, saved, labelled, opened elsewhere, and searched for more.
import { csvControls } from "./columns.js";
import { failedPart, showFailure } from "./failures.js";
import { Ticks, gallery } from "./gallery.js";
import { labelControls } from "./labels.js";
import { learningControls } from "./learning.js";
import { byId, element, thumbnails } from "./page.js";
import { summaryTable } from "./summary.js";

let asked = 0;
const ticks = new Ticks();

/** Show the selected set in the panel. */
export async function showSelection(run, set, { column, chosenBy, onChoose, onFound, onClear, onColumn, onLabels, onCompare }) {
  const panel = byId("selection");
  const mine = ++asked;
  byId("tab-selection").textContent = set.n ? `Selection (${set.n.toLocaleString("en")})` : "Selection";
  if (!set.n) {
    panel.replaceChildren(element("p", { className: "muted" }, "Draw a lasso around points, or select all that pass the filters."));
    return;
  }
  const pictures = run.hasPictures ? (id) => run.picture(id, "thumbnail.jpg") : null;
  const results = element("div", { id: "found" });
  const summary = element("div", { id: "summary" });
  const [save, columns] = csvControls(run, set, column?.name, showFailure);
  const label = run.canAsk && run.about.can_save ? labelControls(run, set, chosenBy, onLabels) : null;
  const labelTicked = (ids) => (label ? element("button", { type: "button", id: "label-ticked", onclick: () => onFound(ids()) }, "Select the ticked, to label them") : null);
  panel.replaceChildren(
    element("h2", { id: "count" }, `${set.n.toLocaleString("en")} synapses selected`),
    element("div", { className: "row" }, save, element("button", { type: "button", id: "clear", onclick: onClear }, "Clear"),
      run.canAsk && run.about.can_open ? neuroglancerButton(run, set, column) : null),
    columns,
    ...(run.canAsk ? [searchControls(run, set, pictures, results, onChoose, onFound)] : []),
    label ?? "",
    results,
    summary,
    element("h2", {}, "Gallery"),
    learningControls(run, ticks, { onColumn, labels: labelTicked, onSelect: (chosen) => onFound(chosen.map((row) => run.idOf(row))) }),
    gallery(run, set, { ticks, onChoose, onCompare, onFailure: showFailure }),
  );
  if (run.canAsk) showSummary(run, set, summary, () => mine === asked, onColumn);
}

async function showSummary(run, set, place, isCurrent, onColumn) {
  try {
    const found = await run.summary(set);
    if (isCurrent()) place.replaceChildren(summaryTable(found.summary, onColumn));
  } catch (error) {
    if (isCurrent()) place.replaceChildren(failedPart(error, () => showSummary(run, set, place, isCurrent, onColumn)));
  }
}

/** Opens the set in Neuroglancer, coloured as the map is. The link appears: a window opened after waiting would be blocked. */
function neuroglancerButton(run, set, column) {
  const place = element("span", { className: "muted" });
  const open = async () => {
    place.textContent = "making the link …";
    try {
      const link = await run.neuroglancer(set, column && !column.isMade ? column.name : "");
      const some = link.n < set.n ? ` (${link.n.toLocaleString("en")} drawn at random)` : "";
      place.replaceChildren(element("a", { id: "neuroglancer-link", href: link.url, target: "_blank", rel: "noopener noreferrer" }, `Open in Neuroglancer${some}`));
    } catch (error) {
      place.textContent = "";
      showFailure(error.message, open);
    }
  };
  return element("span", {}, element("button", { type: "button", id: "neuroglancer", onclick: open }, "Neuroglancer"), " ", place);
}

function searchControls(run, set, pictures, results, onChoose, onFound) {
  const find = async (kind) => {
    results.replaceChildren(element("p", { className: "muted" }, "Searching …"));
    try {
      const found = await run.search(set, kind, 24);
      const said = kind === "similar" ? "Most similar to the set" : "Likely defective, like the set";
      results.replaceChildren(element("h2", {}, said),
        thumbnails(found.found, (synapse) => `${found.measure} ${synapse.value.toPrecision(3)}`, pictures, onChoose),
        element("div", { className: "row" }, element("button", { type: "button", id: "select-found",
          onclick: () => onFound(found.found.map((synapse) => synapse.id)) }, "Select these")));
    } catch (error) {
      results.replaceChildren(failedPart(error, () => find(kind)));
    }
  };
  return element("div", { className: "row" },
    element("button", { type: "button", id: "find-similar", onclick: () => find("similar") }, "Find similar"),
    run.canFindDefects ? element("button", { type: "button", id: "find-defective", onclick: () => find("defective") }, "Find defects like these")
      : element("small", { className: "muted" }, "Defects like these: save them as a label, then `kedro run --pipeline=outliers`. The explorer would need the features of all synapses in memory."));
}
