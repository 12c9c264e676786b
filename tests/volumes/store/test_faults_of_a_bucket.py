"""Faults of an object store: the result is the same, or the run stops with a sentence that names the object."""

import logging

import fsspec
import gcsfs
import numpy as np
import pytest
from gcs_faults import faults, short_pauses
from small_volumes import make_table, stream, write_image, write_volumes

from synapseclr.errors import TableError, UnreachableError
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.volumes import ChunkStore, OmeZarrLayer, write_chunk_store
from synapseclr.volumes.store.shards import recorded_shards
from synapseclr.volumes.store.verification import verify_chunk_store

PLACE = "gs://synapseclr-test/faults"
KINDS = [
    {"unavailable": 0.1},
    {"reset": 0.1},
    {"truncated": 0.1},
    {"stall": 0.05, "at_most": 1},
    {"unavailable": 0.05, "reset": 0.05, "truncated": 0.05},
]


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module", autouse=True)
def volumes(gcs_endpoint, table):
    """Volumes in a bucket, and a store that was written without faults."""
    before = fsspec.config.conf.get("gs")
    fsspec.config.conf["gs"] = {"token": "anon"}
    write_volumes(PLACE)
    write_chunk_store(stream(PLACE, table), f"{PLACE}/good.zarr")
    level = logging.getLogger("gcsfs").level
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    with short_pauses():
        yield
    logging.getLogger("gcsfs").setLevel(level)
    fsspec.config.conf.pop("gs") if before is None else fsspec.config.conf.update(gs=before)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_cutting_and_storing_give_the_same_store(table, gcs_prefix, kinds):
    good = ChunkStore(f"{PLACE}/good.zarr")
    expected = good.read(slice(None))
    with faults(**kinds) as injected:
        write_chunk_store(stream(PLACE, table), f"{gcs_prefix}/s.zarr")
        store = ChunkStore(f"{gcs_prefix}/s.zarr")
        read = store.read(slice(None))
    assert all(injected.happened[kind] for kind in kinds if kind != "at_most")
    assert (store.sha256, store.rejected) == (good.sha256, good.rejected)
    np.testing.assert_array_equal(read, expected)
    assert verify_chunk_store(store.url).is_intact


@pytest.mark.parametrize("kinds", KINDS[:3], ids=str)
def test_single_chunks_are_read_through_faults(kinds):
    expected = ChunkStore(f"{PLACE}/good.zarr").read(slice(None))
    with faults(**kinds) as injected:
        store = ChunkStore(f"{PLACE}/good.zarr")
        for position in (*range(len(store)), *range(len(store))):
            np.testing.assert_array_equal(store.read([position]), expected[[position]])
    assert sum(injected.happened.values()) > 1


def test_an_ome_zarr_volume_is_read_through_faults(gcs_prefix):
    array_xyz = np.random.default_rng(0).integers(1, 255, (64, 64, 32)).astype(np.uint8)
    write_image(f"{gcs_prefix}/v", array_xyz, "0.5", options={"token": "anon"})
    with faults(unavailable=0.1, reset=0.1, truncated=0.1) as injected:
        layer = OmeZarrLayer(f"{gcs_prefix}/v").at_resolution((16, 16, 40))
        np.testing.assert_array_equal(layer.read(layer.lower_vx, layer.upper_vx), array_xyz)
    assert injected.happened
    with faults(unavailable=1.0), pytest.raises(UnreachableError, match=rf"{gcs_prefix}/v cannot be read .*503"):
        layer.read(layer.lower_vx, layer.upper_vx)


LASTING = [{"unavailable": 1.0}, {"reset": 1.0}, {"truncated": 1.0}, {"unauthorised": 1.0}, {"forbidden": 1.0}]
SENTENCE = r"cannot be {} \(.*\)\. Check the bucket's name, your credentials \(docs/data.md\) and the connection"


@pytest.mark.parametrize("kinds", LASTING, ids=str)
def test_what_lasts_ends_each_step_with_a_sentence_that_names_the_object(table, gcs_prefix, kinds):
    source = stream(PLACE, table)
    assert source.batches.cutter.em
    open_store = ChunkStore(f"{PLACE}/good.zarr")
    assert len(open_store) + len(open_store.rejected) == len(table)
    assert open_store.sha256
    write_chunk_store(stream(PLACE, table), f"{gcs_prefix}/s.zarr")
    folder = ObjectFolder(f"{gcs_prefix}/s.zarr")
    with faults(**kinds):
        with pytest.raises(UnreachableError, match=f"em at|em cannot be opened: {PLACE}/em {SENTENCE.format('read')}"):
            stream(PLACE, table)
        where = rf"The \w+ cannot be read in voxels .*, object 16_16_40/\S+: {PLACE}/\w+ {SENTENCE.format('read')}"
        with pytest.raises(UnreachableError, match=where):
            source.batches.cut(0)
        with pytest.raises(UnreachableError, match=f"{gcs_prefix}/s.zarr/zarr.json {SENTENCE.format('read')}"):
            write_chunk_store(source, f"{gcs_prefix}/s.zarr")
        with pytest.raises(UnreachableError, match=f"{gcs_prefix}/s.zarr/chunks/c/0/.* {SENTENCE.format('written')}"):
            folder.write("chunks/c/0/0/0/0/0", b"data")
        with pytest.raises(UnreachableError, match=f"{PLACE}/good.zarr {SENTENCE.format('read')}"):
            len(ChunkStore(f"{PLACE}/good.zarr"))
        with pytest.raises(UnreachableError, match=f"{PLACE}/good.zarr/(chunks|zarr.json).* {SENTENCE.format('read')}"):
            open_store.read([3])
    assert len(recorded_shards(folder)) == 6  # a store that cannot be read is not begun anew
    assert ChunkStore(f"{gcs_prefix}/s.zarr").sha256 == open_store.sha256


def test_a_missing_block_is_named_and_its_synapses_are_recorded(table, gcs_prefix):
    write_volumes(gcs_prefix)
    bucket = gcsfs.GCSFileSystem(token="anon")
    bucket.rm_file(f"{gcs_prefix}/em/16_16_40/32-64_0-32_0-16")
    write_chunk_store(stream(gcs_prefix, table, max_rejected_fraction=0.9), f"{gcs_prefix}/s.zarr")
    good, store = ChunkStore(f"{PLACE}/good.zarr"), ChunkStore(f"{gcs_prefix}/s.zarr")
    reasons = {reason for reason in store.rejected.values() if "no labelled cleft" not in reason}
    assert reasons
    assert all(f"The em at {gcs_prefix}/em" in reason and "32-64_0-32_0-16" in reason for reason in reasons)
    kept = {int(i): c for i, c in zip(good.synapse_id, good.read(slice(None)), strict=True)}
    assert 0 < len(store) < len(good)
    for synapse_id, chunk in zip(store.synapse_id, store.read(slice(None)), strict=True):
        np.testing.assert_array_equal(chunk, kept[int(synapse_id)])
    with pytest.raises(TableError, match=rf"{gcs_prefix}/em .* object 16_16_40/32-64_0-32_0-16"):
        write_chunk_store(stream(gcs_prefix, table, max_rejected_fraction=0.0), f"{gcs_prefix}/t.zarr")
