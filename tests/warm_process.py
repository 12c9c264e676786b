"""A process that has imported what the project needs, and forks itself for each command that it is given.

A start of Python with torch, MLflow and Kedro takes eight seconds of a core, and UMAP's compilation another ten: more
than most commands of the tests. Each command gets a process with its own folder, environment, output and status, and
several can run at a time: all workers of a test run share one warm process, which ends with that run. The first command
of `test_own_data.py` and what tests imports or a start itself run in a new Python.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

_ADDRESS = "SYNAPSECLR_WARM_PROCESS"  # of its socket; the workers of a test run inherit the variable
_starting = threading.Lock()
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
    with _starting:  # of two threads one starts it
        if _ADDRESS not in os.environ:
            start()
    with tempfile.TemporaryDirectory() as folder:
        printed = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        task = {"module": module, "arguments": arguments, "printed": printed, "timeout": timeout}
        task |= {"cwd": str(options["cwd"]), "env": dict(options["env"])}
        status = _give(task)
        told = [Path(path).read_text() for path in printed]
    if status == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(command, timeout, *told)
    return subprocess.CompletedProcess(command, status, *told)


def _give(task: dict[str, Any]) -> int:
    """Have a command run; returns its status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[_ADDRESS])
        connection.sendall(json.dumps(task).encode() + b"\n")
        with connection.makefile() as answers:
            answer = answers.readline()
    assert answer, "the process that forks commands has ended"
    return int(answer)


def start() -> None:
    """Start the process for this one and those that it starts; it ends with this one.

    One thread, and none of OpenMP's in Numba, which cannot be forked.
    """
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    address = str(Path(folder.name, "socket"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    process = subprocess.Popen(
        [sys.executable, __file__, str(listening.fileno())],
        cwd=_PROJECT,
        env=os.environ | {"COLUMNS": "300", "OMP_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"},
        stdin=subprocess.PIPE,
        pass_fds=[listening.fileno()],
    )
    listening.close()
    os.environ[_ADDRESS] = address

    def end() -> None:
        os.environ.pop(_ADDRESS, None)
        process.communicate(timeout=60)
        folder.cleanup()

    atexit.register(end)


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


def _serve(listening: socket.socket) -> None:
    """Fork twice for each connection: the command, and a process that answers the status with which it ended.

    The end of standard input, which whoever has started this process holds open, ends it.
    """
    os.dup2(2, 1)  # what modules print or log when they are imported is no output of a test
    _warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork():
            connection.close()
            continue
        listening.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with connection.makefile() as tasks:
            task = json.loads(tasks.readline())
        command = os.fork()
        if command == 0:
            connection.close()
            _become(task)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        connection.sendall(f"{status}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
