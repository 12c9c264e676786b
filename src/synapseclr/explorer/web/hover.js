// The tip beside the pointer: what a point is, and its picture once the pointer rests.
import { element } from "./page.js";

const RESTS_MS = 120;
let waiting;

/** Content of the tip of a synapse: the text at once, the picture when the pointer has rested on it. */
export function tipContent(run, id, text) {
  clearTimeout(waiting);
  const tip = element("span", { className: "tip" }, text);
  if (run.hasPictures) {
    const picture = element("img", { className: "picture", alt: "", onerror: () => picture.remove() });
    tip.append(picture);
    waiting = setTimeout(() => { picture.src = run.picture(id, "thumbnail.jpg"); }, RESTS_MS);
  }
  return tip;
}
