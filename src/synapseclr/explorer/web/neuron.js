// One neurite: its synapses on both sides, and its partners. Root ids are 64-bit numbers, and stay text or BigInt.
import { failedPart } from "./failures.js";
import { counted } from "./numbers.js";
import { byId, element } from "./page.js";

const LISTED = 20;
const COLUMN = "neurite";
let asked = 0;

/** Rows of a neurite's synapses, and its partners with the number of synapses with each, most first. */
export async function neuriteOf(run, root) {
  const wanted = BigInt(root);
  const [pre, post] = await Promise.all(["pre_root_id", "post_root_id"].map((name) => (run.about.roots.includes(name) ? run.roots(name) : [])));
  const found = { root: String(root), outputs: rowsOf(pre, wanted), inputs: rowsOf(post, wanted) };
  const partners = (rows, others) => {
    const counts = new Map();
    for (const row of rows) if (others[row]) counts.set(others[row], (counts.get(others[row]) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]).map(([other, n]) => [other.toString(), n]);
  };
  found.targets = partners(found.outputs, post);
  found.sources = partners(found.inputs, pre);
  return found;
}

function rowsOf(roots, wanted) {
  const rows = [];
  for (let row = roots.indexOf(wanted); row >= 0; row = roots.indexOf(wanted, row + 1)) rows.push(row);
  return rows;
}

/** Make the neurite a column to colour and filter by. */
export async function setNeuriteColumn(run, root) {
  const found = await neuriteOf(run, root);
  const values = new Float32Array(run.n).fill(NaN);
  for (const row of found.outputs) values[row] = 0;
  for (const row of found.inputs) values[row] = Number.isNaN(values[row]) ? 1 : 2;
  run.setColumn({ name: COLUMN, label: `neurite ${root}`, classes: ["its outputs", "its inputs", "from itself to itself"] }, values);
  return COLUMN;
}

/** A link that opens a neurite; the address holds it, so that it opens in a new tab too. */
export const rootLink = (root, onRoot) => element("a", { href: `#neuron=${root}`, className: "root",
  onclick: (event) => { if (!event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); onRoot(root); } } }, root);

/** Show a neurite in the panel. */
export async function showNeurite(run, root, { onRoot, onSelect, onColour }) {
  const panel = byId("neuron");
  const mine = ++asked;
  if (!root) {
    panel.replaceChildren(element("p", { className: "muted" }, run.about.roots.length
      ? "Enter a root id above, or follow a synapse's: all synapses of the neurite, and its partners."
      : "This run has no root ids of neurites."));
    return;
  }
  let found;
  try {
    found = await neuriteOf(run, root);
  } catch (error) {
    if (mine === asked) panel.replaceChildren(failedPart(error, () => showNeurite(run, root, { onRoot, onSelect, onColour })));
    return;
  }
  if (mine !== asked) return;
  const { outputs, inputs } = found;
  const all = [...new Set([...outputs, ...inputs])].sort((a, b) => a - b);
  const select = (rows, text, id) => element("button", { type: "button", id, disabled: !rows.length, onclick: () => onSelect(rows) }, text);
  panel.replaceChildren(
    element("h2", { id: "neuron-id" }, `Neurite ${root}`),
    ...(all.length ? [
      element("p", {}, `${counted(outputs.length, "output")} to ${counted(found.targets.length, "partner")}, ${counted(inputs.length, "input")} from ${counted(found.sources.length, "partner")}.`),
      element("div", { className: "row" },
        select(all, `Select all ${all.length.toLocaleString("en")}`, "neuron-all"), select(outputs, "Outputs", "neuron-outputs"),
        select(inputs, "Inputs", "neuron-inputs"),
        element("button", { type: "button", id: "neuron-colour", onclick: onColour }, "Colour the map by it")),
      ...partnerTable("Partners of its outputs", found.targets, onRoot), ...partnerTable("Partners of its inputs", found.sources, onRoot),
    ] : [element("p", { role: "alert" }, "This run has no synapse of a neurite with this root id.")]),
  );
  panel.dataset.neuron = root;
}

function partnerTable(title, partners, onRoot) {
  if (!partners.length) return [];
  const head = element("tr", {}, ...["root id", "synapses"].map((name) => element("th", { scope: "col" }, name)));
  const rows = partners.slice(0, LISTED).map(([root, n]) => element("tr", {}, element("td", {}, rootLink(root, onRoot)), element("td", {}, n.toLocaleString("en"))));
  return [element("h3", {}, partners.length > LISTED ? `${title}: the first ${LISTED} of ${partners.length.toLocaleString("en")}` : title),
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))];
}
