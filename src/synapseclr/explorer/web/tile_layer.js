// The map of a large run: tiles that the server draws, and single points where few enough synapses are in sight.
//
// Tiles lie on a canvas below that of the points. Until a tile is there, what the layer showed before is drawn in its place: the
// same tile of the former view, or the part of a coarser one.
import { classColours, paint } from "./colours.js";

const RESTS_MS = 140; // after the last movement points are asked for
const MARGIN = 0.25; // of the window, to either side: small movements ask for nothing
const KEPT = 600; // pictures
const NOTHING = { n: 0, x: [], y: [], z: null, ids: [] };

const covers = (one, other) => Boolean(one) && ["x", "y"].every((axis) => one[axis][0] <= other[axis][0] && one[axis][1] >= other[axis][1]);

export class TileLayer {
  /** @param {PointMap} map  @param {LargeRun} run  `onFailure(message)` hears of requests that failed. */
  constructor(map, run, onFailure) {
    Object.assign(this, { map, run, onFailure, pictures: new Map(), points: null, view: null, former: null, asked: 0 });
    this.canvas = document.createElement("canvas");
    map.frame.prepend(this.canvas);
    map.addEventListener("view", ({ detail }) => this.moved(detail));
  }

  idOf(point) { return this.points.ids[point].toString(); }

  valueOf(point) { return this.points.values[point]; }

  /** Show a view of a map: axes, unit and downward as of PointMap.setPoints, `look` with the palette. */
  async show(view, { axes, unit, downward, look }) {
    const key = `${view.id} ${view.selected.selection} ${view.name} ${look.palette} ${document.documentElement.dataset.theme}`;
    if (this.key === key) return;
    const isOther = this.view?.name !== view.name;
    this.former = isOther ? null : this.view;
    Object.assign(this, { key, view, look, axes, tooMany: null, window: null, isSolid: axes.length > 2 });
    this.settings = { key: view.name, axes, unit, downward, extent: this.run.about.large.extents[view.name].ends };
    if (isOther) this.setPoints(null);
    if (this.isSolid) await this.askPoints(null);
    else if (this.points) await this.askPoints(this.inSight()); // the former ones stay until they are there
    this.map.ask();
  }

  setPoints(points) {
    this.points = points;
    const { map, view } = this;
    const { n, x, y, z } = points ?? NOTHING;
    map.setPoints({ x, y, z, ...this.settings });
    const { column } = view;
    const [low, high] = view.tally().range;
    map.setColours(points ? paint(n, points.values, column ?? { classes: [] }, { colours: column ? classColours(this.run, column) : [], palette: this.look.palette, low, high }) : new Uint8Array(0));
    const all = Array.from({ length: n }, (_, point) => point);
    map.setShown(all);
    map.setSelection(points && view.selected.n ? all.filter((point) => points.isChosen[point]) : null);
    map.frame.dataset.detail = points ? "points" : "tiles";
  }

  /** The part of the map in sight, and a margin. */
  inSight(margin = MARGIN) {
    const { map } = this;
    const corners = [map.toMap(0, 0), map.toMap(map.width, map.height)];
    const [x, y] = [0, 1].map((axis) => {
      const [low, high] = corners.map((corner) => corner[axis]).sort((a, b) => a - b);
      return [low - margin * (high - low), high + margin * (high - low)];
    });
    return { x, y };
  }

  async askPoints(window) {
    const mine = ++this.asked;
    const { view, key } = this;
    try {
      const points = await this.run.points(view, window);
      if (mine !== this.asked || key !== this.key) return;
      this.window = points ? window : null;
      if (!points) this.tooMany = window;
      if (points || this.points) this.setPoints(points);
      if (points) this.painted();
    } catch (error) {
      if (mine === this.asked) this.onFailure(error.message);
    }
  }

  moved(sight) {
    if (!this.view || this.isSolid) return this.clear();
    clearTimeout(this.resting);
    const isHeld = this.points && covers(this.window, sight);
    if (this.points && !isHeld && !covers(this.window, this.inSight(-MARGIN))) this.setPoints(null);
    if (!isHeld) this.resting = setTimeout(() => this.rested(), RESTS_MS);
    return this.points ? this.clear() : this.draw();
  }

  rested() {
    const sight = this.inSight(0);
    if (covers(this.window, sight) && this.points) return;
    const isHopeless = this.tooMany && covers(this.inSight(), this.tooMany); // more is in sight than what was too much
    if (!isHopeless) this.askPoints(this.inSight());
  }

  clear() {
    if (this.isClear) return;
    this.isClear = true;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** The level whose pixels are about as large as those of the screen. */
  get level() {
    const { large } = this.run.about;
    const whole = (large.extents[this.view.name].side * this.map.camera.pxPerUnit) / large.tile_px;
    return Math.max(0, Math.min(large.deepest, Math.round(Math.log2(whole))));
  }

  draw() {
    const { map, canvas } = this;
    const { low, side } = this.run.about.large.extents[this.view.name];
    if (canvas.width !== map.canvas.width || canvas.height !== map.canvas.height) Object.assign(canvas, { width: map.canvas.width, height: map.canvas.height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.isClear = false;
    const { level } = this;
    const size = side / 2 ** level;
    const { x, y } = this.inSight(0);
    const cells = (ends, start) => [Math.max(0, Math.floor((ends[0] - start) / size)), Math.min(2 ** level - 1, Math.floor((ends[1] - start) / size))];
    const [columns, lines] = [cells(x, low[0]), cells(y, low[1])];
    let isWhole = true;
    for (let column = columns[0]; column <= columns[1]; column++) {
      for (let line = lines[0]; line <= lines[1]; line++) isWhole = this.drawTile(context, level, column, line, low, size) && isWhole;
    }
    this.map.frame.dataset.whole = String(isWhole);
    if (isWhole) this.painted();
  }

  /** Draw a tile, or what stands for it. True if it is there. */
  drawTile(context, level, column, line, low, size) {
    const dense = this.canvas.width / this.map.width;
    const corner = (c, l) => this.map.toScreen(low[0] + c * size, low[1] + l * size).map((px) => Math.round(px * dense));
    const [[left, start], [right, end]] = [corner(column, line), corner(column + 1, line + 1)];
    const px = this.run.about.large.tile_px;
    const put = (picture, sx, sy, part) => {
      context.setTransform((right - left) / px, 0, 0, (end - start) / px, left, start); // upward maps: a negative height
      context.drawImage(picture, sx, sy, part, part, 0, 0, px, px);
      context.resetTransform();
    };
    const own = this.picture(this.view, level, column, line, true);
    if (own) {
      put(own, 0, 0, px);
      return true;
    }
    for (let up = 0; up <= level; up++) {
      const part = px / 2 ** up;
      const [c, l] = [column >> up, line >> up];
      for (const view of [this.former, this.view]) {
        const picture = view && this.picture(view, level - up, c, l, false);
        if (!picture) continue;
        put(picture, (column - (c << up)) * part, (line - (l << up)) * part, part);
        return false;
      }
    }
    return false;
  }

  /** Picture of a tile; null until it is loaded, which `isWanted` starts. */
  picture(view, level, column, line, isWanted) {
    const address = this.run.tile(view, level, column, line);
    const kept = this.pictures.get(address);
    if (kept || !isWanted) {
      if (kept && isWanted) { // used last
        this.pictures.delete(address);
        this.pictures.set(address, kept);
      }
      return kept?.complete && kept.naturalWidth ? kept : null;
    }
    const made = new Image();
    made.onload = () => this.map.ask();
    made.onerror = () => { this.pictures.delete(address); this.onFailure("A part of the map could not be drawn. Is `kedro explore` still running?"); };
    made.src = address;
    this.pictures.set(address, made);
    if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    return null;
  }

  painted() {
    const { dataset } = this.map.frame;
    if (dataset.painted === this.key) return;
    dataset.painted = this.key;
    this.former = null;
    this.onPainted?.();
  }
}
