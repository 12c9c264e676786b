from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synapseclr.simulation import SimulationConfig, simulate

SYNAPSE_COLUMNS = ["id", "pre_root_id", "post_root_id", "ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]
ANNOTATION_COLUMNS = [
    "syn_id",
    "cleft_size_vx",
    "presyn_soma_dist_um",
    "postsyn_soma_dist_um",
    "n_mitos_pre",
    "n_mitos_post",
    "mito_size_pre_vx",
    "mito_size_post_vx",
    "pre_cell_type",
    "post_cell_type",
]
SUBTYPES = {
    0: {"pyramidal", "unknown"},
    1: {"basket", "chandelier", "martinotti", "bipolar", "neurogliaform", "unknown"},
}


def test_same_seed_gives_the_same_bits(small_volume):
    again = simulate(SimulationConfig.small(seed=3, defect_fraction=0.0))
    for name in ("em_xyz", "segmentation_xyz", "cleft_xyz"):
        np.testing.assert_array_equal(getattr(again, name), getattr(small_volume, name))
    for name in ("synapse_table", "annotation_table", "neurite_table", "truth_table"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(small_volume, name))


def test_the_default_volume_is_that_of_earlier_versions(small_volume):
    earlier = np.load(Path(__file__).parent / "golden/darkness_seed_3.npz")
    few = slice(None, None, 28), slice(None, None, 28), slice(None, None, 9)
    np.testing.assert_array_equal(small_volume.segmentation_xyz[few], earlier["segmentation_xyz"])
    sizes_n = np.sort(np.unique(small_volume.cleft_xyz, return_counts=True)[1])
    np.testing.assert_array_equal(sizes_n, earlier["cleft_sizes_n"])
    truth = small_volume.truth_table.drop(columns=["defect", "post_target"])
    np.testing.assert_allclose(truth, earlier["truth_nk"], rtol=1e-9)
    # Another processor may round a grey level the other way.
    difference = small_volume.em_xyz[few].astype(int) - earlier["em_xyz"]
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_another_seed_gives_another_volume(small_volume):
    other = simulate(SimulationConfig.small(seed=4))
    assert np.any(other.em_xyz != small_volume.em_xyz)


def test_progress_hears_of_every_stage():
    heard = []
    simulate(SimulationConfig.small(n_fillers=5), progress=lambda stage, share: heard.append((stage, share)))
    assert len({stage for stage, _ in heard}) >= 6
    assert all(0 <= share <= 1 for _, share in heard)


def test_volumes_have_the_promised_types(small_volume):
    shape = SimulationConfig.small().shape_vx
    for array, dtype in (
        (small_volume.em_xyz, np.uint8),
        (small_volume.segmentation_xyz, np.uint64),
        (small_volume.cleft_xyz, np.uint32),
    ):
        assert array.shape == shape
        assert array.dtype == dtype


def test_tables_have_the_promised_columns(medium_volume):
    synapses, annotations = medium_volume.synapse_table, medium_volume.annotation_table
    assert list(synapses.columns) == SYNAPSE_COLUMNS
    assert list(annotations.columns) == ANNOTATION_COLUMNS
    assert list(medium_volume.neurite_table.columns) == [
        "root_id",
        "kind",
        "cell_type",
        "cell_subtype",
        "soma_dist_um",
        "n_synapses",
    ]
    assert all(np.issubdtype(dtype, np.integer) for dtype in synapses.dtypes)
    assert synapses["id"].is_unique
    assert set(annotations["syn_id"]) <= set(synapses["id"])
    assert list(medium_volume.truth_table["synapse_id"]) == list(synapses["id"])


def test_root_ids_do_not_survive_float64(medium_volume):
    roots = medium_volume.neurite_table["root_id"].to_numpy()
    assert roots.min() > 2**53
    assert np.unique(roots.astype(np.float64)).size < roots.size / 10
    assert set(np.unique(medium_volume.segmentation_xyz)) - {0} <= set(roots)


def test_cleft_ids_are_not_table_ids(medium_volume):
    clefts = set(np.unique(medium_volume.cleft_xyz)) - {0}
    assert len(clefts) == len(medium_volume.synapse_table)
    assert not clefts & set(medium_volume.synapse_table["id"])


def test_every_sound_synapse_has_partners_around_its_cleft(medium_volume):
    size = np.array(medium_volume.voxel_size_nm)
    table = medium_volume.synapse_table.merge(medium_volume.truth_table, left_on="id", right_on="synapse_id")
    for row in table[~table["defect"].isin(["misplaced_cleft", "missing_segmentation"])].itertuples():
        centre = np.array([row.ctr_pos_x_vx, row.ctr_pos_y_vx, row.ctr_pos_z_vx])
        low = np.maximum(centre - [12, 12, 5], 0)
        window = tuple(slice(a, b) for a, b in zip(low, centre + np.array([13, 13, 6]), strict=True))
        segments, clefts = medium_volume.segmentation_xyz[window], medium_volume.cleft_xyz[window]
        assert (segments == row.pre_root_id).sum() > 50
        assert (segments == row.post_root_id).sum() > 50
        offsets = (np.argwhere(clefts > 0) + low + 0.5) * size - (centre + 0.5) * size
        assert np.linalg.norm(offsets, axis=1).min() < 200


def test_defects_are_what_they_say(medium_volume):
    truth = medium_volume.truth_table.set_index("synapse_id")
    assert set(truth["defect"]) == {
        "",
        "merged_segmentation",
        "missing_segmentation",
        "misplaced_cleft",
        "blackout",
    }
    assert 0.02 < (truth["defect"] != "").mean() < 0.06
    joined = medium_volume.synapse_table.merge(medium_volume.truth_table, left_on="id", right_on="synapse_id")
    shares = {"pre": [], "post": []}
    for row in joined.itertuples():
        x, y, z = (row.ctr_pos_x_vx, row.ctr_pos_y_vx, row.ctr_pos_z_vx)
        segments = medium_volume.segmentation_xyz[
            max(x - 20, 0) : x + 21, max(y - 20, 0) : y + 21, max(z - 8, 0) : z + 9
        ]
        for side in shares:
            shares[side].append((segments == getattr(row, f"{side}_root_id")).mean())
    shares = pd.DataFrame(shares).groupby(joined["defect"]).mean()
    assert shares.loc["merged_segmentation", "pre"] > 1.3 * shares.loc["", "pre"]
    assert shares.loc["missing_segmentation", "post"] < 0.4 * shares.loc["", "post"]
    for row in truth[truth["defect"] == "blackout"].itertuples():
        x, y, z = (
            int(c // s) for c, s in zip([row.centre_x_nm, row.centre_y_nm, row.centre_z_nm], [16, 16, 40], strict=True)
        )
        assert not medium_volume.em_xyz[x - 8 : x + 8, y - 8 : y + 8, z].any()


def test_neurites_share_their_type_and_carry_several_synapses(medium_volume):
    neurites = medium_volume.neurite_table.set_index("root_id")
    table = medium_volume.synapse_table.merge(medium_volume.truth_table, left_on="id", right_on="synapse_id")
    for side in ("pre", "post"):
        types = table.groupby(f"{side}_root_id")[f"{side}_cell_type"]
        assert (types.min() == types.max()).all()
        assert (types.first() == neurites.loc[types.first().index, "cell_type"]).all()
        assert (types.size() == neurites.loc[types.size().index, "n_synapses"]).all()
    axons = neurites[(neurites["kind"] == "axon") & (neurites["n_synapses"] > 0)]
    assert axons["n_synapses"].median() >= 5
    for cell_type, subtypes in SUBTYPES.items():
        assert set(neurites.loc[neurites["cell_type"] == cell_type, "cell_subtype"]) <= subtypes


def test_traits_are_zero_inflated_and_annotations_have_holes(medium_volume):
    truth, annotations = medium_volume.truth_table, medium_volume.annotation_table
    for side in ("pre", "post"):
        without = truth[f"n_mitos_{side}"] == 0
        assert 0.2 < without.mean() < 0.9
        assert (truth.loc[without, f"mito_size_{side}_vx"] == 0).all()
        assert (truth.loc[~without, f"mito_size_{side}_vx"] > 0).all()
    assert len(annotations) == round(0.7 * len(truth))
    assert 0.02 < annotations.drop(columns="syn_id").isna().to_numpy().mean() < 0.09
    joined = annotations.merge(truth, left_on="syn_id", right_on="synapse_id", suffixes=("", "_true"))
    known = joined["cleft_size_vx"].notna()
    assert (joined["cleft_size_vx"] == joined["cleft_size_vx_true"])[known].all()


def test_black_is_only_missing_data(medium_volume):
    black = (medium_volume.em_xyz == 0).mean(axis=(0, 1))
    assert (black == 0).mean() > 0.5
    assert (black > 0.02).any()


def test_calibre_tapers_with_soma_distance(medium_volume):
    truth = medium_volume.truth_table
    shaft = medium_volume.synapse_table.assign(**truth)[lambda table: table["post_target"] == "shaft"]
    volumes = []
    for row in shaft.itertuples():
        centre = np.array([row.ctr_pos_x_vx, row.ctr_pos_y_vx, row.ctr_pos_z_vx])
        window = tuple(slice(max(c - h, 0), c + h) for c, h in zip(centre, (30, 30, 12), strict=True))
        volumes.append((medium_volume.segmentation_xyz[window] == row.post_root_id).sum())
    rank = pd.DataFrame({"distance": shaft["postsyn_soma_dist_um"].to_numpy(), "volume": volumes}).rank()
    assert rank.corr().iloc[0, 1] < -0.4


@pytest.mark.parametrize(
    "changes", [{"fraction_inhibitory_axons": 1.2}, {"voxel": 3}, {"n_dendrites": 0}, {"signature": "tone"}]
)
def test_bad_parameters_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        SimulationConfig.small(**changes)


def test_gap_between_axon_share_and_request_is_small():
    shares = [
        simulate(SimulationConfig.small(fraction_inhibitory_axons=share, n_fillers=0))
        .truth_table["pre_cell_type"]
        .mean()
        for share in (0.0, 1.0)
    ]
    assert all(first < second for first, second in pairwise(shares))
