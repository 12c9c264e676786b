"""Photograph the pipeline graph for the documentation: ``python docs/make_viz_screenshot.py [--data-root=FOLDER]``.

Starts kedro-viz and a headless Chromium on 127.0.0.1; both end with this script.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from headless_chromium import Page, find_chromium, free_port, wait
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
WIDTH_PX = 1600
VIEWS = (("pid=__default__&types=nodes", 760), ("pid=outliers&expandAllPipelines=true&sn=outlier_sheet", 640))
# Before kedro-viz' own code runs: what it stored on its first page, without introductions.
_TIDY = """(() => { const state = JSON.parse(localStorage.getItem('KedroViz') || 'null');
if (!state || !state.visible) return;
state.theme = 'light'; state.showFeatureHints = false; state.visible.sidebar = false; state.visible.miniMap = false;
localStorage.setItem('KedroViz', JSON.stringify(state)); })()"""


def photograph(url: str) -> Image.Image:
    """The whole graph, and below it a figure with its preview."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(folder, find_chromium())
        pictures = []
        try:
            page.open(url, ".pipeline-node", WIDTH_PX, 800)
            wait("kedro-viz' settings", lambda: page.evaluate("'KedroViz' in localStorage"))
            page.call("Page.enable")
            page.call("Page.addScriptToEvaluateOnNewDocument", source=_TIDY)
            for query, height_px in VIEWS:
                page.open(f"{url}/?{query}", ".pipeline-node", WIDTH_PX, height_px)
                time.sleep(6)
                page.evaluate("[...document.querySelectorAll('button')].find(b => b.innerText === 'Dismiss')?.click()")
                time.sleep(1)
                pictures.append(page.photograph())
        finally:
            page.close()
    whole = Image.new("RGB", (WIDTH_PX, sum(picture.height for picture in pictures)))
    for index, picture in enumerate(pictures):
        whole.paste(picture, (0, sum(each.height for each in pictures[:index])))
    return whole


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=PROJECT / "data")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs/images/kedro_viz.png")
    arguments = parser.parse_args()
    port = free_port()
    command = [sys.executable, PROJECT / "scripts/viz.py", f"--port={port}", f"--data-root={arguments.data_root}"]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait("answer from kedro-viz", lambda: urllib.request.urlopen(f"{url}/api/main").status == 200)
        picture = photograph(url)
    finally:
        server.terminate()
        server.wait()
    picture.quantize(256, Image.Quantize.FASTOCTREE).save(arguments.output, optimize=True)
    print(arguments.output)


if __name__ == "__main__":
    main()
