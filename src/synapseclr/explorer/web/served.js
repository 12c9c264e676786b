// Not a module: it runs when the copy is opened by a double-click, where browsers refuse to load modules and data.
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    const folder = decodeURIComponent(location.pathname.replace(/\/[^/]*$/, "")).replace(/^\/([A-Za-z]:)/, "$1");
    const said = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const page = document.createElement("main");
    page.id = "not-served";
    page.append(said("h2", "This copy needs a web server"),
      said("p", "Browsers do not load the data of a page that is opened as a file. In a terminal, type"),
      said("pre", `python -m http.server --bind 127.0.0.1 8000 --directory "${folder}"`), said("p", "and open"),
      Object.assign(said("a", "http://127.0.0.1:8000/"), { href: `http://127.0.0.1:8000/${location.hash}` }),
      said("p", "Any other web server does, too: upload the folder as it is."));
    document.body.replaceChildren(page);
  });
}
