// One synapse: its sections, its shape, what is known of it, and its neighbours.
import { failedPart } from "./failures.js";
import { agreement, whySimilar } from "./likeness.js";
import { rootLink } from "./neuron.js";
import { byId, element, thumbnails } from "./page.js";
import { shape } from "./scene.js";
import { SectionViewer } from "./sections.js";

const SIDES = { pre_root_id: "Presynaptic neurite", post_root_id: "Postsynaptic neurite" };
let asked = 0;

/** Show a synapse in the panel. */
export async function showSynapse(run, id, { onChoose, onRoot, onCompare }) {
  const panel = byId("synapse");
  const mine = ++asked;
  if (!id) {
    panel.replaceChildren(element("p", { className: "muted" }, "Click a point, or enter an id above."));
    return;
  }
  let details;
  let isThere;
  try {
    isThere = await run.has(id);
  } catch (error) {
    if (mine === asked) panel.replaceChildren(failedPart(error, () => showSynapse(run, id, { onChoose, onRoot, onCompare })));
    return;
  }
  if (mine !== asked) return;
  if (!isThere) {
    panel.replaceChildren(element("p", { role: "alert" }, `This run has no synapse “${id}”.`));
    return;
  }
  try {
    details = await run.details(id);
  } catch (error) {
    const failed = run.canAsk ? failedPart(error, () => showSynapse(run, id, { onChoose, onRoot, onCompare }))
      : element("p", { role: "alert" }, `This copy has no details of synapse ${id}.`);
    if (mine === asked) panel.replaceChildren(failed);
    return;
  }
  if (mine !== asked) return;
  const pictures = run.hasPictures ? (other) => run.picture(other, "thumbnail.jpg") : null;
  const link = details.neuroglancer
    ? element("a", { href: details.neuroglancer, target: "_blank", rel: "noopener noreferrer" }, "Open in Neuroglancer") : null;
  panel.replaceChildren(
    element("h2", { id: "synapse-id" }, `Synapse ${details.id}`),
    element("div", { className: "row" }, link, element("button", { type: "button", id: "add-compared", onclick: () => onCompare(details.id) }, "Compare")),
    ...(details.has_images ? pictured(run, details) : [element("p", { className: "muted" }, "There are no pictures of this synapse.")]),
    ...Object.keys(SIDES).filter((side) => details.roots[side]).map((side) => element("div", { className: "muted" }, `${SIDES[side]} `, rootLink(details.roots[side], onRoot))),
    element("h2", {}, "Nearest neighbours"),
    thumbnails(details.neighbours, (other) => `distance ${other.distance.toPrecision(3)}`, pictures, onChoose),
    element("h3", {}, "Annotated among them"), agreement(details.agreement),
    ...(run.canAsk && details.neighbours.length ? [whySimilar(run, details.id, details.neighbours)] : []),
    element("h2", {}, "Traits"),
    traits(details.traits),
    ...(details.occlusion?.length ? [element("h2", {}, "What traits are read off"), occlusion(details.occlusion)] : []),
    element("details", {}, element("summary", {}, "Metadata"), element("table", {},
      element("tbody", {}, ...details.metadata.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)))))),
  );
  panel.dataset.synapse = details.id;
}

function pictured(run, details) {
  const viewer = new SectionViewer(run, details);
  viewer.element.append(element("small", { id: "mask-names" }, "Masks: presynaptic violet, cleft orange, postsynaptic green"));
  return [viewer.element, shape(run, details)];
}

function traits(rows) {
  if (!rows.length) return element("p", { className: "muted" }, "Nothing is annotated or imputed.");
  const head = element("tr", {}, ...["trait", "annotated", "imputed"].map((name) => element("th", { scope: "col" }, name)));
  const said = rows.some((row) => row.disagrees) ? [element("small", {}, "≠ another class is more probable, or the annotated value lies outside the imputed 90 % interval.")] : [];
  return element("div", {}, element("table", { id: "traits" }, element("thead", {}, head), element("tbody", {}, ...rows.map((row) => element("tr", { className: row.disagrees ? "differs" : "" },
    element("th", { scope: "row" }, row.label),
    element("td", {}, row.annotated ?? "–"),
    element("td", {}, row.disagrees ? element("span", { className: "differs", role: "img", "aria-label": "disagrees" }, "≠ ") : null,
      row.imputed ?? "–", row.interval ? element("br") : null, row.interval ? element("small", {}, row.interval) : null))))), ...said);
}

/** Changes of scores when a region is made grey. */
function occlusion(rows) {
  const regions = ["presynaptic", "cleft", "postsynaptic"];
  const head = element("tr", {}, ...["trait", "score", ...regions.map((region) => `${region} grey`)].map((name) => element("th", { scope: "col" }, name)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map((row) => element("tr", {},
    element("th", { scope: "row" }, row.label),
    ...["score", ...regions].map((name) => element("td", {}, row[name]))))));
}
