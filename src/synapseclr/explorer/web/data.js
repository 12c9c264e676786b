// What the server, or a folder of files, knows of the run, and what the page finds in it. Ids stay text or BigInt: numbers
// would round them.
//
// A `Run` holds all synapses; `LargeRun` answers the same calls by the server. What both give is:
//   a view   { name, column, n, tally() } of what a state shows; tally: { counts, range } for the legend
//   a set    { n } of synapses, which only the run that gave it looks into
import { asCsv } from "./columns.js";
import { shownRows } from "./filters.js";
import { binned } from "./histogram.js";
import { countsOf, rangeOf } from "./legend.js";
import { combined, withoutHidden } from "./map_state.js";
import { neuriteAmong } from "./neuron.js";
import { download } from "./page.js";
import { rowsInside } from "./state.js";

export async function fetched(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The explorer does not answer. Is “kedro explore” still running?");
  }
  if (answer.ok) return answer;
  let reason = `${path}: status ${answer.status}`;
  if ((answer.headers.get("Content-Type") || "").includes("json")) reason = (await answer.json()).error || reason;
  throw new Error(reason);
}

export const json = async (path) => (await fetched(path)).json();
export const binary = async (path) => (await fetched(path)).arrayBuffer();

export async function posted(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await fetched(path, options)).json();
}

export class Run {
  /** @param {object} about The overview. */
  constructor(about) {
    this.about = about;
    this.n = about.n;
    this.canAsk = !about.is_static;
    this.kept = new Map();
  }

  async load() {
    this.ids = new BigInt64Array(await binary("api/ids.bin"));
    return this;
  }

  get isLarge() { return false; }

  get canFindDefects() { return true; }

  idOf(row) { return this.ids[row].toString(); }

  rowOf(id) {
    if (!/^\d{1,19}$/.test(id)) return -1;
    return this.ids.indexOf(BigInt(id));
  }

  has(id) { return this.rowOf(id) >= 0; }

  once(key, make) {
    if (!this.kept.has(key)) {
      const made = make();
      made.catch(() => this.kept.delete(key));
      this.kept.set(key, made);
    }
    return this.kept.get(key);
  }

  /** Rows of ids, those that the run has. */
  rowsOf(ids) {
    if (ids.length < 20) return ids.map((id) => this.rowOf(id)).filter((row) => row >= 0);
    this.places ??= new Map(Array.from(this.ids, (id, row) => [id.toString(), row]));
    return ids.map((id) => this.places.get(id)).filter((row) => row !== undefined);
  }

  /** Positions of all synapses on a map: x, y, and z where it is in space. */
  plane(name) {
    const number = Math.max(0, this.about.planes.indexOf(name));
    return this.once(`plane ${number}`, async () => {
      const values = new Float32Array(await binary(`api/plane/${number}.bin`));
      const [x, y, z] = [0, 1, 2].map((axis) => values.subarray(axis * this.n, (axis + 1) * this.n));
      return { x, y, z: z.length ? z : null };
    });
  }

  columnNamed(name) { return this.about.columns.find((column) => column.name === name); }

  /** One value per synapse, NaN where there is none. */
  values(name) {
    const number = this.about.columns.findIndex((column) => column.name === name);
    return this.once(`column ${number}`, async () => new Float32Array(await binary(`api/column/${number}.bin`)));
  }

  /** Add a column that the page made itself, or replace its values: saved labels, a neurite's synapses, what was learnt. */
  setColumn(column, values) {
    const made = { isMade: true, group: "From this page", unit: "", classes: [], ...column };
    const number = this.about.columns.findIndex((other) => other.name === made.name);
    if (number >= 0) this.about.columns[number] = made;
    else this.about.columns.push(made);
    this.kept.set(`column ${number >= 0 ? number : this.about.columns.length - 1}`, Promise.resolve(values));
    this.onColumns?.();
  }

  /** Root ids of one side of all synapses; 0n where they are not known. */
  roots(name) {
    return this.once(`roots ${name}`, async () => new BigUint64Array(await binary(`api/roots/${name}.bin`)));
  }

  details(id) { return json(`api/synapse/${id}/details.json`); }

  scene(id) { return json(`api/synapse/${id}/scene.json`); }

  picture(id, name) { return `api/synapse/${id}/${name}`; }

  get hasPictures() { return this.about.chunk_size_vx !== null; }

  whySimilar(id, other) { return json(`api/synapse/${id}/similar/${other}.json`); }

  // What a state shows.

  /** The view of a state; `former` is the one before, `isRefiltered` whether the filters may have changed since. */
  async view({ filters, colour, look }, name, former = {}, isRefiltered = true) {
    const column = this.columnNamed(colour);
    const [plane, passing, values] = await Promise.all([this.plane(name),
      isRefiltered || !former.passing ? shownRows(this, filters) : former.passing, column ? this.values(column.name) : null]);
    const isSame = passing === former.passing && values === former.values && look.hidden === former.look.hidden;
    const shown = isSame ? former.shown : withoutHidden(passing, values, column, look.hidden);
    const tally = () => ({ counts: countsOf(passing, values, column), range: values && !column.classes.length ? rangeOf(values, look) : [0, 1] });
    return { name, plane, passing, shown, values, column, n: shown.length, tally };
  }

  /** The set that a state selects. */
  selected({ lasso, ids }, { plane, shown }) { return this.asSet(lasso ? rowsInside(lasso, plane, shown) : this.rowsOf(ids || [])); }

  /** Place of a synapse on a view's map; null if the run lacks it. */
  placeOf(id, { plane }) {
    const row = id ? this.rowOf(id) : -1;
    return row < 0 ? null : [plane.x[row], plane.y[row], plane.z ? plane.z[row] : 0];
  }

  /** Bars of a column of numbers. */
  async histogram(column) { return binned(await this.values(column.name)); }

  // Sets.

  asSet(rows) { return { rows, n: rows.length }; }

  isSame(one, other) { return one.n === other?.n && one.rows.every((row, place) => row === other.rows[place]); }

  /** The part of the state that selects a set. */
  stateOf(set) { return { ids: set.rows.map((row) => this.idOf(row)), lasso: null, selection: null }; }

  shownSet(view) { return this.asSet(view.shown); }

  /** A set after drawing: what was drawn (an outline, or points) alone, added to the selected one, or taken away. */
  drawn(view, { points, ...outline }, operation) {
    return this.asSet(combined(view.selected.rows, points ?? rowsInside(outline, view.plane, view.shown), operation));
  }

  ofNeurite(found, side) { return this.asSet(found[side]); }

  labelled(saved, code) { return this.asSet(saved.rows.filter((_, place) => saved.codes[place] === code)); }

  /** Part of a set, sorted by a column, synapses without a value last: `{ id, value }` each. */
  async page(set, { column, isDescending, start, count }) {
    const values = column ? await this.values(column.name) : null;
    const sign = isDescending ? -1 : 1;
    const key = (row) => (Number.isNaN(values[row]) ? Infinity : sign * values[row]);
    if (set.order?.values !== values || set.order?.sign !== sign) {
      const rows = values ? [...set.rows].sort((a, b) => { const [left, right] = [key(a), key(b)]; return left === right ? 0 : left - right; }) : set.rows;
      set.order = { values, sign, rows };
    }
    return set.order.rows.slice(start, start + count).map((row) => ({ id: this.idOf(row), value: values ? values[row] : NaN }));
  }

  /** The first of what a view shows, sorted by the value it is coloured by; without a column as they are. */
  async first({ shown, values, column }, isDescending, count) {
    const rows = values ? shown.filter((row) => !Number.isNaN(values[row])) : shown;
    return this.page(this.asSet(rows), { column, isDescending, start: 0, count });
  }

  async saveCsv(set, names) { download("synapses.csv", await asCsv(this, set.rows, names)); }

  /** What a request says of a set. */
  body(set) { return { ids: set.rows.map((row) => this.idOf(row)) }; }

  summary(set) { return posted("api/summary", this.body(set)); }

  search(set, kind, k) { return posted("api/search", { ...this.body(set), kind, k }); }

  saveLabel(set, label, chosenBy) { return posted("api/labels", { ...this.body(set), label, chosen_by: chosenBy }); }

  acceptDefects(set) { return posted("api/defects", this.body(set)); }

  neuroglancer(set, column) { return posted("api/neuroglancer", { ...this.body(set), column }); }

  withdraw(table) { return posted("api/labels/withdraw", { table }); }

  /** Saved labels: classes, the number of synapses of each, tables, and their column's values. */
  async savedLabels() {
    const saved = await json("api/labels.json");
    const values = new Float32Array(this.n).fill(NaN);
    saved.rows.forEach((row, place) => { values[row] = saved.codes[place]; });
    const counts = saved.classes.map((_, code) => saved.codes.filter((other) => other === code).length);
    return { ...saved, values, counts };
  }

  // Neurites.

  /** A neurite's synapses and partners. */
  async neurite(root) {
    const [pre, post] = await Promise.all(["pre_root_id", "post_root_id"].map((name) => (this.about.roots.includes(name) ? this.roots(name) : [])));
    return neuriteAmong(pre, post, root);
  }

  /** Values of the column of a neurite: 0 for its outputs, 1 for its inputs, 2 for both. */
  async neuriteValues(root) {
    const found = await this.neurite(root);
    const values = new Float32Array(this.n).fill(NaN);
    for (const row of found.outputs) values[row] = 0;
    for (const row of found.inputs) values[row] = Number.isNaN(values[row]) ? 1 : 2;
    return values;
  }

  /** Probability of every synapse to be like the ticked ones. */
  async learn(ids, without) {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ids, without }) };
    return new Float32Array(await (await fetched("api/learn", options)).arrayBuffer());
  }
}
