// Brings the parts together: the state decides what is drawn, and every change of it goes into the address.
import { Run } from "./data.js";
import { drawFilters, offerColumns, shownRows } from "./filters.js";
import { byId, element, say, setTheme, showTab, wireTabs } from "./page.js";
import { Scatter, drawLegend, format } from "./scatter.js";
import { showSelection } from "./selection.js";
import { readAddress, rowsInside, simplified, writeAddress } from "./state.js";
import { showSynapse } from "./synapse.js";

const LISTED = 25;
let run;
let scatter;
let state = readAddress();
let view = {};
setTheme(state.theme);

/** Change the state, and draw what that changes. */
async function change(part) {
  state = { ...state, ...part };
  writeAddress(state);
  await update(Object.keys(part));
}

const chooseSynapse = (id) => {
  showTab("synapse");
  return change({ synapse: id });
};

async function update(changed = null) {
  const touches = (...names) => changed === null || names.some((name) => changed.includes(name));
  if (touches("synapse")) showSynapse(run, state.synapse, chooseSynapse);
  const planeName = run.about.planes.includes(state.plane) ? state.plane : run.about.planes[0];
  const column = run.columnNamed(state.colour);
  const [plane, shown, values] = await Promise.all([run.plane(planeName), touches("filters") ? shownRows(run, state.filters) : view.shown,
    column ? run.values(column.name) : null]);
  const selected = state.lasso ? rowsInside(state.lasso, plane, shown) : (state.ids || []).map((id) => run.rowOf(id)).filter((row) => row >= 0);
  const current = state.synapse ? run.rowOf(state.synapse) : -1;
  view = { plane, shown, values, column, selected, current, lasso: state.lasso, view: planeName };
  byId("plane").value = planeName;
  byId("colour").value = column ? column.name : "";
  byId("shown").textContent = `${shown.length.toLocaleString("en")} of ${run.n.toLocaleString("en")} synapses shown`;
  if (touches("filters")) drawFilters(run, state.filters, (filters) => change({ filters }));
  if (touches("colour", "filters")) drawLegend(column, values, shown);
  const onlyMarked = changed !== null && changed.every((name) => name === "synapse");
  await (onlyMarked ? scatter.mark(view) : scatter.draw(view));
  if (touches("lasso", "ids", "filters", "colour", "plane")) {
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
  byId("plane").addEventListener("change", (event) => change({ plane: event.target.value, lasso: null }));
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
    drawLegend(view.column, view.values, view.shown);
    showSynapse(run, state.synapse, chooseSynapse);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); byId("find-id").focus(); }
    if (event.key === "l") scatter.setMode(scatter.mode === "lasso" ? "pan" : "lasso");
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
  scatter = new Scatter(run, { nameOf: valueName, onChoose: (row) => chooseSynapse(run.idOf(row)), onLasso: (lasso) => {
    showTab("selection");
    change({ lasso: simplified(lasso), ids: null });
  } });
  withDefaults();
  wire();
  await update();
  if (state.lasso || state.ids) showTab(state.synapse ? "synapse" : "selection");
  document.documentElement.dataset.ready = "true";
  performance.mark("explorer-ready");
}

start().catch((error) => { byId("notes").replaceChildren(element("p", { role: "alert" }, error.message)); });
