"""What `kedro explore` reads of a run, by the catalog; the run is made by hand, so that no pipeline has to run."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import settings
from click.testing import CliRunner
from explorer_runs import FIRST_ID, N_SMALL, make_outputs

from synapseclr.commands.explore import explore, load_outputs
from synapseclr.errors import TableError
from synapseclr.explorer.answers import synapse_details

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A folder as a run leaves it, but for the chunks."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    outputs = make_outputs(tmp_path)
    folder = tmp_path / "run" / "07_model_output"
    folder.mkdir(parents=True)
    outputs.synapses.obs["pre_root_id"] = outputs.synapses.obs["pre_root_id"].astype("uint64")
    with settings.override(zarr_write_format=3):
        outputs.synapses.write_zarr(folder / "synapse_manifold.zarr")
    outputs.tables["outlier_scores"].to_parquet(folder / "outlier_scores.parquet")
    return tmp_path / "run"


def test_missing_outputs_are_said_and_the_others_shown(run_folder):
    outputs = load_outputs("test", f"data_root={run_folder}")
    assert len(outputs) == N_SMALL
    assert outputs.synapse_id[0] == FIRST_ID
    assert "outlier_score" in outputs.columns
    assert any("kedro run --pipeline=imputation" in note for note in outputs.notes)
    assert any("no pictures" in note for note in outputs.notes)
    assert outputs.labels.url == f"{run_folder}/07_model_output/synapse_labels"


def test_a_large_run_is_mapped_from_files_with_the_same_columns(run_folder, monkeypatch):
    in_memory = load_outputs("test", f"data_root={run_folder}")
    monkeypatch.setattr("synapseclr.explorer.run_outputs.TILES_ABOVE", 10)
    mapped = load_outputs("test", f"data_root={run_folder}")
    assert list(mapped.columns) == list(in_memory.columns)
    for name, column in in_memory.columns.items():
        found = mapped.columns[name]
        assert isinstance(found.values_n, np.memmap)
        np.testing.assert_array_equal(found.values_n, column.values_n)
        assert (found.label, found.group, found.class_names, found.unit) == (
            column.label,
            column.group,
            column.class_names,
            column.unit,
        )
    for name, plane in in_memory.maps.items():
        np.testing.assert_array_equal(mapped.planes[name], plane.coordinates_nd)
        assert (mapped.maps[name].axes, mapped.maps[name].unit) == (plane.axes, plane.unit)
    assert set(mapped.mapped.trees) == {name for name, plane in in_memory.planes.items() if plane.shape[1] == 2}
    np.testing.assert_array_equal(mapped.roots["pre_root_id"], in_memory.roots["pre_root_id"])
    details = synapse_details(mapped, None, FIRST_ID + 3)
    assert details["traits"] == synapse_details(in_memory, None, FIRST_ID + 3)["traits"]
    assert details["neighbours"] == []
    assert any("no index yet" in note for note in mapped.notes)
    with pytest.raises(TableError, match="features of all 60 synapses in memory"):
        _ = mapped.components_nf
    folder = run_folder / "07_model_output" / "explorer_columns"
    (first,) = folder.iterdir()
    made = (first / "columns.json").stat().st_mtime_ns
    load_outputs("test", f"data_root={run_folder}")
    assert (first / "columns.json").stat().st_mtime_ns == made  # they are not made again
    scores = run_folder / "07_model_output" / "outlier_scores.parquet"
    pd.read_parquet(scores).assign(score=0.5).to_parquet(scores)
    assert set(load_outputs("test", f"data_root={run_folder}").columns["outlier_score"].values_n) == {np.float32(0.5)}
    assert [path for path in folder.iterdir() if path == first] == []


def test_a_damaged_table_does_not_stop_the_page(run_folder):
    (run_folder / "07_model_output" / "outlier_scores.parquet").write_bytes(b"damaged")
    outputs = load_outputs("test", f"data_root={run_folder}")
    assert any("outlier_scores cannot be read" in note for note in outputs.notes)


def test_a_damaged_label_table_is_named_on_the_page(run_folder):
    folder = run_folder / "07_model_output" / "synapse_labels"
    folder.mkdir()
    (folder / "mine.csv").write_text("synapse_id\n")
    notes = load_outputs("test", f"data_root={run_folder}").notes
    assert "The labels of mine.csv are left out: it lacks the column label." in notes


def test_a_copy_is_written_but_not_over_something_else(run_folder, tmp_path):
    arguments = ["--env=test", f"--params=data_root={run_folder}", f"--export={tmp_path / 'copy'}"]
    done = CliRunner().invoke(explore, arguments)
    assert done.exit_code == 0, done.output
    assert f"{N_SMALL} synapses" in done.output
    assert (tmp_path / "copy" / "api" / "synapse" / str(FIRST_ID) / "details.json").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    done = CliRunner().invoke(explore, [*arguments[:2], f"--export={tmp_path / 'mine'}"])
    assert done.exit_code == 1
    assert "is no export of the explorer" in done.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_run_without_embeddings_says_what_to_run(run_folder):
    shutil.rmtree(run_folder / "07_model_output" / "synapse_manifold.zarr")
    done = CliRunner().invoke(explore, ["--env=test", f"--params=data_root={run_folder}", "--no-browser"])
    assert done.exit_code == 1
    assert "There is nothing to explore" in done.output
    assert "kedro run --pipeline=demo" in done.output


def test_a_taken_port_is_said(run_folder):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(
            explore, ["--env=test", f"--params=data_root={run_folder}", "--no-browser", f"--port={port}"]
        )
    assert done.exit_code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in done.output


def test_outputs_in_a_bucket_are_explored_and_labelled(run_folder, gcs_prefix):
    import fsspec

    filesystem, bucket = fsspec.core.url_to_fs(gcs_prefix)
    filesystem.put(f"{run_folder}/", f"{bucket}/run/", recursive=True)
    outputs = load_outputs("test", f"data_root={gcs_prefix}/run")
    assert outputs.synapse_id[-1] == FIRST_ID + N_SMALL - 1
    assert "outlier_score" in outputs.columns
    name = outputs.labels.save([FIRST_ID], "odd", {})
    assert filesystem.exists(f"{bucket}/run/07_model_output/synapse_labels/{name}")


def test_the_command_serves_the_page_until_it_is_interrupted(run_folder):
    import os
    import re
    import signal
    import subprocess
    import sys
    import urllib.request

    # Tests that run in the background of a script are started with Ctrl-C ignored.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "kedro", "explore"]
    command += ["--env=test", f"--params=data_root={run_folder}", "--port=0"]
    process = subprocess.Popen(
        [*command, "--no-browser"],
        cwd=PROJECT,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{run_folder}/mlflow.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if address := re.search(r"60 synapses on (http://127\.0\.0\.1:\d+/)", line):
                break
        else:
            raise AssertionError("".join(said))
        assert b"Synapse explorer" in urllib.request.urlopen(address[1]).read()
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    assert "The explorer has ended." in rest
    assert not (run_folder / "mlflow.db").exists()  # looking is no run
