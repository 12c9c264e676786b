"""Look with axe at every page that people see: the explorer's states, the report, the documentation.

    make docs && python scripts/accessibility.py                       # all, of the outputs in data/; 15 minutes
    python scripts/accessibility.py --only=explorer --pictures=build/accessibility

Each page is opened light and dark and at three widths, in headless Chromium (``make system``). Serious and critical
findings, errors of scripts and requests to other hosts are listed; the exit status is 1 if there are any. Labels are
saved into a folder of its own, not beside the outputs. The tests do the same on a few pages.
"""

import argparse
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, sync_playwright
from playwright.sync_api import Error as PlaywrightError

PROJECT = Path(__file__).resolve().parents[1]
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
THEMES = ("light", "dark")
WIDTHS_PX = (390, 820, 1440)
HEIGHT_PX = 900
_SETTLED_MS = 1000  # the documentation's theme looks again at what can be scrolled
IMPACTS = ("serious", "critical")


@dataclass
class Sweep:
    """Finds problems of pages and collects them.

    Attributes:
        browser: A browser that runs.
        pictures: Folder for a screenshot of every page, theme and width; None: none.
        problems: One line each.
        n_looks: Pages by themes and widths so far.
    """

    browser: Browser
    pictures: Path | None = None
    problems: list[str] = field(default_factory=list)
    n_looks: int = 0

    def open(self, name: str, address: str, theme: str, width_px: int = WIDTHS_PX[-1]) -> Page:
        """A page whose faults are listed under a name."""
        size = {"width": width_px, "height": HEIGHT_PX}
        page = self.browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce").new_page()
        page.set_default_timeout(30_000)

        def listed(what: str) -> None:
            self.problems.append(f"{name} ({theme}): {what}")

        page.on("pageerror", lambda error: listed(f"error of a script: {error}"))
        page.on("console", lambda said: listed(f"console: {said.text}") if said.type == "error" else None)
        page.on("requestfailed", lambda asked: None if _was_left(asked) else listed(f"not found: {asked.url}"))
        page.on("request", lambda asked: None if _is_here(asked.url) else listed(f"asks for {asked.url}"))
        page.goto(address)
        return page

    def look(self, page: Page, name: str, theme: str) -> None:
        """Run axe on the page as it is."""
        width_px = page.viewport_size["width"]
        self.n_looks += 1
        if self.pictures is not None:
            page.screenshot(path=self.pictures / f"{name.replace('/', '-')}_{theme}_{width_px}.png")
        for rule in Axe().run(page, options={"preload": False}).response["violations"]:
            if rule["impact"] in IMPACTS:
                node = rule["nodes"][0]
                what = f"{rule['id']} ({rule['impact']}, {len(rule['nodes'])} elements): {node['html'][:160]}"
                reasons = "; ".join(each["message"] for each in (*node["any"], *node["all"], *node["none"]))
                self.problems.append(f"{name} ({theme}, {width_px} px): {what} {reasons[:240]}")

    def look_at_widths(self, name: str, address: str) -> None:
        """Run axe on a page that needs nothing done, light and dark, at every width."""
        for theme in THEMES:
            page = self.open(name, address, theme)
            for width_px in WIDTHS_PX:
                page.set_viewport_size({"width": width_px, "height": HEIGHT_PX})
                page.wait_for_timeout(_SETTLED_MS)
                self.look(page, name, theme)
            page.context.close()


def _was_left(request: Request) -> bool:
    """True if the page was left before the answer came."""
    return "ERR_ABORTED" in (request.failure or "")


def _is_here(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "about:"))


def look_at_files(sweep: Sweep, pages: Iterator[Path], root: Path) -> None:
    """Look at pages that lie in files."""
    for path in pages:
        name = path.relative_to(root).with_suffix("").as_posix()
        sweep.look_at_widths(name, path.as_uri())
        print(f"{name}: {len(sweep.problems)} problems so far", flush=True)


class ExplorerStates:
    """Brings the explorer into each of its states.

    Args:
        synapse_ids: Synapses of the run.
    """

    def __init__(self, synapse_ids: list[str]) -> None:
        self._first, *_ = self._ids = synapse_ids
        self.states: dict[str, tuple[str, Callable[[Page], None] | None]] = {
            "map": ("", None),
            "map in 3D": ("plane=UMAP in 3D", None),
            "appearance and list": ("colour=outlier_score", self._open_settings),
            "filters": ("filter=outlier_score~0~1&filter=cluster~0&filter=pre_cell_type~0", self._show_drawer),
            "details": (f"synapse={self._first}", self._open_details),
            "why similar": (f"synapse={self._first}", self._ask_why),
            "summary": ("", self._select_all),
            "gallery": (f"ids={'.'.join(self._ids[:30])}", self._open_gallery),
            "similar to a set": (f"ids={'.'.join(self._ids[:5])}", self._search_from_set),
            "neurite": (f"synapse={self._first}", self._open_neurite),
            "labels": (f"ids={'.'.join(self._ids[:5])}", self._save_label),
            "comparison": (f"compare={'.'.join(self._ids[:3])}", self._compare),
            "axis walk": ("", self._walk),
            "failure": ("", self._fail),
            "help": ("", self._help),
        }

    def go(self, page: Page, name: str, address: str, theme: str) -> None:
        """Open a state on a page."""
        hash_, act = self.states[name]
        page.goto("about:blank")
        page.goto(f"{address}#theme={theme}&{hash_}")
        page.wait_for_selector("html[data-ready=true]")
        if act is not None:
            act(page)
        page.wait_for_timeout(300)

    @staticmethod
    def _is_narrow(page: Page) -> bool:
        return page.viewport_size["width"] <= 1000

    def _show_drawer(self, page: Page) -> None:
        if self._is_narrow(page):
            page.locator("#show-controls").click()

    def _show_sheet(self, page: Page, tab: str) -> None:
        page.locator(f"#tab-{tab}").click() if not self._is_narrow(page) else page.evaluate(
            f"document.getElementById('tab-{tab}').click()"
        )

    def _open_settings(self, page: Page) -> None:
        self._show_drawer(page)
        page.locator("#appearance summary").click()
        page.locator("#browse summary").click()
        page.locator("#list button").first.wait_for()

    def _open_details(self, page: Page) -> None:
        page.wait_for_selector("canvas[data-drawn=true]")
        self._show_sheet(page, "synapse")
        page.evaluate("for (const each of document.querySelectorAll('#synapse details')) each.open = true")
        page.wait_for_selector(".scene[data-state=drawn]")

    def _ask_why(self, page: Page) -> None:
        page.wait_for_selector("canvas[data-drawn=true]")
        self._show_sheet(page, "synapse")
        page.locator("#why-of option").nth(1).wait_for(state="attached")
        page.locator("#why-of").select_option(index=1)
        page.locator("#why").get_by_text("Nearer than").wait_for()

    def _select_all(self, page: Page) -> None:
        self._show_drawer(page)
        page.locator("#select-shown").click()
        if self._is_narrow(page):
            page.locator("#show-controls").click()
        page.wait_for_selector("#summary table", state="attached")
        self._show_sheet(page, "selection")

    def _open_gallery(self, page: Page) -> None:
        page.wait_for_selector("#summary table", state="attached")
        self._show_sheet(page, "selection")
        page.locator("#gallery [data-tick=yes]").first.scroll_into_view_if_needed()
        page.locator("#gallery [data-tick=yes]").first.click()

    def _search_from_set(self, page: Page) -> None:
        page.wait_for_selector("#summary table", state="attached")
        self._show_sheet(page, "selection")
        page.locator("#find-similar").click()
        page.wait_for_selector("#found .thumbs button")

    def _open_neurite(self, page: Page) -> None:
        page.wait_for_selector("canvas[data-drawn=true]")
        self._show_sheet(page, "synapse")
        page.locator("#synapse a.root").first.click()
        page.locator("#neuron-colour").click()

    def _save_label(self, page: Page) -> None:
        page.wait_for_selector("#summary table", state="attached")
        self._show_sheet(page, "selection")
        page.locator("#label").fill("dark cytoplasm")
        page.locator("#save-label").click()
        page.locator("#said").get_by_text("Saved:").wait_for()
        self._show_sheet(page, "labels")
        page.locator("#labels-used").get_by_text("dark cytoplasm").wait_for()

    def _compare(self, page: Page) -> None:
        page.locator("#open-comparison").click()
        page.wait_for_selector("#trait-differences")

    def _walk(self, page: Page) -> None:
        page.keyboard.press("w")
        box = page.locator("#plot").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.85 * box["width"], box["y"] + 0.4 * box["height"], steps=5)
        page.mouse.up()
        page.wait_for_selector("#walk li button")

    def _fail(self, page: Page) -> None:
        page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('Failed to fetch')); }")
        self._show_drawer(page)
        page.locator("#colour").select_option("outlier_score")
        page.locator("#failure button").first.wait_for()

    def _help(self, page: Page) -> None:
        page.keyboard.press("?")
        page.locator("#help[open]").wait_for()


def look_at_explorer(sweep: Sweep, data_root: str, env: str | None, only: str) -> None:
    """Look at the states of the explorer over a run's outputs."""
    from synapseclr.commands.explore import load_outputs
    from synapseclr.explorer.label_tables import LabelTables
    from synapseclr.explorer.web_server import create_app, make_explorer_server

    with tempfile.TemporaryDirectory() as folder:
        outputs = replace(load_outputs(env, f"data_root={data_root}"), labels=LabelTables(folder))
        server = make_explorer_server(create_app(outputs), 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.port}/"
        states = ExplorerStates([str(each) for each in outputs.synapse_id])
        for theme in THEMES:
            for width_px in WIDTHS_PX:
                page = sweep.open("explorer", address, theme, width_px)
                for name in states.states:
                    if only not in name:
                        continue
                    try:
                        states.go(page, name, address, theme)
                    except PlaywrightError as error:
                        sweep.problems.append(f"{name} ({theme}, {width_px} px): not reached: {str(error)[:300]}")
                    sweep.look(page, f"explorer, {name}", theme)
                page.context.close()
                print(f"explorer, {theme}, {width_px} px: {len(sweep.problems)} problems so far", flush=True)
        server.shutdown()


def main() -> int:
    """Look at everything that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("explorer", "report", "docs"), help="look at these pages alone")
    parser.add_argument("--named", default="", help="of the pages or states, those with this in their name")
    parser.add_argument("--data-root", default=str(PROJECT / "data"), help="outputs of a run")
    parser.add_argument("--env", default=None, help="environment of the outputs")
    parser.add_argument("--site", type=Path, default=PROJECT / "build/site", help="the built documentation")
    parser.add_argument("--pictures", type=Path, default=None, help="folder for screenshots")
    arguments = parser.parse_args()
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("There is no Chromium here: `make system` installs it.")
    with sync_playwright() as playwright:
        sweep = Sweep(playwright.chromium.launch(executable_path=path, args=SOFTWARE_WEBGL), arguments.pictures)
        if arguments.only in (None, "explorer"):
            look_at_explorer(sweep, arguments.data_root, arguments.env, arguments.named)
        if arguments.only in (None, "report"):
            folder = Path(arguments.data_root, "08_reporting").resolve()
            look_at_files(sweep, iter([folder / "report.html"]), folder)
        if arguments.only in (None, "docs"):
            site = arguments.site.resolve()
            found = [page for page in site.rglob("*.html") if arguments.named in page.as_posix()]
            pages = sorted(page for page in found if page.name != "404.html")  # its addresses are a server's
            look_at_files(sweep, iter(pages), site)
        sweep.browser.close()
    print("\n".join(dict.fromkeys(sweep.problems)) or "No serious finding.")
    print(f"{sweep.n_looks} pages, {len(sweep.problems)} problems")
    return bool(sweep.problems)


if __name__ == "__main__":
    sys.exit(main())
