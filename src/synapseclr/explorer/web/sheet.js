// Narrow screens: the map fills the page, the panel is a sheet at its foot, the settings are a drawer.
import { byId } from "./page.js";

const NARROW = matchMedia("(max-width: 1000px)");

/** Bring the sheet up, as a tap on a point or a choice of a tab does. */
export function raiseSheet() {
  if (NARROW.matches && !document.body.dataset.sheet) document.body.dataset.sheet = "half";
  told();
}

function told() {
  const at = document.body.dataset.sheet;
  byId("sheet-handle").setAttribute("aria-expanded", String(Boolean(at)));
  byId("sheet-handle").textContent = at === "full" ? "▾ Less" : at ? "▴ More" : "▴ Details";
  byId("show-controls").setAttribute("aria-expanded", String(Boolean(document.body.dataset.drawer)));
}

export function wireSheet() {
  const { dataset } = document.body;
  const next = { undefined: "half", half: "full" };
  byId("sheet-handle").addEventListener("click", () => {
    if (dataset.sheet === "full") delete dataset.sheet;
    else dataset.sheet = next[dataset.sheet];
    told();
  });
  byId("show-controls").addEventListener("click", () => {
    if (dataset.drawer) delete dataset.drawer;
    else dataset.drawer = "open";
    told();
  });
  new MutationObserver(told).observe(document.body, { attributes: true, attributeFilter: ["data-sheet", "data-drawer"] });
  for (const tab of document.querySelectorAll('.tabs [role="tab"]')) tab.addEventListener("click", raiseSheet);
  told();
}
