"""Settings proposed for volumes and tables of one's own."""

import numpy as np
import pandas as pd
import pytest
from loopback_volumes import Tissue, as_cave, write_layer

from synapseclr.errors import VolumeError
from synapseclr.volumes import PrecomputedLayer
from synapseclr.volumes.proposals import (
    find_unit,
    propose_chunk_size,
    propose_crop_size,
    propose_voxel_size,
    voxel_sizes_nm,
)
from synapseclr.volumes.table_forms import standard_synapse_table

FINE, COARSE = (8.0, 8.0, 40.0), (16.0, 16.0, 40.0)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    drawn = {size: Tissue().draw(size)[1] for size in (FINE, COARSE)}
    return PrecomputedLayer(f"file://{write_layer(folder, 'segmentation', drawn, 'compressed_segmentation')}", "volume")


def test_the_voxel_sizes_of_all_scales_are_found(segmentation, tmp_path):
    assert voxel_sizes_nm(segmentation) == [FINE, COARSE]
    with pytest.raises(VolumeError, match="absent cannot be opened"):
        voxel_sizes_nm(PrecomputedLayer(f"file://{tmp_path}/absent"))


@pytest.mark.parametrize(
    ("sizes_of_layers", "chosen"),
    [
        ([[(4, 4, 40), FINE, COARSE], [FINE, COARSE]], FINE),
        ([[(4, 4, 40), FINE, COARSE], [COARSE]], COARSE),
        ([[(7.5, 7.5, 50), (15, 15, 50)], [(15, 15, 50), (30, 30, 50)]], (15, 15, 50)),
        ([[(7.9999999, 8, 40)], [FINE]], (7.9999999, 8, 40)),  # a writer's rounding
        ([[(7.5, 7.5, 50)], [(15, 15, 50)]], (7.5, 7.5, 50)),  # none in common
        ([[(4, 4, 30), (9, 9, 30), (18, 18, 30)], [(20, 20, 30)]], (18, 18, 30)),
    ],
)
def test_chunks_have_a_size_of_all_layers_near_the_published_one(sizes_of_layers, chosen):
    assert propose_voxel_size(sizes_of_layers) == chosen


@pytest.mark.parametrize(
    ("size_nm", "chunk_vx", "crop_vx"),
    [(FINE, (128, 128, 26), 96), ((8, 8, 8), (128, 128, 128), 96), ((8, 8, 33), (128, 128, 32), 96)],
)
def test_chunks_are_a_micrometre_wide_and_crops_leave_room_to_turn(size_nm, chunk_vx, crop_vx):
    assert propose_chunk_size(size_nm, np.array([1e5, 1e5, 1e5])) == chunk_vx
    assert propose_crop_size(size_nm, chunk_vx) == crop_vx


def test_no_chunk_is_larger_than_the_volume():
    chunk_vx = propose_chunk_size(FINE, np.array([1e5, 700.0, 430.0]))
    assert chunk_vx == (128, 87, 10)
    assert propose_crop_size(FINE, chunk_vx) * 8 <= 400


@pytest.mark.parametrize("unit", [FINE, (4, 4, 40), (1, 1, 1), COARSE])
def test_the_unit_of_positions_is_found_by_the_neurites(segmentation, unit):
    table = as_cave(Tissue().synapses, unit)
    fit = find_unit(standard_synapse_table(table), segmentation.at_resolution(COARSE), COARSE, [FINE, COARSE])
    assert (fit.unit_nm, fit.inside, fit.fitting) == (tuple(map(float, unit)), 1.0, 1.0)


def test_a_table_of_another_version_has_no_unit(segmentation):
    table = standard_synapse_table(as_cave(Tissue().synapses)).assign(pre_root_id=5)
    assert find_unit(table, segmentation.at_resolution(FINE), FINE, [FINE]) is None
    outside = pd.DataFrame(table).assign(ctr_pos_x_vx=1e9)
    assert find_unit(outside, segmentation.at_resolution(FINE), FINE, [FINE]) is None
