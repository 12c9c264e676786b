// Brings the parts together: the state decides what is drawn, and every change of it goes into the address.
import { showTray, withCompared } from "./compare.js";
import { clearFailure, showFailure } from "./failures.js";
import { drawFilters, offerColumns, openFilter } from "./filters.js";
import { tipContent } from "./hover.js";
import { wireKeys } from "./keys.js";
import { LABEL_COLUMN, loadLabels, showLabels } from "./labels.js";
import { openRun } from "./large_run.js";
import { drawLegend } from "./legend.js";
import { MapView } from "./map_view.js";
import { setNeuriteColumn, showNeurite } from "./neuron.js";
import { valueText } from "./numbers.js";
import { byId, element, say, setTheme, showTab, wireTabs } from "./page.js";
import { showSelection } from "./selection.js";
import { raiseSheet, wireSheet } from "./sheet.js";
import { readAddress, simplified, writeAddress } from "./state.js";
import { showSynapse } from "./synapse.js";

const LISTED = 25;
const NOTHING = { lasso: null, ids: null, selection: null };
let run;
let map;
let state = readAddress();
let view = {};
let changes = Promise.resolve();
let formerSets = []; // what undo goes back to
setTheme(state.theme);

/** Change the state: load what it needs, then draw what changes. A request that fails leaves everything as it was. */
function change(part) {
  changes = changes.then(async () => {
    const isRecoloured = "colour" in part && part.colour !== state.colour;
    const usual = isRecoloured ? { look: { ...state.look, hidden: [], low: undefined, high: undefined } } : {};
    const wanted = { ...state, ...usual, ...part };
    const changed = Object.keys({ ...usual, ...part });
    try {
      const loaded = await load(wanted, changed);
      if ("lasso" in part || "ids" in part) formerSets = [...formerSets, { lasso: state.lasso, ids: state.ids, selection: state.selection }].slice(-50);
      state = wanted;
      byId("link-note").hidden = writeAddress(state);
      clearFailure();
      await draw(loaded, changed);
    } catch (error) {
      showControls();
      if (changed.includes("filters")) drawFilters(run, state.filters, (filters) => change({ filters }));
      showFailure(error.message, () => change(part));
    }
  });
  return changes;
}

const chooseSynapse = (id) => {
  showTab("synapse");
  raiseSheet();
  return change({ synapse: id });
};

const chooseNeurite = (root) => {
  showTab("neuron");
  raiseSheet();
  return change({ neuron: root, ...(state.colour === "neurite" ? { colour: "neurite" } : {}) });
};

/** Select a set, or what a request gives. */
async function selectSet(asked) {
  showTab("selection");
  raiseSheet();
  try {
    return change(run.stateOf(await asked));
  } catch (error) {
    return showFailure(error.message);
  }
}

const colourBy = (name) => change({ colour: name });
const compare = (id) => change({ compare: withCompared(state.compare, id) });

const changeLook = (part) => change({ look: { ...state.look, ...part } });

/** Go back to the former selection. */
async function undoSelection() {
  const former = formerSets.at(-1);
  if (!former) return;
  const left = formerSets.slice(0, -1);
  await change(former);
  formerSets = left;
  byId("undo-selection").disabled = !left.length;
}

/** Take what was drawn on the map into the selection. */
function selectRegion({ operation, ...region }) {
  showTab("selection");
  raiseSheet();
  const isLasso = !region.points && (operation === "new" || (operation === "add" && !view.selected.n));
  return isLasso ? change({ ...NOTHING, lasso: simplified(region) }) : selectSet(run.drawn(view, region, operation));
}

/** Draw another map; what a lasso has selected on this one stays selected. */
function showPlane(plane) {
  const selected = state.lasso ? run.stateOf(view.selected) : {};
  return change({ plane, walk: null, ...selected });
}

/** Everything that a state needs of the server before it is drawn. */
async function load(wanted, changed = null) {
  if (wanted.neuron && (changed === null || changed.includes("neuron"))) await setNeuriteColumn(run, wanted.neuron);
  const plane = run.about.planes.includes(wanted.plane) ? wanted.plane : run.about.planes[0];
  const shown = await run.view(wanted, plane, view, changed === null || changed.includes("filters"));
  const [selected, at] = await Promise.all([run.selected(wanted, shown), run.placeOf(wanted.synapse, shown)]);
  return { ...shown, selected, at };
}

/** Set the controls to the state, also after a change that failed. */
function showControls() {
  byId("plane").value = view.name ?? "";
  byId("colour").value = view.column ? view.column.name : "";
  byId("colour").title = byId("colour").selectedOptions[0]?.title ?? ""; // the whole name where it is shortened
}

async function draw(loaded, changed = null) {
  const touches = (...names) => changed === null || names.some((name) => changed.includes(name));
  if (touches("synapse")) showSynapse(run, state.synapse, { onChoose: chooseSynapse, onRoot: chooseNeurite, onCompare: compare });
  if (touches("neuron")) showNeurite(run, state.neuron, { onRoot: chooseNeurite, onSelect: selectSet, onColour: () => colourBy("neurite") });
  if (touches("compare")) showTray(run, state.compare, (ids) => change({ compare: ids }));
  const { column, selected } = loaded;
  const isOtherSet = !run.isSame(selected, view.selected);
  view = { ...loaded, current: state.synapse, lasso: state.lasso, walk: state.walk, look: state.look };
  showControls();
  byId("shown").textContent = `${view.n.toLocaleString("en")} of ${run.n.toLocaleString("en")} synapses shown`;
  if (touches("filters")) drawFilters(run, state.filters, (filters) => change({ filters }));
  if (touches("colour", "filters", "look")) drawLegend(run, column, view.tally(), state.look, changeLook);
  byId("undo-selection").disabled = !formerSets.length;
  const unmoved = ["synapse", "compare", "neuron"];
  const onlyMarked = changed !== null && changed.every((name) => unmoved.includes(name));
  await (onlyMarked ? map.mark(view) : map.draw(view));
  if (touches("lasso", "ids", "selection", "plane") || isOtherSet) {
    showSelection(run, selected, { column, chosenBy: () => location.hash, onChoose: chooseSynapse, onColumn: colourBy, onCompare: compare,
      onLabels: labelsChanged, onFound: (ids) => change({ ...NOTHING, ids }), onClear: () => change(NOTHING) });
  }
  if (byId("browse").open) drawList();
}

/** Saved labels have changed: the list, and the map where it is coloured or filtered by them. */
function labelsChanged() {
  drawLabels();
  const isUsed = state.colour === LABEL_COLUMN || state.filters.some((filter) => filter.name === LABEL_COLUMN);
  if (isUsed) change({ colour: state.colour, filters: state.filters });
}

const drawLabels = () => showLabels(run, { onSelect: selectSet, onColour: colourBy, onChanged: labelsChanged });

async function drawList() {
  const shown = view;
  try {
    const first = await run.first(shown, byId("order").value === "high", LISTED);
    if (shown !== view) return;
    byId("list").replaceChildren(...first.map(({ id, value }) => element("li", {},
      element("button", { type: "button", onclick: () => chooseSynapse(id) }, id), " ", element("small", {}, valueName(value)))));
  } catch (error) {
    showFailure(error.message, drawList);
  }
}

function valueName(value) {
  const { column } = view;
  if (!column) return "";
  const text = valueText(column, value);
  return column.classes.length || Number.isNaN(value) ? text : `${column.label}: ${text}`;
}

async function addFilter(name) {
  const column = run.columnNamed(name);
  if (column) await change({ filters: [...state.filters, openFilter(column)] });
}

/** Show the synapse with an id, or else the neurite; of an id that is both, the neurite waits in its tab. */
async function find(id) {
  let [isSynapse, isNeurite] = [false, false];
  try {
    isSynapse = await run.has(id);
    if (isSynapse) await chooseSynapse(id);
    if (/^\d{1,20}$/.test(id) && run.about.roots.length) isNeurite = (await run.neurite(id)).n > 0;
  } catch (error) {
    return showFailure(error.message, () => find(id));
  }
  if (!isSynapse) return isNeurite ? chooseNeurite(id) : say(`This run has no synapse “${id}”. Nor has it a neurite with this root id.`);
  if (!isNeurite) return undefined;
  say(`${id} is a neurite's root id too: its synapses are in the tab Neurite.`);
  return change({ neuron: id });
}

function wire() {
  wireTabs();
  wireSheet();
  wireKeys({ map, onCompare: () => state.synapse && view.at && compare(state.synapse) });
  byId("plane").addEventListener("change", (event) => showPlane(event.target.value));
  byId("colour").addEventListener("change", (event) => change({ colour: event.target.value || "none" }));
  byId("add-filter").addEventListener("change", (event) => { addFilter(event.target.value); event.target.value = ""; });
  byId("order").addEventListener("change", drawList);
  byId("browse").addEventListener("toggle", () => byId("browse").open && drawList());
  byId("select-shown").addEventListener("click", () => selectSet(run.shownSet(view)));
  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    find(byId("find-id").value.trim());
  });
  byId("theme").addEventListener("click", async () => {
    const theme = setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    await change({ theme });
    drawLegend(run, view.column, view.tally(), state.look, changeLook);
    showSynapse(run, state.synapse, { onChoose: chooseSynapse, onRoot: chooseNeurite, onCompare: compare });
  });
  window.addEventListener("hashchange", follow);
  window.addEventListener("popstate", follow);
}

/** Go where the address says, as after the browser's back button. */
function follow() {
  changes = changes.then(async () => {
    const wanted = withDefaults(readAddress());
    try {
      const loaded = await load(wanted);
      state = wanted;
      setTheme(state.theme);
      await draw(loaded);
    } catch (error) {
      showFailure(error.message, follow);
    }
  });
}

function withDefaults(read) {
  const { columns } = run.about;
  const classed = (group) => columns.find((column) => column.classes.length > 1 && (!group || column.group === group));
  const usual = classed("Annotated") ?? classed("Clusters") ?? classed() ?? columns[0];  // without annotations: clusters
  return read.colour ? read : { ...read, colour: usual?.name };
}

async function start() {
  run = await openRun();
  byId("title").textContent = run.about.title;
  document.title = `${run.about.title} – synapse explorer`;
  byId("notes").replaceChildren(...run.about.notes.map((note) => element("p", {}, note)));
  byId("plane").replaceChildren(...run.about.planes.map((name) => element("option", { value: name }, name)));
  if (run.canAsk && run.about.can_save) await loadLabels(run);
  if (run.isLarge) {
    byId("large").hidden = false;
    byId("large").append(...run.limits.map((sentence) => element("p", {}, sentence)));
  }
  run.onColumns = () => { offerColumns(byId("colour"), run, "nothing"); offerColumns(byId("add-filter"), run, "choose …"); };
  run.onColumns();
  drawLabels();
  map = new MapView(run, { onChoose: chooseSynapse, onRegion: selectRegion, onUndo: undoSelection, onLook: changeLook,
    onLine: (walk) => change({ walk }), onFailure: showFailure, tip: (id, value) => tipContent(run, id, valueName(value)) });
  state = withDefaults(state);
  wire();
  await draw(await load(state));
  if (state.lasso || state.ids || state.selection || state.neuron) showTab(state.synapse ? "synapse" : state.neuron ? "neuron" : "selection");
  if (state.synapse || state.neuron || state.lasso || state.ids || state.selection) raiseSheet();
  document.documentElement.dataset.ready = "true";
  performance.mark("explorer-ready");
}

start().catch((error) => showFailure(error.message, () => location.reload()));
