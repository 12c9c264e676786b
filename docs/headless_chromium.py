"""A headless Chromium, driven over the DevTools protocol, for the scripts that photograph pages.

Needs Chromium (Debian: ``chromium``). The browser ends with the page.
"""

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import websocket
from PIL import Image

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


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_chromium() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("There is no Chromium here: install it (Debian: apt install chromium).")
    return found


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

    def open(self, url: str, selector: str, width_px: int, height_px: int) -> None:
        """Open a page and wait for an element."""
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        wait(f"{selector} at {url}", lambda: self.count(selector))
        time.sleep(2)

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
