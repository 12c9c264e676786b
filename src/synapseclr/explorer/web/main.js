// Brings the parts together: the state decides what is drawn, and every change of it goes into the address.
import { showTray, withCompared } from "./compare.js";
import { Run } from "./data.js";
import { clearFailure, showFailure } from "./failures.js";
import { drawFilters, offerColumns, openFilter, shownRows } from "./filters.js";
import { tipContent } from "./hover.js";
import { wireKeys } from "./keys.js";
import { LABEL_COLUMN, loadLabels, showLabels } from "./labels.js";
import { setNeuriteColumn, neuriteOf, showNeurite } from "./neuron.js";
import { valueText } from "./numbers.js";
import { byId, element, say, setTheme, showTab, wireTabs } from "./page.js";
import { Scatter, drawLegend } from "./scatter.js";
import { showSelection } from "./selection.js";
import { raiseSheet, wireSheet } from "./sheet.js";
import { readAddress, rowsInside, simplified, writeAddress } from "./state.js";
import { showSynapse } from "./synapse.js";

const LISTED = 25;
let run;
let scatter;
let state = readAddress();
let view = {};
let changes = Promise.resolve();
setTheme(state.theme);

/** Change the state: load what it needs, then draw what changes. A request that fails leaves everything as it was. */
function change(part) {
  changes = changes.then(async () => {
    const wanted = { ...state, ...part };
    const changed = Object.keys(part);
    try {
      const loaded = await load(wanted, changed);
      state = wanted;
      writeAddress(state);
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

/** Everything that a state needs of the server before it is drawn. */
async function load(wanted, changed = null) {
  if (wanted.neuron && (changed === null || changed.includes("neuron"))) await setNeuriteColumn(run, wanted.neuron);
  const plane = run.about.planes.includes(wanted.plane) ? wanted.plane : run.about.planes[0];
  const column = run.columnNamed(wanted.colour);
  const [places, shown, values] = await Promise.all([run.plane(plane),
    changed === null || changed.includes("filters") || !view.shown ? shownRows(run, wanted.filters) : view.shown, column ? run.values(column.name) : null]);
  return { plane: places, shown, values, column, view: plane };
}

/** Set the controls to the state, also after a change that failed. */
function showControls() {
  byId("plane").value = view.view ?? "";
  byId("colour").value = view.column ? view.column.name : "";
}

async function draw(loaded, changed = null) {
  const touches = (...names) => changed === null || names.some((name) => changed.includes(name));
  if (touches("synapse")) showSynapse(run, state.synapse, { onChoose: chooseSynapse, onRoot: chooseNeurite, onCompare: compare });
  if (touches("neuron")) showNeurite(run, state.neuron, { onRoot: chooseNeurite, onSelect: selectRows, onColour: () => colourBy("neurite") });
  if (touches("compare")) showTray(run, state.compare, (ids) => change({ compare: ids }));
  const { plane, shown, values, column } = loaded;
  const selected = state.lasso ? rowsInside(state.lasso, plane, shown) : (state.ids || []).map((id) => run.rowOf(id)).filter((row) => row >= 0);
  const current = state.synapse ? run.rowOf(state.synapse) : -1;
  view = { ...loaded, selected, current, lasso: state.lasso };
  showControls();
  byId("shown").textContent = `${shown.length.toLocaleString("en")} of ${run.n.toLocaleString("en")} synapses shown`;
  if (touches("filters")) drawFilters(run, state.filters, (filters) => change({ filters }));
  if (touches("colour", "filters")) drawLegend(column, values, shown);
  const unmoved = ["synapse", "compare", "neuron"];
  const onlyMarked = changed !== null && changed.every((name) => unmoved.includes(name));
  await (onlyMarked ? scatter.mark(view) : scatter.draw(view));
  if (touches("lasso", "ids", "plane") || (state.lasso && touches("filters"))) {
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
  wireKeys({ onCompare: () => state.synapse && run.rowOf(state.synapse) >= 0 && compare(state.synapse),
    onLasso: (on) => { if (on ?? scatter.mode !== "lasso") scatter.setMode("lasso"); else if (scatter.mode === "lasso") scatter.setMode("pan"); } });
  byId("plane").addEventListener("change", (event) => change({ plane: event.target.value, lasso: null }));
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
    drawLegend(view.column, view.values, view.shown);
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
  scatter = new Scatter(run, { nameOf: (row) => tipContent(run, run.idOf(row), valueName(row)), onChoose: (row) => chooseSynapse(run.idOf(row)), onLasso: (lasso) => {
    showTab("selection");
    raiseSheet();
    change({ lasso: simplified(lasso), ids: null });
  } });
  state = withDefaults(state);
  wire();
  await draw(await load(state));
  if (state.lasso || state.ids || state.neuron) showTab(state.synapse ? "synapse" : state.neuron ? "neuron" : "selection");
  if (state.synapse || state.neuron || state.lasso || state.ids) raiseSheet();
  document.documentElement.dataset.ready = "true";
  performance.mark("explorer-ready");
}

start().catch((error) => showFailure(error.message, () => location.reload()));
