// Label and learn: ticked synapses, what is learnt from them, and which to look at next.
import { showFailure } from "./failures.js";
import { counted } from "./numbers.js";
import { element } from "./page.js";

const COLUMNS = { ticks: "ticked", learnt: "learnt" };
const NEXT = 24;
const WAITS_MS = 250;
let isLearning = false;
let waiting;
let asked = 0;

/** Controls of the ticks. `onColumn(name)` draws the map by a column, `onSelect(rows)` selects. */
export function learningControls(run, ticks, { onColumn, onSelect, labels }) {
  const said = element("p", { className: "muted", id: "ticked", role: "status" });
  const undo = element("button", { type: "button", id: "undo-tick", onclick: () => ticks.undo() }, "Undo");
  const clear = element("button", { type: "button", onclick: () => ticks.clear() }, "Clear");
  const learn = run.canAsk && !run.isLarge ? element("button", { type: "button", id: "learn", "aria-pressed": String(isLearning), onclick: () => {
    isLearning = !isLearning;
    learn.setAttribute("aria-pressed", String(isLearning));
    shown();
    recolour(run, ticks, onColumn, shown);
  } }, "Learn from the ticks") : null;
  const next = (text, id, score) => element("button", { type: "button", id, onclick: async () => {
    const values = await run.values(COLUMNS.learnt);
    const rows = Array.from({ length: run.n }, (_, row) => row).filter((row) => !ticks.of.has(run.idOf(row)));
    onSelect(rows.sort((a, b) => score(values[b]) - score(values[a])).slice(0, NEXT));
  } }, text);
  const then = element("div", { className: "row" }, next(`Select the ${NEXT} likeliest`, "likeliest", (p) => p), next(`${NEXT} least certain`, "least-certain", (p) => -Math.abs(p - 0.5)));
  const why = run.isLarge ? element("small", { className: "muted" }, "The map is not coloured by ticks, and nothing is learnt from them: of so many synapses the explorer does not hold the features. Label the ticked ones instead.") : "";
  const box = element("fieldset", { id: "learning" }, element("legend", {}, "Ticks"), said, why, element("div", { className: "row" }, undo, clear, learn), then, labels(() => ticks.ids(true)));
  const shown = () => {
    const [yes, no] = [ticks.ids(true).length, ticks.ids(false).length];
    said.textContent = yes + no ? `${counted(yes, "synapse")} ticked, ${no} crossed out.` : "Tick ✓ what has the label and cross out ✗ what has not, in the pictures below.";
    undo.disabled = !ticks.past.length;
    clear.disabled = !(yes + no);
    then.hidden = !isLearning || !yes || !run.columnNamed(COLUMNS.learnt);
    for (const input of box.querySelectorAll("#label-ticked")) input.disabled = !yes;
  };
  shown();
  ticks.heard.add(() => {
    if (!box.isConnected) return false;
    shown();
    recolour(run, ticks, onColumn, shown);
    return true;
  });
  return box;
}

/** Draw the map by the ticks, or by what is learnt from them. */
function recolour(run, ticks, onColumn, done = () => {}) {
  if (run.isLarge) return;
  const values = new Float32Array(run.n).fill(NaN);
  for (const [id, ticked] of ticks.of) values[run.rowOf(id)] = ticked ? 0 : 1;
  run.setColumn({ name: COLUMNS.ticks, label: "ticked by hand", classes: ["ticked", "crossed out"] }, values);
  clearTimeout(waiting);
  const mine = ++asked;
  const yes = ticks.ids(true);
  if (!isLearning || !yes.length) {
    onColumn(COLUMNS.ticks);
    return;
  }
  const learn = async () => {
    try {
      const probability = await run.learn(yes, ticks.ids(false));
      if (mine !== asked) return;
      run.setColumn({ name: COLUMNS.learnt, label: "P(like the ticked ones)", classes: [] }, probability);
      await onColumn(COLUMNS.learnt);
      done();
    } catch (error) {
      if (mine === asked) showFailure(error.message, learn);
    }
  };
  waiting = setTimeout(learn, WAITS_MS);
}
