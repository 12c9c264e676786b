import io

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from kedro.io import DataCatalog

from synapseclr.datasets import AnnDataZarrDataset
from synapseclr.errors import TableError
from synapseclr.volumes import ANNOTATIONS, SYNAPSE_METADATA, SYNAPSE_TABLE, TRAITS, check_annotation_table

ABOVE = 2**53 + 1  # the first whole number that a float64 cannot hold
ROOTS = [648_518_346_349_500_001, 2**63 + 5]


def synapses(**changes):
    columns = {"id": [ABOVE, ABOVE + 2], "pre_root_id": [ROOTS[0], 7], "post_root_id": [8, ROOTS[0] + 2]}
    return pd.DataFrame({**columns, **{f"ctr_pos_{axis}_vx": [1.5, 2.0] for axis in "xyz"}, **changes})


def metadata(**changes):
    columns = {
        "synapse_id": [ABOVE, ABOVE + 2],
        "chunk_index": [0, 1],
        "pre_root_id": np.array(ROOTS, np.uint64),
        "post_root_id": [8, ROOTS[0] + 2],
        **{f"centre_{axis}_nm": [1.5, 2.0] for axis in "xyz"},
        **{f"{name}_volume": [1.0, 2.0] for name in ("pre_synaptic", "post_synaptic", "synaptic_cleft")},
        **{key: [0, 0] for key in ("n_cutout_sections", "n_padded_voxels")},
        **{key: [False, True] for key in ("is_padded", "is_pre_missing", "is_post_missing")},
    }
    return pd.DataFrame({**columns, **changes})


@pytest.fixture
def catalog(tmp_path):
    """A catalog with validators, as the project's."""
    return DataCatalog.from_config(
        {
            "synapse_table": {
                "type": "pandas.CSVDataset",
                "filepath": str(tmp_path / "synapses.csv"),
                "save_args": {"index": False},
                "validator": {"class": "synapseclr.volumes.SYNAPSE_TABLE", "on": ["load"]},
            },
            "synapse_metadata": {
                "type": "pandas.ParquetDataset",
                "filepath": str(tmp_path / "metadata.parquet"),
                "validator": "synapseclr.volumes.SYNAPSE_METADATA",
            },
        }
    )


def test_ids_above_2_to_53_stay_exact_through_csv_parquet_and_anndata(catalog, tmp_path):
    catalog.save("synapse_table", synapses())
    loaded = catalog.load("synapse_table")
    assert loaded["id"].tolist() == [ABOVE, ABOVE + 2]
    assert loaded["pre_root_id"].tolist() == [ROOTS[0], 7]

    catalog.save("synapse_metadata", metadata())
    stored = catalog.load("synapse_metadata")
    assert stored["pre_root_id"].dtype == np.uint64
    assert stored["pre_root_id"].tolist() == ROOTS
    merged = stored.merge(pd.DataFrame({"synapse_id": [ABOVE], "trait": [1.0]}), on="synapse_id", how="left")
    merged.index = merged["synapse_id"].astype(str).to_numpy()
    dataset = AnnDataZarrDataset(filepath=str(tmp_path / "a.zarr"))
    dataset.save(AnnData(np.zeros((2, 3), np.float32), obs=merged))
    obs = dataset.load().obs
    assert obs["synapse_id"].tolist() == [ABOVE, ABOVE + 2]
    assert obs["pre_root_id"].tolist() == ROOTS
    assert obs.index.tolist() == [str(ABOVE), str(ABOVE + 2)]


def test_the_catalog_names_dataset_column_and_synapse(catalog):
    catalog.save("synapse_table", synapses(ctr_pos_y_vx=[1.0, np.inf]))
    with pytest.raises(
        Exception, match=rf"(?s)'synapse_table' on load.*ctr_pos_y_vx is infinite for synapse {ABOVE + 2}"
    ):
        catalog.load("synapse_table")


def test_an_empty_cell_that_turned_ids_into_floats_is_an_error_not_a_rounding():
    text = synapses().to_csv(index=False).replace(f"{ROOTS[0]},8", ",8")
    with pytest.raises(TableError, match=r"pre_root_id holds nan.*leave no cell empty"):
        SYNAPSE_TABLE.validate(pd.read_csv(io.StringIO(text)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": [-1, 2]}, "id holds -1"),
        ({"id": [3, 3]}, "has id 3 more than once"),
        ({"ctr_pos_x_vx": [np.nan, 1]}, f"ctr_pos_x_vx is empty or not a number for synapse {ABOVE}"),
        ({"ctr_pos_x_vx": ["a", 1]}, f"ctr_pos_x_vx is not a number for synapse {ABOVE}: a"),
    ],
)
def test_what_is_wrong_with_a_synapse_table_is_said(changes, message):
    with pytest.raises(TableError, match=message):
        SYNAPSE_TABLE.validate(synapses(**changes))


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(TableError, match=r"chunk_index 0 more than once.*synaptic_cleft_volume is below 0 .*: -1"):
        SYNAPSE_METADATA.validate(metadata(chunk_index=[0, 0], synaptic_cleft_volume=[-1.0, 1.0]))


def test_ids_are_not_rounded_in_messages_about_several_columns():
    with pytest.raises(TableError, match=f"synapse_id {ABOVE} more than once.*synaptic_cleft_volume is below 0"):
        SYNAPSE_METADATA.validate(metadata(synapse_id=[ABOVE, ABOVE], synaptic_cleft_volume=[-1.0, 1.0]))


def raw_annotations(**changes):
    columns = {key: [5.0, np.nan] for key in ("cleft_size_vx", "presyn_soma_dist_um", "postsyn_soma_dist_um")}
    columns |= {key: [0, 1] for key in ("n_mitos_pre", "n_mitos_post", "mito_size_pre_vx", "mito_size_post_vx")}
    return pd.DataFrame({"syn_id": [1, 2], **columns, "pre_cell_type": [0, 1], "post_cell_type": [0, 1], **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"syn_id": [2, 2]}, "annotation table has syn_id 2 more than once"),
        ({"cleft_size_vx": [-4.0, 1.0]}, "cleft_size_vx is below 0 for synapse 1: -4"),
        ({"cleft_size_vx": ["big", 1.0]}, "cleft_size_vx is not a number for synapse 1: big"),
    ],
)
def test_what_is_wrong_with_an_annotation_table_is_said(changes, message):
    with pytest.raises(TableError, match=message):
        check_annotation_table(raw_annotations(**changes), TRAITS)


def test_empty_cells_of_annotations_mean_not_measured():
    assert check_annotation_table(raw_annotations(), TRAITS)["cleft_size_vx"].isna().tolist() == [False, True]


def test_only_sizes_of_mitochondria_may_be_infinite():
    columns = {name: [0.5] for name in ANNOTATIONS.columns} | {"synapse_id": [3]}
    columns |= {key: [0.0] for key in ("has_mito_pre", "has_mito_post")}
    ANNOTATIONS.validate(pd.DataFrame(columns | {"mito_size_pre_vx_log1p_zscore_zi": [-np.inf]}))
    with pytest.raises(TableError, match="cleft_size_log1p_zscore is infinite for synapse 3"):
        ANNOTATIONS.validate(pd.DataFrame(columns | {"cleft_size_log1p_zscore": [-np.inf]}))
