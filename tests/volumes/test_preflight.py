"""Tables and volumes that do not belong together are named before anything is cut, with the likely cause."""

import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr

from synapseclr.errors import InputError
from synapseclr.volumes import OmeZarrLayer, PrecomputedLayer, check_synapse_table, write_precomputed
from synapseclr.volumes.layers.blocks import BlockCache
from synapseclr.volumes.preflight import check_inputs, check_tables, describe, diagnose_ids
from synapseclr.volumes.synapse_table import POSITION_COLUMNS, UNIT_NM

SIZE_NM = (16, 16, 40)
NO_IDS = pd.Series([], dtype="int64")


def check(tiny, synapses=None, **changes):
    layers = [changes.pop(name, getattr(tiny, name)) for name in ("em", "segmentation", "cleft")]
    config = tiny.config.model_copy(update=changes)
    table = check_synapse_table(tiny.synapses if synapses is None else synapses)
    return check_inputs(layers, table, changes.get("ids", NO_IDS), config)


def moved(tiny, factors):
    table = tiny.synapses.copy()
    table[POSITION_COLUMNS] = table[POSITION_COLUMNS] * factors
    return table


def test_inputs_that_fit_pass_with_what_was_found(tiny_volume):
    found = check(tiny_volume)
    found.conclude()
    assert [finding.kind for finding in found.findings] == ["constant_sections"]
    assert {kind: share.n for kind, share in found.shares.items() if share.n} == {
        "at_border": 1,
        "constant_sections": 2,  # section 7 is black in both chunks
    }
    (em, segmentation, _) = found.layers
    assert (em.role, em.dtype, em.codec, em.upper_vx) == ("em volume", "uint8", "raw", [64, 48, 20])
    assert (segmentation.dtype, segmentation.codec) == ("uint64", "compressed_segmentation")
    synapse_id, chunk_cxyz = found.first_chunk
    assert synapse_id in (3, 7)
    assert set(np.unique(chunk_cxyz[1])) >= {1, 2, 3}
    text = describe(found)
    assert "scale 16 x 16 x 40 nm; voxels 0 x 0 x 0 to 64 x 48 x 20; uint8; raw, blocks of 32 x 32 x 8" in text
    assert "without either neurite                       0 of 2 (0 %)" in text


def test_root_ids_of_another_version_are_an_error_that_names_table_and_layer(tiny_volume):
    table = tiny_volume.synapses.copy()
    table[["pre_root_id", "post_root_id"]] += 1001
    found = check(tiny_volume, table)
    (error,) = found.errors
    assert (
        "2 of 2 (100 %) synapses tried: neither root id of the synapse table occurs near them in the seg volume"
        in error
    )
    assert "Most likely the table is of another version of the segmentation (the table has 648518346349501002" in error
    with pytest.raises(InputError, match=r"Nothing was cut, .* preprocessing\.max_suspect_fraction"):
        found.conclude()


def test_the_limit_is_a_parameter_and_below_it_is_a_warning(tiny_volume, caplog):
    table = tiny_volume.synapses.copy()
    for name in ("pre_root_id", "post_root_id"):  # one by one: a row would be a row of floats
        table.loc[0, name] += 1001
    half = check(tiny_volume, table)
    assert half.errors == []
    assert "1 of 2 (50 %) synapses tried: neither root id" in half.warnings[0]
    with caplog.at_level(logging.WARNING):
        half.conclude()
    assert "neither root id of the synapse table" in caplog.text
    assert check(tiny_volume, table, max_suspect_fraction=0.4).errors


def test_one_column_of_another_version_is_told_from_both(tiny_volume):
    table = tiny_volume.synapses.copy()
    table["post_root_id"] += 1001
    (error,) = check(tiny_volume, table).errors
    assert "the post_root_id of the synapse table does not occur near them" in error
    assert "The other side is there" in error


def test_supervoxels_are_named(tiny_volume, tmp_path):
    opened = tiny_volume.segmentation.at_resolution(SIZE_NM)
    ids_xyz = opened.read(opened.lower_vx, opened.upper_vx)
    supervoxels_xyz = (ids_xyz & np.uint64(0xFFFF)) + np.uint64(1 << 56)
    write_precomputed(supervoxels_xyz, f"file://{tmp_path}/raw", SIZE_NM, "segmentation", (32, 32, 8))
    (error,) = check(tiny_volume, segmentation=PrecomputedLayer(f"file://{tmp_path}/raw", "segmentation volume")).errors
    assert "the segmentation holds supervoxels, which are not agglomerated" in error
    assert "Read the graph itself at the table's version" in error


@pytest.mark.parametrize(
    ("factors", "unit"),
    [((4, 4, 1), "[4, 4, 40]"), ((2, 2, 1), "[8, 8, 40]"), ((16, 16, 40), "[1, 1, 1]")],
    ids=["voxels of 4 nm", "voxels of 8 nm", "nm"],
)
def test_positions_in_another_unit_are_an_error_that_gives_the_unit(tiny_volume, factors, unit):
    found = check(tiny_volume, moved(tiny_volume, factors))
    (error,) = found.errors
    assert "of the synapse table lie outside of the em volume at file://" in error
    assert f"set preprocessing.position_voxel_size_nm to {unit}. So read, 100 % of 2 synapses tried" in error
    assert found.first_chunk is None or unit == "[8, 8, 40]"


def test_for_positions_in_nm_the_unit_of_the_table_is_named(tiny_volume):
    """``position_voxel_size_nm`` would change nothing for these."""
    size_nm = np.asarray(SIZE_NM)
    voxels_n3 = tiny_volume.synapses[POSITION_COLUMNS].to_numpy() * size_nm / (8, 8, 40)
    for read_nm in ((1.0, 1.0, 1.0), (4.0, 4.0, 40.0)):  # taken for nm, or for other voxels
        in_nm = pd.DataFrame(voxels_n3 * read_nm, columns=[f"ctr_pos_{axis}_nm" for axis in "xyz"])
        table = pd.concat([tiny_volume.synapses.drop(columns=POSITION_COLUMNS), in_nm], axis=1)
        table.attrs[UNIT_NM] = read_nm
        (error,) = check(tiny_volume, check_synapse_table(table, SIZE_NM)).errors
        assert "set unit_nm of the catalog's synapse_table (a SynapseTableDataset) to [8, 8, 40]" in error
        assert "position_voxel_size_nm" not in error


def test_swapped_axes_are_an_error_that_gives_the_order(tiny_volume):
    table = tiny_volume.synapses.copy()
    table[POSITION_COLUMNS] = table[POSITION_COLUMNS[::-1]].to_numpy()
    (error,) = check(tiny_volume, table).errors
    assert "the axes are in another order: ctr_pos_x_vx, ctr_pos_y_vx, ctr_pos_z_vx hold z, y, x" in error


def with_corner(layer, folder, corner_vx):
    """The layer as a cut-out: its first voxel has these coordinates."""
    place = folder / layer.role.replace(" ", "_")
    shutil.copytree(layer.uri.removeprefix("file://"), place)
    info = json.loads((place / "info").read_text())
    for scale in info["scales"]:
        scale["voxel_offset"] = list(corner_vx)
        for block in list((place / scale["key"]).iterdir()):
            name, *suffix = block.name.split(".")
            spans = [map(int, span.split("-")) for span in name.split("_")]
            moved = ["-".join(str(v + shift) for v in span) for span, shift in zip(spans, corner_vx, strict=True)]
            block.rename(block.with_name(".".join(["_".join(moved), *suffix])))
    (place / "info").write_text(json.dumps(info))
    return PrecomputedLayer(f"file://{place}", layer.role)


@pytest.mark.parametrize(
    ("times_added", "advice"),
    [
        (
            0,
            "are counted from the corner of the volume, whose first voxel is (64, 96, 16): add (64, 96, 16) to x, y, z",
        ),
        (
            2,
            "have the corner of the volume added once too often, whose first voxel is (64, 96, 16): subtract (64, 96,",
        ),
    ],
)
def test_positions_with_another_origin_are_an_error_that_gives_the_shift(tiny_volume, tmp_path, times_added, advice):
    corner_vx = (64, 96, 16)
    layers = {
        name: with_corner(getattr(tiny_volume, name), tmp_path, corner_vx) for name in ("em", "segmentation", "cleft")
    }
    table = tiny_volume.synapses.copy()
    right = table.assign(**{name: table[name] + v for name, v in zip(POSITION_COLUMNS, corner_vx, strict=True)})
    check(tiny_volume, right, **layers).conclude()
    wrong = table.assign(
        **{name: table[name] + times_added * v for name, v in zip(POSITION_COLUMNS, corner_vx, strict=True)}
    )
    (error,) = check(tiny_volume, wrong, **layers).errors
    assert "of the synapse table lie outside of the em volume at file://" in error
    assert f"Most likely the positions {advice}" in error
    assert "So read, 100 % of 2 synapses tried" in error


def test_clefts_of_another_volume_are_told_from_wrong_positions(tiny_volume, tmp_path):
    opened = tiny_volume.cleft.at_resolution(SIZE_NM)
    labels_xyz = np.roll(opened.read(opened.lower_vx, opened.upper_vx), 16, axis=0)
    write_precomputed(labels_xyz, f"file://{tmp_path}/other", SIZE_NM, "segmentation", (32, 32, 8))
    (error,) = check(tiny_volume, cleft=PrecomputedLayer(f"file://{tmp_path}/other", "cleft volume")).errors
    assert "have no label of the cleft volume at file://" in error
    assert "The neurites are where the table says" in error


def test_an_em_that_reads_as_zeros_stops_before_cutting(tiny_volume, tmp_path):
    """Chunks with nested keys, whose description does not say so: each is looked for where it is not."""
    place = tmp_path / "em.zarr"
    group = zarr.open_group(str(place), mode="w", zarr_format=2)
    array = group.create_array("0", shape=(64, 48, 20), chunks=(32, 32, 8), dtype="u1", fill_value=0)
    array[:] = tiny_volume.em_xyz
    for chunk in list((place / "0").glob("[0-9]*")):
        nested = place / "0" / chunk.name.replace(".", "/")
        nested.parent.mkdir(parents=True, exist_ok=True)
        chunk.rename(nested)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "xyz"]
    steps = [{"type": "scale", "scale": list(SIZE_NM)}]
    described = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    group.attrs["multiscales"] = [described]
    black = OmeZarrLayer(f"file://{place}", "EM volume")
    (error,) = check(tiny_volume, em=black).errors
    assert "16 of 16 (100 %) sections around the synapses tried are black or of one intensity in the EM volume" in error
    assert "the chunk keys have another separator" in error


def test_every_layer_that_cannot_be_used_is_named_at_once(tiny_volume, tmp_path):
    found = check(
        tiny_volume,
        em=PrecomputedLayer(f"file://{tmp_path}/nowhere", "EM volume"),
        segmentation=PrecomputedLayer("graphene://https://example.com/x", "segmentation volume"),
    )
    assert len(found.errors) == 2
    assert "EM volume at file://" in found.errors[0]
    assert "chunked graph" in found.errors[1]
    assert [layer.role for layer in found.layers] == ["cleft volume"]


def test_a_missing_decoder_is_found_at_the_first_block(tiny_volume, monkeypatch):
    from cloudvolume import chunks

    fetched = []
    fetch = BlockCache._fetch
    monkeypatch.setattr(BlockCache, "_fetch", lambda cache, index: fetched.append(index) or fetch(cache, index))
    monkeypatch.setitem(chunks.NEEDS_INSTALL, "compressed_segmentation", "compressed-segmentation")
    (error,) = check(tiny_volume, fetch_threads=1).errors
    assert "is encoded as 'compressed_segmentation', and there is no decoder for it here" in error
    assert len(fetched) == 1


def test_blocks_that_are_missing_are_counted_and_named(tiny_volume, tmp_path):
    place = tmp_path / "em"
    shutil.copytree(tiny_volume.em.uri.removeprefix("file://"), place)
    for block in (place / "16_16_40").iterdir():
        block.unlink()
    found = check(tiny_volume, em=PrecomputedLayer(f"file://{place}", "EM volume"))
    (error,) = found.errors
    assert "2 of 2 (100 %) synapses tried lie in blocks that cannot be read. The EM volume at" in error
    assert "position" not in error


def test_a_root_id_of_0_names_no_neurite_and_is_no_error(tiny_volume):
    found = check(tiny_volume, tiny_volume.synapses.assign(post_root_id=0))
    assert found.errors == []
    assert "2 of 2 synapses have the post_root_id 0, which is no neurite" in found.warnings[0]
    assert found.shares["without_post"].of == 0


def test_autapses_have_a_share_of_their_own_and_lack_nothing(tiny_volume):
    table = tiny_volume.synapses.assign(post_root_id=tiny_volume.synapses["pre_root_id"])
    found = check(tiny_volume, table)
    assert found.errors == []
    assert "2 of 2 (100 %) synapses have the same pre_root_id and post_root_id" in found.warnings[0]
    assert found.shares["without_post"].n == 0


def test_annotations_of_other_synapses_alone_are_a_warning(tiny_volume):
    table = check_synapse_table(tiny_volume.synapses)
    assert check_tables(table, pd.Series([7, 99]), tiny_volume.config).findings == ()
    found = check_tables(table, pd.Series([98, 99]), tiny_volume.config)
    assert "None of the 2 annotated synapses is in the synapse table" in found.warnings[0]
    assert found.n_annotated == 0


def test_without_a_sample_only_tables_and_layers_are_looked_at(tiny_volume):
    table = tiny_volume.synapses.copy()
    table[["pre_root_id", "post_root_id"]] += 1001
    found = check(tiny_volume, table, check_synapses=0)
    assert found.findings == ()
    assert "without_either" not in found.shares
    assert len(found.layers) == 3


ROOTS = np.array([648518346349501011, 648518346349501006])  # the highest byte is 9


@pytest.mark.parametrize(
    ("table_ids", "ids_near", "cause"),
    [
        (ROOTS, ROOTS - 1000, "another version of the segmentation"),
        (ROOTS, np.array([(1 << 56) + 5, (1 << 56) + 6]), "holds supervoxels"),
        (ROOTS // 1024 * 1024, ROOTS, "rounded by a spreadsheet"),
        (np.array([12, 15]), np.array([20_000, 30_000]), "another version of the segmentation"),
        (ROOTS, np.array([], np.int64), "holds background only"),
    ],
    ids=["version", "supervoxels", "rounded", "small ids", "background"],
)
def test_the_likeliest_cause_of_unknown_ids(table_ids, ids_near, cause):
    text = diagnose_ids(table_ids.astype(np.int64), ids_near.astype(np.uint64))
    assert cause in text
    if len(ids_near):
        assert f"the table has {table_ids[0]}, the segmentation {ids_near[0]} there" in text
