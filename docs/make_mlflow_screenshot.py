"""Photograph MLflow's own pages for the README: ``python docs/make_mlflow_screenshot.py --sweep=NAME``.

Shows two combinations of a sweep (``kedro sweep``) with their curves overlaid, and below them all combinations in
parallel coordinates. Needs Chromium (Debian: ``chromium``) and what ``make setup`` installs. Server and browser listen
on 127.0.0.1 only, and end with this script.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import mlflow
from headless_chromium import Page, find_chromium, free_port, wait
from mlflow.entities import Run
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
WIDTH_PX, CHARTS_HEIGHT_PX, COORDINATES_HEIGHT_PX = 1500, 640, 600
CHARTS = "validation_loss|effective_rank|knn_post"
AXES = ("pretraining/effective_rank", "pretraining/knn_post_cell_type")


@contextmanager
def server(tracking_uri: str) -> Iterator[str]:
    """MLflow on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    process = subprocess.Popen(
        [*command, f"--backend-store-uri={tracking_uri}"],
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait("answer from MLflow", lambda: urllib.request.urlopen(f"{url}/health").status == 200)
        yield url
    finally:
        process.terminate()
        process.wait()


def open_mlflow(page: Page, url: str, selector: str, height_px: int) -> None:
    """Open a page of MLflow, and put its assistant, menu and chart buttons away."""
    page.open(url, selector, WIDTH_PX, height_px)
    page.evaluate("document.head.insertAdjacentHTML('beforeend', '<style>.modebar {display: none}</style>')")
    page.click("[data-component-id='mlflow.assistant.chat_panel.close']", optional=True)
    if page.evaluate("document.body.innerText.includes('AI Gateway')"):
        page.click("[data-component-id='mlflow_header.toggle_sidebar_button']", optional=True)


def overlay(page: Page, url: str, experiment_id: str, runs: list[Run]) -> Image.Image:
    """The charts of some runs."""
    listed = ",".join(f"'{run.info.run_id}'" for run in runs)
    query = quote(f"attributes.run_id IN ({listed})")
    search = "input[placeholder='Search metric charts']"
    open_mlflow(
        page,
        f"{url}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART&searchFilter={query}",
        search,
        CHARTS_HEIGHT_PX,
    )
    page.click("[data-component-id$='runnamecellrenderer.tsx_46']", optional=True)  # unfold the sweep
    page.click(search)
    page.write(CHARTS)
    wait("charts with a line for each run", lambda: page.count(".js-plotly-plot .scatterlayer .trace") >= 2 * len(runs))
    time.sleep(5)
    return page.photograph()


def parallel_coordinates(page: Page, url: str, experiment_id: str, runs: list[Run]) -> Image.Image:
    """MLflow's comparison of runs, with the parameters that differ and the metrics in AXES."""
    listed = quote(json.dumps([run.info.run_id for run in runs], separators=(",", ":")))
    address = f"{url}/#/compare-runs?runs={listed}&experiments={quote(json.dumps([experiment_id]))}"
    open_mlflow(page, address, ".parcoords", COORDINATES_HEIGHT_PX)
    selects = "document.querySelectorAll('.ant-select-multiple, [class*=select-multiple]')"
    wait("the choice of metrics", lambda: page.evaluate(f"{selects}.length >= 2"))
    page.evaluate(f"{selects}[1].id = 'metrics-choice'")
    while page.count("#metrics-choice [class*=selection-item-remove]"):
        page.click("#metrics-choice [class*=selection-item-remove]")
    for metric in AXES:
        page.click("#metrics-choice input")
        page.write(metric)
        page.press("Enter", 13)
        page.press("Escape", 27)
    wait("an axis for every choice", lambda: page.count(".parcoords .y-axis") >= len(AXES) + 1)
    time.sleep(3)
    return page.photograph()


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{PROJECT}/mlflow.db")
    parser.add_argument("--tracking-uri", default=default)
    parser.add_argument("--sweep", required=True, help="a sweep with two combinations or more")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs/images/mlflow.png")
    parser.add_argument("--chromium", help="where Chromium is")
    arguments = parser.parse_args()

    client = mlflow.MlflowClient(arguments.tracking_uri)
    experiment_id = client.get_experiment_by_name("synapseclr").experiment_id
    runs = client.search_runs([experiment_id], f"tags.sweep = '{arguments.sweep}' and status = 'FINISHED'")
    runs = [run for run in runs if "sweep_combination" in run.data.tags]
    if len(runs) < 2:
        raise SystemExit(f"The sweep '{arguments.sweep}' has {len(runs)} finished combinations, two are needed.")
    with server(arguments.tracking_uri) as url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(folder, arguments.chromium or find_chromium())
        try:
            pictures = [
                overlay(page, url, experiment_id, [runs[0], runs[-1]]),
                parallel_coordinates(page, url, experiment_id, runs),
            ]
        finally:
            page.close()
    whole = Image.new("RGB", (WIDTH_PX, sum(picture.height for picture in pictures)))
    for index, picture in enumerate(pictures):
        whole.paste(picture, (0, sum(each.height for each in pictures[:index])))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    whole.quantize(256, Image.Quantize.FASTOCTREE).save(arguments.output, optimize=True)
    print(arguments.output)


if __name__ == "__main__":
    main()
