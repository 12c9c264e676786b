"""Matrices that are written shard by shard, by several processes, and opened lazily."""

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

from synapseclr.datasets import AnnDataZarrDataset
from synapseclr.errors import OutputError
from synapseclr.storage.atomic_files import MANIFEST
from synapseclr.storage.sharded_anndata import (
    CHUNK_ROWS,
    MatrixShards,
    ShardedMatrix,
    fits_in_memory,
    is_lazy,
    memory_bytes,
)

N = 100
FEATURES_NF = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32)
OBS = pd.DataFrame(
    {"synapse_id": np.arange(N) + 2**60, "kind": pd.Categorical(["a", "b"] * (N // 2))}, index=np.arange(N).astype(str)
)


def shards_of(dataset, fingerprint="one"):
    widths = {"X": 6, "projector.mlp.0": 2}
    return MatrixShards(dataset.work_address, N, widths, fingerprint, shard_rows=32, chunk_rows=8)


def write(shards, which):
    for shard in which:
        rows = shards.rows(shard)
        features_nf = FEATURES_NF[rows.start : rows.stop]
        shards.write(shard, {"X": features_nf, "projector.mlp.0": features_nf[:, :2]})


@pytest.fixture(params=["local", "memory"])
def dataset(request, tmp_path):
    place = str(tmp_path / "a.zarr") if request.param == "local" else f"memory://{tmp_path.name}/a.zarr"
    return AnnDataZarrDataset(filepath=place)


def test_shards_become_a_matrix_that_is_read_whole_and_lazily(dataset):
    shards = shards_of(dataset)
    assert shards.begin() == [0, 1, 2, 3]
    write(shards, [2, 0])
    assert shards_of(dataset).begin() == [1, 3]  # another process, or the run after a kill
    with pytest.raises(OutputError, match="lacks 2 of 4 shards, such as 1"):
        shards.finish(OBS, {})
    write(shards, [1, 3])
    dataset.save(ShardedMatrix(shards, OBS, {"layer_of_X": "encoder.fc"}))
    for in_memory in (True, False):
        found = AnnDataZarrDataset(filepath=dataset._filepath, in_memory=in_memory).load()
        assert is_lazy(found.X) is not in_memory
        np.testing.assert_array_equal(np.asarray(found.X), FEATURES_NF)
        np.testing.assert_array_equal(np.asarray(found.obsm["projector.mlp.0"]), FEATURES_NF[:, :2])
        pd.testing.assert_frame_equal(found.obs.set_axis(found.obs.index.astype(object)), OBS)
        assert found.uns["layer_of_X"] == "encoder.fc"
    filesystem, path = dataset._filesystem, dataset._path
    assert [name.rpartition("/")[2] for name in filesystem.ls(path.rpartition("/")[0], detail=False)] == ["a.zarr"]


def test_shards_of_other_features_are_begun_anew(dataset):
    shards = shards_of(dataset)
    shards.begin()
    write(shards, [0])
    assert shards_of(dataset, "two").begin() == [0, 1, 2, 3]


def test_a_lazy_matrix_tells_lost_and_short_files(dataset):
    shards = shards_of(dataset)
    write(shards, shards.begin())
    dataset.save(ShardedMatrix(shards, OBS, {}))
    lazy = AnnDataZarrDataset(filepath=dataset._filepath, in_memory=False)
    place = f"{dataset._path}/X/c/1/0"
    content = dataset._filesystem.cat_file(place)
    dataset._filesystem.pipe_file(place, content[:-1])
    with pytest.raises(Exception, match=r"X/c/1/0 (is cut short|has \d+ instead of)"):
        lazy.load()
    dataset._filesystem.rm_file(place)
    with pytest.raises(Exception, match=r"X/c/1/0"):
        lazy.load()
    dataset._filesystem.pipe_file(place, content[:20] + bytes([content[20] ^ 255]) + content[21:])
    with pytest.raises(Exception, match=r"(?i)checksum"):
        lazy.load().X.compute()


def test_long_matrices_in_memory_are_sharded_and_lazy_ones_saved(tmp_path):
    n = CHUNK_ROWS + 5
    features_nf = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    matrix = anndata.AnnData(features_nf, obsm={"head": features_nf[:, :1]})
    AnnDataZarrDataset(filepath=str(tmp_path / "a.zarr")).save(matrix)
    assert "sharding_indexed" in (tmp_path / "a.zarr/X/zarr.json").read_text()
    lazy = AnnDataZarrDataset(filepath=str(tmp_path / "a.zarr"), in_memory=False).load()
    kept_n = np.arange(n) % 3 > 0
    AnnDataZarrDataset(filepath=str(tmp_path / "b.zarr")).save(lazy[kept_n].copy())
    found = AnnDataZarrDataset(filepath=str(tmp_path / "b.zarr")).load()
    np.testing.assert_array_equal(found.X, features_nf[kept_n])
    np.testing.assert_array_equal(found.obsm["head"], features_nf[kept_n, :1])
    # As it is stored, a lazy array is not copied: files get a second name, which outlives the first.
    AnnDataZarrDataset(filepath=str(tmp_path / "c.zarr")).save(anndata.AnnData(lazy.X, obs=lazy.obs))
    assert (tmp_path / "c.zarr/X/c/0/0").samefile(tmp_path / "a.zarr/X/c/0/0")
    assert not (tmp_path / "b.zarr/X/c/0/0").samefile(tmp_path / "a.zarr/X/c/0/0")
    shutil.rmtree(tmp_path / "a.zarr")
    np.testing.assert_array_equal(AnnDataZarrDataset(filepath=str(tmp_path / "c.zarr")).load().X, features_nf)


def test_names_of_lazy_arrays_change_with_their_content_only(tmp_path):
    names = []
    for value in (1.0, 1.0, 2.0):
        dataset = AnnDataZarrDataset(filepath=str(tmp_path / "a.zarr"), in_memory=False)
        dataset.save(anndata.AnnData(np.full((3, 2), value, np.float32)))
        names += [dataset.load().X.name, dataset.load()[:2].X.name]
    assert len(set(names[:4])) == 2
    assert len(set(names)) == 4


def test_the_manifest_of_shards_has_their_digests(tmp_path):
    dataset = AnnDataZarrDataset(filepath=str(tmp_path / "a.zarr"))
    shards = shards_of(dataset)
    write(shards, shards.begin())
    dataset.save(ShardedMatrix(shards, OBS, {}))
    listed = json.loads((tmp_path / "a.zarr" / MANIFEST).read_text())["files"]
    assert {"X/c/0/0", "X/c/3/0", "obsm/projector.mlp.0/c/0/0", "zarr.json"} <= set(listed)
    (tmp_path / "a.zarr/X/c/3/0").write_bytes((tmp_path / "a.zarr/X/c/2/0").read_bytes())
    with pytest.raises(Exception, match="X/c/3/0"):
        dataset.load()


def test_size_and_memory_decide():
    assert fits_in_memory(0)
    assert not fits_in_memory(memory_bytes() / 12)  # seven copies would take more than half
    assert not fits_in_memory(5e9)
