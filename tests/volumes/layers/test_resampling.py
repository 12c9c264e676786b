"""Layers of other voxel sizes than the chunks': compared with scipy, at borders and offsets, and through cutting."""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from small_volumes import make_table, stream, write_image, write_volumes

from synapseclr.errors import VolumeError
from synapseclr.volumes import (
    ChunkStore,
    PrecomputedLayer,
    PreprocessingConfig,
    cut_chunks,
    write_chunk_store,
    write_precomputed,
)
from synapseclr.volumes.cutting import open_cutter, open_layers
from synapseclr.volumes.layers.blocks import BlockCache
from synapseclr.volumes.layers.boxes import parts_of, write_intensity
from synapseclr.volumes.layers.resampling import ResampledLayer, nearest_size, open_on_grid
from synapseclr.volumes.preflight import check_inputs, describe
from synapseclr.volumes.synapse_cutter import Site

EM_NM, IDS_NM, CHUNK_NM = (7.5, 7.5, 50), (15, 15, 50), (8, 8, 40)
SHAPE = (61, 53, 17)
BIG = 648_518_346_349_500_000  # root ids above 2^53


def noise(shape=SHAPE):
    return np.random.default_rng(3).integers(1, 255, shape).astype(np.uint8)


def written(folder, array_xyz, voxel_size_nm, kind="image", block=(16, 16, 8)):
    write_precomputed(array_xyz, f"file://{folder}", voxel_size_nm, kind, block)
    return PrecomputedLayer(f"file://{folder}", f"{kind} volume")


def whole(layer):
    return layer.read(layer.lower_vx, layer.upper_vx - layer.lower_vx)


def coordinates(layer, from_nm, to_nm):
    """Places of the grid's voxel centres, in voxels of the stored scale whose centres are whole numbers."""
    axes = [np.arange(a, b) for a, b in zip(layer.lower_vx, layer.upper_vx, strict=True)]
    return np.meshgrid(
        *[(axis + 0.5) * to / size - 0.5 for axis, to, size in zip(axes, to_nm, from_nm, strict=True)], indexing="ij"
    )


def within_one_grey_level(found, expected):
    return np.abs(found.astype(float) - expected).max() <= 1


@pytest.mark.parametrize("to_nm", [(5, 6, 40), (7.5, 7.5, 40), (7.5, 7.5, 50 / 3)])
def test_a_finer_grid_is_interpolated_as_scipy_does(tmp_path, to_nm):
    array = noise()
    layer = open_on_grid(written(tmp_path, array, EM_NM), to_nm, 4, holds_ids=False)
    expected = ndimage.map_coordinates(array.astype(float), coordinates(layer, EM_NM, to_nm), order=1, mode="nearest")
    assert within_one_grey_level(whole(layer), expected)


def test_zooming_by_a_whole_factor_is_scipys(tmp_path):
    array = noise()
    layer = open_on_grid(written(tmp_path, array, EM_NM), (3.75, 3.75, 25), 4, holds_ids=False)
    expected = ndimage.zoom(array.astype(float), 2, order=1, grid_mode=True, mode="nearest")
    assert within_one_grey_level(whole(layer), expected)


@pytest.mark.parametrize("to_nm", [(8, 8, 50), (8, 12, 60), (15, 22.5, 100), (29, 8, 130)])
def test_a_coarser_grid_is_averaged_over_area(tmp_path, to_nm):
    """Means over points half a nanometre apart along each axis, taken by scipy."""
    array = noise()
    layer = open_on_grid(written(tmp_path, array, EM_NM), to_nm, 4, holds_ids=False)
    expected = array.astype(float)
    for axis, (to, size) in enumerate(zip(to_nm, EM_NM, strict=True)):
        voxels = np.arange(layer.lower_vx[axis], layer.upper_vx[axis])
        points = (voxels[:, None] * to + np.arange(0.25, to, 0.5)) / size - 0.5
        last = expected.shape[axis] - 1
        expected = np.moveaxis(expected, axis, -1)
        rows = expected.reshape(-1, last + 1)
        at = np.clip(np.round(points.ravel()), 0, last)
        places = [np.repeat(np.arange(len(rows)), at.size), np.tile(at, len(rows))]
        sampled = ndimage.map_coordinates(rows, places, order=0).reshape(len(rows), *points.shape).mean(axis=-1)
        expected = np.moveaxis(sampled.reshape(*expected.shape[:-1], len(voxels)), -1, axis)
    assert within_one_grey_level(whole(layer), expected)


def test_a_mixed_grid_averages_in_plane_and_interpolates_between_sections(tmp_path):
    """A plane of intensities is itself whatever it is made of, up to rounding."""

    def plane(shape, size_nm):
        x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) * s for n, s in zip(shape, size_nm, strict=True)], indexing="ij")
        return 20 + 0.2 * x + 0.1 * y + 0.1 * z

    array = np.round(plane(SHAPE, EM_NM)).astype(np.uint8)
    layer = open_on_grid(written(tmp_path, array, EM_NM), CHUNK_NM, 4, holds_ids=False)
    found = whole(layer)
    within = (slice(1, -1),) * 3
    assert within_one_grey_level(found[within], plane(found.shape, CHUNK_NM)[within])


@pytest.mark.parametrize("to_nm", [CHUNK_NM, (5, 30, 33), (15, 15, 40), (60, 15, 20)])
def test_ids_are_those_of_the_nearest_voxel(tmp_path, to_nm):
    ids = np.random.default_rng(4).integers(0, 50, SHAPE).astype(np.uint64) + np.uint64(2**63)
    layer = open_on_grid(written(tmp_path, ids, IDS_NM, "segmentation"), to_nm, 4, holds_ids=True)
    centres = coordinates(layer, IDS_NM, to_nm)
    places = [np.clip(np.floor(c + 0.5 + 1e-9).astype(int), 0, n - 1) for c, n in zip(centres, SHAPE, strict=True)]
    np.testing.assert_array_equal(whole(layer), ids[tuple(places)])
    scaled = ndimage.map_coordinates((ids - np.uint64(2**63)).astype(float), places, order=0)
    np.testing.assert_array_equal(whole(layer) - np.uint64(2**63), scaled.astype(np.uint64))


def offset_layer(folder, array_xyz, offset_vx):
    from cloudvolume import CloudVolume

    info = CloudVolume.create_new_info(
        1, "image", "uint8", "raw", list(EM_NM), offset_vx, list(array_xyz.shape), chunk_size=(16, 16, 8)
    )
    volume = CloudVolume(f"file://{folder}", info=info, progress=False, non_aligned_writes=True)
    volume.commit_info()
    x, y, z = (slice(a, a + n) for a, n in zip(offset_vx, array_xyz.shape, strict=True))
    volume[x, y, z] = array_xyz[..., None]
    return PrecomputedLayer(f"file://{folder}", "EM volume")


@pytest.mark.parametrize("offset_vx", [(13, 7, 5), (-9, 160, -3)])
def test_a_layer_that_begins_elsewhere_is_placed_by_its_offset(tmp_path, offset_vx):
    array = noise()
    layer = open_on_grid(offset_layer(tmp_path, array, offset_vx), (7, 7, 40), 4, holds_ids=False)
    lower_nm = np.array(offset_vx) * EM_NM
    assert (np.abs((layer.lower_vx) * (7, 7, 40) - lower_nm) <= np.array([7, 7, 40]) / 2).all()
    places = [c - o for c, o in zip(coordinates(layer, EM_NM, (7, 7, 40)), offset_vx, strict=True)]
    assert within_one_grey_level(
        whole(layer), ndimage.map_coordinates(array.astype(float), places, order=1, mode="nearest")
    )
    # a box that hangs over the border is zero there and the same elsewhere
    shift, size = np.array([3, 2, 1]), layer.upper_vx - layer.lower_vx
    box = layer.read(layer.lower_vx - shift, size)
    assert not box[:3].any()
    assert not box[:, :2].any()
    np.testing.assert_array_equal(box[3:, 2:, 1:], whole(layer)[:-3, :-2, :-1])


def test_scales_of_ome_zarr_are_placed_by_their_translation(tmp_path):
    """The half scale's centres lie inside of the full scale's first voxel: both begin at the same edge."""
    image = write_image(str(tmp_path / "v"), noise((32, 32, 16)), "0.5", offset_vx=(10, 0, 2))
    for size_nm in ((16, 16, 40), (32, 32, 80)):
        np.testing.assert_allclose(image.at_resolution(size_nm).origin_nm, 0, atol=1e-9)
    layer = open_on_grid(image, (20, 20, 40), 2, holds_ids=False)
    assert (layer.source_size_nm, layer.lower_vx.tolist()) == ((16, 16, 40), [8, 0, 2])


def test_the_scale_is_the_coarsest_that_is_not_coarser_than_the_grid():
    sizes = [EM_NM, (15, 15, 50), (30, 30, 50), (60, 60, 50)]
    assert nearest_size(sizes, (8, 8, 40), 4) == EM_NM
    assert nearest_size(sizes, (16, 16, 40), 4) == (15, 15, 50)
    assert nearest_size(sizes, (29, 29, 40), 4) == (15, 15, 50)
    assert nearest_size(sizes, (4, 4, 40), 4) == EM_NM
    assert nearest_size(sizes, (1, 1, 40), 4) is None
    assert nearest_size(sizes, (8, 8, 40), 1) is None


def test_a_scale_that_is_too_far_off_is_refused_in_a_sentence(tmp_path):
    layer = written(tmp_path, noise(), EM_NM)
    with pytest.raises(VolumeError, match=r"no scale of 1 x 1 x 40 nm; it has 7.5 x 7.5 x 50 nm.*max_resampling = 4"):
        open_on_grid(layer, (1, 1, 40), 4, holds_ids=False)
    with pytest.raises(VolumeError, match="max_resampling = 1"):
        open_on_grid(layer, CHUNK_NM, 1, holds_ids=False)


def test_a_missing_section_is_left_out_and_not_blended(tmp_path):
    array = np.full(SHAPE, 200, np.uint8)
    array[:, :, 4] = 0  # 200 to 250 nm
    layer = open_on_grid(written(tmp_path, array, EM_NM), CHUNK_NM, 4, holds_ids=False)
    box = np.zeros((30, 30, 12), np.uint8)
    write_intensity(BlockCache(layer, 8), np.array([5, 5, 0]), box, cutout_zero_fraction=0.01)
    assert np.unique(box).tolist() == [0, 200]
    assert np.flatnonzero(~box.any(axis=(0, 1))).tolist() == [5]  # centre at 220 nm; that at 180 and 260 nm are known


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A CAVE-like volume: EM at 7.5 x 7.5 x 50 nm, ids at 15 x 15 x 50 nm; two slabs with clefts between them."""
    folder = tmp_path_factory.mktemp("lab")
    em = noise((160, 128, 24))
    segmentation = np.full((80, 64, 24), BIG + 1, np.uint64)
    segmentation[:, 32:] = BIG + 3  # from 480 nm on
    cleft = np.zeros((80, 64, 24), np.uint32)
    cleft[18:22, 31:33, 10:14] = 901
    cleft[58:62, 31:33, 10:14] = 902
    written(folder / "em", em, EM_NM)
    written(folder / "segmentation", segmentation, IDS_NM, "segmentation")
    written(folder / "clefts", cleft, IDS_NM, "segmentation")
    table = pd.DataFrame(
        {"id": [BIG + 7, BIG + 5], "pre_root_id": [BIG + 1, BIG + 3], "post_root_id": [BIG + 3, BIG + 1]}
    )
    table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = [[40.0, 64.0, 12.0], [120.0, 64.0, 12.0]]
    layers = [PrecomputedLayer(f"file://{folder / name}", name) for name in ("em", "segmentation", "clefts")]
    config = PreprocessingConfig(
        voxel_size_nm=CHUNK_NM, position_voxel_size_nm=EM_NM, chunk_size_vx=(48, 40, 10), max_cleft_distance_nm=200
    )
    return layers, table, config, (em, segmentation, cleft)


def test_chunks_of_a_voxel_size_that_no_layer_has(lab, tmp_path, caplog):
    layers, table, config, _ = lab
    with caplog.at_level(logging.INFO, "synapseclr"):
        write_chunk_store(cut_chunks(*layers, table, config), str(tmp_path / "c.zarr"))
    assert "em: 7.5 x 7.5 x 50 nm, resampled to 8 x 8 x 40 nm." in caplog.messages
    store = ChunkStore(str(tmp_path / "c.zarr"))
    assert store.voxel_size_nm == CHUNK_NM
    assert sorted(store.synapse_id.tolist()) == [BIG + 5, BIG + 7]
    opened = open_layers(layers, config)
    for synapse_id, chunk_cxyz in zip(store.synapse_id.tolist(), store.read(slice(None)), strict=True):
        row = table[table["id"] == synapse_id].iloc[0]
        centre = np.floor(
            [row[f"ctr_pos_{a}_vx"] * size / to for a, size, to in zip("xyz", EM_NM, CHUNK_NM, strict=True)]
        )
        lower = centre.astype(int) - np.array(config.chunk_size_vx) // 2
        em, ids, clefts = (layer.read(lower, np.array(config.chunk_size_vx)) for layer in opened)
        np.testing.assert_array_equal(chunk_cxyz[0], em)
        cleft_id = 901 if synapse_id == BIG + 7 else 902
        pre, post = (BIG + 1, BIG + 3) if synapse_id == BIG + 7 else (BIG + 3, BIG + 1)
        expected = np.where(ids == pre, 1, np.where(ids == post, 3, 0))
        np.testing.assert_array_equal(chunk_cxyz[1], np.where(clefts == cleft_id, 2, expected))
        assert (chunk_cxyz[1] == 2).sum() > 100
        # the border of the slabs is at 480 nm, the edge between voxels 59 and 60
        at = 60 - lower[1]
        assert {*np.unique(chunk_cxyz[1][:, :at])} <= {pre - BIG, 2}
        assert {*np.unique(chunk_cxyz[1][:, at:])} <= {post - BIG, 2}


def test_only_the_blocks_of_the_box_are_decoded_and_each_once(lab):
    layers, _, config, _ = lab
    em, segmentation, _ = open_layers(layers, config)
    for layer, read in ((em, None), (segmentation, parts_of)):
        cache = BlockCache(layer, 64)
        lower, size = np.array([20, 20, 5]), np.array([16, 16, 5])
        for _ in range(2):
            if read is None:
                write_intensity(cache, lower, np.zeros(size, np.uint8), 0.01)
            else:
                list(read(cache, lower, size))
        stored_nm = np.array(layer.source_size_nm)
        margin = 0 if layer.holds_ids else 1
        first = np.floor(lower * CHUNK_NM / stored_nm).astype(int) - margin
        last = np.ceil((lower + size) * CHUNK_NM / stored_nm).astype(int) + margin
        most = np.prod(-(-last // (16, 16, 8)) - first // (16, 16, 8))
        assert 1 <= cache.n_decoded <= most
        assert most < np.prod(-(-(layer.source.upper_vx) // (16, 16, 8))) / 4


def test_a_chunk_at_the_border_of_one_layer_only(lab, tmp_path):
    """A segmentation that ends before the EM does: what lies beyond is background, and the EM is there."""
    layers, _, config, (_, segmentation, cleft) = lab
    short = written(tmp_path, segmentation[:70], IDS_NM, "segmentation")  # to 1050 nm, the EM to 1200
    cutter = open_cutter(open_layers([layers[0], short, layers[2]], config), config)
    centre = np.array([113, 60, 15])  # 904 nm, at the second cleft
    chunk_cxyz, record = cutter.cut(Site(centre, BIG + 1, BIG + 3))
    ends = 131 - (113 - 24)  # the centre of voxel 130 lies at 1044 nm
    assert record == {"cleft_id": 902, "n_cutout_sections": 0, "n_padded_voxels": 0}
    assert chunk_cxyz[0].all()
    assert chunk_cxyz[1, :ends].all()
    assert not chunk_cxyz[1, ends:].any()
    true_nm3 = (cleft == 902).sum() * np.prod(IDS_NM)
    assert (chunk_cxyz[1] == 2).sum() * np.prod(CHUNK_NM) == pytest.approx(true_nm3, rel=0.05)


def test_bytes_are_the_same_where_nothing_is_resampled(tmp_path):
    write_volumes(f"file://{tmp_path}")
    digests = []
    for number, limit in enumerate((1, 4)):
        source = stream(
            f"file://{tmp_path}",
            make_table(),
            max_rejected_fraction=0.9,
            max_cleft_distance_nm=400,
            max_resampling=limit,
        )
        assert not any(isinstance(cache.layer, ResampledLayer) for cache in caches(source.batches.cutter))
        write_chunk_store(source, str(tmp_path / f"{number}.zarr"))
        store = ChunkStore(str(tmp_path / f"{number}.zarr"))
        digests.append((store.sha256, source.batches.fingerprint))
        assert len(store) == 22
    assert digests[0] == digests[1]
    # as before layers could be resampled
    assert digests[0][0] == "11b73b1808bd983bc35e5165b371915e386e10fb3dea201915d8be85d41af8c5"


def caches(cutter) -> Iterable[BlockCache]:
    return cutter.em, cutter.segmentation, cutter.cleft


def test_another_grid_is_another_source(lab):
    layers, table, config, _ = lab
    found = {
        cut_chunks(*layers, table, config.model_copy(update={"voxel_size_nm": size})).batches.fingerprint
        for size in (CHUNK_NM, (8, 8, 41), (7.5, 7.5, 50))
    }
    assert len(found) == 3


def test_preflight_says_at_which_scale_layers_are_read(lab):
    layers, table, config, _ = lab
    found = check_inputs(layers, table, pd.Series([BIG + 7]), config)
    assert found.errors == []
    assert [facts.scale_nm for facts in found.layers] == [list(EM_NM), list(IDS_NM), list(IDS_NM)]
    assert "scale 15 x 15 x 50 nm, resampled to 8 x 8 x 40 nm; voxels 0 x 0 x 0 to 80 x 64 x 24" in describe(found)
    assert found.first_chunk[1].shape == (2, 48, 40, 10)


def test_preflight_finds_positions_in_voxels_of_a_layer(lab):
    layers, table, config, _ = lab
    forgotten = config.model_copy(update={"position_voxel_size_nm": (15, 15, 50), "max_cleft_distance_nm": 100})
    found = check_inputs(layers, table, pd.Series([BIG + 7]), forgotten)
    assert any("set preprocessing.position_voxel_size_nm to [7.5, 7.5, 50]" in text for text in found.errors)
