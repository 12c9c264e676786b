// Parts of the page: elements, messages, light and dark.

/** Make an element. Text is always set as text: names in the data are never taken for HTML. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list" && typeof value !== "string") made[name] = value;
    else made.setAttribute(name === "className" ? "class" : name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

let silence;

/** Say something at the page's corner, to screen readers too. */
export function say(text) {
  byId("said").textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { byId("said").textContent = ""; }, 6000);
}

export const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Follow the choice in the address, else that of the system. */
export function setTheme(theme) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").textContent = dark ? "Light" : "Dark";
  return dark ? "dark" : "light";
}

let drawing3D;

/** Plotly, which draws single synapses in space; it is large, and loaded when it is first needed. */
export function plotly() {
  drawing3D ??= new Promise((resolve, reject) => {
    const failed = () => { drawing3D = undefined; reject(new Error("The script that draws in three dimensions could not be loaded.")); };
    document.head.append(element("script", { src: "assets/plotly.min.js", onload: () => resolve(window.Plotly), onerror: failed }));
  });
  return drawing3D;
}

/** Hand a text to the user as a file. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** A list of synapses as thumbnails to click on. */
export function thumbnails(synapses, caption, pictureOf, onChoose) {
  return element("ol", { className: "thumbs" }, ...synapses.map((synapse) => {
    const picture = pictureOf
      ? element("img", { className: "picture", src: pictureOf(synapse.id), alt: "", loading: "lazy",
        onerror: (event) => event.target.replaceWith(element("span", { className: "picture" })) })
      : element("span", { className: "picture" });
    const button = element("button", { type: "button", onclick: () => onChoose(synapse.id), "data-synapse": synapse.id },
      picture, element("small", {}, synapse.id), element("small", {}, caption(synapse)));
    return element("li", {}, button);
  }));
}

/** Arrow keys move between the tabs, as the pattern for tabs asks for. */
export function wireTabs() {
  const tabs = [...document.querySelectorAll('.tabs [role="tab"]')];
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => showTab(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      showTab(next.getAttribute("aria-controls"));
      next.focus();
    });
  }
}

export function showTab(panel) {
  for (const tab of document.querySelectorAll('.tabs [role="tab"]')) {
    const chosen = tab.getAttribute("aria-controls") === panel;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
}
