// A synapse in three dimensions.
import { colourOf, element, plotly } from "./page.js";

/** Draw a synapse's surfaces into a frame, in the page's colours. */
export async function drawScene(run, id, frame, height) {
  const figure = await run.scene(id);
  const axis = { color: colourOf("muted"), gridcolor: colourOf("line"), zerolinecolor: colourOf("line") };
  const scene = { ...figure.layout.scene, bgcolor: colourOf("paper") };
  for (const name of ["xaxis", "yaxis", "zaxis"]) scene[name] = { ...scene[name], ...axis };
  const layout = { ...figure.layout, height, paper_bgcolor: colourOf("paper"), font: { color: colourOf("ink"), size: 11 }, scene };
  await (await plotly()).newPlot(frame, figure.data, layout, { displayModeBar: false, responsive: true });
}

/** The three-dimensional view, made when it is asked for; it stays open from one synapse to the next. */
export function shape(run, details) {
  const frame = element("div", { className: "scene", role: "img", "aria-label": `Synapse ${details.id} in three dimensions` });
  const box = element("details", { id: "shape" }, element("summary", {}, "In three dimensions"), frame);
  box.open = sessionStorage.getItem("shape") === "open";
  const load = async () => {
    sessionStorage.setItem("shape", box.open ? "open" : "closed");
    if (!box.open || frame.dataset.state) return;
    frame.dataset.state = "loading";
    try {
      await drawScene(run, details.id, frame, 328);
      frame.dataset.state = "drawn";
    } catch (error) {
      frame.dataset.state = "";
      frame.textContent = `${error.message} Close and open this part to try again.`;
    }
  };
  box.addEventListener("toggle", load);
  return box;
}
