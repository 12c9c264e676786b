// Labels that were saved: a column to colour and filter by, a list, and taking them back.
import { showFailure } from "./failures.js";
import { counted } from "./numbers.js";
import { byId, element, say } from "./page.js";

export const LABEL_COLUMN = "saved_label";
let saved = { classes: [], counts: [], tables: [] };

/** Read the saved labels and make them a column: the last label of each synapse. */
export async function loadLabels(run) {
  saved = await run.savedLabels();
  run.setColumn({ name: LABEL_COLUMN, label: "saved label", classes: saved.classes }, saved.values);
}

/** When a table was saved, by its name; its time is UTC. */
function savedAt(table) {
  const found = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.\d+)?Z/.exec(table);
  return found ? new Date(Date.UTC(+found[1], +found[2] - 1, +found[3], +found[4], +found[5], +found[6])).toLocaleString() : "";
}

/** Show the labels in the panel. `onChanged` hears of the column's new values. */
export function showLabels(run, { onSelect, onColour, onChanged }) {
  const panel = byId("labels");
  byId("tab-labels").textContent = saved.tables.length ? `Labels (${saved.tables.length})` : "Labels";
  if (!run.about.can_save) {
    panel.replaceChildren(element("p", { className: "muted" }, "Labels can be saved while the explorer runs with a folder for them, not in a copy."));
    return;
  }
  const act = async (what) => {
    try {
      await what();
    } catch (error) {
      showFailure(error.message, () => act(what));
    }
  };
  const accept = (code) => act(async () => {
    const accepted = await run.acceptDefects(await run.labelled(saved, code));
    say(`${counted(accepted.n_new, "synapse")} added to accepted_defects.csv: later analyses leave them out.`);
  });
  const undo = (table) => act(async () => {
    await run.withdraw(table);
    await loadLabels(run);
    showLabels(run, { onSelect, onColour, onChanged });
    onChanged();
    say("The labels were taken back.");
  });
  const used = saved.classes.map((label, code) => {
    return element("li", {}, element("strong", {}, label), ` ${counted(saved.counts[code], "synapse")} `, element("span", { className: "row" },
      element("button", { type: "button", onclick: () => act(async () => onSelect(await run.labelled(saved, code))), "aria-label": `Select the synapses labelled ${label}` }, "Select"),
      run.about.can_accept ? element("button", { type: "button", onclick: () => accept(code), "aria-label": `Leave the synapses labelled ${label} out of later analyses`,
        title: "Adds them to the table accepted_defects, which the pipelines leave out" }, "Leave out of analyses") : null));
  });
  const tables = saved.tables.map(({ table, label, n }) => element("li", {},
    `${label}: ${counted(n, "synapse")} `, element("small", { title: table }, savedAt(table) || table), " ",
    element("button", { type: "button", onclick: () => undo(table), "aria-label": `Take back the label ${label} of ${table}` }, "Undo")));
  panel.replaceChildren(
    element("h2", {}, "Saved labels"),
    ...(used.length ? [element("button", { type: "button", id: "colour-labels", onclick: () => onColour(LABEL_COLUMN) }, "Colour the map by them"),
      element("ul", { className: "plain", id: "labels-used" }, ...used),
      element("h2", {}, "Each saving"), element("ul", { className: "plain", id: "labels-saved" }, ...tables)]
      : [element("p", { className: "muted" }, "Nothing is labelled yet. Select synapses, then save a label in the panel of the selection.")]),
  );
}

/** The form that labels a set, and takes the last saving back. */
export function labelControls(run, set, chosenBy, onSaved) {
  const input = element("input", { id: "label", maxLength: 64, autocomplete: "off", placeholder: "a label" });
  const done = element("span", { className: "muted", id: "label-saved" });
  const save = async (label) => {
    try {
      const answer = await run.saveLabel(set, label, chosenBy());
      await loadLabels(run);
      onSaved();
      say(`Saved: ${answer.n} synapses labelled “${label}” in ${answer.table}.`);
      done.replaceChildren(`${counted(answer.n, "synapse")} labelled. `, element("button", { type: "button", id: "undo-label", onclick: () => undo(answer.table) }, "Undo"));
      input.value = "";
    } catch (error) {
      showFailure(error.message, () => save(label));
    }
  };
  const undo = async (table) => {
    try {
      await run.withdraw(table);
      await loadLabels(run);
      onSaved();
      done.replaceChildren("Taken back.");
    } catch (error) {
      showFailure(error.message, () => undo(table));
    }
  };
  return element("form", { className: "row", onsubmit: (event) => { event.preventDefault(); save(input.value); } },
    element("label", { for: "label" }, "Label"), input, element("button", { type: "submit", id: "save-label" }, "Save label"),
    element("button", { type: "button", id: "mark", onclick: () => save("defective") }, "Mark as defective"), done);
}

