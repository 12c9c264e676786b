"""A process that has imported what the project needs, and forks itself for each command that it is given.

A start of Python with torch, MLflow and Kedro takes eight seconds of a core, and UMAP's compilation another ten: more
than most commands of the tests. Each command gets a process with its own folder, environment, output and status. The
demo, the first command of `test_own_data.py` and what tests imports or a start itself run in a new Python.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_PROJECT = Path(__file__).resolve().parents[1]
_IMPORTED = (
    "alembic.command",
    "alembic.config",
    "anndata",
    "cc3d",
    "cloudvolume",
    "faiss",
    "gpytorch",
    "kedro.framework.cli.cli",
    "kedro.framework.cli.project",
    "kedro.framework.session",
    "kedro_mlflow.framework.hooks.mlflow_hook",
    "kedro_viz.integrations.kedro.hooks",
    "kedro_viz.launchers.cli.main",
    "lightning.pytorch",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "monai.networks.nets",
    "pandera.pandas",
    "plotly.graph_objects",
    "pytorch_lightning",
    "skimage.measure",
    "sklearn.linear_model",
    "synapseclr.cli",
    "synapseclr.datasets",
    "synapseclr.hooks",
    "synapseclr.training",
)


def run(command: list[str], timeout: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as ``subprocess.run(command, capture_output=True, text=True, ...)`` does, but fork it.

    Args:
        command: This Python, ``-m`` and a module, and its arguments.
        timeout: Seconds after which it is killed.
        **options: ``cwd`` and ``env``.
    """
    python, dash_m, module, *arguments = command
    assert (python, dash_m) == (sys.executable, "-m")
    with tempfile.TemporaryDirectory() as folder:
        printed = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        task = {"module": module, "arguments": arguments, "printed": printed, "timeout": timeout}
        task |= {"cwd": str(options["cwd"]), "env": dict(options["env"])}
        status = _warm_process().give(task)
        told = [Path(path).read_text() for path in printed]
    if status == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(command, timeout, *told)
    return subprocess.CompletedProcess(command, status, *told)


class _WarmProcess:
    """The process, seen from the tests; it ends with them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=_PROJECT,
            env=os.environ | {"COLUMNS": "300", "NUMBA_THREADING_LAYER": "workqueue"},  # OpenMP cannot be forked
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._end)

    def give(self, task: dict[str, Any]) -> int:
        """Have a command run; returns its status."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks commands has ended"
        return int(answer)

    def _end(self) -> None:
        self._process.communicate(timeout=30)


@cache
def _warm_process() -> _WarmProcess:
    return _WarmProcess()


def _warm_up() -> None:
    """Import the modules, and let UMAP's functions be compiled."""
    import numpy as np

    for module in _IMPORTED:
        import_module(module)
    from synapseclr.analysis.manifold import ManifoldConfig, fit_manifold
    from synapseclr.augmentation import AugmentationConfig, Augmenter
    from synapseclr.pipeline_registry import register_pipelines

    register_pipelines()
    Augmenter(AugmentationConfig())  # imports the operations
    fit_manifold(np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32), ManifoldConfig(n_epochs=2))
    gc.freeze()  # a command that ends would look through all these objects once more, for three seconds


def _become(task: dict[str, Any]) -> None:
    """Turn this process, just forked, into a command that was given."""
    os.chdir(task["cwd"])
    os.environ.clear()
    os.environ.update(task["env"])
    files = [os.open(os.devnull, os.O_RDONLY)]
    files += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in task["printed"]]
    for descriptor, file in enumerate(files):
        os.dup2(file, descriptor)
        os.close(file)
    signal.alarm(task["timeout"])
    sys.path[0] = task["cwd"]
    sys.argv = [task["module"], *task["arguments"]]
    runpy.run_module(task["module"], run_name="__main__", alter_sys=True)


def _serve() -> None:
    """Fork for each line on standard input, and answer the status with which the command ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what modules print or log when they are imported is no answer
    _warm_up()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answers.close()
            _become(json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
