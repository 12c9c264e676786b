"""The operating system refuses: no file may grow further, or the user may not write. In processes of their own."""

import contextlib
import os
import re
import resource
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline

from synapseclr.datasets import AnnDataZarrDataset, ChunkStoreDataset, CSVDataset, EncoderWeightsDataset, LedgerDataset
from synapseclr.hooks import OutputCare
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.volumes import ChunkBatch, ChunkStream

N, SIZE, LARGEST_FILE_BYTES = 8, (16, 16, 8), 3000
TABLE = pd.DataFrame({"synapse_id": [1, 2, 3], "value": [0.5, 1.5, 2.5]})


def message_of(action, before):
    """Return what an action raises in a child process, after something that changes that process; empty if nothing."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        text = ""
        with contextlib.suppress(BaseException):
            before()
            try:
                action()
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(write_end, text.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def no_room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES))


def weights(seed):
    model = ModelConfig(encoder="resnet18", width_factor=0.125, projection_dims=(16, 8))
    return EncoderWeights(dict(model.build(seed).state_dict()), model, {})


def chunks(seed):
    order = np.arange(N) if seed == 0 else np.arange(N)[::-1]
    chunk_ncxyz = np.random.default_rng(seed).integers(0, 255, (N, 2, *SIZE), dtype=np.uint8)
    zeros = np.zeros(N)
    records = {"synapse_id": order, "cleft_id": order, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
    return ChunkStream([ChunkBatch(chunk_ncxyz, records)], SIZE, (16, 16, 40), 4)


def embeddings(seed):
    features_nf = np.random.default_rng(seed).normal(size=(200, 32)).astype(np.float32)
    obs = pd.DataFrame({"synapse_id": np.arange(200)}, index=np.arange(200).astype(str))
    return AnnData(X=features_nf, obs=obs)


OF_PIPELINES = {
    "preprocessing": (ChunkStoreDataset, "chunks.zarr", chunks, lambda found: found.read([0, N - 1]).tobytes()),
    "pretraining": (EncoderWeightsDataset, "encoder.safetensors", weights, lambda found: found.sha256),
    "embedding": (AnnDataZarrDataset, "embeddings.zarr", embeddings, lambda found: np.asarray(found.X).tobytes()),
}


@pytest.mark.parametrize("name", OF_PIPELINES)
def test_a_disk_without_room_leaves_the_old_output_and_is_a_sentence(tmp_path, name):
    kind, file, make, content = OF_PIPELINES[name]
    dataset = kind(filepath=f"{tmp_path}/{file}")
    dataset.save(make(0))
    before = content(dataset.load())
    told = message_of(lambda: dataset.save(make(1)), no_room)
    assert re.search(rf"{tmp_path}/{file}\S* cannot be written \(File too large\)\. .*run the same command again", told)
    assert content(kind(filepath=f"{tmp_path}/{file}").load()) == before
    dataset.save(make(1))  # there is room again
    assert content(kind(filepath=f"{tmp_path}/{file}").load()) != before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(f".{file}")] == []


@pytest.fixture
def protected():
    """A folder with results that belongs to somebody else, where everybody may look."""
    folder = Path(tempfile.mkdtemp())
    CSVDataset(filepath=f"{folder}/results/t.csv", save_args={"index": False}).save(TABLE)
    LedgerDataset(filepath=f"{folder}/results/seconds.json").save({"embedding": 1.0})
    for path in (folder, *folder.rglob("*")):
        everybody = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
        path.chmod(everybody | (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH if path.is_dir() else 0))
    yield folder / "results"
    for path in (folder, folder / "results"):
        path.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)


def as_ordinary_user():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def test_an_ordinary_user_is_told_at_the_start_that_results_are_write_protected(protected):
    dataset = CSVDataset(filepath=f"{protected}/t.csv", save_args={"index": False})
    made = pipeline([node(lambda: TABLE, None, "t", name="make")])
    told = message_of(lambda: OutputCare().before_pipeline_run(made, DataCatalog({"t": dataset})), as_ordinary_user)
    assert told.startswith("OutputError")
    assert "t.csv cannot be written" in told
    told = message_of(lambda: dataset.save(TABLE), as_ordinary_user)  # such as from a notebook
    assert "t.csv cannot be written" in told
    assert dataset.load().equals(TABLE)


def test_bookkeeping_that_an_ordinary_user_may_not_write_ends_no_run(protected):
    ledger = LedgerDataset(filepath=f"{protected}/seconds.json")
    assert message_of(lambda: ledger.save({"embedding": 2.0}), as_ordinary_user) == ""
    assert ledger.load() == {"embedding": 1.0}
