// What sets a selection apart: columns ranked by effect size against the rest, with their histograms.
import { comparedBars } from "./histogram.js";
import { element } from "./page.js";

const FIRST = 8;

/** The table of the summary; `onColour(name)` draws the map by a column. */
export function summaryTable(rows, onColour) {
  const made = rows.map((row) => line(row, onColour));
  const rest = made.slice(FIRST);
  const more = rest.length ? [element("details", {}, element("summary", {}, `${rest.length} more columns`), table(rest))] : [];
  return element("details", { open: true }, element("summary", {}, "What sets the selection apart"),
    element("p", { className: "muted" }, "Medians, and shares of the class that differs most. Effect: 0 no difference, 1 no overlap. Dark: the selection, pale: the rest."),
    table(made.slice(0, FIRST)), ...more);
}

const table = (rows) => element("table", { className: "effects" },
  element("thead", {}, element("tr", {}, ...["column", "selected", "rest", "effect"].map((name) => element("th", { scope: "col" }, name)))),
  element("tbody", {}, ...rows));

function line(row, onColour) {
  const said = row.classes.length ? `Shares by class: ${row.classes.join(", ")}` : `Histogram of the selection and of the rest, ${row.low.toPrecision(3)} to ${row.high.toPrecision(3)}`;
  const size = element("span", { className: "effect", "aria-hidden": "true" });
  size.style.width = `${Math.round(100 * Math.abs(row.effect))}%`;
  return element("tr", {},
    element("th", { scope: "row" }, element("button", { type: "button", className: "link", onclick: () => onColour(row.name), title: "Colour the map by it" }, row.label),
      " ", element("small", {}, row.group.toLowerCase()), comparedBars(row.bars_set, row.bars_rest, said)),
    element("td", {}, row.set), element("td", {}, row.rest),
    element("td", {}, row.classes.length ? row.effect.toFixed(2) : `${row.effect < 0 ? "−" : "+"}${Math.abs(row.effect).toFixed(2)}`, element("span", { className: "effect-frame" }, size)));
}
