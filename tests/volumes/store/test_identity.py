"""A store that is replaced under an open handle is noticed; so are pieces that are lost from its arrays."""

import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from synapseclr.errors import VolumeError
from synapseclr.explorer.images import SynapseImages
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.chunk_layout import shard_key
from synapseclr.volumes.store.chunk_store import ChunkBatch

N, SIZE = 12, (6, 5, 4)
REPLACED = "was replaced while it was being read"


def write(url: str, order: np.ndarray) -> None:
    """Store chunks whose voxels tell their ids, in an order of ids."""
    chunk_ncxyz = np.broadcast_to(100 + order[:, None, None, None, None], (N, 2, *SIZE)).astype(np.uint8)
    zeros = np.zeros(N)
    records = {"synapse_id": order, "cleft_id": order + 50, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
    write_chunk_store(ChunkStream([ChunkBatch(chunk_ncxyz, records)], SIZE, (16, 16, 40), 4), url)


@pytest.fixture(params=["local", "memory", "bucket"])
def url(request, tmp_path) -> str:
    if request.param == "bucket":
        url = f"{request.getfixturevalue('gcs_prefix')}/s.zarr"
    else:
        url = str(tmp_path / "s.zarr") if request.param == "local" else f"memory://{tmp_path.name}/s.zarr"
    write(url, np.arange(N))
    return url


def test_another_order_under_an_open_handle_is_an_error(url):
    store = ChunkStore(url)
    np.testing.assert_array_equal(store.read(slice(None))[:, 0, 0, 0, 0], 100 + store.synapse_id)
    write(url, np.arange(N)[::-1])
    for positions in ([0], [3, 8], slice(None)):
        with pytest.raises(VolumeError, match=REPLACED):
            store.read(positions)
    again = ChunkStore(url)
    np.testing.assert_array_equal(again.read(slice(None))[:, 0, 0, 0, 0], 100 + again.synapse_id)


def test_a_replacement_that_is_half_done_is_an_error_from_its_first_shard_on(url, monkeypatch):
    """In a bucket the new shards take the old ones' places one by one, while readers go on."""
    store = ChunkStore(url)
    store.read([0])
    seen = []

    def batches():
        order = np.arange(N)[::-1]
        for start in range(0, N, 4):
            chunk_ncxyz = np.broadcast_to(100 + order[start : start + 4, None, None, None, None], (4, 2, *SIZE))
            zeros = np.zeros(4)
            records = {"synapse_id": order[start : start + 4], "cleft_id": order[start : start + 4] + 50}
            records |= {"n_cutout_sections": zeros, "n_padded_voxels": zeros}
            yield ChunkBatch(chunk_ncxyz.astype(np.uint8), records)
            seen.append(read_or_error(store))

    write_chunk_store(ChunkStream(batches(), SIZE, (16, 16, 40), 4), url)
    seen.append(read_or_error(store))
    before = (100 + np.arange(N)).tolist()
    assert all(found == before or REPLACED in found for found in seen)
    assert REPLACED in seen[-1]


def read_or_error(store):
    """What a reader gets: the first voxel of every chunk, or the sentence."""
    try:
        return store.read(slice(None))[:, 0, 0, 0, 0].tolist()
    except VolumeError as error:
        return str(error)


def test_a_handle_that_was_opened_before_and_read_after_is_an_error(url):
    store = ChunkStore(url)
    assert len(store) == N
    write(url, np.arange(N)[::-1])
    with pytest.raises(VolumeError, match=REPLACED):
        store.read([0])


def test_ids_are_not_taken_from_a_store_that_came_later(url):
    store = ChunkStore(url)
    assert store.sha256
    write(url, np.arange(N)[::-1])
    with pytest.raises(VolumeError, match=REPLACED):
        _ = store.synapse_id


def test_a_worker_process_does_not_open_another_store(url):
    store = ChunkStore(url)
    assert len(store) == N
    sent = pickle.dumps(store)
    write(url, np.arange(N)[::-1])
    with pytest.raises(VolumeError, match=REPLACED):
        pickle.loads(sent).read([0])
    relayed = pickle.dumps(pickle.loads(sent))
    with pytest.raises(VolumeError, match=REPLACED):
        pickle.loads(relayed).read([0])


def test_a_store_that_is_gone_is_said_to_be_replaced(url):
    store = ChunkStore(url)
    store.read([0])
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.rm(path, recursive=True)
    with pytest.raises(VolumeError, match=REPLACED):
        store.read([0])


def test_the_same_chunks_written_again_are_read_on(url):
    store = ChunkStore(url)
    before = store.read(slice(None))
    write(url, np.arange(N))
    np.testing.assert_array_equal(store.read(slice(None)), before)


def test_the_same_chunks_in_other_bytes_are_read_on(tmp_path):
    """As after a repair by another version: indices that were kept would lead astray."""
    url = str(tmp_path / "s.zarr")
    write(url, np.arange(N))
    store = ChunkStore(url)
    before = store.read(slice(None))
    shard = Path(url, shard_key(0))
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(data[-68:-4], "<u8").reshape(4, 2).copy()
    pieces = [bytes(data[start : start + n]) for start, n in index.tolist()]
    body = b"".join(pieces[::-1])
    ends = np.cumsum([len(piece) for piece in pieces[::-1]])
    index[:, 0] = (ends - [len(piece) for piece in pieces[::-1]])[::-1]
    from crc32c import crc32c

    shard.write_bytes(body + index.tobytes() + crc32c(index.tobytes()).to_bytes(4, "little"))
    description = Path(url, "zarr.json")
    description.write_text(description.read_text() + "\n")
    np.testing.assert_array_equal(store.read(slice(None)), before)


def test_the_explorer_says_that_the_store_was_replaced(url):
    images = SynapseImages(ChunkStore(url))
    assert images.picture("thumbnail", 2)
    write(url, np.arange(N)[::-1])
    assert images.picture("thumbnail", 2)  # made of the store that was opened
    with pytest.raises(VolumeError, match=REPLACED):
        images.picture("thumbnail", 3)


def test_nothing_of_a_replaced_store_is_kept_for_the_one_that_was_opened(tmp_path):
    url = f"memory://{tmp_path.name}/cached.zarr"
    write(url, np.arange(N))
    store = ChunkStore(url, cache_folder=str(tmp_path / "cache"))
    kept = store.read([0])
    write(url, np.arange(N)[::-1])
    np.testing.assert_array_equal(store.read([0]), kept)  # from the cache, under the digest of its own store
    with pytest.raises(VolumeError, match=REPLACED):
        store.read([1])
    write(url, np.arange(N))
    again = ChunkStore(url, cache_folder=str(tmp_path / "cache"))
    np.testing.assert_array_equal(again.read(slice(None))[:, 0, 0, 0, 0], 100 + np.arange(N))


def test_a_piece_that_was_cut_short_in_the_cache_is_fetched_again(tmp_path):
    """As a power cut leaves it."""
    url = f"memory://{tmp_path.name}/cut.zarr"
    write(url, np.arange(N))
    expected = ChunkStore(url, cache_folder=str(tmp_path / "cache")).read(slice(None))
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for path in kept:
        path.write_bytes(path.read_bytes()[:7])
    np.testing.assert_array_equal(ChunkStore(url, cache_folder=str(tmp_path / "cache")).read(slice(None)), expected)
    assert len(kept) == N + 3  # chunks, and an index a shard


@pytest.mark.parametrize("name", ["synapse_id", "cleft_id"])
def test_a_lost_piece_of_an_array_is_an_error_and_not_zeros(url, name):
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.rm_file(f"{path}/{name}/c/0")
    with pytest.raises(VolumeError, match=f"The array {name} of the chunk store .* is damaged"):
        _ = ChunkStore(url).records


def test_an_old_store_that_cannot_be_deleted_does_not_stop_the_new_one(tmp_path, monkeypatch, caplog):
    url = str(tmp_path / "s.zarr")
    write(url, np.arange(N))
    delete = shutil.rmtree

    def refuse(path, *arguments, **options):
        if str(path).endswith(".old"):
            raise PermissionError(13, "Permission denied")
        delete(path, *arguments, **options)

    monkeypatch.setattr("synapseclr.storage.atomic_files.shutil.rmtree", refuse)
    write(url, np.arange(N)[::-1])
    assert ChunkStore(url).synapse_id.tolist() == list(range(N))[::-1]
    assert "delete it by hand" in caplog.text
