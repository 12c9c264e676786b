// Why a neighbour is similar: values that both have and few others share; and what the neighbours agree on.
import { failedPart } from "./failures.js";
import { counted } from "./numbers.js";
import { element } from "./page.js";

const percent = (share) => (share > 0 && share < 0.01 ? "under 1 %" : share > 0.99 ? "over 99 %" : `${Math.round(100 * share)} %`);

/** The choice of a neighbour, and the answer below it. */
export function whySimilar(run, id, neighbours) {
  const answer = element("div", { id: "why", role: "status" });
  const chosen = element("select", { id: "why-of", "aria-label": "Neighbour" }, element("option", { value: "" }, "choose a neighbour"),
    ...neighbours.map((other, place) => element("option", { value: other.id }, `${place + 1}: ${other.id}`)));
  const ask = async () => {
    const other = chosen.value;
    if (!other) return answer.replaceChildren();
    try {
      const found = await run.whySimilar(id, other);
      if (chosen.value === other) answer.replaceChildren(...explained(found, other));
    } catch (error) {
      if (chosen.value === other) answer.replaceChildren(failedPart(error, ask));
    }
    return undefined;
  };
  chosen.addEventListener("change", ask);
  return element("div", {}, element("div", { className: "row" }, element("label", { for: "why-of" }, "Why similar?"), chosen), answer);
}

function explained(found, other) {
  const table = (rows) => element("table", {}, element("thead", {}, element("tr", {}, ...["", "this one", other, "others between"].map((name) =>
    (name ? element("th", { scope: "col" }, name) : element("td"))))),
  element("tbody", {}, ...rows.map((row) => element("tr", {}, element("th", { scope: "row" }, row.label), element("td", {}, row.one), element("td", {}, row.other),
    element("td", {}, row.between === null ? "differ" : percent(row.between))))));
  return [
    element("p", {}, `Nearer than ${percent(found.nearer_than)} of other synapses; ${found.n_close.toLocaleString("en")} of ${counted(found.n_components, "feature")} differ by less than half a standard deviation.`),
    ...(found.shared.length ? [element("h3", {}, "In common, the rarest first"), table(found.shared)] : [element("p", { className: "muted" }, "No known value is shared by these two and few others.")]),
    ...(found.apart.length ? [element("h3", {}, "Different"), table(found.apart)] : []),
    element("small", {}, "Others between: the share of all synapses whose value lies between the two, or which are of the same class. Learned features need not follow any of these columns."),
  ];
}

/** What the neighbours are annotated as: "8 of 12 excitatory". */
export function agreement(rows) {
  if (!rows.length) return element("p", { className: "muted" }, "None of the neighbours is annotated.");
  const sign = (agrees) => (agrees === null ? "" : agrees ? " ✓" : " ≠");
  return element("ul", { className: "plain", id: "agreement" }, ...rows.map((row) => element("li", {}, `${row.label}: `, element("strong", {}, row.text),
    element("span", { title: row.agrees === null ? "" : row.agrees ? "As this synapse" : "This synapse differs", className: row.agrees === false ? "differs" : "" }, sign(row.agrees)))));
}
