// A run too large for the page: the server filters, counts, selects and draws. Views and sets are known by ids; what the page
// holds are single points of the part of the map in sight.
import { classColours, PALETTES } from "./colours.js";
import { binary, json, posted, Run } from "./data.js";
import { colourOf, say } from "./page.js";
import { simplified } from "./state.js";

const NOTHING = "none";
const TOO_MANY = 2 ** 32 - 1;
const BARS = 24;

/** The run, large or not. */
export async function openRun() {
  const about = await json("api/overview.json");
  return about.large ? new LargeRun(about) : new Run(about).load();
}

export class LargeRun extends Run {
  get isLarge() { return true; }

  get canFindDefects() { return this.about.large.can_find_defects; }

  planeNumber(name) { return this.about.planes.indexOf(name); }

  async has(id) { return (await this.placeOf(id, { name: this.about.planes[0] })) !== null; }

  async placeOf(id, { name }) {
    if (!/^\d{1,19}$/.test(id ?? "")) return null;
    return (await this.once(`place ${id} ${name}`, () => json(`api/synapse/${id}/place/${this.planeNumber(name)}.json`))).place;
  }

  // What a state shows.

  async view({ filters, colour, look, neuron }, name) {
    const column = this.columnNamed(colour);
    const paint = { unknown: colourOf("unknown"), classes: column ? classColours(this, column) : [], ramp: PALETTES[look.palette] };
    const known = filters.filter((filter) => this.columnNamed(filter.name));
    const asked = { filters: known, colour: column?.name ?? "", hidden: look.hidden, low: look.low ?? null, high: look.high ?? null, neuron: neuron ?? "", paint };
    const found = await posted("api/view", asked);
    const tally = { counts: new Map(found.counts), range: [found.low, found.high] };
    return { name, column, id: found.view, n: found.n, neuron, tally: () => tally };
  }

  async selected({ lasso, ids, selection }, view) {
    if (lasso) return this.asked({ view: view.id, plane: view.name, outline: lasso });
    if (ids?.length) return this.asked({ ids });
    if (!selection) return { selection: NOTHING, n: 0 };
    try {
      return await this.once(`selection ${selection}`, async () => {
        const { n } = await posted("api/list", { selection, count: 0 });
        return { selection, n };
      });
    } catch (error) {
      say(error.message); // of an explorer that ran before
      return { selection: NOTHING, n: 0 };
    }
  }

  histogram(column) { return json(`api/histogram/${encodeURIComponent(column.name)}.json?bars=${BARS}`); }

  /** Address of a tile. */
  tile({ id, selected, name }, level, x, y) { return `api/tile/${id}/${selected.selection}/${this.planeNumber(name)}/${level}/${x}/${y}.png`; }

  /** Points of a window `{ x, y }`, or a sample of a map in space; null if they are too many. */
  async points({ id, selected, name }, window = null) {
    const ends = window ? `?left=${window.x[0]}&right=${window.x[1]}&bottom=${window.y[0]}&top=${window.y[1]}` : "";
    const answer = await binary(`api/points/${id}/${selected.selection}/${this.planeNumber(name)}.bin${ends}`);
    const n = new Uint32Array(answer, 0, 1)[0];
    if (n === TOO_MANY) return null;
    const axes = this.about.map.planes[name].axes.length;
    let at = 8;
    const part = (Kind) => {
      const values = new Kind(answer, at, n);
      at += values.byteLength;
      return values;
    };
    const ids = part(BigInt64Array);
    const [x, y, z] = Array.from({ length: axes }, () => part(Float32Array));
    return { n, ids, x, y, z: z ?? null, values: part(Float32Array), isChosen: part(Uint8Array) };
  }

  /** Id of the shown synapse that is nearest to a place within reach; null if there is none. */
  async nearest({ id, name }, { x, y, reach }) {
    return (await json(`api/nearest/${id}/${this.planeNumber(name)}.json?x=${x}&y=${y}&reach=${reach}`)).id;
  }

  // Sets.

  async asked(body) {
    const found = await posted("api/selections", body);
    this.kept.set(`selection ${found.selection}`, Promise.resolve(found));
    return found;
  }

  isSame(one, other) { return one.selection === other?.selection; }

  stateOf(set) { return { selection: set.selection === NOTHING ? null : set.selection, ids: null, lasso: null }; }

  shownSet(view) { return this.asked({ view: view.id }); }

  drawn(view, { ids, x, y }, operation) {
    const region = ids ? { ids } : { view: view.id, plane: view.name, outline: simplified({ x, y }) };
    return this.asked({ ...region, operation, base: view.selected.selection });
  }

  ofNeurite(found, side) { return this.asked({ neurite: found.root, side }); }

  labelled(saved, code) { return this.asked({ label: saved.classes[code] }); }

  async page({ selection, view, neuron }, { column, isDescending, start, count, known = false }) {
    const found = await posted("api/list", { selection, view, neuron, column: column?.name ?? "", descending: isDescending, start, count, known });
    return found.synapses.map(({ id, value }) => ({ id, value: value ?? NaN }));
  }

  first(view, isDescending, count) {
    return this.page({ view: view.id, neuron: view.neuron }, { column: view.column, isDescending, start: 0, count, known: true });
  }

  async saveCsv(set, names) {
    const columns = names.map((name) => `column=${encodeURIComponent(name)}`).join("&");
    const link = document.createElement("a");
    Object.assign(link, { href: `api/selections/${set.selection}.csv?${columns}`, download: "synapses.csv" });
    document.body.append(link);
    link.click();
    link.remove();
  }

  body(set) { return { selection: set.selection }; }

  savedLabels() { return json("api/label-counts.json"); }

  async neurite(root) {
    const found = await json(`api/neurite/${root}.json`);
    return { ...found, nOutputs: found.outputs, nInputs: found.inputs, nTargets: found.n_targets, nSources: found.n_sources };
  }

  async neuriteValues() { return null; }

  /** What is different from smaller runs, as sentences. */
  get limits() {
    const most = this.about.large.max_points.toLocaleString("en");
    return [
      `Seen from afar the map shows densities: the mean of numbers, the mixture of the classes' colours, and grey where no synapse has a value. Where at most ${most} synapses are in sight, they become single points, with a tip under the pointer; size and opacity apply to these. A click picks the nearest synapse in both.`,
      `Maps in space show ${most} synapses at random, and a lasso there selects among those.`,
      "A selection that was combined, or not drawn as one lasso, lives in this explorer as long as it runs: its link opens nowhere else. Save it as a label or as CSV.",
      "The summary of a selection of more than 500,000 synapses is that of 500,000 at random.",
      `Not available: axis walk${this.canFindDefects ? "" : ", the search for defects like those selected"} and learning from ticks.`,
    ];
  }
}
