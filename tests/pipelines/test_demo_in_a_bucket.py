"""The whole demo with everything it reads and writes in a bucket."""

import json
import math
import os
import shutil
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import warm_process

from synapseclr.volumes import ChunkStore

PROJECT = Path(__file__).resolve().parents[2]
BUCKET = "gs://synapseclr-test/demo"


@pytest.fixture(scope="module")
def run(gcs_endpoint, tmp_path_factory):
    """The demo, with credentials as a user gives them: in `conf/local/credentials.yml`."""
    folder = tmp_path_factory.mktemp("bucket")
    shutil.copytree(PROJECT / "conf", folder / "conf")
    (folder / "conf/local").mkdir(exist_ok=True)
    (folder / "conf/local/credentials.yml").write_text("gs: {token: anon}\n")
    command = [
        sys.executable,
        "-m",
        "kedro",
        "run",
        "--env=test",
        "--pipeline=demo",
        f"--conf-source={folder / 'conf'}",
    ]
    variables = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACT_ROOT": f"{BUCKET}/mlartifacts",
        "COLUMNS": "300",
    }
    done = warm_process.run([*command, f"--params=data_root={BUCKET}"], cwd=PROJECT, env=variables, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def test_scores_are_those_of_the_local_demo(run, demo):
    with fsspec.open(f"{BUCKET}/08_reporting/evaluation.json", token="anon") as file:
        in_bucket = json.load(file)
    local = demo.report("evaluation.json")
    assert in_bucket["representations"] == local["representations"]
    scores = [s["mean"] for layers in local["representations"].values() for t in layers.values() for s in t.values()]
    assert scores
    assert all(map(math.isfinite, scores))


def test_chunks_are_those_of_the_local_demo(run, demo):
    in_bucket = ChunkStore(f"{BUCKET}/02_intermediate/synapse_chunks.zarr", {"token": "anon"})
    local = ChunkStore(str(demo.root / "02_intermediate/synapse_chunks.zarr"))
    assert in_bucket.sha256 == local.sha256
    np.testing.assert_array_equal(in_bucket.read([3, 0]), local.read([3, 0]))


def test_everything_lies_in_the_bucket(run, demo):
    filesystem = fsspec.filesystem("gs", token="anon")
    filesystem.invalidate_cache()
    there = {path.removeprefix("synapseclr-test/demo/") for path in filesystem.find(BUCKET)}
    for path in sorted(demo.root.glob("0[1-8]_*/**/[!.]*")):
        name = path.relative_to(demo.root).as_posix()
        if (
            path.is_file()
            and "/." not in name
            and path.suffix != ".lock"
            and ".zarr/" not in name
            and "checkpoints" not in name
            and "/simulated/" not in name
        ):
            assert name in there
    assert any(name.startswith("06_models/checkpoints/") for name in there)
    assert any(name.startswith("07_model_output/synapse_embeddings.zarr/") for name in there)


def test_artifacts_of_mlflow_go_to_their_own_place_in_a_bucket(run):
    filesystem = fsspec.filesystem("gs", token="anon")
    found = filesystem.find(f"{BUCKET}/mlartifacts")
    assert any(path.endswith("artifacts/model/encoder_weights.safetensors") for path in found)
    assert any(path.endswith("artifacts/reporting/report.html") for path in found)
