// The keyboard: what a key does wherever the focus is, and the page that tells of it.
import { byId, element } from "./page.js";
import { moveSection } from "./sections.js";

const HELP = [
  ["/", "go to the search box"],
  ["← →", "the previous or next section; so does the wheel over the image"],
  ["1 … 9", "open that neighbour"],
  ["n", "the nearest neighbour"],
  ["c", "add the synapse to the comparison"],
  ["Esc", "close what is open; leave a field; stop drawing"],
  ["?", "this help"],
];

/** Listen to keys, those of the map as well. `onCompare()` adds the current synapse. */
export function wireKeys({ map, onCompare }) {
  const help = byId("help");
  help.replaceChildren(element("div", { className: "row" }, element("h2", { id: "help-title" }, "Keys"),
    element("button", { type: "button", onclick: () => help.close() }, "Close")),
  element("table", {}, element("tbody", {}, ...[...HELP, ...map.help].map(([key, text]) => element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, key)), element("td", {}, text))))));
  byId("show-help").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") return escape(map, event);
    const field = event.target.closest("input, select, textarea");
    const usesArrows = event.target.closest('select, textarea, [role="tab"], input:not([type="checkbox"])');
    const step = event.shiftKey ? 0 : { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && !usesArrows && moveSection(step)) return event.preventDefault();
    if (field && !field.matches('[type="checkbox"], [type="range"]')) return undefined;
    if (event.key === "?") return help.open ? help.close() : help.showModal();
    if (help.open || byId("comparison").open) return undefined;
    if (event.key === "/") { event.preventDefault(); byId("find-id").focus(); }
    if (map.onKey(event)) return event.preventDefault();
    if (event.key === "c") onCompare();
    const neighbours = [...document.querySelectorAll("#synapse .thumbs button")];
    if (event.key === "n" && neighbours.length) neighbours[0].click();
    if (/^[1-9]$/.test(event.key)) neighbours[Number(event.key) - 1]?.click();
    return undefined;
  });
}

/** The outermost thing that is open closes; dialogs do it by themselves. */
function escape(map, event) {
  if (byId("help").open || byId("comparison").open) return;
  if (document.body.dataset.drawer) delete document.body.dataset.drawer;
  else if (document.activeElement?.matches("input, select, textarea")) document.activeElement.blur();
  else if (document.body.dataset.sheet) delete document.body.dataset.sheet;
  else map.onKey(event);
}
