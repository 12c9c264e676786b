// Brings the parts together: the state decides what is drawn, and every change of it goes into the address.
import { Run } from "./data.js";
import { drawFilters, offerColumns, shownRows } from "./filters.js";
import { drawLegend, format } from "./legend.js";
import { combined, withoutHidden } from "./map_state.js";
import { MapView } from "./map_view.js";
import { byId, element, say, setTheme, showTab, wireTabs } from "./page.js";
import { showSelection } from "./selection.js";
import { readAddress, rowsInside, simplified, writeAddress } from "./state.js";
import { showSynapse } from "./synapse.js";

const LISTED = 25;
let run;
let map;
let state = readAddress();
let view = {};
let formerSets = []; // what undo goes back to
setTheme(state.theme);

/** Change the state, and draw what that changes. */
async function change(part) {
  if ("lasso" in part || "ids" in part) formerSets = [...formerSets, { lasso: state.lasso, ids: state.ids }].slice(-50);
  if ("colour" in part) part = { look: { ...state.look, hidden: [], low: undefined, high: undefined }, ...part };
  state = { ...state, ...part };
  byId("link-note").hidden = writeAddress(state);
  await update(Object.keys(part));
}

const chooseSynapse = (id) => {
  showTab("synapse");
  return change({ synapse: id });
};

const changeLook = (part) => change({ look: { ...state.look, ...part } });

/** Go back to the former selection. */
async function undoSelection() {
  const former = formerSets.pop();
  if (!former) return;
  const left = formerSets;
  await change(former);
  formerSets = left;
  byId("undo-selection").disabled = !formerSets.length;
}

/** Take what was drawn on the map into the selection. */
function selectRegion({ operation, points, ...lasso }) {
  showTab("selection");
  if (!points && (operation === "new" || (operation === "add" && !view.selected.length))) return change({ lasso: simplified(lasso), ids: null });
  const drawn = points ?? rowsInside(lasso, view.plane, view.shown);
  return change({ ids: combined(view.selected, drawn, operation).map((row) => run.idOf(row)), lasso: null });
}

async function update(changed = null) {
  const touches = (...names) => changed === null || names.some((name) => changed.includes(name));
  if (touches("synapse")) showSynapse(run, state.synapse, chooseSynapse);
  const planeName = run.about.planes.includes(state.plane) ? state.plane : run.about.planes[0];
  const column = run.columnNamed(state.colour);
  const [plane, passing, values] = await Promise.all([run.plane(planeName), touches("filters") ? shownRows(run, state.filters) : view.passing,
    column ? run.values(column.name) : null]);
  const isSame = passing === view.passing && values === view.values && state.look.hidden === view.look.hidden;
  const shown = isSame ? view.shown : withoutHidden(passing, values, column, state.look.hidden);
  const selected = state.lasso ? rowsInside(state.lasso, plane, shown) : run.rowsOf(state.ids || []);
  const current = state.synapse ? run.rowOf(state.synapse) : -1;
  view = { plane, passing, shown, values, column, selected, current, lasso: state.lasso, walk: state.walk, look: state.look, name: planeName };
  byId("plane").value = planeName;
  byId("colour").value = column ? column.name : "";
  byId("shown").textContent = `${shown.length.toLocaleString("en")} of ${run.n.toLocaleString("en")} synapses shown`;
  if (touches("filters")) drawFilters(run, state.filters, (filters) => change({ filters }));
  if (touches("colour", "filters", "look")) drawLegend(run, column, values, passing, state.look, changeLook);
  byId("undo-selection").disabled = !formerSets.length;
  const onlyMarked = changed !== null && changed.every((name) => name === "synapse");
  await (onlyMarked ? map.mark(view) : map.draw(view));
  if (!isSame || touches("lasso", "ids", "filters", "colour", "plane")) {
    showSelection(run, selected, { column, values, chosenBy: () => location.hash, onChoose: chooseSynapse,
      onFound: (ids) => change({ ids, lasso: null }), onClear: () => change({ ids: null, lasso: null }) });
  }
  if (byId("browse").open) drawList();
}

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
  const value = values[row];
  return Number.isNaN(value) ? "no value" : column.classes.length ? column.classes[value] : `${column.label}: ${format(value)}`;
}

async function addFilter(name) {
  const column = run.columnNamed(name);
  if (!column) return;
  const added = column.classes.length ? { name, classes: column.classes.map((_, code) => code) } : { name, low: null, high: null };
  await change({ filters: [...state.filters, added] });
}

function wire() {
  wireTabs();
  byId("plane").addEventListener("change", (event) => change({ plane: event.target.value, walk: null,
    ...(state.lasso ? { lasso: null, ids: view.selected.map((row) => run.idOf(row)) } : {}) }));
  byId("colour").addEventListener("change", (event) => change({ colour: event.target.value || "none" }));
  byId("add-filter").addEventListener("change", (event) => { addFilter(event.target.value); event.target.value = ""; });
  byId("order").addEventListener("change", drawList);
  byId("browse").addEventListener("toggle", () => byId("browse").open && drawList());
  byId("select-shown").addEventListener("click", () => { showTab("selection"); change({ ids: view.shown.map((row) => run.idOf(row)), lasso: null }); });
  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("find-id").value.trim();
    if (run.rowOf(id) < 0) say(`This run has no synapse “${id}”.`);
    else chooseSynapse(id);
  });
  byId("theme").addEventListener("click", async () => {
    const theme = setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    await change({ theme });
    drawLegend(run, view.column, view.values, view.passing, state.look, changeLook);
    showSynapse(run, state.synapse, chooseSynapse);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); byId("find-id").focus(); }
    if (map.onKey(event)) return;
    const neighbours = [...document.querySelectorAll("#synapse .thumbs button")];
    if (event.key === "n" && neighbours.length) neighbours[0].click();
    if (/^[1-9]$/.test(event.key)) neighbours[Number(event.key) - 1]?.click();
  });
  window.addEventListener("hashchange", follow);
  window.addEventListener("popstate", follow);
}

function follow() {
  state = readAddress();
  setTheme(state.theme);
  withDefaults();
  update().catch((error) => say(error.message));
}

function withDefaults() {
  if (!state.colour) state.colour = (run.about.columns.find((column) => column.classes.length) || run.about.columns[0])?.name;
}

async function start() {
  run = await Run.open();
  byId("title").textContent = run.about.title;
  document.title = `${run.about.title} – synapse explorer`;
  byId("notes").replaceChildren(...run.about.notes.map((note) => element("p", {}, note)));
  byId("plane").replaceChildren(...run.about.planes.map((name) => element("option", { value: name }, name)));
  offerColumns(byId("colour"), run, "nothing");
  offerColumns(byId("add-filter"), run, "choose …");
  map = new MapView(run, { onChoose: chooseSynapse, onRegion: selectRegion, onUndo: undoSelection, onLook: changeLook,
    onLine: (walk) => change({ walk }),
    tip: (row) => element("div", {}, run.idOf(row), element("br"), element("small", {}, valueName(row))) });
  withDefaults();
  wire();
  await update();
  if (state.lasso || state.ids) showTab(state.synapse ? "synapse" : "selection");
  document.documentElement.dataset.ready = "true";
  performance.mark("explorer-ready");
}

start().catch((error) => { byId("notes").replaceChildren(element("p", { role: "alert" }, error.message)); });
