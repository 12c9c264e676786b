"""The whole way on a real EM volume (FlyEM FIB-25 medulla; Parag et al. 2015, doi:10.1371/journal.pone.0125825)."""

import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def real(make_runner, fib25_folder, tmp_path_factory):
    runner = make_runner(tmp_path_factory.mktemp("fib25"), environment="fib25")
    script = PROJECT / "scripts/import_npz_volume.py"
    subprocess.run([sys.executable, script, fib25_folder, runner.root / "01_raw/imported"], check=True, timeout=300)
    runner("--params=pretraining.epochs=2")
    return runner


def test_all_28_synapses_are_embedded(real):
    embeddings = anndata.read_zarr(real.root / "07_model_output/synapse_embeddings.zarr")
    assert embeddings.n_obs == 28
    assert np.isfinite(embeddings.X).all()
    assert np.ptp(embeddings.X, axis=0).max() > 0


def test_the_report_is_written_without_annotations(real):
    report = (real.root / "08_reporting/report.html").read_text()
    assert "28" in report
    assert real.report("evaluation.json")["n_synapses"] == 28


def test_chunks_that_hang_over_the_edge_are_kept_and_flagged(real):
    report = real.report("preprocessing_report.json")
    assert (report["n_chunks"], report["n_rejected"]) == (28, 0)
    assert 0 < report["n_padded"] <= 28
    assert report["n_pre_missing"] == report["n_post_missing"] == 0
