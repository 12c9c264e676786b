// Brings the parts together: the state decides what is drawn, and every change of it goes into the address.
import { showTray, withCompared } from "./compare.js";
import { Run } from "./data.js";
import { clearFailure, showFailure } from "./failures.js";
import { drawFilters, offerColumns, openFilter, shownRows } from "./filters.js";
import { tipContent } from "./hover.js";
import { wireKeys } from "./keys.js";
import { LABEL_COLUMN, loadLabels, showLabels } from "./labels.js";
import { drawLegend } from "./legend.js";
import { combined, withoutHidden } from "./map_state.js";
import { MapView } from "./map_view.js";
import { setNeuriteColumn, neuriteOf, showNeurite } from "./neuron.js";
import { valueText } from "./numbers.js";
import { byId, element, say, setTheme, showTab, wireTabs } from "./page.js";
import { showSelection } from "./selection.js";
import { raiseSheet, wireSheet } from "./sheet.js";
import { readAddress, rowsInside, simplified, writeAddress } from "./state.js";
import { showSynapse } from "./synapse.js";

const LISTED = 25;
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
      if ("lasso" in part || "ids" in part) formerSets = [...formerSets, { lasso: state.lasso, ids: state.ids }].slice(-50);
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

const selectRows = (rows) => { showTab("selection"); raiseSheet(); return change({ ids: rows.map((row) => run.idOf(row)), lasso: null }); };
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
function selectRegion({ operation, points, ...lasso }) {
  showTab("selection");
  raiseSheet();
  if (!points && (operation === "new" || (operation === "add" && !view.selected.length))) return change({ lasso: simplified(lasso), ids: null });
  return selectRows(combined(view.selected, points ?? rowsInside(lasso, view.plane, view.shown), operation));
}

/** Draw another map; what a lasso has selected on this one stays selected. */
function showPlane(plane) {
  const selected = state.lasso ? { lasso: null, ids: view.selected.map((row) => run.idOf(row)) } : {};
  return change({ plane, walk: null, ...selected });
}

/** Everything that a state needs of the server before it is drawn. */
async function load(wanted, changed = null) {
  if (wanted.neuron && (changed === null || changed.includes("neuron"))) await setNeuriteColumn(run, wanted.neuron);
  const plane = run.about.planes.includes(wanted.plane) ? wanted.plane : run.about.planes[0];
  const column = run.columnNamed(wanted.colour);
  const [places, passing, values] = await Promise.all([run.plane(plane),
    changed === null || changed.includes("filters") || !view.passing ? shownRows(run, wanted.filters) : view.passing, column ? run.values(column.name) : null]);
  const isSame = passing === view.passing && values === view.values && wanted.look.hidden === view.look.hidden;
  const shown = isSame ? view.shown : withoutHidden(passing, values, column, wanted.look.hidden);
  return { plane: places, passing, shown, values, column, name: plane };
}

/** Set the controls to the state, also after a change that failed. */
function showControls() {
  byId("plane").value = view.name ?? "";
  byId("colour").value = view.column ? view.column.name : "";
}

async function draw(loaded, changed = null) {
  const touches = (...names) => changed === null || names.some((name) => changed.includes(name));
  if (touches("synapse")) showSynapse(run, state.synapse, { onChoose: chooseSynapse, onRoot: chooseNeurite, onCompare: compare });
  if (touches("neuron")) showNeurite(run, state.neuron, { onRoot: chooseNeurite, onSelect: selectRows, onColour: () => colourBy("neurite") });
  if (touches("compare")) showTray(run, state.compare, (ids) => change({ compare: ids }));
  const { plane, passing, shown, values, column } = loaded;
  const selected = state.lasso ? rowsInside(state.lasso, plane, shown) : run.rowsOf(state.ids || []);
  const isOtherSet = selected.length !== view.selected?.length || selected.some((row, place) => row !== view.selected[place]);
  const current = state.synapse ? run.rowOf(state.synapse) : -1;
  view = { ...loaded, selected, current, lasso: state.lasso, walk: state.walk, look: state.look };
  showControls();
  byId("shown").textContent = `${shown.length.toLocaleString("en")} of ${run.n.toLocaleString("en")} synapses shown`;
  if (touches("filters")) drawFilters(run, state.filters, (filters) => change({ filters }));
  if (touches("colour", "filters", "look")) drawLegend(run, column, values, passing, state.look, changeLook);
  byId("undo-selection").disabled = !formerSets.length;
  const unmoved = ["synapse", "compare", "neuron"];
  const onlyMarked = changed !== null && changed.every((name) => unmoved.includes(name));
  await (onlyMarked ? map.mark(view) : map.draw(view));
  if (touches("lasso", "ids", "plane") || isOtherSet) {
    showSelection(run, selected, { column, chosenBy: () => location.hash, onChoose: chooseSynapse, onColumn: colourBy, onCompare: compare,
      onLabels: labelsChanged, onFound: (ids) => change({ ids, lasso: null }), onClear: () => change({ ids: null, lasso: null }) });
  }
  if (byId("browse").open) drawList();
}

/** Saved labels have changed: the list, and the map where it is coloured or filtered by them. */
function labelsChanged() {
  drawLabels();
  const isUsed = state.colour === LABEL_COLUMN || state.filters.some((filter) => filter.name === LABEL_COLUMN);
  if (isUsed) change({ colour: state.colour, filters: state.filters });
}

const drawLabels = () => showLabels(run, { onSelect: selectRows, onColour: colourBy, onChanged: labelsChanged });

function drawList() {
  const { shown, values, column } = view;
  const sign = byId("order").value === "high" ? -1 : 1;
  const rows = values ? shown.filter((row) => !Number.isNaN(values[row])).sort((a, b) => sign * (values[a] - values[b])) : shown;
  byId("list").replaceChildren(...rows.slice(0, LISTED).map((row) => element("li", {},
    element("button", { type: "button", onclick: () => chooseSynapse(run.idOf(row)) }, run.idOf(row)), " ", element("small", {}, valueName(row)))));
}

function valueName(row) {
  const { values, column } = view;
  if (!values) return "";
  const text = valueText(column, values[row]);
  return column.classes.length || Number.isNaN(values[row]) ? text : `${column.label}: ${text}`;
}

async function addFilter(name) {
  const column = run.columnNamed(name);
  if (column) await change({ filters: [...state.filters, openFilter(column)] });
}

/** Show the synapse with an id, or else the neurite. */
async function find(id) {
  if (run.rowOf(id) >= 0) return chooseSynapse(id);
  let isNeurite = false;
  try {
    if (/^\d{1,20}$/.test(id) && run.about.roots.length) {
      const found = await neuriteOf(run, id);
      isNeurite = found.outputs.length + found.inputs.length > 0;
    }
  } catch (error) {
    return showFailure(error.message, () => find(id));
  }
  return isNeurite ? chooseNeurite(id) : say(`This run has no synapse “${id}”. Nor has it a neurite with this root id.`);
}

function wire() {
  wireTabs();
  wireSheet();
  wireKeys({ map, onCompare: () => state.synapse && run.rowOf(state.synapse) >= 0 && compare(state.synapse) });
  byId("plane").addEventListener("change", (event) => showPlane(event.target.value));
  byId("colour").addEventListener("change", (event) => change({ colour: event.target.value || "none" }));
  byId("add-filter").addEventListener("change", (event) => { addFilter(event.target.value); event.target.value = ""; });
  byId("order").addEventListener("change", drawList);
  byId("browse").addEventListener("toggle", () => byId("browse").open && drawList());
  byId("select-shown").addEventListener("click", () => selectRows(view.shown));
  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    find(byId("find-id").value.trim());
  });
  byId("theme").addEventListener("click", async () => {
    const theme = setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    await change({ theme });
    drawLegend(run, view.column, view.values, view.passing, state.look, changeLook);
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
  const usual = run.about.columns.find((column) => column.classes.length) || run.about.columns[0];
  return read.colour ? read : { ...read, colour: usual?.name };
}

async function start() {
  run = await Run.open();
  byId("title").textContent = run.about.title;
  document.title = `${run.about.title} – synapse explorer`;
  byId("notes").replaceChildren(...run.about.notes.map((note) => element("p", {}, note)));
  byId("plane").replaceChildren(...run.about.planes.map((name) => element("option", { value: name }, name)));
  if (run.canAsk && run.about.can_save) await loadLabels(run);
  run.onColumns = () => { offerColumns(byId("colour"), run, "nothing"); offerColumns(byId("add-filter"), run, "choose …"); };
  run.onColumns();
  drawLabels();
  map = new MapView(run, { onChoose: chooseSynapse, onRegion: selectRegion, onUndo: undoSelection, onLook: changeLook,
    onLine: (walk) => change({ walk }), tip: (row) => tipContent(run, run.idOf(row), valueName(row)) });
  state = withDefaults(state);
  wire();
  await draw(await load(state));
  if (state.lasso || state.ids || state.neuron) showTab(state.synapse ? "synapse" : state.neuron ? "neuron" : "selection");
  if (state.synapse || state.neuron || state.lasso || state.ids) raiseSheet();
  document.documentElement.dataset.ready = "true";
  performance.mark("explorer-ready");
}

start().catch((error) => showFailure(error.message, () => location.reload()));
