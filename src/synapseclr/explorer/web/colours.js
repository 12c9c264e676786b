// Colours of synapses: by class, as in the figures of the report, or along a palette.
import { colourOf } from "./page.js";

/** Ends and stops of the palettes, which the colour-blind can follow. "blue to red" is for values around a middle. */
export const PALETTES = {
  viridis: ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  magma: ["#000004", "#180f3d", "#440f76", "#721f81", "#9e2f7f", "#cd4071", "#f1605d", "#fd9668", "#feca8d", "#fcfdbf"],
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
  "blue to red": ["#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#eeeeee", "#fddbc7", "#f4a582", "#d6604d", "#b2182b"],
};
const STEPS = 256;

/** Red, green and blue of a colour written as #rrggbb. */
export const channels = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));

/** The palette's colours, 256 of them, three bytes each. */
function ramp(name) {
  const stops = (PALETTES[name] ?? PALETTES.viridis).map(channels);
  const bytes = new Uint8Array(3 * STEPS);
  for (let step = 0; step < STEPS; step++) {
    const place = (step / (STEPS - 1)) * (stops.length - 1);
    const below = Math.min(Math.floor(place), stops.length - 2);
    for (let c = 0; c < 3; c++) bytes[3 * step + c] = Math.round(stops[below][c] + (place - below) * (stops[below + 1][c] - stops[below][c]));
  }
  return bytes;
}

/** The middle 96 %, so that a few extremes do not swallow the colours. */
export function colourRange(values) {
  const known = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!known.length) return [0, 1];
  const at = (share) => known[Math.min(known.length - 1, Math.floor(share * known.length))];
  const [low, high] = [at(0.02), at(0.98)];
  return low < high ? [low, high] : [known[0], known[known.length - 1] > known[0] ? known[known.length - 1] : known[0] + 1];
}

/** Colours of a column's classes, as the server takes them from the report's figures; grey for synapses in no cluster. */
export function classColours(run, column) {
  const { class_colours: ofColumn, usual_colours: usual } = run.about.map;
  const colours = ofColumn[column.name] ?? column.classes.map((_, code) => usual[code % usual.length]);
  return colours.map((colour) => (colour ? legible(colour) : colourOf("unknown")));
}

/** Black and near-black, which dark paper swallows, become light there. */
function legible(colour) {
  const isDark = Math.max(...channels(colour)) < 70;
  return isDark && document.documentElement.dataset.theme === "dark" ? "#f2f2f2" : colour;
}

/** Three bytes for every synapse: by class, along a palette from `low` to `high`, grey without a value. */
export function paint(n, values, column, { colours, palette, low, high }) {
  const bytes = new Uint8Array(3 * n);
  const unknown = channels(colourOf("unknown"));
  const chosen = colours.map(channels);
  const steps = ramp(palette);
  const perUnit = (STEPS - 1) / (high - low);
  for (let row = 0; row < n; row++) {
    const value = values ? values[row] : NaN;
    if (Number.isNaN(value)) bytes.set(unknown, 3 * row);
    else if (column.classes.length) bytes.set(chosen[value], 3 * row);
    else {
      const step = 3 * Math.max(0, Math.min(STEPS - 1, Math.round((value - low) * perUnit)));
      bytes[3 * row] = steps[step];
      bytes[3 * row + 1] = steps[step + 1];
      bytes[3 * row + 2] = steps[step + 2];
    }
  }
  return bytes;
}
