"""Volumes that CloudVolume reads: missing blocks of label layers, channels, scales that were rounded, and N5."""

import gzip
import json
import logging
import struct

import numpy as np
import pytest
from cloudvolume import CloudVolume
from kedro.io import DatasetError
from small_volumes import make_table, write_volumes

from synapseclr.datasets import PrecomputedVolumeDataset
from synapseclr.errors import TableError, VolumeError
from synapseclr.volumes import (
    ChunkStore,
    PrecomputedLayer,
    PreprocessingConfig,
    cut_chunks,
    tabulate_chunks,
    write_chunk_store,
    write_precomputed,
)

CONFIG = PreprocessingConfig(
    voxel_size_nm=(16, 16, 40), chunk_size_vx=(24, 24, 12), synapses_per_shard=4, max_rejected_fraction=0.9
)


def voxels(layer, voxel_size_nm=(16, 16, 40)):
    opened = layer.at_resolution(voxel_size_nm)
    return opened.read(opened.lower_vx, opened.upper_vx - opened.lower_vx)


def sparse(folder):
    """The small volumes, with clefts in two of eight blocks; returns the files of the other six."""
    write_volumes(f"file://{folder}")
    clefts = np.zeros((64, 64, 32), np.uint64)
    clefts[2::8, 2:30:8, 18:30:4] = np.arange(1, 97).reshape(8, 4, 3)
    write_precomputed(clefts, f"file://{folder}/clefts", (16, 16, 40), "segmentation", (32, 32, 16))
    blocks = {block.name.removesuffix(".gz"): block for block in (folder / "clefts/16_16_40").iterdir()}
    empty = set(blocks) - {"0-32_0-32_16-32", "32-64_0-32_16-32"}
    assert len(empty) == 6
    return [blocks[name] for name in sorted(empty)]


def layers(folder, **of_clefts):
    entries = {"em": {}, "segmentation": {}, "clefts": of_clefts}
    return [
        PrecomputedVolumeDataset(
            filepath=str(folder / name),
            layer_type="image" if name == "em" else "segmentation",
            role=f"{name} volume",
            **more,
        ).load()
        for name, more in entries.items()
    ]


def stored(folder, path, **of_clefts):
    write_chunk_store(cut_chunks(*layers(folder, **of_clefts), make_table(), CONFIG), str(path))
    return ChunkStore(str(path))


def test_missing_blocks_of_labels_are_background_if_the_catalog_says_so(tmp_path):
    empty = sparse(tmp_path)
    whole = stored(tmp_path, tmp_path / "whole.zarr")
    for block in empty:
        block.unlink()
    filled = stored(tmp_path, tmp_path / "filled.zarr", fill_missing=True)
    assert len(filled) > 3
    assert filled.sha256 == whole.sha256
    assert filled.rejected == whole.rejected
    tables = [tabulate_chunks(store, make_table(), (16, 16, 40))[0] for store in (whole, filled)]
    assert tables[0].equals(tables[1])


def test_without_it_the_error_names_the_setting_and_says_nothing_of_positions(tmp_path, caplog):
    for block in sparse(tmp_path):
        block.unlink()
    with caplog.at_level(logging.WARNING), pytest.raises(TableError, match="fill_missing: true") as error:
        stored(tmp_path, tmp_path / "s.zarr")
    assert "touch storage blocks that cannot be read" in str(error.value)
    assert "The clefts volume at" in str(error.value)
    assert "position" not in str(error.value)
    assert "Attempt" not in caplog.text  # what does not exist is not asked for again


def test_of_both_kinds_of_rejection_an_example_is_given(tmp_path):
    for block in sparse(tmp_path)[:1]:
        block.unlink()
    table = make_table()
    table.loc[:14, "ctr_pos_x_vx"] += 1e4
    stream = cut_chunks(*layers(tmp_path), table, CONFIG.model_copy(update={"max_rejected_fraction": 0.0}))
    rejected = {1: "its centre lies outside", 2: "a block is missing"}
    with pytest.raises(
        TableError, match=r"could be read, synapse 1: its centre.*position_voxel_size_nm.* synapse 2: a bl"
    ):
        stream.batches.check(rejected, {2})
    with pytest.raises(TableError) as error:
        stream.batches.check({2: "a block is missing"}, {2})
    assert "position" not in str(error.value)


def test_a_missing_block_of_the_image_stays_an_error(tmp_path):
    sparse(tmp_path)
    next((tmp_path / "em/16_16_40").glob("0-32_0-32_0-16*")).unlink()
    with pytest.raises(VolumeError, match="does not exist: the image is incomplete") as error:
        voxels(layers(tmp_path)[0])
    assert "fill_missing" not in str(error.value)
    with pytest.raises(DatasetError, match=r"fill_missing is set for .*, an image"):
        PrecomputedVolumeDataset(filepath=str(tmp_path / "em"), layer_type="image", fill_missing=True)


def test_the_setting_is_part_of_what_tells_two_stores_apart(tmp_path):
    sparse(tmp_path)
    strict, filled = (
        cut_chunks(*layers(tmp_path, fill_missing=fill), make_table(), CONFIG).batches.fingerprint
        for fill in (False, True)
    )
    assert strict != filled


def write_channels(folder, n_channels=2, resolution=(16, 16, 40)):
    array = np.random.default_rng(0).integers(0, 255, (40, 36, 12, n_channels)).astype(np.uint8)
    info = CloudVolume.create_new_info(
        n_channels, "image", "uint8", "raw", list(resolution), [0, 0, 0], array.shape[:3], [32, 32, 8]
    )
    volume = CloudVolume(f"file://{folder}", info=info, progress=False, non_aligned_writes=True)
    volume.commit_info()
    volume[:, :, :] = array
    return array


def test_the_catalog_chooses_one_of_several_channels(tmp_path):
    array = write_channels(tmp_path)
    for channel in (0, 1):
        entry = PrecomputedVolumeDataset(filepath=str(tmp_path), layer_type="image", channel=channel)
        np.testing.assert_array_equal(voxels(entry.load()), array[..., channel])


def test_several_channels_without_a_choice_are_an_error_that_lists_them(tmp_path):
    write_channels(tmp_path)
    layer = PrecomputedLayer(f"file://{tmp_path}", "EM volume")
    with pytest.raises(VolumeError, match=r"The EM volume at .* has 2 channels: 0, 1. Say which .* `channel:`"):
        layer.at_resolution((16, 16, 40))
    with pytest.raises(VolumeError, match="has 2 channels: 0, 1; there is none with the number 2"):
        PrecomputedLayer(layer.uri, "EM volume", channel=2).at_resolution((16, 16, 40))


def test_a_resolution_that_a_writer_rounded_is_the_same_scale(tmp_path):
    array = write_channels(tmp_path, 1, (3.9999998, 4.0000002, 40))
    np.testing.assert_array_equal(voxels(PrecomputedLayer(f"file://{tmp_path}"), (4, 4, 40)), array[..., 0])
    with pytest.raises(VolumeError, match=r"no scale of 4.0005 x 4 x 40 nm; it has 3.9999998 x 4.0000002 x 40 nm"):
        PrecomputedLayer(f"file://{tmp_path}").at_resolution((4.0005, 4, 40))


def write_n5(folder, array_xyz, unit, size, block=(16, 16, 8)):
    """Write one scale as N5 does: big-endian blocks, x fastest, each with a header."""
    (folder / "s0").mkdir(parents=True)
    root = {"n5": "2.0.0", "pixelResolution": {"unit": unit, "dimensions": size}, "scales": [[1, 1, 1]]}
    of_scale = {
        "dataType": str(array_xyz.dtype),
        "compression": {"type": "gzip"},
        "blockSize": list(block),
        "dimensions": list(array_xyz.shape),
    }
    (folder / "attributes.json").write_text(json.dumps(root))
    (folder / "s0/attributes.json").write_text(json.dumps(of_scale))
    for index in np.ndindex(*(-(-n // b) for n, b in zip(array_xyz.shape, block, strict=True))):
        part = array_xyz[tuple(slice(i * b, (i + 1) * b) for i, b in zip(index, block, strict=True))]
        path = folder / "s0" / "/".join(map(str, index))
        path.parent.mkdir(parents=True, exist_ok=True)
        header = struct.pack(">HH3I", 0, 3, *part.shape)
        path.write_bytes(header + gzip.compress(part.tobytes(order="F")))


@pytest.mark.parametrize(("unit", "size"), [("nm", [16, 16, 40]), ("um", [0.016, 0.016, 0.04])])
def test_an_n5_is_read_with_its_units(tmp_path, unit, size):
    array = np.random.default_rng(0).integers(0, 255, (30, 20, 12)).astype(np.uint8)
    write_n5(tmp_path / "em.n5", array, unit, size)
    entry = PrecomputedVolumeDataset(filepath=f"n5://{tmp_path}/em.n5", layer_type="image", role="EM volume")
    assert entry.exists()
    np.testing.assert_array_equal(voxels(entry.load()), array)


def test_an_address_without_its_layout_is_an_error_that_says_how_to_write_it(tmp_path):
    write_n5(tmp_path / "em.n5", np.ones((8, 8, 8), np.uint8), "nm", [16, 16, 40])
    plain = PrecomputedVolumeDataset(filepath=str(tmp_path / "em.n5"), layer_type="image")
    assert not plain.exists()
    with pytest.raises(VolumeError, match="an N5 needs `n5://` in front"):
        plain.load().at_resolution((16, 16, 40))
    with pytest.raises(VolumeError, match="A zipped store is read as OME-Zarr only"):
        PrecomputedLayer(f"file://{tmp_path}/em.zip").at_resolution((16, 16, 40))
    with pytest.raises(DatasetError, match=r"unit is set for .*only an N5"):
        PrecomputedVolumeDataset(filepath="gs://bucket/em", layer_type="image", unit="um")
