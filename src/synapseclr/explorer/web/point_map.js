// The map: points in a plane or in space, which can be moved, zoomed, turned, clicked and drawn around.
//
// It knows of points, not of synapses. A point's number is its place in `x`; whoever draws a sample, such as the points of
// a tile, keeps the table from points to rows of the run.
//
//   setPoints({ x, y, z, key, downward, unit, axes, extent })  places; a new `key` shows the whole map; z: turned by
//                           dragging; extent: [low, high] by axis of the map where the points are a part of it
//   setColours(bytes)       three bytes a point
//   setShown(points)        numbers of the points that are drawn at all
//   setSelection(points)    numbers of the bright ones, the others turn pale; null: all are alike
//   setMarks({ at, lasso, walk })     ring around a place, outline and line over the points
//   setStyle({ size, opacity })            pixels on the whole map, 0 to 1; undefined: by the number of points
//   setMode("pan" | "lasso" | "box" | "walk"), operation = "new" | "add" | "subtract"
//   fit(), zoomBy(factor), panBy(right_px, down_px), reveal(place), toScreen(x, y, z), toMap(px, py), nearest(px, py)
//
// Events (`addEventListener`, what happened is in `detail`):
//   choose { point }        a click; miss { x, y, reach } a click near no point, in a plane
//   hover { point, x_px, y_px }, point -1 where there is none
//   region { x, y, operation } drawn in a plane, in the map's units; in space { points, operation }
//   walk { x, y }           a line from one end to the other
//   view { x, y, pxPerUnit, isMoving }     the part of the map in sight, [low, high] each: what a layer of tiles asks for
//   mode { mode }
//
// The canvas of points is transparent, and the first child of `frame`: a layer of tiles is put before it, and drawn anew
// on "view" (toScreen says where its corners are). Points are painted in a shuffled order, so that no class lies on top.
import { colourOf } from "./page.js";
import { channels } from "./colours.js";
import { PointRenderer } from "./point_renderer.js";

const CLICK_PX = 4;
const REACH_PX = 12;
const RESTS_MS = 250; // after the last movement all points are painted
const MARGIN = 0.05;
const USUAL_SIZE = 128;
const PALE = 0.86; // share of paper in the colour of what is not selected
const SVG = "http://www.w3.org/2000/svg";

/** The numbers below n in an order that is random and the same every time (Fisher and Yates, a linear generator). */
export function shuffled(n) {
  const order = Uint32Array.from({ length: n }, (_, place) => place);
  let seed = 1;
  for (let last = n - 1; last > 0; last--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((seed / 2 ** 32) * (last + 1)); // the lower bits of such a generator repeat
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

function bounds(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

/** 1, 2 or 5 times a power of ten, at most `length`. */
function roundLength(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  return [5, 2, 1].find((factor) => factor * power <= length) * power;
}

export class PointMap extends EventTarget {
  /** @param {HTMLElement} frame Filled by the map.
   *  @param {boolean} hasTiles Something is to be seen below the points. */
  constructor(frame, hasTiles = false) {
    super();
    this.frame = frame;
    this.canvas = document.createElement("canvas");
    this.overlay = document.createElementNS(SVG, "svg");
    this.overlay.setAttribute("aria-hidden", "true");
    frame.replaceChildren(this.canvas, this.overlay);
    frame.pointMap = this;
    this.renderer = new PointRenderer(this.canvas, !hasTiles);
    this.renderer.onRestored = () => this.ask();
    Object.assign(this, { x: [], y: [], z: null, shown: [], selection: null, colours: null, style: {}, marks: {}, mode: "pan", operation: "new",
      axes: [], unit: null, key: null, extent: null, isStale: true, drawing: null });
    this.camera = { centre: [0, 0, 0], pxPerUnit: 1, whole: 1, yaw: 0, pitch: 0, isDeep: false, isDownward: false };
    this.listen();
    new ResizeObserver(() => this.resize()).observe(frame);
    this.resize();
  }

  say(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }

  // What is drawn.

  setPoints({ x, y, z = null, key = "", downward = false, unit = null, axes = [], extent = null }) {
    if (this.x === x && this.key === key) return;
    const isNew = this.key !== key;
    if (this.order?.length !== x.length) this.order = shuffled(x.length);
    Object.assign(this, { x, y, z, key, unit, axes, extent, isStale: true });
    Object.assign(this.camera, { isDeep: Boolean(z), isDownward: downward });
    if (isNew) {
      this.camera.yaw = z ? 0.5 : 0;
      this.camera.pitch = z ? 0.35 : 0;
      this.fit();
    }
  }

  setColours(colours) { this.colours = colours; this.isStale = true; this.ask(); }

  setShown(points) { this.shown = points; this.isStale = true; this.ask(); }

  setSelection(points) { this.selection = points; this.isStale = true; this.ask(); }

  setMarks(marks) { this.marks = marks; this.ask(); }

  setStyle(style) { this.style = style; this.ask(); }

  setMode(mode) {
    this.mode = mode;
    this.drawing = null;
    this.frame.dataset.mode = mode;
    this.ask();
    this.say("mode", { mode });
  }

  /** Put the shown points into the buffers in the shuffled order, the selected ones last. */
  pack() {
    this.isStale = false;
    const n = this.x.length;
    const kinds = new Uint8Array(n); // 0 hidden, 1 pale, 2 bright
    for (const point of this.shown) kinds[point] = this.selection ? 1 : 2;
    for (const point of this.selection ?? []) if (kinds[point]) kinds[point] = 2;
    const total = this.shown.length;
    const places = new Float32Array(3 * total);
    const colours = new Uint8Array(4 * total);
    let place = 0;
    const groups = [];
    for (const kind of [1, 2]) {
      const start = place;
      for (const point of this.order) {
        if (kinds[point] !== kind) continue;
        places[3 * place] = this.x[point];
        places[3 * place + 1] = this.y[point];
        if (this.z) places[3 * place + 2] = this.z[point];
        for (let c = 0; c < 3; c++) colours[4 * place + c] = this.colours[3 * point + c];
        colours[4 * place + 3] = kind === 2 && this.selection ? 1.25 * USUAL_SIZE : USUAL_SIZE;
        place += 1;
      }
      groups.push({ start, count: place - start, fade: kind === 1 ? PALE : 0 });
    }
    this.renderer.load(places, colours, groups);
  }

  // The view.

  get width() { return this.frame.clientWidth || 1; }

  get height() { return this.frame.clientHeight || 1; }

  resize() {
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(this.width * dense), Math.round(this.height * dense)];
    if (this.canvas.width === width && this.canvas.height === height) return;
    const wasWhole = this.camera.pxPerUnit === this.camera.whole;
    Object.assign(this.canvas, { width, height });
    this.renderer.clear(this.paper);
    this.overlay.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    if (wasWhole && this.isReady) this.fit(); else this.ask();
  }

  /** Rows of the rotation from the map to what is seen: right, up, towards the eye. */
  turn() {
    const { yaw, pitch, isDownward } = this.camera;
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const sign = isDownward ? -1 : 1; // images count y downwards, and z away from the eye
    return [[cy, 0, sy * sign], [sp * sy, cp * sign, -sp * cy * sign], [-cp * sy, sp * sign, cp * cy * sign]];
  }

  /** The whole map. */
  fit() {
    const box = this.extent ?? [this.x, this.y, ...(this.z ? [this.z] : [])].map(bounds);
    const { camera } = this;
    camera.centre = [0, 1, 2].map((axis) => (box[axis] ? (box[axis][0] + box[axis][1]) / 2 : 0));
    const sizes = box.map(([low, high]) => high - low || 1);
    const across = Math.hypot(...sizes);
    this.radius = across / 2 || 1;
    const room = 1 - 2 * MARGIN;
    camera.whole = camera.isDeep ? (room * Math.min(this.width, this.height)) / across * 1.15
      : room * Math.min(this.width / sizes[0], this.height / sizes[1]);
    camera.pxPerUnit = camera.whole;
    this.moved();
  }

  toScreen(x, y, z = 0) {
    const { centre, pxPerUnit } = this.camera;
    const away = [x - centre[0], y - centre[1], z - centre[2]];
    const [right, up] = this.turn().map((line) => line[0] * away[0] + line[1] * away[1] + line[2] * away[2]);
    return [this.width / 2 + right * pxPerUnit, this.height / 2 - up * pxPerUnit];
  }

  /** Place under a pixel, in a plane. */
  toMap(px, py) {
    const { centre, pxPerUnit, isDownward } = this.camera;
    return [centre[0] + (px - this.width / 2) / pxPerUnit, centre[1] + ((isDownward ? 1 : -1) * (py - this.height / 2)) / pxPerUnit];
  }

  screenOf(point) { return this.toScreen(this.x[point], this.y[point], this.z ? this.z[point] : 0); }

  /** Zoom, so that what is under a pixel stays there. */
  zoomBy(factor, px = this.width / 2, py = this.height / 2) {
    const { camera } = this;
    const next = Math.max(camera.whole * 0.3, Math.min(camera.whole * 3000, camera.pxPerUnit * factor));
    const shift = 1 - camera.pxPerUnit / next; // share of the way to the pixel
    const [right, down] = [(px - this.width / 2) * shift, (py - this.height / 2) * shift];
    this.shift(right / camera.pxPerUnit, -down / camera.pxPerUnit);
    camera.pxPerUnit = next;
    this.moved();
  }

  panBy(right_px, down_px) {
    this.shift(right_px / this.camera.pxPerUnit, -down_px / this.camera.pxPerUnit);
    this.moved();
  }

  /** Move the centre to the right and up, as seen. */
  shift(right, up) {
    const [rightwards, upwards] = this.turn();
    for (let axis = 0; axis < 3; axis++) this.camera.centre[axis] += right * rightwards[axis] + up * upwards[axis];
  }

  turnBy(right_px, down_px) {
    const { camera } = this;
    camera.yaw += right_px / 150;
    camera.pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, camera.pitch + down_px / 150));
    this.moved();
  }

  /** Bring a place of the map into sight if it is not. */
  reveal(place) {
    const [px, py] = this.toScreen(...place);
    if (px > 20 && py > 20 && px < this.width - 20 && py < this.height - 20) return;
    this.camera.centre = [place[0], place[1], place[2] ?? 0];
    this.moved();
  }

  // Painting.

  moved() {
    this.isMoving = true;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => { this.isMoving = false; this.ask(); }, RESTS_MS);
    this.ask();
  }

  ask() {
    this.isAsked = true;
    if (!this.isLooping) {
      this.isLooping = true;
      requestAnimationFrame(() => this.loop());
    }
  }

  /** A frame of the loop, which runs while something moves. A frame is begun when the former one has been painted, so that
   *  a slow machine shows where the view is now instead of catching up with where it was. */
  loop() {
    if (!this.renderer.isBusy() && this.isAsked && this.isReady) {
      this.isAsked = false;
      this.paint();
    }
    if (this.isMoving || this.isAsked && this.isReady) requestAnimationFrame(() => this.loop());
    else this.isLooping = false;
  }

  /** The background's colour, 0 to 1. */
  get paper() { return channels(colourOf("paper")).map((channel) => channel / 255); }

  get isReady() { return Boolean((this.x.length || this.extent) && this.colours); }

  get usualSize() { return Math.max(2.2, Math.min(8, 420 / Math.sqrt(this.shown.length + 1))); }

  get usualOpacity() { return Math.max(0.6, Math.min(0.95, 1.35 - 0.15 * Math.log10(this.shown.length + 1))); }

  get sizePx() {
    const nearer = Math.max(1, Math.min(4, (this.camera.pxPerUnit / this.camera.whole) ** 0.35));
    return (this.style.size ?? this.usualSize) * nearer;
  }

  paint() {
    if (this.isStale) this.pack();
    const { centre, pxPerUnit, isDeep } = this.camera;
    const [right, up, near] = this.turn();
    const view = { turn: [0, 1, 2].flatMap((axis) => [right[axis], up[axis], near[axis]]), centre, isDeep,
      scale: [(2 * pxPerUnit) / this.width, (2 * pxPerUnit) / this.height, -1 / this.radius],
      size: (this.sizePx * this.canvas.width) / this.width, opacity: this.style.opacity ?? this.usualOpacity };
    this.renderer.draw(view, this.paper, this.isMoving);
    this.drawOverlay();
    const corners = isDeep ? null : [this.toMap(0, 0), this.toMap(this.width, this.height)];
    const ordered = (axis) => corners && corners.map((corner) => corner[axis]).sort((a, b) => a - b);
    this.say("view", { x: ordered(0), y: ordered(1), pxPerUnit, isMoving: Boolean(this.isMoving) });
  }

  /** Ring, outlines, scale bar and directions. */
  drawOverlay() {
    const parts = [];
    const add = (tag, attributes, text = "") => {
      const made = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      made.textContent = text;
      parts.push(made);
    };
    const line = (corners, isClosed) => corners.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("") + (isClosed ? "Z" : "");
    const { lasso, walk, at } = this.marks;
    const flat = (outline) => outline.x.map((x, place) => this.toScreen(x, outline.y[place]));
    if (lasso && !this.z) add("path", { class: "lasso", d: line(flat(lasso), true) });
    if (walk && !this.z) {
      const ends = flat(walk);
      add("path", { class: "walk", d: line(ends) });
      ends.forEach(([cx, cy], place) => add("circle", { class: "walk", cx, cy, r: place ? 4 : 6 }));
    }
    if (this.drawing?.path.length > 1) add("path", { class: this.mode === "walk" ? "walk" : "lasso", d: line(this.drawing.path, this.mode !== "walk") });
    if (at) {
      const [cx, cy] = this.toScreen(...at);
      add("circle", { class: "ring", cx, cy, r: Math.max(8, this.sizePx / 2 + 5) });
    }
    if (this.unit) {
      const length = roundLength((0.25 * this.width) / this.camera.pxPerUnit);
      const [right, bottom] = [this.width - 16, this.height - 16];
      add("path", { class: "scale", d: `M${right - length * this.camera.pxPerUnit},${bottom}H${right}` });
      add("text", { x: right, y: bottom - 7, "text-anchor": "end" }, `${length.toLocaleString("en")} ${this.unit}`);
    }
    if (this.unit || this.z) {
      const [ox, oy] = [48, this.height - 48];
      const seen = this.turn();
      this.axes.forEach((name, axis) => {
        const [dx, dy] = [30 * seen[0][axis], -30 * seen[1][axis]];
        add("path", { class: "axis", d: `M${ox},${oy}l${dx},${dy}` });
        if (Math.hypot(dx, dy) > 8) add("text", { x: ox + 1.35 * dx, y: oy + 1.35 * dy + 4, "text-anchor": "middle" }, name);
      });
    }
    this.overlay.replaceChildren(...parts);
  }

  // The pointer.

  /** The shown point that is nearest to a pixel, the frontmost of those in space; -1 if none is within reach. */
  nearest(px, py, reach = REACH_PX) {
    const [right, up, near] = this.turn();
    const { centre, pxPerUnit } = this.camera;
    const [wantedRight, wantedUp] = [(px - this.width / 2) / pxPerUnit, (this.height / 2 - py) / pxPerUnit];
    let [found, least] = [-1, Infinity];
    const within = (Math.max(reach, this.sizePx / 2) / pxPerUnit) ** 2;
    for (const point of this.shown) {
      const [x, y, z] = [this.x[point] - centre[0], this.y[point] - centre[1], this.z ? this.z[point] - centre[2] : 0];
      const dx = right[0] * x + right[1] * y + right[2] * z - wantedRight;
      const dy = up[0] * x + up[1] * y + up[2] * z - wantedUp;
      const apart = dx * dx + dy * dy;
      if (apart > within) continue;
      // In space what lies in front wins over what is a little nearer to the pointer.
      const cost = this.z ? apart / within - (0.5 * (near[0] * x + near[1] * y + near[2] * z)) / this.radius : apart;
      if (cost < least) [found, least] = [point, cost];
    }
    return found;
  }

  /** Shown points within an outline on the screen. */
  pointsInside(path) {
    return this.shown.filter((point) => {
      const [px, py] = this.screenOf(point);
      let inside = false;
      for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
        const [[xi, yi], [xj, yj]] = [path[i], path[j]];
        if ((yi > py) !== (yj > py) && px < ((xj - xi) * (py - yi)) / (yj - yi) + xi) inside = !inside;
      }
      return inside;
    });
  }

  listen() {
    const { frame } = this;
    const fingers = new Map();
    const at = (event) => {
      const box = frame.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let pressed = null;
    frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 30 : 1;
      this.zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
    }, { passive: false });
    frame.addEventListener("contextmenu", (event) => this.z && event.preventDefault());
    frame.addEventListener("pointerdown", (event) => {
      if (event.button > (this.z ? 2 : 0)) return;
      frame.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, at(event));
      this.hover(null);
      pressed = fingers.size === 1 ? { from: at(event), last: at(event), button: event.button, hasMoved: false } : null;
      this.drawing = pressed && this.mode !== "pan" && event.button === 0 ? { path: [at(event)] } : null;
    });
    frame.addEventListener("pointermove", (event) => {
      const here = at(event);
      if (!fingers.has(event.pointerId)) return event.pointerType === "mouse" && event.buttons === 0 && this.hover(here);
      const before = fingers.get(event.pointerId);
      fingers.set(event.pointerId, here);
      if (fingers.size === 2) return this.pinch([...fingers.values()], before, here);
      if (!pressed) return null;
      if (Math.hypot(here[0] - pressed.from[0], here[1] - pressed.from[1]) > CLICK_PX) pressed.hasMoved = true;
      if (!pressed.hasMoved) return null;
      const [right, down] = [here[0] - pressed.last[0], here[1] - pressed.last[1]];
      pressed.last = here;
      if (this.drawing) return this.extend(pressed.from, here);
      if (this.z && pressed.button === 0 && !event.ctrlKey) this.turnBy(right, down);
      else this.panBy(-right, -down);
      return null;
    });
    const released = (event) => {
      if (!fingers.delete(event.pointerId) || !pressed) return;
      const { hasMoved } = pressed;
      pressed = null;
      if (event.type === "pointercancel") this.cancel();
      else if (!hasMoved) this.click(at(event));
      else if (this.drawing) this.finish(event.shiftKey ? "add" : event.altKey ? "subtract" : this.operation);
    };
    frame.addEventListener("pointerup", released);
    frame.addEventListener("pointercancel", released);
    frame.addEventListener("pointerleave", () => this.hover(null));
    frame.addEventListener("dblclick", () => this.mode === "pan" && this.fit());
  }

  pinch(fingers, before, here) {
    const other = fingers.find((finger) => finger !== here);
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
    const middle = (one) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
    const [from, to] = [middle(before), middle(here)];
    this.panBy(from[0] - to[0], from[1] - to[1]);
    this.zoomBy(apart(here) / apart(before), ...to);
  }

  /** Carry what is being drawn on to a pixel. */
  extend(from, here) {
    if (this.mode === "lasso") this.drawing.path.push(here);
    else if (this.mode === "walk") this.drawing.path = [from, here];
    else this.drawing.path = [from, [here[0], from[1]], here, [from[0], here[1]]];
    this.drawOverlay(); // the points stay as they are
  }

  cancel() {
    this.drawing = null;
    this.ask();
  }

  finish(operation) {
    const { path } = this.drawing;
    this.cancel();
    if (this.mode !== "walk" && path.length < 3) return;
    const corners = path.map(([px, py]) => this.toMap(px, py));
    const outline = { x: corners.map(([x]) => x), y: corners.map(([, y]) => y) };
    if (this.mode === "walk") this.say("walk", outline);
    else this.say("region", this.z ? { points: this.pointsInside(path), operation } : { ...outline, operation });
  }

  click(here) {
    this.cancel();
    const point = this.nearest(...here);
    if (point >= 0) return this.say("choose", { point });
    const [x, y] = this.toMap(...here);
    return this.z ? undefined : this.say("miss", { x, y, reach: REACH_PX / this.camera.pxPerUnit });
  }

  /** Look, once a frame, what is under the pointer. */
  hover(here) {
    const isWaiting = this.hovered !== undefined;
    this.hovered = here;
    if (isWaiting) return;
    requestAnimationFrame(() => {
      const place = this.hovered;
      this.hovered = undefined;
      const point = place && !this.isMoving ? this.nearest(...place) : -1;
      this.frame.dataset.near = String(point >= 0);
      this.say("hover", { point, x_px: place?.[0], y_px: place?.[1] });
    });
  }
}
