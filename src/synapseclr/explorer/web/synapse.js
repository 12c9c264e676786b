// One synapse: its sections, its shape, what is known of it, and its neighbours.
import { byId, colourOf, element, plotly, say, thumbnails } from "./page.js";

let asked = 0;

/** Show a synapse in the panel. */
export async function showSynapse(run, id, onChoose) {
  const panel = byId("synapse");
  const mine = ++asked;
  if (!id) {
    panel.replaceChildren(element("p", { className: "muted" }, "Click a point, or enter an id above."));
    return;
  }
  let details;
  if (run.rowOf(id) < 0) {
    panel.replaceChildren(element("p", { role: "alert" }, `This run has no synapse “${id}”.`));
    return;
  }
  try {
    details = await run.details(id);
  } catch (error) {
    const said = run.canAsk ? error.message : `This copy has no details of synapse ${id}.`;
    if (mine === asked) panel.replaceChildren(element("p", { role: "alert" }, said));
    return;
  }
  if (mine !== asked) return;
  const pictures = run.hasPictures ? (other) => run.picture(other, "thumbnail.jpg") : null;
  const link = details.neuroglancer
    ? element("a", { href: details.neuroglancer, target: "_blank", rel: "noopener noreferrer" }, "Open in Neuroglancer") : null;
  panel.replaceChildren(
    element("h2", { id: "synapse-id" }, `Synapse ${details.id}`),
    ...(link ? [link] : []),
    ...(details.has_images ? [sections(run, details), shape(run, details)] : [element("p", { className: "muted" }, "There are no pictures of this synapse.")]),
    element("h2", {}, "Nearest neighbours"),
    thumbnails(details.neighbours, (other) => `distance ${other.distance.toPrecision(3)}`, pictures, onChoose),
    element("h2", {}, "Traits"),
    traits(details.traits),
    ...(details.occlusion?.length ? [element("h2", {}, "What traits are read off"), occlusion(details.occlusion)] : []),
    element("details", {}, element("summary", {}, "Metadata"), element("table", {},
      element("tbody", {}, ...details.metadata.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)))))),
  );
  panel.dataset.synapse = details.id;
}

function traits(rows) {
  if (!rows.length) return element("p", { className: "muted" }, "Nothing is annotated or imputed.");
  const head = element("tr", {}, ...["trait", "annotated", "imputed"].map((name) => element("th", { scope: "col" }, name)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map((row) => element("tr", {},
    element("th", { scope: "row" }, row.label),
    element("td", {}, row.annotated ?? "–"),
    element("td", {}, row.imputed ?? "–", row.interval ? element("br") : null, row.interval ? element("small", {}, row.interval) : null)))));
}

/** Changes of scores when a region is made grey. */
function occlusion(rows) {
  const regions = ["presynaptic", "cleft", "postsynaptic"];
  const head = element("tr", {}, ...["trait", "score", ...regions.map((region) => `${region} grey`)].map((name) => element("th", { scope: "col" }, name)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map((row) => element("tr", {},
    element("th", { scope: "row" }, row.label),
    ...["score", ...regions].map((name) => element("td", {}, row[name]))))));
}

/** The sections, to leaf through. One picture holds them all below each other. */
function sections(run, details) {
  const [width, height, depth] = run.about.chunk_size_vx;
  const canvas = element("canvas", { width, height, role: "img" });
  const place = element("span", { className: "muted" });
  const slider = element("input", { type: "range", min: "0", max: String(depth - 1), value: String(details.best_section),
    "aria-label": "Section", oninput: () => draw() });
  const masks = element("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const [grey, colour] = ["em.jpg", "masks.png"].map((name) => {
    const picture = new Image();
    picture.src = run.picture(details.id, name);
    picture.onload = () => draw();
    picture.onerror = () => say(`The ${name} of synapse ${details.id} could not be loaded.`);
    return picture;
  });
  const draw = () => {
    const pen = canvas.getContext("2d");
    const section = Number(slider.value);
    pen.clearRect(0, 0, width, height);
    if (grey.complete && grey.naturalWidth) pen.drawImage(grey, 0, section * height, width, height, 0, 0, width, height);
    pen.globalAlpha = 0.4;
    if (masks.checked && colour.complete && colour.naturalWidth) pen.drawImage(colour, 0, section * height, width, height, 0, 0, width, height);
    pen.globalAlpha = 1;
    place.textContent = `section ${section} of ${depth}`;
    canvas.setAttribute("aria-label", `EM of synapse ${details.id}, section ${section} of ${depth}`);
    canvas.dataset.drawn = String(grey.complete && colour.complete);
  };
  draw();
  return element("div", { className: "sections" }, canvas, element("div", { className: "row" }, slider, place, element("label", {}, masks, " masks")),
    element("small", { id: "mask-names" }, "Masks: presynaptic violet, cleft orange, postsynaptic green"));
}

/** The three-dimensional view, made when it is asked for. */
function shape(run, details) {
  const frame = element("div", { className: "scene", role: "img", "aria-label": `Synapse ${details.id} in three dimensions` });
  const box = element("details", { id: "shape" }, element("summary", {}, "In three dimensions"), frame);
  box.open = sessionStorage.getItem("shape") === "open";
  const load = async () => {
    sessionStorage.setItem("shape", box.open ? "open" : "closed");
    if (!box.open || frame.dataset.state) return;
    frame.dataset.state = "loading";
    try {
      const figure = await run.scene(details.id);
      const dress = () => {
        const ink = colourOf("ink");
        const axis = { color: colourOf("muted"), gridcolor: colourOf("line"), zerolinecolor: colourOf("line") };
        const scene = { ...figure.layout.scene, bgcolor: colourOf("paper") };
        for (const name of ["xaxis", "yaxis", "zaxis"]) scene[name] = { ...scene[name], ...axis };
        return { ...figure.layout, height: 328, paper_bgcolor: colourOf("paper"), font: { color: ink, size: 11 }, scene };
      };
      await (await plotly()).newPlot(frame, figure.data, dress(), { displayModeBar: false, responsive: true });
      frame.dataset.state = "drawn";
    } catch (error) {
      frame.dataset.state = "";
      frame.textContent = error.message;
    }
  };
  box.addEventListener("toggle", load);
  return box;
}
