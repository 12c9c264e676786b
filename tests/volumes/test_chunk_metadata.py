import numpy as np
import pandas as pd
import pytest

from synapseclr.volumes import (
    SYNAPSE_METADATA,
    ChunkStore,
    PrecomputedLayer,
    check_synapse_table,
    cut_chunks,
    summarise,
    tabulate_chunks,
    write_chunk_store,
    write_precomputed,
)


@pytest.fixture(scope="module")
def tabulated(tiny_volume, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("metadata") / "chunks.zarr")
    tiny = tiny_volume
    write_chunk_store(cut_chunks(tiny.em, tiny.segmentation, tiny.cleft, tiny.synapses, tiny.config), path)
    store = ChunkStore(path)
    table, statistics = tabulate_chunks(store, tiny.synapses, tiny.config.position_unit_nm, batch_size=1)
    return store, table, statistics


def test_one_row_a_chunk_in_store_order(tabulated):
    store, table, _ = tabulated
    assert table["synapse_id"].tolist() == store.synapse_id.tolist()
    assert table["chunk_index"].tolist() == [0, 1]


def test_root_ids_stay_integers(tabulated, tiny_volume):
    _, table, _ = tabulated
    expected = tiny_volume.synapses.set_index("id")["pre_root_id"]
    assert table.set_index("synapse_id")["pre_root_id"].to_dict() == expected.to_dict()
    assert table["pre_root_id"].dtype == np.int64


def test_volumes_are_voxel_counts_times_the_spacing_ratio(tabulated):
    store, table, _ = tabulated
    chunk = store.read([0])[0]
    assert table["synaptic_cleft_volume"][0] == (chunk[1] == 2).sum() * 2.5
    assert table["pre_synaptic_volume"][0] == (chunk[1] == 1).sum() * 2.5


def test_centres_are_in_nanometres(tabulated):
    row = tabulated[1].set_index("synapse_id").loc[7]
    assert (row["centre_x_nm"], row["centre_y_nm"], row["centre_z_nm"]) == (42 * 16, 24 * 16, 10 * 40)


def test_flags_tell_padding(tabulated):
    assert tabulated[1].set_index("synapse_id")["is_padded"].to_dict() == {3: True, 7: False}


def test_intensity_statistics_leave_zeros_out(tabulated):
    store, _, statistics = tabulated
    values = store.read(slice(None))[:, 0]
    values = values[values > 0] / 255
    assert statistics["intensity"]["mean"] == pytest.approx(values.mean())
    assert statistics["intensity"]["std"] == pytest.approx(values.std())
    assert sum(statistics["intensity"]["histogram"]) == values.size


def test_the_report_counts_what_was_dropped(tabulated, tiny_volume):
    store, table, statistics = tabulated
    report = summarise(store, tiny_volume.synapses, table, statistics, unknown_ids=[12])
    assert (report["n_chunks"], report["n_rejected"], report["n_padded"]) == (2, 0, 1)
    assert report["annotations_of_unknown_synapses"] == [12]
    assert report["cutout_sections"] == {"1": 2}


def test_an_autapse_has_a_flag_of_its_own_and_lacks_no_side(tiny_volume, tmp_path):
    """Both sides are one neurite; the second synapse names a neurite on both sides that is not there."""
    tiny, there = tiny_volume, int(tiny_volume.synapses["pre_root_id"][0])
    synapses = tiny.synapses.assign(pre_root_id=[there, 55], post_root_id=[there, 55])
    path = str(tmp_path / "chunks.zarr")
    write_chunk_store(cut_chunks(tiny.em, tiny.segmentation, tiny.cleft, synapses, tiny.config), path)
    store = ChunkStore(path)
    table, statistics = tabulate_chunks(store, synapses, tiny.config.position_unit_nm)
    flags = table.set_index("synapse_id")[["is_autapse", "is_pre_missing", "is_post_missing"]]
    assert flags.loc[7].tolist() == [True, False, False]
    assert flags.loc[3].tolist() == [True, True, True]
    report = summarise(store, synapses, table, statistics, unknown_ids=[])
    assert (report["n_autapses"], report["n_pre_missing"], report["n_post_missing"]) == (2, 1, 1)
    SYNAPSE_METADATA.validate(table)
    SYNAPSE_METADATA.validate(table.drop(columns="is_autapse"))  # written before there was the flag


def test_two_neurites_are_no_autapse_and_neither_are_two_unnamed_sides(tiny_volume, tabulated):
    assert not tabulated[1]["is_autapse"].any()
    store, unnamed = tabulated[0], tiny_volume.synapses.assign(pre_root_id=0, post_root_id=0)
    assert not tabulate_chunks(store, unnamed, tiny_volume.config.position_unit_nm)[0]["is_autapse"].any()


def test_sections_without_structure_are_counted_inside_of_the_volume(tabulated):
    assert tabulated[2]["constant_sections"] == {"n": 2, "of": 16}  # the cut-out section of both


def test_root_ids_that_int64_cannot_hold_go_through_exactly(tiny_volume, tmp_path):
    large = 2**63 + 5
    segmentation = np.full((64, 48, 20), large, np.uint64)
    segmentation[:, 24:] = 7
    write_precomputed(segmentation, f"file://{tmp_path}/seg", (16, 16, 40), "segmentation", (32, 32, 8))
    table = tiny_volume.synapses.assign(pre_root_id=np.array([large, large], np.uint64), post_root_id=[7, 7])
    synapses, tiny = check_synapse_table(table), tiny_volume
    layer = PrecomputedLayer(f"file://{tmp_path}/seg", "segmentation")
    write_chunk_store(cut_chunks(tiny.em, layer, tiny.cleft, synapses, tiny.config), str(tmp_path / "chunks.zarr"))
    store = ChunkStore(str(tmp_path / "chunks.zarr"))
    made, statistics = tabulate_chunks(store, synapses, tiny.config.position_unit_nm)
    made.to_parquet(tmp_path / "metadata.parquet")
    read = SYNAPSE_METADATA.validate(pd.read_parquet(tmp_path / "metadata.parquet"))
    assert read["pre_root_id"].tolist() == [large, large]
    assert read["post_root_id"].dtype == np.uint64
    assert not read["is_pre_missing"].any()
    assert not read["is_post_missing"].any()
    assert summarise(store, synapses, read, statistics, [])["n_neurites"] == 2
