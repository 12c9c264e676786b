import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from synapseclr.errors import VolumeError
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.chunk_layout import ShardLayout, shard_key
from synapseclr.volumes.store.chunk_store import ChunkBatch


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
