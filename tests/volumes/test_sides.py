"""Presynaptic sides: by a column of the table, and by a mask of vesicles."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError
from synapseclr.volumes import PrecomputedLayer, check_synapse_table, write_precomputed
from synapseclr.volumes.sides import find_sides


def test_the_column_orders_both_sides_and_all_that_belongs_to_them(tiny_volume):
    given = tiny_volume.synapses.assign(pre_note=["a", "b"], post_note=["c", "d"])
    first, second = given["pre_root_id"]
    table = check_synapse_table(given.assign(presynaptic_root_id=[second, second]))
    assert table["pre_root_id"].tolist() == [second, second]  # ids above 2^53, exact
    assert table["post_root_id"].tolist() == [first, first]
    assert table[["pre_note", "post_note"]].to_numpy().tolist() == [["c", "a"], ["b", "d"]]
    pd.testing.assert_frame_equal(check_synapse_table(table), table)
    unknown = check_synapse_table(given.assign(presynaptic_root_id=0))
    assert unknown["pre_root_id"].tolist() == [first, second]


def test_a_presynaptic_neurite_that_is_neither_is_named(tiny_volume):
    with pytest.raises(TableError, match=r"presynaptic_root_id of synapse 7 is 12, which is neither"):
        check_synapse_table(tiny_volume.synapses.assign(presynaptic_root_id=12))


def test_the_side_with_more_vesicles_near_the_contact_is_presynaptic(tiny_volume, tmp_path):
    """Vesicles at half the resolution of the chunks: many on the upper side of one synapse, none at the other."""
    vesicles = np.zeros((32, 24, 20), np.uint32)
    vesicles[17:25, 13:18, 9:12] = 1  # 32 nm a voxel: around x = 42, y from 26 on
    vesicles[20, 11, 10] = 1
    write_precomputed(vesicles, f"file://{tmp_path}/v", (32, 32, 40), "segmentation", (16, 16, 8))
    layer = PrecomputedLayer(f"file://{tmp_path}/v", "vesicle volume")
    found = find_sides(tiny_volume.segmentation, layer, tiny_volume.synapses, tiny_volume.config)
    upper = tiny_volume.synapses["post_root_id"].iloc[0]
    assert found["presynaptic_root_id"].tolist() == [upper, 0]
    assert found["n_vesicle_voxels_second"].iloc[0] > found["n_vesicle_voxels_first"].iloc[0] > 0
    assert check_synapse_table(found)["pre_root_id"].iloc[0] == upper
    # within 20 nm of the contact there is the one of the lower side only
    close = find_sides(tiny_volume.segmentation, layer, tiny_volume.synapses, tiny_volume.config, radius_nm=20)
    assert close["presynaptic_root_id"].tolist() == [tiny_volume.synapses["pre_root_id"].iloc[0], 0]
