import json
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from synapseclr.errors import VolumeError
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.chunk_store import ChunkBatch
from synapseclr.volumes.reading import tensorstore_reader, zarr_reader

N = 13


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Chunks that do not fill the last shard, one of them black, and their store."""
    chunk_ncxyz = np.random.default_rng(0).integers(0, 255, (N, 2, 10, 9, 7)).astype(np.uint8)
    chunk_ncxyz[5] = 0
    zeros = np.zeros(N)
    records = {"synapse_id": np.arange(N), "cleft_id": zeros, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
    path = str(tmp_path_factory.mktemp("reading") / "s.zarr")
    write_chunk_store(ChunkStream([ChunkBatch(chunk_ncxyz, records)], (10, 9, 7), (16, 16, 40), 4), path)
    return chunk_ncxyz, ChunkStore(path)


POSITIONS = [[0], [12], [5], [3, 3, 3], [12, 0, 7, 1], [4, 5, 6, 7], list(range(N)), list(range(N))[::-1]]


@pytest.mark.parametrize("positions", POSITIONS)
def test_both_readers_read_the_same_bits(stored, positions):
    chunk_ncxyz, store = stored
    wanted = np.array(positions)
    by_tensorstore = tensorstore_reader(f"{store.url}/chunks")(wanted)
    by_zarr = zarr_reader(zarr.open_array(f"{store.url}/chunks", mode="r"))(wanted)
    np.testing.assert_array_equal(by_tensorstore, chunk_ncxyz[positions])
    np.testing.assert_array_equal(by_zarr, chunk_ncxyz[positions])
    for array in (by_tensorstore, by_zarr):
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous


def test_what_is_read_can_be_written_to(stored):
    """Torch takes the memory as it is, and warns of what it must not write to."""
    assert stored[1].read([3, 1]).flags.writeable
    assert stored[1].read(slice(2, 4)).flags.writeable


@pytest.mark.parametrize(
    "indices",
    [slice(None), slice(4, 9), slice(10, 99), slice(None, None, 3), slice(-3, None), slice(5, 5), [-1, 2], []],
)
def test_slices_and_positions_mean_what_they_mean_in_numpy(stored, indices):
    chunk_ncxyz, store = stored
    expected = chunk_ncxyz[indices] if indices != [] else chunk_ncxyz[:0]
    np.testing.assert_array_equal(store.read(indices), expected)


@pytest.mark.parametrize("position", [N, -N - 1])
def test_a_position_outside_of_the_store_is_an_error(stored, position):
    with pytest.raises(IndexError, match=rf"has {N} chunks, asked for were \[{position}\]"):
        stored[1].read([position])


def test_a_local_store_is_read_without_zarr(stored, monkeypatch):
    chunk_ncxyz, store = stored
    fresh = ChunkStore(store.url)
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda self, key: pytest.fail(f"zarr read {self.name}"))
    fresh.__dict__["records"] = store.records
    np.testing.assert_array_equal(fresh.read([7, 2]), chunk_ncxyz[[7, 2]])


def test_a_remote_store_is_read_by_zarr(stored):
    chunk_ncxyz, store = stored
    remote = ChunkStore(f"file://{store.url}")
    np.testing.assert_array_equal(remote.read([7, 2]), chunk_ncxyz[[7, 2]])
    assert "_tensorstore_reader" not in remote.__dict__


def test_a_relative_path_is_read(stored, monkeypatch):
    chunk_ncxyz, store = stored
    folder, name = os.path.split(store.url)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(ChunkStore(name).read([7]), chunk_ncxyz[[7]])


def test_a_damaged_shard_is_an_error_that_names_store_synapse_and_shard(tmp_path):
    """Half a shard is not read as if it were whole."""
    chunks = np.random.default_rng(0).integers(0, 255, (4, 2, 10, 9, 7)).astype(np.uint8)
    zeros = np.zeros(4)
    records = {"synapse_id": np.arange(4), "cleft_id": zeros, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
    path = tmp_path / "s.zarr"
    write_chunk_store(ChunkStream([ChunkBatch(chunks, records)], (10, 9, 7), (16, 16, 40), 4), str(path))
    (shard,) = (found for found in (path / "chunks" / "c").rglob("*") if found.is_file())
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(VolumeError, match=r"Synapse 2 of the chunk store at .*s\.zarr cannot be read: .*shard 0"):
        ChunkStore(str(path)).read([2])


FORK = """
import json, multiprocessing, sys
from synapseclr.volumes import ChunkStore

store = ChunkStore(sys.argv[1])

def with_the_handle_of_the_parent(_):
    return int(store.read([7, 2]).sum())

def with_a_pickled_handle(pickled):
    return int(pickled.read([7, 2]).sum())

sums = [with_the_handle_of_the_parent(None)]
with multiprocessing.get_context("fork").Pool(1) as pool:
    for function in (with_the_handle_of_the_parent, with_a_pickled_handle):
        sums.append(pool.apply_async(function, (store,)).get(60))
print(json.dumps(sums))
"""


def test_a_forked_process_reads_although_its_parent_has_read(stored):
    """Tensorstore ends a process that was forked from one that used it: there zarr reads."""
    chunk_ncxyz, store = stored
    done = subprocess.run([sys.executable, "-c", FORK, store.url], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [int(chunk_ncxyz[[7, 2]].sum())] * 3


def test_a_spawned_process_reads_with_a_pickled_handle(stored):
    chunk_ncxyz, store = stored
    store.read([1])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(store.read, ([7, 2],)), chunk_ncxyz[[7, 2]])
