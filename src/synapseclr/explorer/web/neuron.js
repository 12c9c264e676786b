// One neurite: its synapses on both sides, and its partners. Root ids are 64-bit numbers, and stay text or BigInt.
import { failedPart, showFailure } from "./failures.js";
import { counted } from "./numbers.js";
import { byId, element } from "./page.js";

const LISTED = 20;
const COLUMN = "neurite";
let asked = 0;

/** A neurite among root ids of both sides: rows of its outputs and inputs, its partners with the number of synapses with
 *  each, most first. */
export function neuriteAmong(pre, post, root) {
  const wanted = BigInt(root);
  const found = { root: String(root), outputs: rowsOf(pre, wanted), inputs: rowsOf(post, wanted) };
  const partners = (rows, others) => {
    const counts = new Map();
    for (const row of rows) if (others[row]) counts.set(others[row], (counts.get(others[row]) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]).map(([other, n]) => [other.toString(), n]);
  };
  const [targets, sources] = [partners(found.outputs, post), partners(found.inputs, pre)];
  const all = [...new Set([...found.outputs, ...found.inputs])].sort((a, b) => a - b);
  return { ...found, all, targets, sources, nOutputs: found.outputs.length, nInputs: found.inputs.length, n: all.length, nTargets: targets.length,
    nSources: sources.length };
}

function rowsOf(roots, wanted) {
  const rows = [];
  for (let row = roots.indexOf(wanted); row >= 0; row = roots.indexOf(wanted, row + 1)) rows.push(row);
  return rows;
}

/** Make the neurite a column to colour and filter by. */
export async function setNeuriteColumn(run, root) {
  const values = await run.neuriteValues(root);
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
    found = await run.neurite(root);
  } catch (error) {
    if (mine === asked) panel.replaceChildren(failedPart(error, () => showNeurite(run, root, { onRoot, onSelect, onColour })));
    return;
  }
  if (mine !== asked) return;
  const select = (which, n, text, id) => element("button", { type: "button", id, disabled: !n, onclick: async () => onSelect(await run.ofNeurite(found, which)) }, text);
  panel.replaceChildren(
    element("h2", { id: "neuron-id" }, `Neurite ${root}`),
    ...(found.n ? [
      element("p", {}, `${side(found.nOutputs, "output", "to", found.nTargets)}, ${side(found.nInputs, "input", "from", found.nSources)}.`),
      element("div", { className: "row" },
        select("all", found.n, `Select all ${found.n.toLocaleString("en")}`, "neuron-all"), select("outputs", found.nOutputs, "Outputs", "neuron-outputs"),
        select("inputs", found.nInputs, "Inputs", "neuron-inputs"),
        element("button", { type: "button", id: "neuron-colour", onclick: onColour }, "Colour the map by it"),
        element("button", { type: "button", id: "neuron-export", onclick: () => save(run, found) }, "Save as CSV")),
      ...partnerTable("Partners of its outputs", found.targets, found.nTargets, onRoot), ...partnerTable("Partners of its inputs", found.sources, found.nSources, onRoot),
    ] : [element("p", { role: "alert" }, "This run has no synapse of a neurite with this root id.")]),
  );
  panel.dataset.neuron = root;
}

const side = (n, kind, towards, partners) => (n ? `${counted(n, kind)} ${towards} ${counted(partners, "partner")}` : `no ${kind}s`);

/** Save a neurite's synapses with the root ids of both sides, one of which is its own. */
async function save(run, found) {
  try {
    await run.saveCsv(await run.ofNeurite(found, "all"), run.about.roots);
  } catch (error) {
    showFailure(error.message, () => save(run, found));
  }
}

function partnerTable(title, partners, n, onRoot) {
  if (!partners.length) return [];
  const head = element("tr", {}, ...["root id", "synapses"].map((name) => element("th", { scope: "col" }, name)));
  const rows = partners.slice(0, LISTED).map(([root, count]) => element("tr", {}, element("td", {}, rootLink(root, onRoot)), element("td", {}, count.toLocaleString("en"))));
  return [element("h3", {}, n > LISTED ? `${title}: the first ${LISTED} of ${n.toLocaleString("en")}` : title),
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))];
}
