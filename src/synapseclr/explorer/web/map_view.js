// The explorer's map: the points of the run on a PointMap, its tools and keys, the tip, and the filmstrip of a line.
import { showWalk } from "./axis_walk.js";
import { classColours, paint } from "./colours.js";
import { rangeOf, showAppearance, wireAppearance } from "./legend.js";
import { byId, say } from "./page.js";
import { PointMap } from "./point_map.js";
import { TileLayer } from "./tile_layer.js";

const MODES = ["pan", "lasso", "box", "line"];
const OPERATIONS = ["new", "add", "subtract"];
const STEP_PX = 80;
const ZOOM = 1.4;

export class MapView {
  /** `onChoose(id)`, `onRegion({ x, y, operation } or { points, operation })`, `onLine(line)`, `onUndo()`, `onLook(part)`;
   *  `tip(id, value)` makes what is shown beside the pointer. */
  constructor(run, { onChoose, onRegion, onLine, onUndo, onLook, onFailure, tip }) {
    Object.assign(this, { run, onChoose, onLine, onUndo, tip });
    this.map = new PointMap(byId("plot"), run.isLarge);
    this.painted = {};
    const { map } = this;
    this.tiles = run.isLarge ? new TileLayer(map, run, onFailure) : null;
    map.addEventListener("choose", ({ detail }) => onChoose(this.idOf(detail.point)));
    map.addEventListener("miss", ({ detail }) => this.tiles && !this.tiles.points && this.chooseNearest(detail, onFailure));
    map.addEventListener("hover", ({ detail }) => this.showTip(detail));
    map.addEventListener("region", ({ detail }) => onRegion(detail.points && this.tiles ? { ...detail, ids: detail.points.map((point) => this.idOf(point)) } : detail));
    map.addEventListener("walk", ({ detail }) => { onLine(detail); this.setMode("pan"); });
    map.addEventListener("view", () => { byId("tip").hidden = true; });
    for (const mode of MODES) byId(mode).addEventListener("click", () => this.setMode(mode));
    for (const name of OPERATIONS) byId(`set-${name}`).addEventListener("click", () => this.setOperation(name));
    byId("reset").addEventListener("click", () => map.fit());
    byId("nearer").addEventListener("click", () => map.zoomBy(ZOOM));
    byId("farther").addEventListener("click", () => map.zoomBy(1 / ZOOM));
    byId("undo-selection").addEventListener("click", onUndo);
    wireAppearance(map, onLook);
    this.setMode("pan");
    this.setOperation("new");
  }

  idOf(point) { return this.tiles ? this.tiles.idOf(point) : this.run.idOf(point); }

  async chooseNearest(place, onFailure) {
    try {
      const id = await this.run.nearest(this.view, place);
      if (id) this.onChoose(id);
    } catch (error) {
      onFailure(error.message);
    }
  }

  /** Keys of the map: what they are called, what they do. */
  get keys() {
    const { map } = this;
    const mode = (name) => () => this.setMode(this.mode === name ? "pan" : name);
    return [
      { key: "l", does: "lasso on or off", run: mode("lasso") },
      { key: "b", does: "box on or off", run: mode("box") },
      { key: "w", does: "axis walk: draw a line", run: mode("line") },
      { key: "a", does: "next drawing adds to the selection, takes away from it, or replaces it", run: () => this.setOperation(OPERATIONS[(OPERATIONS.indexOf(map.operation) + 1) % 3]) },
      { key: "u", does: "undo the last change of the selection", run: () => this.onUndo() },
      { key: "+", does: "zoom in", run: () => map.zoomBy(ZOOM) },
      { key: "=", run: () => map.zoomBy(ZOOM) },
      { key: "-", does: "zoom out", run: () => map.zoomBy(1 / ZOOM) },
      { key: "0", does: "the whole map", run: () => map.fit() },
      { key: "Escape", does: "stop drawing", run: () => { map.cancel(); this.setMode("pan"); } },
      ...[["Left", -1, 0], ["Right", 1, 0], ["Up", 0, -1], ["Down", 0, 1]].map(([name, right, down]) => ({
        key: `Arrow${name}`, shift: true, run: () => map.panBy(right * STEP_PX, down * STEP_PX) })),
    ];
  }

  /** Keys and what they do, for the page of help. */
  get help() {
    const moves = ["Shift ← → ↑ ↓", "move the map"];
    return [...this.keys.filter(({ key, does }) => does && key !== "Escape").map(({ key, does }) => [key, does]), moves];
  }

  /** Do what a key stands for. False if it is none of the map's. */
  onKey(event) {
    const found = this.keys.find(({ key, shift }) => key === event.key && (!shift || event.shiftKey));
    if (found) found.run();
    return Boolean(found);
  }

  setMode(mode) {
    if (mode === "line" && this.tiles) return say("The axis walk is not available for so many synapses.");
    this.mode = mode;
    this.map.setMode(mode === "line" ? "walk" : mode);
    for (const name of MODES) byId(name).setAttribute("aria-pressed", String(name === mode));
    byId("operations").hidden = mode !== "lasso" && mode !== "box";
    return undefined;
  }

  setOperation(operation) {
    this.map.operation = operation;
    for (const name of OPERATIONS) byId(`set-${name}`).setAttribute("aria-pressed", String(name === operation));
  }

  /** Draw what the state asks for. */
  draw(view) {
    const { map, run } = this;
    const { plane, shown, values, column, selected, name, look } = view;
    this.view = view;
    const { axes, unit, downward } = run.about.map.planes[name];
    const isSolid = axes.length > 2;
    if (isSolid && this.mode === "line") this.setMode("pan");
    byId("line").disabled = isSolid || run.isLarge;
    if (run.isLarge) byId("line").title = "The axis walk is not available for so many synapses";
    byId("pan").textContent = isSolid ? "Turn" : "Move";
    map.setStyle({ size: look.size, opacity: look.opacity });
    if (this.tiles) {
      this.tiles.show(view, { axes, unit, downward, look });
      byId("plot").dataset.colour = column ? column.name : "";
    } else {
      map.setPoints({ ...plane, key: name, axes, unit, downward });
      this.colour(values, column, look);
      if (this.shown !== shown) map.setShown(this.shown = shown);
      map.setSelection(selected.n ? selected.rows : null);
    }
    showAppearance(map, look);
    this.mark(view);
    byId("plot").dataset.points = String(view.n);
    byId("plot").dataset.selected = String(selected.n);
    showWalk(run, isSolid || run.isLarge ? null : view.walk, view, { onChoose: this.onChoose, onClose: () => this.onLine(null) });
    if (!this.first) this.first = this.firstPaint();
    return this.first;
  }

  /** Colour the points, if anything about their colours has changed. */
  colour(values, column, look) {
    const { theme } = document.documentElement.dataset;
    const [low, high] = values && !column.classes.length ? rangeOf(values, look) : [0, 1];
    const next = { values, column, low, high, theme, palette: look.palette };
    if (Object.entries(next).every(([name, value]) => this.painted[name] === value)) return;
    this.painted = next;
    const colours = column ? classColours(this.run, column) : [];
    this.map.setColours(paint(this.run.n, values, column, { colours, palette: look.palette, low, high }));
    byId("plot").dataset.colour = column ? column.name : "";
  }

  /** Move the ring around the current synapse, and bring it into sight; nothing else is drawn anew. */
  mark({ current, at, lasso, walk }) {
    if (at && current !== this.current) this.map.reveal(at);
    this.current = current;
    this.map.setMarks({ at, lasso, walk });
  }

  firstPaint() {
    return new Promise((resolve) => {
      if (this.tiles) this.tiles.onPainted = () => { performance.mark("map-painted"); this.tiles.onPainted = null; resolve(); };
      else this.map.addEventListener("view", () => setTimeout(() => { performance.mark("map-painted"); resolve(); }), { once: true });
    });
  }

  showTip({ point, x_px: x, y_px: y }) {
    const box = byId("tip");
    box.hidden = point < 0;
    if (point < 0) return;
    const frame = byId("map").getBoundingClientRect();
    box.replaceChildren(this.tip(this.idOf(point), this.tiles ? this.tiles.valueOf(point) : this.view.values?.[point]));
    box.style.left = `${Math.max(0, Math.min(x + 14, frame.width - 150))}px`;
    box.style.top = `${y + 14}px`;
  }
}
