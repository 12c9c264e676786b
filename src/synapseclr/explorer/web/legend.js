// What colours mean. A click on a class shows it alone, the button beside it hides it; ranges of values can be typed.
import { classColours, colourRange, PALETTES } from "./colours.js";
import { numberText } from "./numbers.js";
import { byId, colourOf, element } from "./page.js";

const WITHOUT_VALUE = -1;

/** Ends of the colours: those of the look, else of the values. */
export function rangeOf(values, look) {
  const [low, high] = colourRange(values);
  const chosen = [look.low ?? low, look.high ?? high];
  return chosen[0] < chosen[1] ? chosen : [chosen[0], chosen[0] + 1];
}

/** Number of rows by class; -1: without a value, 0: with a number. */
export function countsOf(rows, values, column) {
  const counts = new Map();
  for (const row of values ? rows : []) {
    const code = Number.isNaN(values[row]) ? WITHOUT_VALUE : column.classes.length ? values[row] : 0;
    counts.set(code, (counts.get(code) || 0) + 1);
  }
  return counts;
}

/** Draw the legend of what passes the filters: `counts` by class, `range` of numbers; `onLook(part)` changes the look of the map. */
export function drawLegend(run, column, { counts, range }, look, onLook) {
  const legend = byId("legend");
  byId("palette-field").hidden = !column || column.classes.length > 0;
  if (!column) return legend.replaceChildren();
  const focused = legend.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const colours = classColours(run, column);
  const named = column.classes.map((name, code) => [code, name, colours[code]]).filter(([code]) => counts.get(code));
  if (counts.get(WITHOUT_VALUE)) named.push([WITHOUT_VALUE, "no value", colourOf("unknown")]);
  const codes = [...(column.classes.length ? [] : [0]), ...named.map(([code]) => code)];
  const lines = named.map(([code, name, colour]) => entry({ code, name, colour, n: counts.get(code), codes, look, onLook }));
  legend.replaceChildren(...(column.classes.length ? [] : scale(column, range, look, onLook)), ...lines);
  if (focused) legend.querySelector(`[data-key="${focused}"]`)?.focus();
  return undefined;
}

/** One class: its name shows it alone, or all again; the second button hides it. */
function entry({ code, name, colour, n, codes, look, onLook }) {
  const isHidden = look.hidden.includes(code);
  const others = codes.filter((other) => other !== code);
  const isAlone = others.length > 0 && !isHidden && others.every((other) => look.hidden.includes(other));
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = colour;
  const only = element("button", { type: "button", className: "only", "data-key": `only${code}`, "aria-pressed": String(isAlone),
    title: isAlone ? "Show all again" : "Show only these", onclick: () => onLook({ hidden: isAlone ? [] : others }) },
  swatch, element("span", { className: "name" }, `${name} (${n.toLocaleString("en")})`));
  const hide = element("button", { type: "button", className: "hide", "data-key": `hide${code}`, "aria-pressed": String(isHidden),
    "aria-label": `Hide ${name}`, title: isHidden ? "Show these" : "Hide these",
    onclick: () => onLook({ hidden: isHidden ? look.hidden.filter((other) => other !== code) : [...look.hidden, code] }) }, isHidden ? "show" : "hide");
  return element("div", { className: isHidden ? "entry hidden" : "entry" }, only, hide);
}

/** The palette and its ends, which can be typed. */
function scale(column, [low, high], look, onLook) {
  const ramp = element("div", { className: "ramp", role: "img", "aria-label": `Colours from ${numberText(low, column.unit)} to ${numberText(high, column.unit)}` });
  ramp.style.background = `linear-gradient(to right, ${PALETTES[look.palette].join(",")})`;
  const end = (name, said, value) => element("input", { type: "number", step: "any", value: String(Number(value.toPrecision(3))),
    "data-key": name, "aria-label": `${column.label}, ${said}`,
    onchange: (event) => onLook({ [name]: event.target.value === "" ? undefined : Number(event.target.value) }) });
  const isTyped = look.low !== undefined || look.high !== undefined;
  const reset = element("button", { type: "button", "data-key": "range", title: "From the 2nd to the 98th percentile", disabled: !isTyped,
    onclick: () => onLook({ low: undefined, high: undefined }) }, "auto");
  return [element("div", { className: "muted unit" }, column.unit ? `in ${column.unit}` : ""), ramp, element("div", { className: "ends" }, end("low", "lowest colour at", low), reset, end("high", "highest colour at", high))];
}

/** The controls of palette, size and opacity, wired once. */
export function wireAppearance(map, onLook) {
  byId("palette").replaceChildren(...Object.keys(PALETTES).map((name) => element("option", { value: name }, name)));
  byId("palette").addEventListener("change", (event) => onLook({ palette: event.target.value }));
  for (const name of ["size", "opacity"]) {
    const slider = byId(`point-${name}`);
    slider.addEventListener("input", () => map.setStyle({ ...map.style, [name]: Number(slider.value) }));
    slider.addEventListener("change", () => onLook({ [name]: Number(slider.value) }));
  }
  byId("usual-look").addEventListener("click", () => onLook({ size: undefined, opacity: undefined, palette: "viridis" }));
}

/** Set the controls to what the map shows. */
export function showAppearance(map, look) {
  byId("palette").value = look.palette;
  byId("point-size").value = String(look.size ?? map.usualSize);
  byId("point-opacity").value = String(look.opacity ?? map.usualOpacity);
}
