// The map: all synapses in a plane, drawn by WebGL.
import { byId, colourOf, element } from "./page.js";

// Okabe & Ito's colours, which the colour-blind can tell apart, then paler and darker ones.
const CLASSES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c7a00", "#7a5195",
  "#2f9e9e", "#b5651d", "#6b8e23", "#c71585", "#4682b4", "#a0522d", "#808000", "#9370db"];
const RAMP = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];

const MOST_RINGS = 3000;

export const classColour = (code) => CLASSES[code % CLASSES.length];

/** The middle 96 %, so that a few extremes do not swallow the colours. */
export function colourRange(values) {
  const known = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!known.length) return [0, 1];
  const at = (share) => known[Math.min(known.length - 1, Math.floor(share * known.length))];
  const [low, high] = [at(0.02), at(0.98)];
  return low < high ? [low, high] : [known[0], known[known.length - 1] > known[0] ? known[known.length - 1] : known[0] + 1];
}

/** Synapses without a value, then those with one: a group per class, since a colour per point takes long to read. */
function grouped(shown, values, column, size) {
  const groups = [{ rows: shown.filter((row) => Number.isNaN(values[row])), marker: {} }];
  const known = shown.filter((row) => !Number.isNaN(values[row]));
  if (!column.classes.length) {
    const [cmin, cmax] = colourRange(values);
    const colorscale = RAMP.map((colour, i) => [i / (RAMP.length - 1), colour]);
    return [...groups, { rows: known, marker: { size, color: Float32Array.from(known, (row) => values[row]), cmin, cmax, colorscale } }];
  }
  const ofClass = column.classes.map(() => []);
  for (const row of known) ofClass[values[row]].push(row);
  return [...groups, ...ofClass.map((rows, code) => ({ rows, marker: { size, color: classColour(code) } })).filter(({ rows }) => rows.length)];
}

/** Paint the points at once, until plotly is there and WebGL is set up. */
async function preview(groups, plane) {
  const frame = byId("plot").getBoundingClientRect();
  const canvas = element("canvas", { id: "preview", width: frame.width, height: frame.height });
  const pen = canvas.getContext("2d");
  const bounds = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const [[left, right], [low, high]] = [bounds(plane.x), bounds(plane.y)];
  const scale = 0.88 * Math.min(frame.width / (right - left || 1), frame.height / (high - low || 1));
  for (const { rows, marker } of groups) {
    pen.fillStyle = typeof marker.color === "string" ? marker.color : RAMP[5];
    if (marker.color === "rgba(0,0,0,0)") continue;
    for (const row of rows) {
      pen.fillRect(frame.width / 2 + scale * (plane.x[row] - (left + right) / 2), frame.height / 2 - scale * (plane.y[row] - (low + high) / 2), 2, 2);
    }
  }
  byId("map").append(canvas);
  await new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve)); });
  performance.mark("map-painted");
  if (!window.Plotly) await new Promise((resolve) => { window.addEventListener("load", resolve, { once: true }); });
}

/** The lasso, and a ring around the current synapse. */
function shapes(plane, current, lasso) {
  const line = { color: colourOf("mark"), width: 1.2, dash: "dot" };
  const corners = lasso ? lasso.x.map((x, i) => `${i ? "L" : "M"}${x},${lasso.y[i]}`).join("") : "";
  const ring = { type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: plane.x[current], yanchor: plane.y[current],
    x0: -8, x1: 8, y0: -8, y1: 8, line: { color: colourOf("mark"), width: 3 } };
  return [...(lasso ? [{ type: "path", path: `${corners}Z`, line }] : []), ...(current >= 0 ? [ring] : [])];
}

export class Scatter {
  constructor(run, { onChoose, onLasso, nameOf }) {
    Object.assign(this, { run, onChoose, onLasso, nameOf });
    this.div = byId("plot");
    this.mode = "pan";
    this.rows = [];
    this.started = false;
    this.drawn = 0;
  }

  /** Draw what the state asks for. */
  async draw({ plane, shown, values, column, selected, current, lasso, view }) {
    const size = Math.max(2.4, Math.min(8, 420 / Math.sqrt(shown.length + 1)));
    const groups = values ? grouped(shown, values, column, size) : [{ rows: shown, marker: {} }];
    const ringed = selected.length <= MOST_RINGS ? selected : []; // more would hide what they mark
    groups[0].marker = { size: size * 0.8, color: colourOf("unknown") };
    groups.push({ rows: ringed, marker: { size: size + 3, color: "rgba(0,0,0,0)", line: { width: 1.3, color: colourOf("mark") } } });
    this.rows = groups.map((group) => group.rows);
    const traces = groups.map(({ rows, marker }) => ({
      type: "scattergl", mode: "markers", hoverinfo: "none", showlegend: false, marker,
      x: Float32Array.from(rows, (row) => plane.x[row]), y: Float32Array.from(rows, (row) => plane.y[row]),
    }));
    const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: "", showline: false, title: { text: "" } };
    const layout = {
      margin: { l: 8, r: 8, t: 8, b: 8 }, paper_bgcolor: colourOf("paper"), plot_bgcolor: colourOf("paper"),
      dragmode: this.mode, uirevision: view, hoverdistance: 12, selections: [], selectionrevision: ++this.drawn,
      xaxis: { ...axis }, yaxis: { ...axis, scaleanchor: "x" },
      shapes: shapes(plane, current, lasso),
      newselection: { line: { color: colourOf("mark") } },
    };
    if (!this.started) await preview(groups, plane);
    const config = { displayModeBar: false, scrollZoom: true, responsive: true, doubleClick: "reset" };
    await window.Plotly.react(this.div, traces, layout, config);
    byId("preview")?.remove();
    if (!this.started) this.wire();
    this.div.dataset.points = String(shown.length);
  }

  /** Move the ring around the current synapse; nothing else is drawn again. */
  mark({ plane, current, lasso }) {
    return window.Plotly.relayout(this.div, { shapes: shapes(plane, current, lasso) });
  }

  wire() {
    this.started = true;
    const rowOf = (point) => this.rows[point.curveNumber][point.pointNumber];
    this.div.on("plotly_click", (event) => this.onChoose(rowOf(event.points[0])));
    this.div.on("plotly_hover", (event) => this.showTip(rowOf(event.points[0]), event.event));
    this.div.on("plotly_unhover", () => { byId("tip").hidden = true; });
    this.div.on("plotly_selected", (event) => {
      if (!event) return;
      const box = event.range;
      if (event.lassoPoints) this.onLasso({ x: [...event.lassoPoints.x], y: [...event.lassoPoints.y] });
      else if (box) this.onLasso({ x: [box.x[0], box.x[1], box.x[1], box.x[0]], y: [box.y[0], box.y[0], box.y[1], box.y[1]] });
    });
    for (const [id, mode] of [["pan", "pan"], ["lasso", "lasso"]]) byId(id).addEventListener("click", () => this.setMode(mode));
    byId("reset").addEventListener("click", () => window.Plotly.relayout(this.div, { "xaxis.autorange": true, "yaxis.autorange": true }));
  }

  setMode(mode) {
    this.mode = mode;
    byId("pan").setAttribute("aria-pressed", String(mode === "pan"));
    byId("lasso").setAttribute("aria-pressed", String(mode === "lasso"));
    return window.Plotly.relayout(this.div, { dragmode: mode });
  }

  showTip(row, mouse) {
    const tip = byId("tip");
    const frame = byId("map").getBoundingClientRect();
    tip.replaceChildren(element("div", {}, this.run.idOf(row)), element("small", {}, this.nameOf(row)));
    tip.style.left = `${Math.min(mouse.clientX - frame.left + 14, frame.width - 150)}px`;
    tip.style.top = `${mouse.clientY - frame.top + 14}px`;
    tip.hidden = false;
  }
}

/** Say below the choice of colours what they mean, and how many of the shown synapses have them. */
export function drawLegend(column, values, shown) {
  const legend = byId("legend");
  if (!values) return legend.replaceChildren();
  const known = shown.filter((row) => !Number.isNaN(values[row]));
  const line = (colour, name, n) => element("div", {}, swatch(colour), `${name} (${n.toLocaleString("en")})`);
  const rest = known.length < shown.length ? [line(colourOf("unknown"), "no value", shown.length - known.length)] : [];
  if (column.classes.length) {
    const counts = new Array(column.classes.length).fill(0);
    for (const row of known) counts[values[row]] += 1;
    const lines = column.classes.map((name, code) => [name, code]).filter(([, code]) => counts[code]);
    return legend.replaceChildren(...lines.map(([name, code]) => line(classColour(code), name, counts[code])), ...rest);
  }
  const [low, high] = colourRange(values);
  const ramp = element("div", { className: "ramp", role: "img", "aria-label": `Colours from ${format(low)} to ${format(high)}` });
  ramp.style.background = `linear-gradient(to right, ${RAMP.join(",")})`;
  return legend.replaceChildren(ramp, element("div", { className: "ends" }, element("span", {}, format(low)),
    element("span", {}, format(high))), ...rest);
}

function swatch(colour) {
  const made = element("span", { className: "swatch" });
  made.style.background = colour;
  return made;
}

export const format = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
