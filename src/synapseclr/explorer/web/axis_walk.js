// An axis walk: synapses along a line on the map, as a filmstrip.
import { numberText } from "./numbers.js";
import { byId, element } from "./page.js";

const FRAMES = 9;
const WIDTH = 0.12; // of the line's length, to either side

/** The synapse nearest to the line in each of its parts, and the rows in that part: `{ row, rows }`, row -1 for none. */
export function alongLine(line, plane, shown, frames = FRAMES) {
  const [dx, dy] = [line.x[1] - line.x[0], line.y[1] - line.y[0]];
  const length2 = dx * dx + dy * dy;
  const parts = Array.from({ length: frames }, () => ({ row: -1, rows: [], least: Infinity }));
  if (!length2) return parts;
  for (const row of shown) {
    const [px, py] = [plane.x[row] - line.x[0], plane.y[row] - line.y[0]];
    const share = (px * dx + py * dy) / length2;
    const away = Math.abs(px * dy - py * dx) / length2; // in lengths of the line
    if (share < 0 || share > 1 || away > WIDTH) continue;
    const part = parts[Math.min(frames - 1, Math.floor(share * frames))];
    part.rows.push(row);
    if (away < part.least) Object.assign(part, { row, least: away });
  }
  return parts;
}

/** What a part's synapses have in common: the share of the commonest class, or the mean. */
function common(rows, values, column) {
  const known = values ? rows.filter((row) => !Number.isNaN(values[row])) : [];
  if (!known.length) return values ? "no value" : "";
  if (!column.classes.length) return `mean ${numberText(known.reduce((sum, row) => sum + values[row], 0) / known.length, column.unit)}`;
  const counts = new Array(column.classes.length).fill(0);
  for (const row of known) counts[values[row]] += 1;
  const code = counts.indexOf(Math.max(...counts));
  return `${Math.round((100 * counts[code]) / known.length)}% ${column.classes[code]}`;
}

/** Show the filmstrip of a line, or none. */
export function showWalk(run, line, { plane, shown, values, column }, { onChoose, onClose }) {
  const strip = byId("walk");
  strip.hidden = !line;
  if (!line) return strip.replaceChildren();
  const parts = alongLine(line, plane, shown);
  const frames = parts.map(({ row, rows }, place) => {
    const said = element("small", {}, `${rows.length.toLocaleString("en")} near`);
    if (row < 0) return element("li", {}, element("span", { className: "picture" }), said);
    const id = run.idOf(row);
    const picture = run.hasPictures ? element("img", { className: "picture", src: run.picture(id, "thumbnail.jpg"), alt: "",
      onerror: (event) => event.target.replaceWith(element("span", { className: "picture" })) }) : element("span", { className: "picture" });
    return element("li", {}, element("button", { type: "button", "data-synapse": id, "aria-label": `Part ${place + 1} of ${FRAMES}: synapse ${id}`,
      onclick: () => onChoose(id) }, picture, said, element("small", {}, common(rows, values, column))));
  });
  return strip.replaceChildren(element("div", { className: "row" }, element("h2", {}, "Along the line"),
    element("button", { type: "button", id: "close-walk", onclick: onClose }, "Close")), element("ol", {}, ...frames));
}
