"""Seconds that a tracking server which dies, hangs or is away costs a training.

    python benchmarks/mlflow_outage.py --work=/tmp/outage

Trains the test environment's tiny encoder for 40 epochs with a real `mlflow server` on 127.0.0.1, each time in a
process of its own: without MLflow; with a database on this machine; with a server that lives; with one that is killed,
and one that is stopped (it accepts connections and never answers), when the first epoch has ended; and with one that is
back before the end, of ten times as many epochs. Prints one row a scenario: exit status, seconds from the command's
start to its end, from the end of the first epoch and of the last one to the end, whether weights and history are
there, epochs in MLflow, and whether something was kept for later. At last the kept entries are sent by the command
that the run names, and a server that is away from the start is timed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
SCENARIOS = ("off", "local", "alive", "killed", "hangs", "back")


@dataclass
class Server:
    """A real tracking server, with a database in a folder."""

    folder: Path
    port: int = 0
    process: subprocess.Popen | None = field(default=None)

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, waits: bool = True) -> None:
        """Start it, at the same address if it ran before, and, as a rule, wait until it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self.port}", "--workers=1"]
        command += [f"--backend-store-uri=sqlite:///{self.folder}/server.db"]
        command += [f"--artifacts-destination={self.folder}/artifacts", "--serve-artifacts"]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder)
        deadline = time.monotonic() + 120
        while waits and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).read()
                return
            except OSError:
                time.sleep(0.3)
        if waits:
            raise RuntimeError(f"the server did not start: {self.folder}/server.log")

    def send_signal(self, number: int) -> None:
        """To the server and its workers, which are a process group of their own."""
        if self.process is not None:
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def variables(server: Server | str | None) -> dict[str, str]:
    """The environment of a run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    uri = server.uri if isinstance(server, Server) else server
    own = {"MLFLOW_TRACKING_URI": uri} if uri is not None else {"SYNAPSECLR_TRACKING": "off"}
    return kept | own | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


def kedro(*arguments: str, server: Server | str | None = None, on_epoch_1=lambda: None) -> tuple[int, list[float], str]:
    """Run Kedro; return exit status, seconds since the start, the first and the last epoch's end, and output."""
    started = [time.monotonic()]
    command = [sys.executable, "-m", "kedro", *arguments]
    process = subprocess.Popen(
        command, cwd=PROJECT, env=variables(server), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"Epoch (\d+) of (\d+):", line):
            is_last = found[1] == found[2]
            if found[1] == "1" or is_last:
                started.append(time.monotonic())
            if found[1] == "1":
                on_epoch_1()
    status = process.wait()
    return status, [round(time.monotonic() - moment, 1) for moment in started], "".join(lines)


def train(scenario: str, work: Path, data: Path, epochs: int) -> dict[str, object]:
    """Train once; return the row."""
    results = work / scenario
    shutil.rmtree(results, ignore_errors=True)
    server = None if scenario in ("off", "local") else Server(results / "server")
    if server is not None:
        server.start()
    actions = {
        "killed": lambda: server.stop(),
        "hangs": lambda: server.send_signal(signal.SIGSTOP),
        "back": lambda: (server.stop(), server.start(waits=False)),
    }
    uri = f"sqlite:///{results}/mlflow.db" if scenario == "local" else server and server.uri
    epochs = 10 * epochs if scenario == "back" else epochs
    params = f"data_root={data},results_root={results},pretraining.epochs={epochs}"
    try:
        status, seconds, output = kedro(
            *("run", "--env=test", "--pipeline=pretraining", f"--params={params}"),
            server=uri,
            on_epoch_1=actions.get(scenario, lambda: None),
        )
    except BaseException:
        if server is not None:
            server.stop()
        raise
    (results / "output.txt").write_text(output)
    if server is not None and scenario == "hangs":
        server.send_signal(signal.SIGCONT)
    if server is not None and scenario == "killed":
        server.start()
    row: dict[str, object] = {
        "scenario": scenario,
        "exit": status,
        "seconds": seconds[0],
        "after epoch 1": seconds[1] if len(seconds) > 1 else None,
        "after the last": seconds[-1],
        "weights": (results / "06_models/encoder_weights.safetensors").exists(),
        "history": (results / "06_models/training_history.parquet").exists(),
        "warnings": output.count("WARNING"),
        "kept": len(list((results / "08_reporting/mlflow_unsent").glob("*.json"))),
        "epochs in MLflow": n_epochs(uri),
    }
    if row["kept"]:
        sent, _, told = kedro("synapseclr", "mlflow", "send", f"{results}/08_reporting/mlflow_unsent", server=server)
        row |= {"send": sent, "epochs afterwards": n_epochs(uri), "state": state(uri)}
        (results / "sent.txt").write_text(told)
    if server is not None:
        server.stop()
    return row


def _only_run(uri: str) -> tuple[Any, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("synapseclr")
    return client, client.search_runs([experiment.experiment_id])[0]


def n_epochs(uri: str | None) -> int:
    """Epochs of the only run whose loss MLflow has."""
    if uri is None:
        return 0
    client, run = _only_run(uri)
    return len({m.step for m in client.get_metric_history(run.info.run_id, "pretraining/train_loss")})


def state(uri: str) -> str:
    """Status of the only run."""
    return str(_only_run(uri)[1].info.status)


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="Folder for everything that is written.")
    parser.add_argument("--data-root", type=Path, help="Outputs of an earlier `kedro run --env=test` to train on.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--repeats", type=int, default=1, help="Rounds over the scenarios: other programs make noise.")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = options.data_root or work / "data"
    if options.data_root is None:
        for pipeline in ("simulation", "preprocessing"):
            status, _, output = kedro("run", "--env=test", f"--pipeline={pipeline}", f"--params=data_root={data}")
            if status:
                raise SystemExit(output)
    for scenario in options.scenarios * options.repeats:
        print(train(scenario, work, data, options.epochs), flush=True)
    away = Server(work / "nowhere", port=9)  # nothing listens there
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for name, server in {
            "away at the start": away,
            "hangs at the start": Server(work, silent.getsockname()[1]),
        }.items():
            status, seconds, output = kedro("run", "--env=test", "--pipeline=pretraining", server=server)
            (work / f"{name.replace(' ', '_')}.txt").write_text(output)
            print({"scenario": name, "exit": status, "seconds": seconds[0]}, flush=True)


if __name__ == "__main__":
    main()
