import gc
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for warm_process, gcs_emulator and others beside this file

import warm_process

os.environ["DO_NOT_TRACK"] = "1"
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
os.environ.setdefault("NO_GCE_CHECK", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers have a core each; torch's threads would spin on each other's
    os.environ["OMP_NUM_THREADS"] = "1"

# A fresh clone never fails by a new random example; `make fuzz` looks for new ones.
settings.register_profile("tests", max_examples=30, derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))

PROJECT = Path(__file__).resolve().parents[1]
_SHARED = PROJECT.parent / "shared"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")

# The workers take files in this order, then the others, which are quick: so both end at about the same time.
LONGEST_FIRST = (
    "test_own_data.py",
    "test_demo_in_a_bucket.py",
    "test_learning.py",
    "test_launching.py",
    "test_kill_everywhere.py",
    "test_serving.py",
    "test_real_em.py",
    "test_readme.py",
    "test_sweep.py",
    "test_checkpoints.py",
    "test_environments.py",
    "test_webknossos_page.py",
    "test_cave_walk.py",
    "test_init.py",
    "test_published_environment.py",
    "test_gpu_benchmark.py",
    "test_own_traits.py",
    "test_viz.py",
    "test_runs.py",
    "test_docs.py",
    "test_notebooks.py",
    "test_extending.py",
    "test_browser.py",
    "test_browser_addresses.py",
)


def pytest_collection_modifyitems(items):
    """Put the files that take longest first."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_sessionstart(session):
    """Warm up the process that all workers share, while they collect."""
    if getattr(session.config.option, "numprocesses", None):
        warm_process.start()


def pytest_collection_finish():
    """Keep what is imported by now out of the garbage collector's searches, the last one of the process included."""
    gc.freeze()


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Inputs and outputs recorded from the published implementation."""
    folder = _SHARED / "golden"
    if not folder.exists():
        pytest.skip(f"the golden vectors are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def fib25_folder() -> Path:
    """A small real EM volume."""
    folder = _SHARED / "data" / "fib25_medulla"
    if not folder.exists():
        pytest.skip(f"the FIB-25 volume is not at {folder}")
    return folder


@dataclass
class Runner:
    """Runs `kedro run` as a user does, with the outputs and the MLflow store in a folder of the test's.

    Attributes:
        root: The folder.
        environment: Of the configuration.
    """

    root: Path
    environment: str = "test"

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        parameters = [f"data_root={self.root}"]
        parameters += [a.removeprefix("--params=") for a in arguments if a.startswith("--params=")]
        others = [a for a in arguments if not a.startswith("--params=")]
        command = [sys.executable, "-m", "kedro", "run", f"--env={self.environment}", *others]
        command.append(f"--params={','.join(parameters)}")
        done = warm_process.run(command, cwd=PROJECT, env=self.variables, timeout=600)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    @property
    def variables(self) -> dict[str, str]:
        return os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
            "MLFLOW_ARTIFACT_ROOT": str(self.root / "mlartifacts"),
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2",
            "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING": "1",
            "COLUMNS": "200",
        }

    def report(self, name: str) -> dict:
        return json.loads((self.root / "08_reporting" / name).read_text())


@pytest.fixture(scope="session")
def make_runner() -> type[Runner]:
    """The class that runs Kedro, for tests with outputs of their own."""
    return Runner


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Runner:
    """The whole demo, at a tiny size, run once for all workers; each has a copy, which tests may change.

    While you write tests: SYNAPSECLR_TINY_DEMO names the outputs of an earlier `kedro run --env=test --pipeline=demo`.
    """
    if existing := os.environ.get("SYNAPSECLR_TINY_DEMO"):
        return Runner(Path(existing))
    folder = tmp_path_factory.mktemp("demo", numbered=False)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        Runner(folder)("--pipeline=demo")
        return Runner(folder)
    shared = folder.parents[1] / folder.name  # the workers' folders lie beside each other
    with FileLock(f"{shared}.lock"):
        if not (shared / "is_whole").exists():
            Runner(shared)("--pipeline=demo")
            (shared / "is_whole").touch()
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    return Runner(folder)


@pytest.fixture(scope="session")
def gcs_endpoint():
    """A Google Cloud Storage on this machine, in memory, for this process and those that it starts."""
    import gcsfs
    from gcs_emulator import serve

    with serve() as address:
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield address
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def gcs_prefix(gcs_endpoint, request) -> str:
    """An empty place in the bucket, for one test."""
    return "gs://synapseclr-test/" + "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        if os.environ.get("CI"):
            raise RuntimeError("There is no Chromium; `make test` installs it.")
        pytest.skip("there is no Chromium: `make system` installs it, as root on Debian")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=SOFTWARE_WEBGL)
        yield launched
        launched.close()


@pytest.fixture
def serious_findings():
    """What axe finds on a page that keeps people from using it: (impact, rule, first element)."""
    from axe_playwright_python.sync_playwright import Axe

    def find(page):
        response = Axe().run(page, options={"preload": False}).response  # else it fetches the style sheets again
        found = [(rule["impact"], rule["id"], rule["nodes"][0]["html"]) for rule in response["violations"]]
        return [finding for finding in found if finding[0] in ("serious", "critical")]

    return find


def _forget_mlflow_experiment() -> None:
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)
    if fluent := sys.modules.get("mlflow.tracking.fluent"):
        fluent._active_experiment_id = None


@pytest.fixture(autouse=True)
def own_mlflow_experiment():
    """MLflow leaves the experiment of one test in the process and its environment; the stores of others lack it."""
    _forget_mlflow_experiment()
    yield
    _forget_mlflow_experiment()
