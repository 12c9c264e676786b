"""Kill the tiny demo at random moments of every pipeline, run it again, and compare its outputs with an unkilled run's.

    OMP_NUM_THREADS=1 python scripts/kill_everywhere.py --moments 40

Runs the demo once, pipeline by pipeline. Then, for every moment, takes a copy of its outputs, with or without those of
one pipeline, runs that pipeline and kills it with SIGKILL: at some time, or at some change to a file and up to some
milliseconds later, so that files are half written. What the kill has left has to be whole or missing; the same
pipeline, run again, has to give what the unkilled run gave and to leave nothing temporary. Otherwise this ends with
status 1.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PIPELINES = (
    "simulation", "preprocessing", "pretraining", "embedding", "imputation", "manifold", "similarity", "outliers",
    "consensus", "features", "reporting",
)  # fmt: skip
"""In an order in which each finds its inputs."""

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "shutil.rmtree", "shutil.move")
_TIMES = re.compile(r"seconds|_share$|per_second$|data_wait$|gpu_memory_gb$|^created$|time", re.IGNORECASE)
_LONGEST_DELAY_S = 0.004


@dataclass(frozen=True)
class Unkilled:
    """Seconds of a pipeline's unkilled run, and how often it changed a file."""

    seconds: float
    n_changes: int


@dataclass(frozen=True)
class Moment:
    """When to kill which pipeline.

    Attributes:
        pipeline: Its name.
        has_outputs: Whether its outputs are there from before, to be replaced.
        after_s: Seconds after its start; negative: at a change instead.
        change: Number of the change to a file.
        delay_s: Seconds after that change.
    """

    pipeline: str
    has_outputs: bool
    after_s: float = -1.0
    change: int = 0
    delay_s: float = 0.0

    def __str__(self) -> str:
        when = f"at {self.after_s:.2f} s"
        if self.after_s < 0:
            when = f"{1e3 * self.delay_s:.1f} ms after change {self.change}"
        return f"{self.pipeline}, {'replacing its outputs' if self.has_outputs else 'for the first time'}, {when}"

    def earlier(self) -> Moment:
        """A moment half-way there, for a run that has ended before."""
        return replace(self, after_s=self.after_s / 2, change=max(self.change // 2, 1))


def draw_moments(n: int, unkilled: dict[str, Unkilled], rng: random.Random) -> list[Moment]:
    """Random moments, spread over all pipelines in turn; two of three are inside of writes.

    Args:
        n: Number of moments.
        unkilled: By pipeline.
        rng: Random numbers.
    """
    names = list(unkilled)
    moments = []
    for number in range(n):
        name = names[number % len(names)]
        has_outputs = rng.random() < 0.5
        if rng.random() < 1 / 3 or not unkilled[name].n_changes:
            moments.append(Moment(name, has_outputs, after_s=rng.uniform(0, unkilled[name].seconds)))
        else:
            delay_s = rng.choice((0.0, rng.uniform(0, _LONGEST_DELAY_S)))
            moments.append(Moment(name, has_outputs, change=rng.randint(1, unkilled[name].n_changes), delay_s=delay_s))
    return moments


def watch_changes(root: Path, at_change: int = 0, delay_s: float = 0.0) -> list[int]:
    """Count this process's changes to files below a folder, and kill it at one of them.

    Args:
        root: The folder.
        at_change: Number of the change, from 1; 0: none.
        delay_s: How long after it.

    Returns:
        A list of one number, the changes so far.
    """
    counted = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in _CHANGES:
            path = arguments[0]
        else:
            return
        if not isinstance(path, (str, bytes, os.PathLike)) or not os.fsdecode(path).startswith(str(root)):
            return
        counted[0] += 1
        if counted[0] == at_change:
            if not delay_s:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(watch)
    return counted


def run_pipeline(root: Path, pipeline: str, moment: Moment | None = None) -> tuple[int, Unkilled, str]:
    """Run a pipeline in a process of its own, and kill it if a moment is given.

    Returns:
        Exit status (-9: killed), what the run was like, and the end of what it printed.
    """
    counts, log = root / ".changes", root / ".log"
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with log.open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            change, delay_s = (moment.change, moment.delay_s) if moment else (0, 0.0)
            _run_here(root, pipeline, watch_changes(root, change, delay_s), counts)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    if moment is not None and moment.after_s >= 0:
        time.sleep(moment.after_s)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    n_changes = int(counts.read_text()) if counts.exists() and status == 0 else 0
    counts.unlink(missing_ok=True)
    return status, Unkilled(time.monotonic() - began, n_changes), log.read_text()[-3000:]


def _run_here(root: Path, pipeline: str, counted: list[int], counts: Path) -> None:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    os.chdir(PROJECT)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    os.environ["MLFLOW_ARTIFACT_ROOT"] = str(root / "mlartifacts")
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="test", runtime_params={"data_root": str(root)}) as session:
        session.run(pipeline_names=[pipeline])
    counts.write_text(str(counted[0]))


def outputs_of(pipeline: str, root: Path) -> dict[str, Path]:
    """Paths of what a pipeline saves, by catalog name."""
    import yaml

    from synapseclr.pipeline_registry import register_pipelines

    entries: dict[str, Any] = {}
    for path in sorted((PROJECT / "conf/base").glob("*/catalog.yml")):
        entries |= {name: entry for name, entry in yaml.safe_load(path.read_text()).items() if isinstance(entry, dict)}
    found = {}
    for name in sorted(register_pipelines()[pipeline].all_outputs()):
        filepath = entries.get(name, {}).get("filepath")
        if filepath is not None:
            found[name] = root / re.sub(
                r"^\$\{[^}]*\}", "01_raw/simulated" if "_simulated" in filepath else ".", filepath
            )
    return found


def contents(path: Path) -> Iterator[tuple[str, str]]:
    """Digests of an output's files by their path in it, without what is measured by a clock."""
    files = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    for file in files:
        if file.name != ".written.json":
            yield file.relative_to(path.parent).as_posix(), hashlib.sha256(_content(file)).hexdigest()


def _content(file: Path) -> bytes:
    if file.suffix == ".parquet":
        import pandas as pd

        table = pd.read_parquet(file)
        return table[[name for name in table if not _TIMES.search(str(name))]].to_csv().encode()
    data = file.read_bytes()
    if file.suffix == ".safetensors":  # its header names the MLflow run
        from synapseclr.models import EncoderWeights

        return EncoderWeights.from_bytes(data, str(file)).sha256.encode()
    if file.suffix == ".json" and ".zarr" not in str(file):
        return json.dumps(_without_times(json.loads(data)), sort_keys=True).encode()
    if file.suffix == ".html":  # its figures lie in the other outputs; here it has to be whole, with the same parts
        return str((data.rstrip().endswith(b"</html>"), data.count(b"<img"), data.count(b"<h2"))).encode()
    return data


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(inner) for name, inner in value.items() if not _TIMES.search(name)}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def differences(pipeline: str, root: Path, expected: dict[str, dict[str, str]], *, may_lack: bool) -> list[str]:
    """Outputs of a pipeline that differ from what is expected.

    Args:
        pipeline: Its name.
        root: Folder of the outputs.
        expected: Digests by file, by output.
        may_lack: Whether an output may be missing altogether.
    """
    different = []
    for name, path in outputs_of(pipeline, root).items():
        try:
            found = dict(contents(path))
        except (ValueError, OSError) as error:
            different.append(f"{name} ({type(error).__name__}: {error})")
            continue
        if found != expected[name] and not (may_lack and not path.exists()):
            keys = sorted(
                key for key in found.keys() | expected[name].keys() if found.get(key) != expected[name].get(key)
            )
            different.append(f"{name} ({', '.join(keys[:3])})")
    return different


def leftovers(root: Path) -> list[str]:
    """Temporary files and folders."""
    found = (path for path in root.rglob("*") if path.name.endswith((".partial", ".old")))
    return sorted(path.relative_to(root).as_posix() for path in found)


def try_moment(moment: Moment, whole: Path, root: Path, expected: dict[str, dict[str, str]]) -> tuple[str, list[str]]:
    """Kill a pipeline at a moment, look at what is left, and run it again.

    Returns:
        What happened, and what is wrong.
    """
    shutil.copytree(whole, root, symlinks=True)
    if not moment.has_outputs:
        for path in outputs_of(moment.pipeline, root).values():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if moment.pipeline == "pretraining":
            shutil.rmtree(root / "06_models/checkpoints", ignore_errors=True)
    n_earlier = 0
    status, _, printed = run_pipeline(root, moment.pipeline, moment)
    while status == 0:  # with its outputs in place, preprocessing has little to do
        moment, n_earlier = moment.earlier(), n_earlier + 1
        status, _, printed = run_pipeline(root, moment.pipeline, moment)
    if status > 0:
        return "failed by itself", [printed]
    happened = f"killed{f', {n_earlier} times halved' if n_earlier else ''}"
    wrong = [f"left damaged: {name}" for name in _readable_but_damaged(moment.pipeline, root, expected)]
    status, _, printed = run_pipeline(root, moment.pipeline)
    if status:
        return happened, [*wrong, f"cannot be run again:\n{printed}"]
    wrong += [f"differs: {name}" for name in differences(moment.pipeline, root, expected, may_lack=False)]
    wrong += [f"left over: {path}" for path in leftovers(root)]
    return happened, wrong


def _readable_but_damaged(pipeline: str, root: Path, expected: dict[str, dict[str, str]]) -> list[str]:
    """Outputs that are there but not whole. A volume or store that is not marked as whole does not count as there."""
    found = []
    for name in differences(pipeline, root, expected, may_lack=True):
        description = outputs_of(pipeline, root)[name.partition(" ")[0]] / "zarr.json"
        attributes = json.loads(description.read_text())["attributes"] if description.is_file() else {}
        if attributes.get("complete", True):
            found.append(name)
    return found


def warm_up() -> None:
    """Import once, before the first fork, what takes longer than most pipelines."""
    import anndata  # noqa: F401
    import cloudvolume  # noqa: F401
    import lightning  # noqa: F401
    import matplotlib.pyplot as plt
    import mlflow  # noqa: F401
    import monai.networks.nets  # noqa: F401
    import pandera.pandas  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import umap  # noqa: F401

    import synapseclr.datasets
    import synapseclr.training  # noqa: F401

    plt.switch_backend("agg")
    gc.freeze()  # no child looks through all of this for cycles


def run_whole(root: Path, killed: Sequence[str]) -> dict[str, Unkilled]:
    """Run the pipelines that are to be killed, unkilled, and those before them whose outputs are not there.

    Args:
        root: Folder of the outputs. What the runs were like is kept in a file beside it, and taken from there.
        killed: Names of the pipelines that are to be killed.
    """
    root.mkdir(parents=True, exist_ok=True)
    known = root.parent / f"{root.name}.json"
    unkilled = json.loads(known.read_text()) if known.exists() else {}
    for name in PIPELINES[: max(map(PIPELINES.index, killed)) + 1]:
        is_there = all(path.exists() for path in outputs_of(name, root).values())
        if is_there and (name in unkilled or name not in killed):
            continue
        status, run, printed = run_pipeline(root, name)
        if status:
            raise RuntimeError(f"The unkilled run of {name} failed:\n{printed}")
        print(f"{name}: {run.seconds:.1f} s, {run.n_changes} changes to files", flush=True)
        unkilled[name] = (run.seconds, run.n_changes)
        known.write_text(json.dumps(unkilled))
    return {name: Unkilled(*unkilled[name]) for name in killed}


def try_moments(
    moments: Sequence[tuple[int, Moment]], whole: Path, root: Path, expected: dict[str, dict[str, str]]
) -> int:
    """Try moments, given with their numbers, in turn; print what became of each, and count those that went wrong."""
    n_wrong = 0
    for number, moment in moments:
        happened, wrong = try_moment(moment, whole, root, expected)
        shutil.rmtree(root)
        n_wrong += bool(wrong)
        print(f"{number} {moment}: {happened}. {'; '.join(wrong) or 'As unkilled.'}", flush=True)
    return n_wrong


def side_by_side(n_jobs: int, moments: Sequence[Moment], folder: Path, *arguments: Any) -> int:
    """Try moments in processes forked from this one, each in a folder of its own; return how many went wrong.

    Args:
        n_jobs: Number of processes.
        moments: All moments.
        folder: For what the pipelines write.
        arguments: The other arguments of `try_moments`: ``whole`` and ``expected``.
    """
    numbered = list(enumerate(moments, start=1))
    children = []
    for job in range(n_jobs):
        child = os.fork()
        if child == 0:
            status = 255
            try:
                status = try_moments(numbered[job::n_jobs], arguments[0], folder / f"killed-{job}", arguments[1])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(min(status, 255))
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(status in (255, -signal.SIGKILL) for status in statuses):
        raise RuntimeError("A process that tries moments has failed: see above.")
    return sum(statuses)


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moments", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pipelines", default=",".join(PIPELINES), help="to be killed, joined by commas")
    parser.add_argument("--whole", type=Path, help="where the unkilled run is kept, to be used again")
    parser.add_argument("--jobs", type=int, default=1, help="moments tried at once")
    arguments = parser.parse_args()
    killed = arguments.pipelines.split(",")
    os.environ["DO_NOT_TRACK"] = "1"
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        whole = (arguments.whole or Path(folder) / "whole").resolve()
        unkilled = run_whole(whole, killed)
        expected = {
            name: dict(contents(path)) for pipeline in killed for name, path in outputs_of(pipeline, whole).items()
        }
        chosen = {name: unkilled[name] for name in killed}
        moments = draw_moments(arguments.moments, chosen, random.Random(arguments.seed))
        n_wrong = side_by_side(arguments.jobs, moments, Path(folder).resolve(), whole, expected)
    print(f"{arguments.moments - n_wrong} of {arguments.moments} give what an unkilled run gives.")
    return bool(n_wrong)


if __name__ == "__main__":
    sys.exit(main())
