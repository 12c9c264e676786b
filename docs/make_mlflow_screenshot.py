"""Photograph MLflow's own pages for the README: ``python docs/make_mlflow_screenshot.py --sweep=NAME``.

Shows two combinations of a sweep (``kedro sweep``) with their curves overlaid, and below them all combinations in
parallel coordinates. Needs Chromium (Debian: ``chromium``) and what ``make setup`` installs. Server and browser listen
on 127.0.0.1 only, and end with this script.
"""

import argparse
import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import mlflow
import websocket
from mlflow.entities import Run
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
WIDTH_PX, CHARTS_HEIGHT_PX, COORDINATES_HEIGHT_PX = 1500, 640, 600
CHARTS = "validation_loss|effective_rank|knn_post"
AXES = ("pretraining/effective_rank", "pretraining/knn_post_cell_type")
PATIENCE_S = 180


def wait(what: str, is_there: Callable[[], object]) -> object:
    """Ask until the answer is true; say what is missing when it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if answer := is_there():
                return answer
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"No {what} after {PATIENCE_S} s.")


@contextmanager
def server(tracking_uri: str) -> Iterator[str]:
    """MLflow on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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


class Page:
    """One page of a headless Chromium, driven over the DevTools protocol."""

    def __init__(self, folder: str, executable: str) -> None:
        options = ["--headless=new", "--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking"]
        options += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        self._browser = subprocess.Popen(
            [executable, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file = Path(folder, "DevToolsActivePort")
        wait("Chromium", lambda: port_file.exists() and port_file.read_text().count("\n"))
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            target = next(each for each in json.load(answer) if each["type"] == "page")
        self._socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=PATIENCE_S)
        self._n_calls = 0

    def call(self, method: str, **parameters: object) -> dict:
        """Call a method of the protocol."""
        self._n_calls += 1
        self._socket.send(json.dumps({"id": self._n_calls, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._n_calls:
            pass
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']}")
        return answer["result"]

    def evaluate(self, javascript: str) -> object:
        """The value of an expression."""
        return self.call("Runtime.evaluate", expression=javascript, returnByValue=True)["result"].get("value")

    def count(self, selector: str) -> int:
        """How many elements there are."""
        return int(self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length") or 0)

    def open(self, url: str, selector: str, height_px: int) -> None:
        """Open a page, wait for an element, and put MLflow's assistant, menu and chart buttons away."""
        size = {"width": WIDTH_PX, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        wait(f"{selector} at {url}", lambda: self.count(selector))
        time.sleep(2)
        self.evaluate("document.head.insertAdjacentHTML('beforeend', '<style>.modebar {display: none}</style>')")
        self.click("[data-component-id='mlflow.assistant.chat_panel.close']", optional=True)
        if self.evaluate("document.body.innerText.includes('AI Gateway')"):
            self.click("[data-component-id='mlflow_header.toggle_sidebar_button']", optional=True)

    def click(self, selector: str, optional: bool = False) -> None:
        """Click an element with the mouse: some of MLflow's widgets ignore a script's click."""
        if not optional:
            wait(selector, lambda: self.count(selector))
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        if box is None:
            return
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        time.sleep(1)

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)
        time.sleep(1)

    def press(self, key: str, code: int) -> None:
        """Press a key, by its name and its virtual key code."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        time.sleep(1)

    def photograph(self) -> Image.Image:
        """The page as it is shown."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return Image.open(io.BytesIO(data)).convert("RGB")

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._browser.terminate()
        self._browser.wait()


def overlay(page: Page, url: str, experiment_id: str, runs: list[Run]) -> Image.Image:
    """The charts of some runs."""
    listed = ",".join(f"'{run.info.run_id}'" for run in runs)
    query = quote(f"attributes.run_id IN ({listed})")
    search = "input[placeholder='Search metric charts']"
    page.open(
        f"{url}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART&searchFilter={query}", search, CHARTS_HEIGHT_PX
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
    page.open(address, ".parcoords", COORDINATES_HEIGHT_PX)
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
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    arguments = parser.parse_args()
    if arguments.chromium is None:
        raise SystemExit("There is no Chromium here: install it, or name it by --chromium.")

    client = mlflow.MlflowClient(arguments.tracking_uri)
    experiment_id = client.get_experiment_by_name("synapseclr").experiment_id
    runs = client.search_runs([experiment_id], f"tags.sweep = '{arguments.sweep}' and status = 'FINISHED'")
    runs = [run for run in runs if "sweep_combination" in run.data.tags]
    if len(runs) < 2:
        raise SystemExit(f"The sweep '{arguments.sweep}' has {len(runs)} finished combinations, two are needed.")
    with server(arguments.tracking_uri) as url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(folder, arguments.chromium)
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
