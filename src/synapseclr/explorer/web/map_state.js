// The map's part of the address: what the legend hides, how points look, a line, and sets of synapses picked by hand.
import { PALETTES } from "./colours.js";

const LISTED = 200; // ids written out; longer sets are packed
const LONGEST = 60000; // characters of a packed set: browsers and mail programs take no endless addresses
const WITHOUT_VALUE = -1; // code of synapses without a value
const numbers = ["low", "high", "size", "opacity"];

export const openLook = () => ({ hidden: [], palette: "viridis" });

/** Read the look of the map, the line and the packed set into the state. */
export function readMap(parameters, state) {
  state.look = openLook();
  state.look.hidden = (parameters.get("hide") || "").split(".").filter((code) => /^(-1|\d{1,3})$/.test(code)).map(Number);
  if (PALETTES[parameters.get("palette")]) state.look.palette = parameters.get("palette");
  for (const name of numbers) {
    const text = parameters.get(name);
    if (text !== null && text !== "" && Number.isFinite(Number(text))) state.look[name] = Number(text);
  }
  const ends = (parameters.get("walk") || "").split(",").map(Number);
  state.walk = ends.length === 4 && ends.every(Number.isFinite) ? { x: [ends[0], ends[2]], y: [ends[1], ends[3]] } : null;
  if (parameters.get("set")) state.ids = unpacked(parameters.get("set"));
  return state;
}

/** Write them. False if the set does not fit into an address. */
export function writeMap(parameters, { look, walk, lasso, ids }) {
  if (look.hidden.length) parameters.set("hide", look.hidden.join("."));
  if (look.palette !== "viridis") parameters.set("palette", look.palette);
  for (const name of numbers) if (look[name] !== undefined) parameters.set(name, String(Number(look[name].toPrecision(5))));
  if (walk) parameters.set("walk", [0, 1].flatMap((end) => [walk.x[end], walk.y[end]]).map((value) => Number(value.toPrecision(6))).join(","));
  if (lasso || !ids || ids.length <= LISTED) return true;
  const text = packed(ids);
  if (text.length > LONGEST) return false;
  parameters.set("set", text);
  return true;
}

/** Ids in order, as differences of seven bits a byte, in base 64. */
function packed(ids) {
  const bytes = [];
  let before = 0n;
  for (const id of BigInt64Array.from(ids, BigInt).sort()) {
    let difference = id - before;
    before = id;
    for (; difference >= 128n; difference >>= 7n) bytes.push(Number(difference & 127n) | 128);
    bytes.push(Number(difference));
    if (bytes.length > LONGEST) break;
  }
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function unpacked(text) {
  let bytes;
  try {
    bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return null; // no set, or half of one
  }
  const ids = [];
  let [id, difference, shift] = [0n, 0n, 0n];
  for (let place = 0; place < bytes.length; place++) {
    const byte = bytes.charCodeAt(place);
    difference |= BigInt(byte & 127) << shift;
    shift += 7n;
    if (byte & 128) continue;
    id += difference;
    if (id > 0x7fffffffffffffffn) return null;
    ids.push(id.toString());
    [difference, shift] = [0n, 0n];
  }
  return ids;
}

/** Rows that the legend does not hide. */
export function withoutHidden(rows, values, column, hidden) {
  if (!hidden.length || !values) return rows;
  const codes = new Set(hidden);
  return rows.filter((row) => !codes.has(Number.isNaN(values[row]) ? WITHOUT_VALUE : column.classes.length ? values[row] : 0));
}

/** A set after drawing: `drawn` alone, added to `before`, or taken away from it. */
export function combined(before, drawn, operation) {
  if (operation === "subtract") {
    const gone = new Set(drawn);
    return before.filter((row) => !gone.has(row));
  }
  return operation === "add" ? [...new Set([...before, ...drawn])] : drawn;
}
