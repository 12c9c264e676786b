"""A chunk store is written and read, and another one that takes its place while it is read is noticed."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from synapseclr.errors import VolumeError
from synapseclr.explorer.images import SynapseImages
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.shards import ShardLayout, shard_key


def make_stream(n, seed=0, shard=4):
    chunks = np.random.default_rng(seed).integers(0, 255, (n, 2, 6, 6, 4)).astype(np.uint8)
    batches = []
    for start in range(0, n, shard):
        part = chunks[start : start + shard]
        ids = np.arange(start, start + len(part))
        zeros = np.zeros(len(part))
        records = {"synapse_id": ids, "cleft_id": ids, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
        batches.append(ChunkBatch(part, records, {1000 + start: "a reason"}))
    return chunks, ChunkStream(batches, (6, 6, 4), (16, 16, 40), shard)


@pytest.mark.parametrize("n", [1, 4, 11])
def test_what_is_written_is_read_back(tmp_path, n):
    chunks, stream = make_stream(n)
    write_chunk_store(stream, str(tmp_path / "s.zarr"))
    store = ChunkStore(str(tmp_path / "s.zarr"))
    assert len(store) == n
    np.testing.assert_array_equal(store.read(slice(None)), chunks)
    wanted = [n - 1, 0]
    np.testing.assert_array_equal(store.read(wanted), chunks[wanted])
    np.testing.assert_array_equal(np.concatenate(list(store.iterate(3))), chunks)


def test_a_store_can_be_read_by_several_threads_at_once(tmp_path):
    chunks, stream = make_stream(40)
    write_chunk_store(stream, str(tmp_path / "s.zarr"))
    store = ChunkStore(str(tmp_path / "s.zarr"))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda position: store.read([position])[0], list(range(40)) * 25))
    np.testing.assert_array_equal(np.stack(read), np.concatenate([chunks] * 25))


def test_one_synapse_is_one_inner_chunk_of_a_shard(tmp_path):
    write_chunk_store(make_stream(11)[1], str(tmp_path / "s.zarr"))
    array = zarr.open_group(str(tmp_path / "s.zarr"), mode="r")["chunks"]
    assert array.chunks == (1, 2, 6, 6, 4)
    assert array.shards == (4, 2, 6, 6, 4)
    assert array.metadata.zarr_format == 3


def test_attributes_describe_the_axes_and_codes(tmp_path):
    write_chunk_store(make_stream(2)[1], str(tmp_path / "s.zarr"))
    attributes = zarr.open_group(str(tmp_path / "s.zarr"), mode="r").attrs
    assert attributes["mask_codes"]["synaptic_cleft"] == 2
    assert attributes["channels"] == ["intensity", "segmentation"]
    assert ChunkStore(str(tmp_path / "s.zarr")).axial_to_sagittal_spacing == 2.5


def test_rejected_synapses_are_kept_with_their_reason(tmp_path):
    write_chunk_store(make_stream(5)[1], str(tmp_path / "s.zarr"))
    assert ChunkStore(str(tmp_path / "s.zarr")).rejected == {1000: "a reason", 1004: "a reason"}


def test_a_handle_survives_pickling_for_worker_processes(tmp_path):
    chunks, stream = make_stream(3)
    write_chunk_store(stream, str(tmp_path / "s.zarr"))
    store = ChunkStore(str(tmp_path / "s.zarr"))
    assert len(store) == 3
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read([2])[0], chunks[2])


def test_the_digest_tells_data_sets_apart(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_chunk_store(make_stream(3, seed)[1], str(tmp_path / name))
    a, b, c = (ChunkStore(str(tmp_path / name)).sha256 for name in "abc")
    assert a == b != c


def test_a_failed_write_leaves_the_old_store_in_place(tmp_path):
    chunks, stream = make_stream(3)
    path = str(tmp_path / "s.zarr")
    write_chunk_store(stream, path)

    def broken():
        yield from make_stream(4, seed=1)[1]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_chunk_store(ChunkStream(broken(), (6, 6, 4), (16, 16, 40), 4), path)
    np.testing.assert_array_equal(ChunkStore(path).read(slice(None)), chunks)


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(VolumeError, match="kedro run --pipeline=preprocessing"):
        len(ChunkStore(str(tmp_path / "none.zarr")))


def test_an_unfinished_store_is_refused(tmp_path):
    write_chunk_store(make_stream(2)[1], str(tmp_path / "s.zarr"))
    zarr.open_group(str(tmp_path / "s.zarr"), mode="a").attrs["complete"] = False
    with pytest.raises(VolumeError, match="is unfinished"):
        len(ChunkStore(str(tmp_path / "s.zarr")))


@pytest.mark.parametrize("black", [[], [0, 2], [0, 1, 2]])
def test_a_shard_is_encoded_to_the_bytes_that_zarr_would_store(tmp_path, black):
    layout = ShardLayout((16, 14, 12), 4)
    chunk_ncxyz = np.random.default_rng(0).integers(0, 255, (3, 2, 16, 14, 12)).astype(np.uint8)
    chunk_ncxyz[:, 1] //= 64
    chunk_ncxyz[black] = 0
    array = layout.create_array(str(tmp_path / "chunks"), 4)
    array[:3] = chunk_ncxyz
    path = tmp_path / shard_key(0)
    assert layout.encode(chunk_ncxyz) == (path.read_bytes() if path.exists() else b"")


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
    """Read as a reader does: the first voxel of every chunk, or the sentence."""
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
