"""All analyses of embeddings beyond memory: seconds and memory of every node, at any number of synapses.

Run ``python benchmarks/scale.py --synapses=1000000 --folder=/path``. It runs the documented command, ``kedro run
--pipelines=simulated_embeddings,analysis_without_images``, as a user does, and watches its processes from outside: at
every line of the log that names a node, their CPU seconds so far; twenty times a second, their resident memory. The
figures go to ``benchmarks/results/scale.json``, beside those of other sizes. ``python benchmarks/scale.py --table``
prints what those of a million and of ten million say together: the seconds that do not grow, those that do, and what
that makes of 337 million; and runs of 100,000 side by side.

"100000 in memory, before" is of commit 42524f4 with the former settings: all features in memory
(``--params=in_memory=true``), no condensed models below a million synapses
(``imputation.gaussian_processes.condense_from=1000000000``), the detection of defects measured on all. "100000", block
by block, is of 6cbecf4; "100000 in memory" of 7118183, which changed what is done in memory only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

RESULTS = Path(__file__).parent / "results" / "scale.json"
_NODE = re.compile(r"Node \d+ of \d+, (\w+): ([\w.]+)")
_POLL_S = 0.05
_SIDE_BY_SIDE = ("100000 in memory, before", "100000 in memory", "100000")
_SETTINGS = {"in_memory": "false", "simulation.embeddings.n_annotated": "1500"}


class Watch:
    """CPU seconds and resident memory of a process and all that it starts.

    Args:
        process: The run.
    """

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self._cpu: dict[int, float] = {}
        self.highest: dict[int, float] = {}  # VmHWM by process
        self.peak_of_node = 0.0
        self.peak = 0.0
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def cpu_seconds(self) -> float:
        """User and system seconds of all processes so far."""
        self._look()
        return sum(self._cpu.values())

    def stop(self) -> None:
        """End polling."""
        self._ended.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._ended.wait(_POLL_S):
            self._look()

    def _look(self) -> None:
        resident = 0.0
        try:
            processes = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system
                status = Path(f"/proc/{process.pid}/status").read_text()
            except (psutil.Error, OSError):
                continue
            found = {name: 1024.0 * float(value) for name, value in re.findall(r"(VmHWM|VmRSS):\s+(\d+) kB", status)}
            resident += found.get("VmRSS", 0.0)
            self.highest[process.pid] = max(self.highest.get(process.pid, 0.0), found.get("VmHWM", 0.0))
        self.peak_of_node = max(self.peak_of_node, resident)
        self.peak = max(self.peak, resident)


def run(arguments: list[str], log: Path) -> dict[str, Any]:
    """Run a command of Kedro and measure its nodes.

    Args:
        arguments: After ``kedro``.
        log: File for what it prints.

    Returns:
        ``nodes``, a list of ``pipeline``, ``node``, ``cpu_seconds``, ``wall_seconds`` and ``peak_bytes``; totals; the
        exit code.
    """
    environment = os.environ | {"COLUMNS": "400", "PYTHONUNBUFFERED": "1", "SYNAPSECLR_TRACKING": "off"}
    command = [sys.executable, "-m", "kedro", *arguments]
    started = time.monotonic()
    with log.open("w") as written:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        watch = Watch(psutil.Process(process.pid))
        nodes: list[dict[str, Any]] = []
        begun = (0.0, started)

        def close() -> None:
            if nodes:
                nodes[-1] |= {
                    "cpu_seconds": round(watch.cpu_seconds() - begun[0], 2),
                    "wall_seconds": round(time.monotonic() - begun[1], 2),
                    "peak_bytes": int(watch.peak_of_node),
                }

        for line in process.stdout:
            written.write(line)
            written.flush()
            if match := _NODE.search(line):
                close()
                begun, watch.peak_of_node = (watch.cpu_seconds(), time.monotonic()), 0.0
                nodes.append({"pipeline": match[1], "node": match[2]})
        close()
        total = watch.cpu_seconds()
        watch.stop()
        code = process.wait()
    return {
        "nodes": nodes,
        "cpu_seconds": round(total, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
        "highest_vmhwm_bytes": int(max(watch.highest.values(), default=0)),
        "peak_bytes_of_all_processes": int(watch.peak),
        "exit_code": code,
    }


def stored_bytes(folder: Path) -> dict[str, int]:
    """Bytes of the greatest outputs by name; files with two names count once."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inode = path.stat().st_ino
        if inode not in seen:
            seen.add(inode)
            part = path.relative_to(folder).parts
            name = "/".join(part[: 1 + next((n for n, each in enumerate(part) if each.endswith(".zarr")), 1)])
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1])[:20])


def by_pipeline(nodes: list[dict[str, Any]], n_synapses: int) -> dict[str, float]:
    """CPU microseconds a synapse by pipeline."""
    seconds: dict[str, float] = {}
    for node in nodes:
        seconds[node["pipeline"]] = seconds.get(node["pipeline"], 0.0) + node["cpu_seconds"]
    return {name: round(1e6 * value / n_synapses, 2) for name, value in seconds.items()}


def side_by_side(runs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Seconds and greatest memory of several runs by pipeline."""
    how = {"cpu_seconds": "sum", "wall_seconds": "sum", "peak_bytes": "max"}
    found = {name: pd.DataFrame(each["nodes"]).groupby("pipeline", sort=False).agg(how) for name, each in runs.items()}
    return pd.concat(found, axis=1)


def table(small: dict[str, Any], large: dict[str, Any], n_synapses: int = 337_000_000) -> pd.DataFrame:
    """Figures of two sizes by pipeline, and CPU seconds as ``fixed + n * growing``, the line through both."""
    joined = side_by_side({f"{each['n_synapses'] // 1_000_000} million": each for each in (small, large)})
    first, second = (joined[name] for name in joined.columns.unique(0))
    growing = (second["cpu_seconds"] - first["cpu_seconds"]) / (large["n_synapses"] - small["n_synapses"])
    fixed = (first["cpu_seconds"] - growing * small["n_synapses"]).clip(lower=0.0)
    return joined.assign(
        fixed_s=fixed, growing_us=1e6 * growing, hours_at_337_million=(fixed + growing * n_synapses) / 3600
    )


def main() -> None:
    """Run, measure, and add the figures to those of other sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="Where the run writes; 2.7 kB a synapse.")
    parser.add_argument("--table", action="store_true", help="Print the table of stored figures, and run nothing.")
    parser.add_argument("--params", default="", help="Further parameters, name=value,...")
    parser.add_argument("--pipelines", default="simulated_embeddings,analysis_without_images")
    parser.add_argument("--name", help="Key of the figures in the JSON file; default: the number of synapses.")
    options, further = parser.parse_known_args()
    if options.table:
        known = json.loads(RESULTS.read_text())
        print(table(known["1000000"], known["10000000"]).round(2).to_string())
        print(side_by_side({name: known[name] for name in _SIDE_BY_SIDE}).round(1).to_string())
        return
    if options.folder is None:
        parser.error("--folder is missing: the folder that the run writes to.")
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = {"simulation.embeddings.n_synapses": str(options.synapses), **_SETTINGS}
    settings |= {"data_root": str(options.folder)}
    parameters = ",".join([*(f"{name}={value}" for name, value in settings.items()), *filter(None, [options.params])])
    command = ["run", f"--pipelines={options.pipelines}", f"--params={parameters}", *further]
    found = run(command, options.folder / "scale.log")
    shown = ",".join(item for item in parameters.split(",") if not item.startswith("data_root="))
    found |= {
        "n_synapses": options.synapses,
        "command": f"kedro run --pipelines={options.pipelines} --params={shown}",
        "cpu_microseconds_a_synapse": round(1e6 * found["cpu_seconds"] / options.synapses, 1),
        "by_pipeline_cpu_microseconds_a_synapse": by_pipeline(found["nodes"], options.synapses),
        "stored_bytes": stored_bytes(options.folder),
    }
    print(json.dumps({name: value for name, value in found.items() if name != "nodes"}, indent=1))
    if found["exit_code"]:
        raise SystemExit(f"The run failed: {options.folder / 'scale.log'}")
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[options.name or str(options.synapses)] = found
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
