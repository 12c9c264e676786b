// Small histograms, and the choice of a range on one.
import { element } from "./page.js";
import { numberText } from "./numbers.js";

const N_BARS = 24;
const SVG = "http://www.w3.org/2000/svg";

function shape(tag, properties) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  return made;
}

/** Bars of a set over those of the rest, each scaled by the highest of both. */
export function comparedBars(ofSet, ofRest, label) {
  const n = ofSet.length;
  const picture = shape("svg", { viewBox: `0 0 ${n} 10`, preserveAspectRatio: "none", class: "bars", role: "img", "aria-label": label });
  const highest = Math.max(...ofSet, ...ofRest, 1e-9);
  for (let i = 0; i < n; i++) {
    for (const [share, name] of [[ofRest[i], "rest"], [ofSet[i], "set"]]) {
      const height = (10 * share) / highest;
      if (height) picture.append(shape("rect", { x: i + 0.08, width: 0.84, y: 10 - height, height, class: name }));
    }
  }
  return picture;
}

/** Counts of the finite values in equal bins between the percentiles 1 and 99; beyond them, in the outermost bins. */
export function binned(values) {
  const known = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!known.length) return { low: 0, high: 1, smallest: 0, largest: 1, counts: new Array(N_BARS).fill(0), nMissing: values.length };
  const at = (share) => known[Math.min(known.length - 1, Math.floor(share * known.length))];
  let [low, high] = [at(0.01), at(0.99)];
  if (!(high > low)) [low, high] = [known[0], known[known.length - 1] > known[0] ? known[known.length - 1] : known[0] + 1];
  const counts = new Array(N_BARS).fill(0);
  for (const value of known) counts[Math.max(0, Math.min(N_BARS - 1, Math.floor((N_BARS * (value - low)) / (high - low))))] += 1;
  return { low, high, smallest: known[0], largest: known[known.length - 1], counts, nMissing: values.length - known.length };
}

/** A histogram with two handles. `onChange` gets {low, high}: null at an end of the slider, where nothing is cut off. */
export function rangeSlider(column, bins, range, onChange) {
  const ends = { low: Math.max(bins.low, range.low ?? bins.low), high: Math.min(bins.high, range.high ?? bins.high) };
  const highest = Math.max(...bins.counts, 1);
  const picture = shape("svg", { viewBox: `0 0 ${N_BARS} 10`, preserveAspectRatio: "none", class: "bars", "aria-hidden": "true" });
  const bars = bins.counts.map((count, i) => shape("rect", { x: i + 0.08, width: 0.84, y: 10 - (10 * count) / highest, height: (10 * count) / highest }));
  picture.append(...bars);
  const step = (bins.high - bins.low) / 200;
  const handle = (end, said) => element("input", { type: "range", min: String(bins.low), max: String(bins.high), step: String(step), value: String(ends[end]),
    "aria-label": `${column.label}, ${said}`, "aria-valuetext": numberText(ends[end], column.unit) });
  const [low, high] = [handle("low", "lower end"), handle("high", "upper end")];
  const paint = () => {
    const [from, to] = [Math.min(low.value, high.value), Math.max(low.value, high.value)];
    bars.forEach((bar, i) => {
      const middle = bins.low + ((i + 0.5) * (bins.high - bins.low)) / N_BARS;
      bar.setAttribute("class", middle >= from && middle <= to ? "set" : "rest");
    });
    low.setAttribute("aria-valuetext", numberText(from, column.unit));
    high.setAttribute("aria-valuetext", numberText(to, column.unit));
  };
  const changed = () => {
    const [from, to] = [Math.min(low.value, high.value), Math.max(low.value, high.value)];
    onChange({ low: from <= bins.low + step / 2 ? null : from, high: to >= bins.high - step / 2 ? null : to });
  };
  for (const input of [low, high]) {
    input.addEventListener("input", paint);
    input.addEventListener("change", changed);
  }
  paint();
  return element("div", { className: "range" }, picture, element("div", { className: "handles" }, low, high),
    element("div", { className: "ends" }, element("span", {}, numberText(bins.low)), element("span", {}, numberText(bins.high, column.unit))));
}
