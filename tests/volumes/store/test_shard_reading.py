import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import zarr

from synapseclr.errors import VolumeError
from synapseclr.storage.object_folder import LocalCache, ObjectFolder
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.shard_reading import open_shards, shard_reader, zarr_reader

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
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_read_is_what_zarr_reads(stored, positions, scheme):
    chunk_ncxyz, store = stored
    wanted = np.array(positions)
    array = zarr.open_array(f"{store.url}/chunks", mode="r")
    ours = shard_reader(array, open_shards(ObjectFolder(scheme + store.url), ""))(wanted)
    np.testing.assert_array_equal(ours, chunk_ncxyz[positions])
    np.testing.assert_array_equal(zarr_reader(array)(wanted), chunk_ncxyz[positions])
    assert ours.dtype == np.uint8
    assert ours.flags.c_contiguous


def test_an_array_with_other_codecs_is_read_by_zarr(tmp_path):
    chunk_ncxyz = np.random.default_rng(0).integers(0, 255, (5, 2, 4, 4, 4)).astype(np.uint8)
    array = zarr.create_array(
        tmp_path / "chunks", shape=chunk_ncxyz.shape, chunks=(1, 2, 4, 4, 4), shards=(2, 2, 4, 4, 4), dtype="uint8"
    )
    array[:] = chunk_ncxyz
    read = shard_reader(array, open_shards(ObjectFolder(str(tmp_path)), ""))
    np.testing.assert_array_equal(read(np.array([4, 1])), chunk_ncxyz[[4, 1]])


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


def test_a_remote_store_is_read_through_a_bounded_cache(stored, tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    chunk_ncxyz, store = stored
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    MemoryFileSystem().put(store.url, "/bucket/s.zarr", recursive=True)
    remote = ChunkStore("memory://bucket/s.zarr", cache_folder=str(tmp_path / "cache"), cache_gb=1e-3)
    np.testing.assert_array_equal(remote.read([7, 2]), chunk_ncxyz[[7, 2]])
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 4  # two chunks, two indices
    again = pickle.loads(pickle.dumps(remote))
    assert len(again) == N
    assert again.sha256
    for name in ("cat_file", "cat_ranges"):
        real = getattr(MemoryFileSystem, name)
        monkeypatch.setattr(MemoryFileSystem, name, only_nothing(real))
    np.testing.assert_array_equal(again.read([2, 7]), chunk_ncxyz[[2, 7]])
    with pytest.raises(VolumeError, match="asked of the store"):
        again.read([2, 6])


def only_nothing(real):
    def ask(self, paths, *arguments, **options):
        if paths and any("/chunks/c/" in path for path in ([paths] if isinstance(paths, str) else paths)):
            raise VolumeError("asked of the store")
        return real(self, paths, *arguments, **options)

    return ask


def test_the_cache_holds_no_more_than_its_bound_and_what_was_used_last(tmp_path):
    cache = LocalCache(tmp_path / "cache", 100_000)
    for number in range(200):
        cache.put(f"key {number}", bytes([number]) * 1_000)
        os.utime(cache._path(f"key {number}"), ns=(number * 10**9, number * 10**9))
        assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()) <= 104_000
    assert cache.get("key 199") == bytes([199]) * 1_000
    assert cache.get("key 120") is not None
    assert cache.get("key 3") is None
    cache.put("large", bytes(50_000))
    assert cache.get("large") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = LocalCache(tmp_path / "file", 100_000)
    cache.put("key", b"value")
    assert cache.get("key") is None


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
    chunk_ncxyz, store = stored
    done = subprocess.run([sys.executable, "-c", FORK, store.url], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [int(chunk_ncxyz[[7, 2]].sum())] * 3


def test_a_spawned_process_reads_with_a_pickled_handle(stored):
    chunk_ncxyz, store = stored
    store.read([1])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(store.read, ([7, 2],)), chunk_ncxyz[[7, 2]])
