"""Chunks are cut around synapses."""

import importlib.util
import logging
import multiprocessing
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError, VolumeError
from synapseclr.volumes import (
    ChunkStore,
    PrecomputedLayer,
    PreprocessingConfig,
    cut_chunks,
    write_chunk_store,
    write_precomputed,
)


def cut(tiny, synapses=None, layers=None, **changes):
    config = tiny.config.model_copy(update=changes)
    layers = layers or (tiny.em, tiny.segmentation, tiny.cleft)
    return cut_chunks(*layers, tiny.synapses if synapses is None else synapses, config)


def store(stream, tmp_path):
    write_chunk_store(stream, str(tmp_path / "chunks.zarr"))
    return ChunkStore(str(tmp_path / "chunks.zarr"))


def by_id(chunks, synapse_id):
    return chunks.read([int(np.flatnonzero(chunks.synapse_id == synapse_id)[0])])[0]


def test_intensity_is_the_volume_around_the_centre(tiny_volume, tmp_path):
    chunks = store(cut(tiny_volume), tmp_path)
    expected = tiny_volume.em_xyz[30:54, 14:34, 6:14]
    np.testing.assert_array_equal(by_id(chunks, 7)[0], expected)


def test_mask_codes_follow_pre_cleft_and_post(tiny_volume, tmp_path):
    mask = by_id(store(cut(tiny_volume), tmp_path), 7)[1]
    assert mask[0, 0, 0] == 1  # y below 24: presynaptic
    assert mask[0, -1, 0] == 3
    assert set(np.unique(mask)) == {1, 2, 3}
    assert (mask == 2).sum() == 4 * 2 * 3  # the cleft wins over both neurons


def test_polarity_comes_from_the_table(tiny_volume, tmp_path):
    mask = by_id(store(cut(tiny_volume), tmp_path), 3)[1]
    assert mask[-1, 0, 0] == 3
    assert mask[-1, -1, 0] == 1


def test_the_nearest_cleft_is_chosen_whatever_its_id(tiny_volume, tmp_path):
    chunks = store(cut(tiny_volume), tmp_path)
    cleft_of = dict(zip(chunks.synapse_id.tolist(), chunks.records["cleft_id"].tolist(), strict=True))
    assert cleft_of == {7: 902, 3: 901}


def test_a_chunk_over_the_edge_is_padded_with_zeros_and_counted(tiny_volume, tmp_path):
    chunks = store(cut(tiny_volume), tmp_path)
    record = dict(zip(chunks.synapse_id.tolist(), chunks.records["n_padded_voxels"].tolist(), strict=True))
    assert record == {7: 0, 3: 2 * 20 * 8}
    assert (by_id(chunks, 3)[:, :2] == 0).all()
    assert (by_id(chunks, 3)[0, 2:, :, 0] > 0).all()


def test_cutout_sections_are_zeroed_and_counted_but_padding_is_not(tiny_volume, tmp_path):
    chunks = store(cut(tiny_volume), tmp_path)
    assert chunks.records["n_cutout_sections"].tolist() == [1, 1]
    assert (by_id(chunks, 7)[0, :, :, 1] == 0).all()


def test_positions_scale_with_their_own_unit(tiny_volume, tmp_path):
    finer = tiny_volume.synapses.copy()
    finer[["ctr_pos_x_vx", "ctr_pos_y_vx"]] *= 2
    chunks = store(cut(tiny_volume, finer, position_voxel_size_nm=(8, 8, 40)), tmp_path)
    np.testing.assert_array_equal(by_id(chunks, 7)[0], tiny_volume.em_xyz[30:54, 14:34, 6:14])


def test_a_synapse_without_cleft_nearby_is_rejected_with_its_reason(tiny_volume, tmp_path, caplog):
    moved = tiny_volume.synapses.copy()
    moved.loc[0, "ctr_pos_x_vx"] = 28.0
    with caplog.at_level(logging.WARNING):
        chunks = store(cut(tiny_volume, moved, max_rejected_fraction=0.5), tmp_path)
    assert chunks.synapse_id.tolist() == [3]
    assert "no labelled cleft lies within 150 nm" in chunks.rejected[7]
    assert "Synapse 7 is rejected" in caplog.text


def test_a_centre_outside_of_the_volume_is_rejected(tiny_volume, tmp_path):
    moved = tiny_volume.synapses.copy()
    moved.loc[0, "ctr_pos_z_vx"] = 20.0
    chunks = store(cut(tiny_volume, moved, max_rejected_fraction=0.5), tmp_path)
    assert "lies outside of the EM volume" in chunks.rejected[7]


def test_too_many_rejections_end_the_run_with_an_example(tiny_volume, tmp_path):
    moved = tiny_volume.synapses.assign(ctr_pos_x_vx=28.0)
    with pytest.raises(TableError, match=r"2 of 2 synapses had to be rejected.*no labelled cleft"):
        store(cut(tiny_volume, moved), tmp_path)
    assert not (tmp_path / "chunks.zarr").exists()


def test_a_chunk_larger_than_the_volume_is_an_error(tiny_volume):
    with pytest.raises(
        VolumeError, match=r"A chunk of \[24, 20, 32\] voxels is larger than the em volume .* \[64, 48, 20\]"
    ):
        cut(tiny_volume, chunk_size_vx=(24, 20, 32))


def test_a_missing_volume_is_an_error_that_names_it(tiny_volume, tmp_path):
    missing = PrecomputedLayer(f"file://{tmp_path}/nowhere", "EM volume")
    with pytest.raises(VolumeError, match=r"The EM volume at file://.*nowhere cannot be opened"):
        cut(tiny_volume, layers=(missing, tiny_volume.segmentation, tiny_volume.cleft))


def test_a_resolution_that_no_scale_has_is_an_error_that_lists_the_scales(tiny_volume):
    with pytest.raises(VolumeError, match=r"has no scale of 2 x 2 x 40 nm; it has 16 x 16 x 40 nm"):
        cut(tiny_volume, voxel_size_nm=(2, 2, 40))


def test_store_order_does_not_depend_on_the_row_order(tiny_volume, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = store(cut(tiny_volume), tmp_path / "a")
    second = store(cut(tiny_volume, tiny_volume.synapses[::-1].reset_index(drop=True)), tmp_path / "b")
    assert first.sha256 == second.sha256


SCRIPT = Path(__file__).parents[2] / "scripts/kill_preprocessing.py"


def load_script():
    specification = importlib.util.spec_from_file_location("kill_preprocessing", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["kill_preprocessing"] = module  # its dataclasses look for it
    specification.loader.exec_module(module)
    return module


def test_three_kills_leave_the_store_of_an_uninterrupted_run(tmp_path):
    script = load_script()
    rng = np.random.default_rng(0)
    shape, n = (128, 128, 64), 80
    ids = np.zeros(shape, np.uint64)
    ids[::8, ::8, ::4] = np.arange(1, 1 + 16 * 16 * 16).reshape(16, 16, 16)
    em = rng.integers(1, 255, shape).astype(np.uint8)
    for name, array in (("em", em), ("segmentation", ids), ("clefts", ids)):
        kind = "image" if name == "em" else "segmentation"
        write_precomputed(array, f"file://{tmp_path / name}", (16, 16, 40), kind, (32, 32, 16))
    table = pd.DataFrame({"id": np.arange(n), "pre_root_id": 1, "post_root_id": 2})
    table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = rng.integers(0, shape, (n, 3)).astype(float)
    table.to_parquet(tmp_path / "table.parquet")

    layers = (PrecomputedLayer(f"file://{tmp_path / name}") for name in ("em", "segmentation", "clefts"))
    config = PreprocessingConfig(voxel_size_nm=(16, 16, 40), chunk_size_vx=(48, 48, 24), synapses_per_shard=2)
    stream = cut_chunks(*layers, table, config)
    write_chunk_store(stream, str(tmp_path / "whole.zarr"))
    killed = tmp_path / "killed.zarr"
    server = multiprocessing.get_context("forkserver")  # starts processes in no time, with the imports done
    server.set_forkserver_preload(["synapseclr.volumes.voxel_loops", "zarr", "cloudvolume"])

    def start():
        process = server.Process(target=write_chunk_store, args=(stream, str(killed)))
        process.start()
        return process

    generator = random.Random(3)
    moments = [script.Moment(k, generator.uniform(0, 0.03)) for k in sorted(generator.sample(range(1, n // 2), 2))]
    moments.append(script.Moment(n // 2, generator.uniform(0, 0.02)))  # while the store is completed
    happened = []
    for moment in moments:
        process = start()
        happened.append(script.kill_at(moment, killed, process.is_alive, process.kill))
        process.join(100)
    assert sum("killed with" in what for what in happened) >= 2, happened
    last = start()
    last.join(100)
    assert last.exitcode == 0
    assert script.n_recorded(killed) == n // 2
    assert script.differences(killed, tmp_path / "whole.zarr") == []
