// Pictures of a set: page by page, sorted by any column, with ticks that label or teach.
import { offerColumns } from "./filters.js";
import { valueText } from "./numbers.js";
import { element } from "./page.js";

const PER_PAGE = 24;

/** Synapses ticked as having a label, or as not having it, with undo. They outlive the selection. */
export class Ticks {
  constructor() {
    this.of = new Map(); // id to true or false
    this.past = [];
    this.heard = new Set();
  }

  set(id, value) {
    this.past.push([id, this.of.get(id)]);
    if (value === undefined || this.of.get(id) === value) this.of.delete(id);
    else this.of.set(id, value);
    this.tell();
  }

  undo() {
    const step = this.past.pop();
    if (!step) return;
    if (step[1] === undefined) this.of.delete(step[0]);
    else this.of.set(...step);
    this.tell();
  }

  clear() {
    this.of.clear();
    this.past = [];
    this.tell();
  }

  ids(value) { return [...this.of].filter(([, ticked]) => ticked === value).map(([id]) => id); }

  tell() { for (const listener of [...this.heard]) listener() === false && this.heard.delete(listener); }
}

/** The gallery. `onFailure(message, retry)` is called when a column to sort by cannot be read. */
export function gallery(run, set, { ticks, colour, onChoose, onCompare, onFailure }) {
  let page = 0;
  let column = null;
  let asked = 0;
  const grid = element("ol", { className: "thumbs gallery" });
  const place = element("span", { className: "muted", role: "status" });
  const order = element("select", { id: "gallery-order", "aria-label": "Sort by" });
  offerColumns(order, run, "as selected");
  const direction = element("select", { id: "gallery-direction", "aria-label": "Direction" },
    element("option", { value: "-1" }, "high to low"), element("option", { value: "1" }, "low to high"));
  const nPages = () => Math.max(1, Math.ceil(set.n / PER_PAGE));
  const step = (by, text, id) => element("button", { type: "button", id, onclick: () => { page = Math.max(0, Math.min(nPages() - 1, page + by)); draw(); } }, text);
  const [previous, next] = [step(-1, "Previous", "gallery-previous"), step(1, "Next", "gallery-next")];
  const sort = () => {
    column = run.columnNamed(order.value) ?? null;
    page = 0;
    draw();
  };
  order.addEventListener("change", sort);
  direction.addEventListener("change", sort);
  const draw = async () => {
    const mine = ++asked;
    try {
      const shown = await run.page(set, { column, isDescending: direction.value === "-1", start: page * PER_PAGE, count: PER_PAGE });
      if (mine !== asked) return;
      grid.replaceChildren(...shown.map(({ id, value }) => card(run, id, column ? valueText(column, value) : "", { ticks, onChoose, onCompare })));
    } catch (error) {
      if (mine === asked) onFailure(error.message, draw);
      return;
    }
    place.textContent = `${page + 1} of ${nPages()}`;
    previous.disabled = page === 0;
    next.disabled = page >= nPages() - 1;
  };
  ticks.heard.add(() => {
    if (!grid.isConnected) return false;
    for (const button of grid.querySelectorAll("[data-tick]")) {
      button.setAttribute("aria-pressed", String(ticks.of.get(button.dataset.of) === (button.dataset.tick === "yes")));
    }
    return true;
  });
  if (colour) order.value = colour;
  sort();
  return element("div", { id: "gallery" }, element("div", { className: "row" }, order, direction),
    element("div", { className: "row" }, previous, place, next), grid);
}

function card(run, id, caption, { ticks, onChoose, onCompare }) {
  const picture = run.hasPictures
    ? element("img", { className: "picture", src: run.picture(id, "thumbnail.jpg"), alt: "", loading: "lazy",
      onerror: (event) => event.target.replaceWith(element("span", { className: "picture" })) })
    : element("span", { className: "picture" });
  const tick = (name, value, text, said) => element("button", { type: "button", "data-tick": name, "data-of": id, "aria-pressed": String(ticks.of.get(id) === value),
    "aria-label": `${said} ${id}`, title: said, onclick: () => ticks.set(id, value) }, text);
  return element("li", {},
    element("button", { type: "button", onclick: () => onChoose(id), "data-synapse": id }, picture, element("small", {}, id), element("small", {}, caption)),
    element("span", { className: "ticks" }, tick("yes", true, "✓", "Tick"), tick("no", false, "✗", "Cross out"),
      onCompare ? element("button", { type: "button", "aria-label": `Compare ${id}`, title: "Add to the comparison", onclick: () => onCompare(id) }, "⇔") : null));
}
