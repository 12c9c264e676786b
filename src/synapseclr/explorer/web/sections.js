// The sections of a synapse, to leaf through: by the slider, the wheel over the image, and the arrow keys.
import { element, say } from "./page.js";

const WHEEL_PER_SECTION = 40; // of a trackpad's many small steps; a mouse wheel's step is larger

/** The viewers on the page; keys move the one that was used last. */
const viewers = new Set();
let last = null;

/** Move the section of the viewer that was used last, if it is still on the page. */
export function moveSection(step) {
  for (const viewer of viewers) if (!viewer.canvas.isConnected) viewers.delete(viewer);
  const viewer = last && viewers.has(last) && last.canvas.offsetParent ? last : [...viewers].find((other) => other.canvas.offsetParent);
  viewer?.move(step);
  return Boolean(viewer);
}

/** A viewer of one synapse. One picture holds all its sections below each other. `onSection` hears of every change. */
export class SectionViewer {
  constructor(run, details, { masksOn = true, onSection = null } = {}) {
    const [width, height, depth] = run.about.chunk_size_vx;
    Object.assign(this, { run, id: details.id, width, height, depth, onSection });
    this.canvas = element("canvas", { width, height, role: "img" });
    this.place = element("span", { className: "muted" });
    this.slider = element("input", { type: "range", min: "0", max: String(depth - 1), value: String(details.best_section),
      "aria-label": "Section", oninput: () => this.show(Number(this.slider.value)) });
    this.masks = element("input", { type: "checkbox", checked: masksOn, onchange: () => this.draw() });
    [this.grey, this.colour] = ["em.jpg", "masks.png"].map((name) => {
      const picture = new Image();
      picture.src = run.picture(details.id, name);
      picture.onload = () => this.draw();
      picture.onerror = () => say(`The ${name} of synapse ${details.id} could not be loaded.`);
      return picture;
    });
    let turned = 0;
    this.canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return; // zooms the page
      event.preventDefault();
      turned += event.deltaY * (event.deltaMode ? 30 : 1);
      const steps = Math.trunc(turned / WHEEL_PER_SECTION);
      turned -= steps * WHEEL_PER_SECTION;
      if (steps) this.move(steps);
    }, { passive: false });
    viewers.add(this);
    last = this;
    this.draw();
    this.element = element("div", { className: "sections" }, this.canvas,
      element("div", { className: "row" }, this.slider, this.place, element("label", {}, this.masks, " masks")));
  }

  get section() { return Number(this.slider.value); }

  move(step) { this.show(Math.max(0, Math.min(this.depth - 1, this.section + step))); }

  show(section, isTold = false) {
    this.slider.value = String(section);
    if (!isTold) last = this;
    this.draw();
    if (!isTold) this.onSection?.(section);
  }

  draw() {
    const { canvas, grey, colour, width, height, section, depth } = this;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (grey.complete && grey.naturalWidth) pen.drawImage(grey, 0, section * height, width, height, 0, 0, width, height);
    pen.globalAlpha = 0.4;
    if (this.masks.checked && colour.complete && colour.naturalWidth) pen.drawImage(colour, 0, section * height, width, height, 0, 0, width, height);
    pen.globalAlpha = 1;
    this.place.textContent = `section ${section} of ${depth}`;
    canvas.setAttribute("aria-label", `EM of synapse ${this.id}, section ${section} of ${depth}`);
    canvas.dataset.drawn = String(grey.complete && colour.complete);
  }
}
