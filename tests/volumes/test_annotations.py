import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError
from synapseclr.volumes import transform_annotations
from synapseclr.volumes.annotations import RAW_COLUMNS, TRAIT_COLUMNS, join_synapse_columns
from synapseclr.volumes.traits import TRAITS, Trait


@pytest.fixture
def raw():
    table = pd.DataFrame(
        {
            "syn_id": [1, 2, 3, 99],
            "cleft_size_vx": [10.0, 20.0, np.nan, 5.0],
            "presyn_soma_dist_um": [100.0, 50.0, 25.0, 1.0],
            "postsyn_soma_dist_um": [100.0, 50.0, 25.0, 1.0],
            "n_mitos_pre": [0.0, 2.0, np.nan, 0.0],
            "n_mitos_post": [1.0, 1.0, 1.0, 1.0],
            "mito_size_pre_vx": [0.0, 300.0, 500.0, 0.0],
            "mito_size_post_vx": [1.0, 2.0, 3.0, 4.0],
            "pre_cell_type": [0.0, 1.0, np.nan, 0.0],
            "post_cell_type": [1.0, 0.0, 1.0, 0.0],
        }
    )
    assert set(table.columns) == set(RAW_COLUMNS)
    return table


def test_traits_of_ones_own_may_be_columns_of_the_synapse_table(raw):
    """The published traits are not taken from there: nothing changes for tables that have such a column."""
    large = 2**53 + 1
    target = Trait(name="target", kind="multiclass", classes=("spine", "shaft", "soma"), column="tag", optional=True)
    synapses = pd.DataFrame({"id": [1, large], "tag": ["soma", "spine"], "cleft_size_vx": [7.0, 8.0]})
    empty = pd.DataFrame()
    joined = join_synapse_columns(empty, synapses, [*TRAITS, target])
    assert joined.to_dict("list") == {"syn_id": [1, large], "tag": ["soma", "spine"]}
    both = join_synapse_columns(raw, synapses, [*TRAITS, target])
    assert both["syn_id"].tolist() == [1, 2, 3, 99, large]
    transformed = transform_annotations(both, synapses["id"], [*TRAITS, target]).traits.set_index("synapse_id")
    assert transformed["target"].to_dict() == {1: 2.0, large: 0.0}
    assert join_synapse_columns(raw, synapses, TRAITS) is raw
    labelled = pd.DataFrame({"syn_id": [1], "tag": ["shaft"]})
    assert join_synapse_columns(labelled, synapses, [target]) is labelled


@pytest.fixture
def annotations(raw):
    return transform_annotations(raw, pd.Series([1, 2, 3, 4]))


def test_continuous_traits_are_z_scores_of_log1p(annotations):
    logs = np.log1p([10.0, 20.0])
    expected = (logs - logs.mean()) / logs.std()
    np.testing.assert_allclose(annotations.traits["cleft_size_log1p_zscore"][:2], expected)


def test_an_empty_cell_stays_unannotated(annotations):
    assert np.isnan(annotations.traits["cleft_size_log1p_zscore"][2])
    assert np.isnan(annotations.traits["pre_cell_type"][2])
    assert np.isnan(annotations.traits["has_mito_pre"][2])


def test_no_mitochondrion_is_minus_infinity_and_left_out_of_the_scale(annotations):
    sizes = annotations.traits["mito_size_pre_vx_log1p_zscore_zi"]
    logs = np.log1p([300.0, 500.0])
    assert sizes[0] == -np.inf
    np.testing.assert_allclose(sizes[1:], (logs - logs.mean()) / logs.std())


def test_scales_undo_the_transform(annotations, raw):
    scale = annotations.scales.set_index("trait").loc["cleft_size_log1p_zscore"]
    restored = np.expm1(annotations.traits["cleft_size_log1p_zscore"] * scale["scale"] + scale["location"])
    np.testing.assert_allclose(restored[:2], raw["cleft_size_vx"][:2])


def test_presence_of_mitochondria_follows_their_number(annotations):
    assert annotations.traits["has_mito_pre"][:2].tolist() == [0.0, 1.0]


def test_annotations_of_unknown_synapses_are_counted_not_kept(annotations):
    assert annotations.unknown_ids == [99]
    assert annotations.traits["synapse_id"].tolist() == [1, 2, 3]


def test_a_table_without_rows_gives_no_annotations(raw):
    empty = transform_annotations(raw[:0], pd.Series([1]))
    assert empty.traits.empty
    assert list(empty.traits.columns) == ["synapse_id", *TRAIT_COLUMNS]


def test_a_trait_without_a_column_was_not_measured(raw):
    few = raw[["syn_id", "cleft_size_vx", "pre_cell_type"]]
    found = transform_annotations(few, pd.Series([1, 2, 3, 4]))
    whole = transform_annotations(raw, pd.Series([1, 2, 3, 4]))
    kept = ["cleft_size_log1p_zscore", "pre_cell_type"]
    pd.testing.assert_frame_equal(found.traits[kept], whole.traits[kept])
    assert found.traits.drop(columns=["synapse_id", *kept]).isna().all(axis=None)
    assert list(found.traits.columns) == ["synapse_id", *TRAIT_COLUMNS]
    assert found.scales.set_index("trait")["n"].to_dict() == dict.fromkeys(TRAIT_COLUMNS[:9], 0) | {
        "cleft_size_log1p_zscore": 2,
        "pre_cell_type": 2,
    }


def test_a_published_table_may_lack_traits_too():
    published = pd.DataFrame({"synapse_id": [1, 2], "n_mitos_pre": [0.0, 3.0]})
    traits = transform_annotations(published, pd.Series([1, 2])).traits
    assert traits["has_mito_pre"].tolist() == [0.0, 1.0]
    assert traits["has_mito_post"].isna().all()


def test_the_ids_cannot_be_missing_nor_all_traits(raw):
    with pytest.raises(TableError, match="annotation table lacks the column syn_id"):
        transform_annotations(raw.drop(columns="syn_id"), pd.Series([1]))
    with pytest.raises(
        TableError, match=r"has no column of a trait; it has syn_id, volume. Known traits are cleft_size_vx"
    ):
        transform_annotations(raw[["syn_id"]].assign(volume=1.0), pd.Series([1]))


def test_a_column_that_is_nearly_a_trait_is_pointed_out(raw, caplog):
    nearly = raw[["syn_id", "pre_cell_type", "cleft_size_vx"]].rename(columns={"cleft_size_vx": "cleft_size"})
    with caplog.at_level("WARNING"):
        transform_annotations(nearly.assign(comment="x"), pd.Series([1, 2]))
    assert "has the column cleft_size, which is left out; the trait cleft_size_vx" in caplog.text
    assert "comment" not in caplog.text


def test_constant_values_do_not_divide_by_zero(raw):
    constant = transform_annotations(raw.assign(cleft_size_vx=7.0), pd.Series([1, 2, 3]))
    assert (constant.traits["cleft_size_log1p_zscore"] == 0).all()
