// The state of the page, which the address holds: a link brings another reader to the same place.
import { readMap, writeMap } from "./map_state.js";

const SIMPLE = ["plane", "colour", "synapse", "neuron", "theme"];
const MAX_CORNERS = 80;

/** Read the part of the address behind the hash. What it does not say is undefined. */
export function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const state = { filters: [], lasso: null, ids: null, selection: null, compare: [] };
  for (const name of SIMPLE) if (parameters.get(name)) state[name] = parameters.get(name);
  for (const text of parameters.getAll("filter")) {
    const [name, ...parts] = text.split("~");
    if (parts.length === 2 || (parts.length === 3 && parts[2] === "none")) {
      state.filters.push({ name, low: number(parts[0]), high: number(parts[1]), missing: parts.length === 3 });
    }
    if (parts.length === 1) state.filters.push({ name, classes: parts[0].split(".").filter(Boolean).map(Number) });
  }
  const corners = (parameters.get("lasso") || "").split(";").map((pair) => pair.split(",").map(Number));
  if (corners.length > 2 && corners.every((pair) => pair.length === 2 && pair.every(Number.isFinite))) {
    state.lasso = { x: corners.map((pair) => pair[0]), y: corners.map((pair) => pair[1]) };
  }
  state.compare = (parameters.get("compare") || "").split(".").filter((id) => /^\d{1,19}$/.test(id)).slice(0, 4);
  if (!/^\d{1,20}$/.test(state.neuron ?? "")) delete state.neuron;
  if (/^[0-9a-f]{20}$/.test(parameters.get("selection") ?? "")) state.selection = parameters.get("selection");
  if (parameters.get("ids")) state.ids = parameters.get("ids").split(".").filter((id) => /^\d{1,19}$/.test(id));
  return readMap(parameters, state);
}

const number = (text) => (text === "" ? null : Number.isFinite(Number(text)) ? Number(text) : null);

/** Put the state into the address. False if its set of synapses does not fit. */
export function writeAddress(state, replace = false) {
  const parameters = new URLSearchParams();
  for (const name of SIMPLE) if (state[name]) parameters.set(name, state[name]);
  for (const filter of state.filters) {
    const said = filter.classes ? filter.classes.join(".") : `${filter.low ?? ""}~${filter.high ?? ""}${filter.missing ? "~none" : ""}`;
    parameters.append("filter", `${filter.name}~${said}`);
  }
  if (state.lasso) {
    parameters.set("lasso", state.lasso.x.map((x, i) => `${short(x)},${short(state.lasso.y[i])}`).join(";"));
  } else if (state.ids && state.ids.length <= 200) {
    parameters.set("ids", state.ids.join("."));
  }
  if (state.selection) parameters.set("selection", state.selection);
  if (state.compare?.length) parameters.set("compare", state.compare.join("."));
  const isWhole = writeMap(parameters, state);
  const hash = `#${parameters}`;
  if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
  return isWhole && !state.selection;
}

const short = (value) => String(Number(value.toPrecision(6)));

/** A lasso of at most 80 corners, so that the address stays short. */
export function simplified(lasso) {
  const step = Math.max(1, lasso.x.length / MAX_CORNERS);
  const kept = [];
  for (let place = 0; place < lasso.x.length; place += step) kept.push(Math.floor(place));
  return { x: kept.map((i) => Number(short(lasso.x[i]))), y: kept.map((i) => Number(short(lasso.y[i]))) };
}

/** Rows of the shown points inside of a lasso (even-odd rule). */
export function rowsInside(lasso, plane, shown) {
  const { x, y } = lasso;
  const [left, right] = [Math.min(...x), Math.max(...x)];
  const rows = [];
  for (const row of shown) {
    const px = plane.x[row];
    const py = plane.y[row];
    if (px < left || px > right) continue;
    let inside = false;
    for (let i = 0, j = x.length - 1; i < x.length; j = i++) {
      if ((y[i] > py) !== (y[j] > py) && px < ((x[j] - x[i]) * (py - y[i])) / (y[j] - y[i]) + x[i]) inside = !inside;
    }
    if (inside) rows.push(row);
  }
  return rows;
}
