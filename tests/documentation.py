"""What the documentation tells a reader to type, and how the tests type it."""

import os
import re
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
MAKE = ["make", f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.ready"]  # the environment of the tests is set up


def code_blocks(page: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language, those in lists included, without their indentation."""
    fenced = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", (PROJECT / page).read_text(), re.S | re.M)
    return [textwrap.dedent(text) for _, written_in, text in fenced if written_in == language]


def commands(page: str) -> list[str]:
    """The command lines of a page, without comments."""
    lines = [line.split(" #")[0].strip() for block in code_blocks(page) for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def shell_variables(**more: str) -> dict[str, str]:
    """Variables of a shell in which the environment is active, as the pages ask for."""
    mlflow = ("MLFLOW_TRACKING_URI", "MLFLOW_ARTIFACT_ROOT")
    inherited = {name: value for name, value in os.environ.items() if name not in mlflow}
    return inherited | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])} | more


@contextmanager
def serving(command: list[str], page: str, log: Path, **options):
    """A server's answer to one request; the command gets a free port, and is stopped afterwards.

    Args:
        command: Its words. ``{port}`` in a word becomes the port.
        page: Path of the page that is asked for.
        log: File for what it prints.
        **options: Of subprocess.Popen.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [word.replace("{port}", str(port)) for word in command]
    with log.open("w") as stream:
        server = subprocess.Popen(line, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield _first_answer(server, f"http://127.0.0.1:{port}/{page}", log)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _first_answer(server: subprocess.Popen, address: str, log: Path) -> str:
    for _ in range(360):
        assert server.poll() is None, f"{server.args} ended: {log.read_text()}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"{server.args} does not answer at {address}: {log.read_text()}")
