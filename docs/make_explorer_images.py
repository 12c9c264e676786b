"""Photograph the explorer for its tour: ``python docs/make_explorer_images.py --data-root=data``.

Serves a run's outputs on a free port, drives headless Chromium (``make system``), and writes ``docs/images/explorer``.
No labels are saved.
"""

import argparse
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from synapseclr.commands.explore import load_outputs
from synapseclr.explorer.run_outputs import RunOutputs
from synapseclr.explorer.web_server import create_app, make_explorer_server
from synapseclr.plotting.renders import render_sheet

IMAGES = Path(__file__).parent / "images/explorer"
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
N_RENDERED = 12


def shoot(page: Page, name: str) -> None:
    """Save what the page shows, as it is: a palette would change the colours of the scale."""
    page.wait_for_function("[...document.querySelectorAll('.thumbs img')].slice(0, 16).every((img) => img.complete)")
    page.wait_for_timeout(1200)
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / name)
    Image.open(IMAGES / name).convert("RGB").save(IMAGES / name, optimize=True)


def tour(page: Page, address: str, outputs: RunOutputs) -> None:
    """Walk through the page."""

    def go(hash_: str) -> None:
        page.goto("about:blank")
        page.goto(f"{address}#{hash_}")
        page.wait_for_selector("html[data-ready=true]")

    names = list(outputs.columns)
    score = "outlier_score" if "outlier_score" in names else names[0]
    worst = int(np.nanargmax(outputs.columns[score].values_n))
    typical = int(np.nanargmin(np.abs(outputs.columns[score].values_n - np.nanmedian(outputs.columns[score].values_n))))
    go("theme=light")
    shoot(page, "map.png")
    go(f"theme=light&synapse={outputs.synapse_id[typical]}")
    page.locator("#shape summary").click()
    page.wait_for_selector(".scene[data-state=drawn]")
    page.set_viewport_size({"width": 1300, "height": 1150})
    shoot(page, "synapse.png")
    page.set_viewport_size({"width": 1300, "height": 850})
    page.evaluate("sessionStorage.clear()")
    plane = outputs.planes[next(iter(outputs.planes))]
    reach = 0.09 * np.ptp(plane, axis=0)
    corners = [plane[worst] + reach * np.array(way) for way in ((-1, -0.7), (0.8, -1), (1, 0.9), (-0.6, 1))]
    lasso = ";".join(f"{x:.4f},{y:.4f}" for x, y in corners)
    go(f"theme=light&colour={score}&lasso={lasso}")
    page.locator("#find-defective").click()
    page.wait_for_selector("#found .thumbs button")
    shoot(page, "selection.png")
    go(f"theme=dark&colour={score}&synapse={outputs.synapse_id[worst]}")
    shoot(page, "dark.png")


def main() -> None:
    """Make the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--env", default=None)
    arguments = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    outputs = replace(load_outputs(arguments.env, f"data_root={arguments.data_root}"), title="demo")
    assert outputs.chunks is not None
    server = make_explorer_server(create_app(outputs), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=SOFTWARE_WEBGL)
        page = browser.new_page(viewport={"width": 1300, "height": 850})
        tour(page, f"http://127.0.0.1:{server.port}/", outputs)
        browser.close()
    chosen = np.linspace(0, len(outputs.chunks) - 1, N_RENDERED).astype(int).tolist()
    chunks = (outputs.chunks.read([position])[0] for position in chosen)
    titles = [str(outputs.chunks.synapse_id[position]) for position in chosen]
    render_sheet(chunks, outputs.chunks.voxel_size_nm, titles).savefig(IMAGES / "renders.png", dpi=150)


if __name__ == "__main__":
    main()
