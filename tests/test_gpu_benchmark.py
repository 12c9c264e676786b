"""The GPU benchmark at its tiny size on the CPU, with nothing installed but what its bundle packs or finds."""

import importlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
BUNDLE = PROJECT / "scripts/gpu_bundle.sh"
# Comes with torch; or torchmetrics finds its metadata and so imports it, which nothing here needs.
WITH_TORCH = {"torch", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "setuptools"}
WITH_TORCH |= {"matplotlib", "pillow", "kiwisolver", "cycler", "contourpy", "fonttools", "pyparsing"}
BLOCKER = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *given: None if name.split(".")[0] in {blocked!r} else find(name, *given)
"""


def packed_names() -> set[str]:
    """Distributions that the script packs, or expects on the machine."""
    found = re.search(r'^NEEDED="([^"]+)"', BUNDLE.read_text(), re.MULTILINE)
    assert found is not None
    return set(found[1].split())


@pytest.fixture
def bundle_only(tmp_path: Path) -> dict[str, str]:
    """Variables of a process that can import what the bundle brings and nothing else that is installed here."""
    allowed = packed_names() | WITH_TORCH | {"synapseclr"}
    blocked = {
        module
        for module, distributions in packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", name).lower() in allowed for name in distributions)
        and module not in sys.stdlib_module_names
    }
    assert {"kedro", "mlflow", "anndata", "cloudvolume"} <= blocked
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
    path = os.pathsep.join((str(tmp_path), str(PROJECT / "src")))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_every_part_runs_without_kedro(
    tmp_path: Path, bundle_only: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts run on a CPU, their comparisons hold, and each leaves figures."""
    folder = tmp_path / "bundle/benchmarks"
    folder.mkdir(parents=True)
    for name in ("gpu", "throughput", "chunk_reading"):
        (folder / f"{name}.py").write_text((PROJECT / f"benchmarks/{name}.py").read_text())
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    parameters = importlib.import_module("throughput").parameters_of("microns")
    (folder / "parameters_microns.json").write_text(json.dumps(parameters))
    result = tmp_path / "gpu.json"
    command = [sys.executable, str(folder / "gpu.py"), "--device=cpu", f"--result={result}"]
    done = subprocess.run(command, env=bundle_only, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = json.loads(result.read_text())["parts"]
    assert {name for name, part in parts.items() if part["rows"]} == set(parts)
    views = {row["case"].split(": ")[1] for row in parts["view parity"]["rows"]}
    assert {"rotation", "resampling", "pixel_noise", "z_score"} <= views
    assert "region_resnet" in {row["case"] for row in parts["encoder parity"]["rows"]}


def test_missing_folder_is_named() -> None:
    """Without a folder the script says how it is called."""
    done = subprocess.run(["bash", str(BUNDLE)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "scripts/gpu_bundle.sh FOLDER" in done.stderr
