"""Clefts painted at the contact of two segments: where they lie, and the chunks that have them."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import ConfigurationError, TableError
from synapseclr.volumes import (
    SYNAPSE_METADATA,
    ChunkStore,
    PrecomputedLayer,
    cut_chunks,
    summarise,
    tabulate_chunks,
    write_chunk_store,
)
from synapseclr.volumes.painted_clefts import paint_cleft
from synapseclr.volumes.preflight import check_inputs

UNIT = (8.0, 8.0, 40.0)


def touching(gap=0):
    """Two slabs that touch in the plane x = 20, or a gap of voxels between them."""
    is_pre, is_post = np.zeros((2, 48, 48, 20), bool)
    is_pre[8:20], is_post[20 + gap : 34] = True, True
    return is_pre, is_post


def test_a_disc_is_painted_where_the_line_crosses_the_contact():
    is_pre, is_post = touching()
    cleft = paint_cleft(is_pre, is_post, np.array([12.0, 30, 8]), np.array([28.0, 30, 8]), UNIT, 32, 120)
    x, y, z = np.nonzero(cleft)
    assert (x.min(), x.max()) == (18, 21)  # 2 voxels of 8 nm on either side
    assert (y.mean(), z.mean()) == pytest.approx((30, 8))
    assert np.hypot((y - 30) * 8, (z - 8) * 40).max() <= 120
    area_nm2 = cleft[20].sum() * 8 * 40
    assert area_nm2 == pytest.approx(np.pi * 120**2, rel=0.1)


def test_a_contact_between_two_sections_is_painted_on_both_of_them():
    """Sections are 40 nm apart, so that both voxels lie further apart than the thickness."""
    is_pre, is_post = np.zeros((2, 48, 48, 20), bool)
    is_pre[:, :, 4:9], is_post[:, :, 9:14] = True, True
    point = np.array([24.0, 24.0, 8.0])
    cleft = paint_cleft(is_pre, is_post, point, point, UNIT, 50, 120)
    assert sorted(set(np.nonzero(cleft)[2])) == [8, 9]
    assert cleft[:, :, 8].sum() * 8 * 8 == pytest.approx(np.pi * 120**2, rel=0.1)


def test_a_gap_between_the_segments_is_filled():
    is_pre, is_post = touching(gap=2)
    cleft = paint_cleft(is_pre, is_post, np.array([12.0, 30, 8]), np.array([28.0, 30, 8]), UNIT, 32, 120)
    assert cleft[20:22, 30, 8].all()
    assert (np.nonzero(cleft)[0].min(), np.nonzero(cleft)[0].max()) == (19, 22)


def test_of_two_contacts_the_one_at_the_points_is_taken():
    is_pre, is_post = touching()
    is_pre[:, 20:28], is_post[:, 20:28] = False, False
    for y in (10.0, 40.0):
        cleft = paint_cleft(is_pre, is_post, np.array([12.0, y, 8]), np.array([28.0, y, 8]), UNIT, 32, 400)
        assert cleft.any()
        assert (np.nonzero(cleft)[1] < 24).all() == (y < 24)


def test_one_point_does_as_well_and_points_may_lie_outside():
    is_pre, is_post = touching()
    one = paint_cleft(is_pre, is_post, np.array([20.0, 30, 8]), np.array([20.0, 30, 8]), UNIT, 32, 120)
    assert one.any()
    paint_cleft(is_pre, is_post, np.array([-200.0, 30, 8]), np.array([-100.0, 30, 8]), UNIT, 32, 120)


def test_nothing_is_painted_where_the_segments_do_not_come_near():
    is_pre, is_post = touching(gap=10)
    points = np.array([12.0, 30, 8]), np.array([32.0, 30, 8])
    assert not paint_cleft(is_pre, is_post, *points, UNIT, 32, 120).any()
    assert not paint_cleft(is_pre, np.zeros_like(is_post), *points, UNIT, 32, 120).any()


def painted(tiny_volume, folder, table=None, **changes):
    config = tiny_volume.config.model_copy(update={"cleft": "painted", "cleft_radius_nm": 100} | changes)
    table = tiny_volume.synapses if table is None else table
    write_chunk_store(cut_chunks(tiny_volume.em, tiny_volume.segmentation, None, table, config), str(folder))
    return ChunkStore(str(folder)), table, config


def test_chunks_of_a_catalog_without_a_cleft_layer(tiny_volume, tmp_path):
    store, table, config = painted(tiny_volume, tmp_path / "c.zarr")
    for chunk_cxyz in store.read(slice(None)):
        x, y, z = np.nonzero(chunk_cxyz[1] == 2)
        assert np.unique(y).tolist() == [9, 10]  # the two voxels at the contact, in a chunk that begins 10 before it
        assert np.hypot((x - 12) * 16, (z - 4) * 40).max() <= 100
        assert len(x) > 60
        assert {1, 3} <= set(np.unique(chunk_cxyz[1]))
    metadata, statistics = tabulate_chunks(store, table, config.position_unit_nm)
    assert metadata["cleft_source"].tolist() == ["painted", "painted"]
    assert metadata["cleft_id"].tolist() == [0, 0]
    SYNAPSE_METADATA.validate(metadata)
    assert summarise(store, table, metadata, statistics, [])["n_painted"] == 2


def test_layers_are_said_to_be_the_source_where_they_are(tiny_volume, tmp_path):
    layers = (tiny_volume.em, tiny_volume.segmentation, tiny_volume.cleft)
    write_chunk_store(cut_chunks(*layers, tiny_volume.synapses, tiny_volume.config), str(tmp_path / "c.zarr"))
    store = ChunkStore(str(tmp_path / "c.zarr"))
    metadata, statistics = tabulate_chunks(store, tiny_volume.synapses, (16, 16, 40))
    assert metadata["cleft_source"].tolist() == ["layer", "layer"]
    assert sorted(metadata["cleft_id"]) == [901, 902]
    assert "n_painted" not in summarise(store, tiny_volume.synapses, metadata, statistics, [])


def test_the_points_of_the_table_say_where_the_contact_is(tiny_volume, tmp_path):
    """Points 48 nm to the side of the centre move the disc, in nm as in voxels."""
    plain, _, _ = painted(tiny_volume, tmp_path / "plain.zarr")
    shifts = {}
    for suffix, unit, centre in (("vx", (1, 1, 1), 0), ("nm", (16, 16, 40), 0.5)):
        table = tiny_volume.synapses.copy()
        for side, along_y in (("pre", -3), ("post", 3)):
            for axis, shift, size in zip("xyz", (3, along_y, 0), unit, strict=True):
                table[f"{side}_pos_{axis}_{suffix}"] = (table[f"ctr_pos_{axis}_vx"] + shift + centre) * size
        store, _, _ = painted(tiny_volume, tmp_path / f"{suffix}.zarr", table)
        assert store.sha256 != plain.sha256
        shifts[suffix] = [np.argwhere(chunk[1] == 2).mean(axis=0)[0] for chunk in store.read(slice(None))]
    before = [np.argwhere(chunk[1] == 2).mean(axis=0)[0] for chunk in plain.read(slice(None))]
    np.testing.assert_allclose(np.subtract(shifts["vx"], before), 3, atol=0.5)
    np.testing.assert_allclose(shifts["nm"], shifts["vx"], atol=0.5)
    with pytest.raises(TableError, match=r"post_pos_x_nm.*for synapse"):
        painted(tiny_volume, tmp_path / "bad.zarr", table.assign(post_pos_x_nm=np.nan))


def test_a_synapse_whose_segments_do_not_touch_is_rejected_and_told_before(tiny_volume, tmp_path):
    far = tiny_volume.synapses.assign(pre_root_id=tiny_volume.synapses["post_root_id"].iloc[0] + 5)
    with pytest.raises(TableError, match="its two segments do not touch within 150 nm"):
        painted(tiny_volume, tmp_path / "c.zarr", far)
    layers = (tiny_volume.em, tiny_volume.segmentation, None)
    config = tiny_volume.config.model_copy(update={"cleft": "painted"})
    shares = check_inputs(layers, far, pd.Series([7]), config).shares
    assert (shares["no_contact"].n, shares["no_contact"].of) == (2, 2)
    fitting = check_inputs(layers, tiny_volume.synapses, pd.Series([7]), config)
    assert (fitting.errors, fitting.shares["no_contact"].n) == ([], 0)
    assert [facts.role for facts in fitting.layers] == ["em volume", "seg volume"]


def test_no_cleft_layer_and_no_painting_is_a_sentence(tiny_volume):
    layers = (tiny_volume.em, tiny_volume.segmentation, None)
    with pytest.raises(ConfigurationError, match=r"set preprocessing\.cleft to painted"):
        cut_chunks(*layers, tiny_volume.synapses, tiny_volume.config)
    found = check_inputs(layers, tiny_volume.synapses, pd.Series([7]), tiny_volume.config)
    assert len(found.errors) == 1
    nowhere = PrecomputedLayer("file:///nowhere/clefts", "cleft volume")
    found = check_inputs((*layers[:2], nowhere), tiny_volume.synapses, pd.Series([7]), tiny_volume.config)
    assert found.errors[0].endswith("If there is no cleft volume, set preprocessing.cleft to painted.")
