"""Layers that open and cannot be used are refused at once, in a sentence that says what to do."""

import json
import shutil
import threading
import time

import numpy as np
import pytest

from synapseclr.errors import DecoderError, VolumeError
from synapseclr.volumes import PrecomputedLayer, cut_chunks, write_precomputed
from synapseclr.volumes.layers import blocks

SIZE_NM = (16, 16, 40)


def changed_info(layer, folder, change):
    """A copy of a precomputed volume whose info says something else."""
    place = folder / "changed"
    shutil.copytree(layer.uri.removeprefix("file://"), place)
    info = json.loads((place / "info").read_text())
    change(info)
    (place / "info").write_text(json.dumps(info))
    return PrecomputedLayer(f"file://{place}", layer.role)


@pytest.mark.parametrize("address", ["graphene://https://example.com/table", "Graphene://middleauth+https://x/y"])
def test_a_chunked_graph_is_refused_with_the_way_to_flatten_it(address):
    with pytest.raises(
        VolumeError, match=r"segmentation volume at .* is a chunked graph.*supervoxels.*GrapheneVolumeDataset"
    ):
        PrecomputedLayer(address, "segmentation volume").at_resolution(SIZE_NM)


@pytest.mark.parametrize("key", ["app", "graph"])
def test_a_chunked_graph_without_its_format_in_the_address_is_refused_too(tiny_volume, tmp_path, key):
    layer = changed_info(tiny_volume.segmentation, tmp_path, lambda info: info.update({key: {"n_layers": 9}}))
    with pytest.raises(VolumeError, match="is a chunked graph, agglomerated on demand"):
        layer.at_resolution(SIZE_NM)


@pytest.mark.parametrize("codec", ["crackle", "compresso", "of_tomorrow"])
def test_a_missing_decoder_ends_the_cutting_at_the_first_block(tiny_volume, tmp_path, monkeypatch, codec):
    """Neither retried nor counted as a rejected synapse."""
    from cloudvolume import chunks

    monkeypatch.setitem(chunks.NEEDS_INSTALL, codec, f"{codec}-codec")
    layer = changed_info(tiny_volume.segmentation, tmp_path, lambda info: info["scales"][0].update(encoding=codec))
    pauses, earlier = [], set(threading.enumerate()) - {threading.main_thread()}  # may still read another layer
    real = time.sleep
    monkeypatch.setattr(
        blocks.time, "sleep", lambda s: real(s) if threading.current_thread() in earlier else pauses.append(s)
    )
    config = tiny_volume.config.model_copy(update={"max_rejected_fraction": 1.0})
    stream = cut_chunks(tiny_volume.em, layer, tiny_volume.cleft, tiny_volume.synapses, config)
    with pytest.raises(DecoderError, match=rf"is encoded as '{codec}', and there is no decoder for it here"):
        stream.batches.cut(0)
    assert pauses == []


def test_labels_of_one_byte_are_read_like_any_other_ids(tiny_volume, tmp_path):
    cleft = tiny_volume.cleft.at_resolution(SIZE_NM)
    labels_xyz = cleft.read(cleft.lower_vx, cleft.upper_vx)
    write_precomputed((labels_xyz % 256).astype(np.uint8), f"file://{tmp_path}/bytes", SIZE_NM, "image", (32, 32, 8))
    by_bytes = PrecomputedLayer(f"file://{tmp_path}/bytes", "cleft volume")

    def masks(layer):
        stream = cut_chunks(tiny_volume.em, tiny_volume.segmentation, layer, tiny_volume.synapses, tiny_volume.config)
        batch = stream.batches.cut(0)
        return batch.chunk_ncxyz[:, 1], batch.rejected

    np.testing.assert_array_equal(masks(by_bytes)[0], masks(tiny_volume.cleft)[0])
    assert masks(by_bytes)[1] == {}


def test_ids_that_are_no_whole_numbers_are_refused(tiny_volume, tmp_path):
    empty = np.zeros((64, 48, 20), np.float32)
    write_precomputed(empty, f"file://{tmp_path}/floats", SIZE_NM, "image", (32, 32, 8))
    floats = PrecomputedLayer(f"file://{tmp_path}/floats", "segmentation volume")
    with pytest.raises(VolumeError, match=r"segmentation volume at .*floats holds float32; ids are whole numbers"):
        cut_chunks(tiny_volume.em, floats, tiny_volume.cleft, tiny_volume.synapses, tiny_volume.config)


def test_a_layer_says_how_its_blocks_are_encoded(tiny_volume):
    layers = (tiny_volume.em, tiny_volume.segmentation)
    assert [layer.at_resolution(SIZE_NM).codec for layer in layers] == ["raw", "compressed_segmentation"]
