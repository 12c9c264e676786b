// The comparison: two to four synapses side by side, with linked sections and views, and the traits in which they differ.
import { failedPart } from "./failures.js";
import { byId, element, say } from "./page.js";
import { drawScene } from "./scene.js";
import { SectionViewer } from "./sections.js";

export const MOST = 4;

/** The ids with one more, or the same if there is no place. */
export function withCompared(ids, id) {
  if (ids.includes(id)) return ids;
  if (ids.length >= MOST) say(`The comparison holds ${MOST} synapses: take one out first.`);
  return ids.length >= MOST ? ids : [...ids, id];
}

/** The tray at the foot of the page. `onChange(ids)` changes the address. */
export function showTray(run, ids, onChange) {
  const tray = byId("tray");
  tray.hidden = !ids.length;
  tray.replaceChildren(element("strong", {}, "Compare"), ...ids.map((id) => element("span", { className: "compared" },
    run.hasPictures ? element("img", { src: run.picture(id, "thumbnail.jpg"), alt: "", onerror: (event) => event.target.remove() }) : null, id,
    element("button", { type: "button", "aria-label": `Take ${id} out of the comparison`, onclick: () => onChange(ids.filter((other) => other !== id)) }, "×"))),
  element("button", { type: "button", id: "open-comparison", className: "main", disabled: ids.length < 2, onclick: () => openComparison(run, ids) },
    ids.length < 2 ? "Add another one" : "Side by side"),
  element("button", { type: "button", onclick: () => onChange([]) }, "Clear"));
}

async function openComparison(run, ids) {
  const dialog = byId("comparison");
  const body = element("div", { className: "comparison" });
  dialog.replaceChildren(element("div", { className: "row" }, element("h2", { id: "comparison-title" }, `${ids.length} synapses side by side`),
    element("button", { type: "button", id: "close-comparison", onclick: () => dialog.close() }, "Close")), body);
  if (!dialog.open) dialog.showModal();
  try {
    const found = await Promise.all(ids.map((id) => run.details(id)));
    body.replaceChildren(...sideBySide(run, found));
  } catch (error) {
    body.replaceChildren(failedPart(error, () => openComparison(run, ids)));
  }
}

function sideBySide(run, found) {
  const link = element("input", { type: "checkbox", id: "linked", checked: true });
  const viewers = [];
  const follow = (id) => (section) => {
    if (link.checked) for (const viewer of viewers) if (viewer.id !== id) viewer.show(section, true);
  };
  const frames = [];
  const columns = found.map((details) => {
    const frame = element("div", { className: "scene", role: "img", "aria-label": `Synapse ${details.id} in three dimensions` });
    const parts = [element("h3", {}, details.id)];
    if (details.has_images) {
      const viewer = new SectionViewer(run, details, { onSection: follow(details.id) });
      viewers.push(viewer);
      frames.push([details.id, frame]);
      parts.push(viewer.element, frame);
    } else {
      parts.push(element("p", { className: "muted" }, "There are no pictures of this synapse."));
    }
    return element("section", { "aria-label": `Synapse ${details.id}` }, ...parts);
  });
  drawTogether(run, frames, () => link.checked);
  const grid = element("div", { className: "columns" }, ...columns);
  grid.style.setProperty("--n", String(found.length));
  return [element("label", {}, link, " sections and views move together"), grid, traitTable(found)];
}

/** Draw the scenes; turning one turns the others. */
async function drawTogether(run, frames, isLinked) {
  const drawn = [];
  for (const [id, frame] of frames) {
    try {
      await drawScene(run, id, frame, 260);
      drawn.push(frame);
    } catch (error) {
      frame.textContent = error.message;
    }
  }
  let isTurning = false;
  for (const frame of drawn) {
    frame.on("plotly_relayout", async (change) => {
      const camera = change["scene.camera"];
      if (!camera || isTurning || !isLinked()) return;
      isTurning = true;
      await Promise.all(drawn.filter((other) => other !== frame).map((other) => window.Plotly.relayout(other, { "scene.camera": camera })));
      isTurning = false;
    });
  }
}

/** Traits by synapse, those that differ first. */
function traitTable(found) {
  const labels = [...new Set(found.flatMap((details) => details.traits.map((row) => row.label)))];
  const text = (details, label) => {
    const row = details.traits.find((other) => other.label === label);
    return row ? { annotated: row.annotated, imputed: row.imputed } : {};
  };
  const lines = labels.map((label) => {
    const cells = found.map((details) => text(details, label));
    const known = cells.map((cell) => cell.annotated).filter(Boolean);
    return { label, cells, differs: new Set(known).size > 1 };
  }).sort((a, b) => Number(b.differs) - Number(a.differs));
  return element("table", { id: "trait-differences" }, element("caption", {}, "Traits, those that are annotated differently first"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "trait"), ...found.map((details) => element("th", { scope: "col" }, details.id)))),
    element("tbody", {}, ...lines.map(({ label, cells, differs }) => element("tr", { className: differs ? "differs" : "" },
      element("th", { scope: "row" }, label, differs ? " ≠" : ""),
      ...cells.map((cell) => element("td", {}, cell.annotated ?? "–", element("br"), element("small", {}, cell.imputed ? `imputed ${cell.imputed}` : "")))))));
}
