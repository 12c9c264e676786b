"""Morphometry against shapes whose sizes are known, and against the truth of a simulated volume."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.morphometry import (
    CONTACT_GAP_NM,
    MORPHOMETRY_LABELS,
    SYNAPSE_MORPHOMETRY,
    morphometry,
    store_morphometry,
)
from synapseclr.simulation import SimulationConfig, simulate
from synapseclr.simulation.synapses import HALF_CLEFT_LABEL_NM

SECTIONS_NM, ISOTROPIC_NM = (8.0, 8.0, 40.0), (8.0, 8.0, 8.0)
DIRECTIONS = [(1, 0, 0), (0, 0, 1), (1, 2, 3), (3, -1, 1)]


def _positions(size_nm, extent_nm=640.0):
    """Positions of voxel centres from a place near the middle of a cube, (x, y, z, 3)."""
    lengths = [round(extent_nm / size) for size in size_nm]
    indices = np.stack(np.meshgrid(*map(np.arange, lengths), indexing="ij"), axis=-1)
    return (indices - (np.array(lengths) - 1) / 2 + (0.3, -0.2, 0.1)) * size_nm


def _disc_between_sides(size_nm, direction, radius_nm=150.0, half_nm=22.0, seam_nm=0.0):
    """A disc as cleft between two sides that meet in its plane, with an unlabelled seam between them."""
    normal = np.array(direction) / np.linalg.norm(direction)
    positions = _positions(size_nm)
    height = positions @ normal
    across = np.sqrt(np.maximum((positions**2).sum(-1) - height**2, 0))
    codes = np.where(height > seam_nm / 2, 1, np.where(height < -seam_nm / 2, 3, 0)).astype(np.uint8)
    codes[(np.abs(height) <= half_nm) & (across <= radius_nm)] = 2
    return codes


@pytest.mark.parametrize("size_nm", [SECTIONS_NM, ISOTROPIC_NM], ids=["sections", "isotropic"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_disc_has_its_area_length_and_thickness_in_every_direction(size_nm, direction):
    found = morphometry(_disc_between_sides(size_nm, direction), size_nm)
    assert found["cleft_area_nm2"] == pytest.approx(np.pi * 150**2, rel=0.05)
    assert found["cleft_length_nm"] == pytest.approx(300, rel=0.05)
    assert found["cleft_width_nm"] == pytest.approx(300, rel=0.05)
    # The voxels themselves hold up to 10 % more or less than the disc.
    assert found["cleft_thickness_nm"] == pytest.approx(44, rel=0.12)
    assert found["n_cleft_components"] == 1


@pytest.mark.parametrize("direction", DIRECTIONS[1:3])
def test_faces_of_voxels_would_be_too_large_an_area(direction):
    """The reason for triangles: faces of an oblique plane sum up to the 1-norm of its normal."""
    normal = np.array(direction) / np.linalg.norm(direction)
    codes = _disc_between_sides(ISOTROPIC_NM, direction, half_nm=0)
    faces = sum(np.count_nonzero(np.diff(codes, axis=axis)) for axis in range(3)) * 64
    area = morphometry(codes, ISOTROPIC_NM)["contact_area_nm2"]
    assert faces / area == pytest.approx(np.abs(normal).sum(), rel=0.05)


def test_a_bent_cleft_keeps_its_area():
    """A cap of a sphere of radius 300 nm, 1 radian wide."""
    positions = _positions(SECTIONS_NM)
    from_middle = positions + 300 * np.array([0.6, 0.0, 0.8])
    distance = np.linalg.norm(from_middle, axis=-1)
    angle = np.arccos(np.clip(from_middle @ [0.6, 0.0, 0.8] / distance, -1, 1))
    codes = np.where(distance > 300, 1, 3).astype(np.uint8)
    codes[(np.abs(distance - 300) <= 25) & (angle <= 0.5)] = 2
    found = morphometry(codes, SECTIONS_NM)
    assert found["cleft_area_nm2"] == pytest.approx(2 * np.pi * 300**2 * (1 - np.cos(0.5)), rel=0.06)


def test_a_sphere_touches_its_surroundings_with_its_whole_surface():
    radius = 200.0
    for size_nm, tolerance in ((SECTIONS_NM, 0.04), (ISOTROPIC_NM, 0.01)):
        codes = np.where(np.linalg.norm(_positions(size_nm), axis=-1) <= radius, 1, 3).astype(np.uint8)
        found = morphometry(codes, size_nm)
        assert found["contact_area_nm2"] == pytest.approx(4 * np.pi * radius**2, rel=tolerance)
        assert found["pre_volume_um3"] == pytest.approx(4 / 3 * np.pi * 0.2**3, rel=0.02)
        assert found["pre_border_share"] == 0
        assert found["post_border_share"] > 0.7
        assert np.isnan(found["cleft_area_nm2"])
        assert np.isnan(found["cleft_length_nm"])


def test_a_slab_is_measured_exactly_along_its_axes():
    """Presynaptic below, 5 sections of cleft, postsynaptic above: 40 x 30 voxels across."""
    codes = np.zeros((40, 30, 25), np.uint8)
    codes[..., :8], codes[..., 8:13], codes[..., 13:] = 1, 2, 3
    found = morphometry(codes, SECTIONS_NM)
    assert found["pre_volume_um3"] == pytest.approx(40 * 30 * 8 * 8 * 8 * 40 / 1e9)
    assert found["cleft_volume_um3"] == pytest.approx(40 * 30 * 5 * 8 * 8 * 40 / 1e9)
    # The mesh ends at the centres of the outermost voxels.
    assert found["cleft_area_nm2"] == pytest.approx(39 * 29 * 64, rel=1e-4)
    assert found["contact_area_nm2"] == found["cleft_area_nm2"]
    assert found["pre_to_post_nm"] == pytest.approx((18.5 - 3.5) * 40)
    assert found["cleft_to_border_nm"] == pytest.approx(15 * 8)
    assert found["is_cleft_at_border"] is True
    faces = 2 * (40 + 30) * 8 * 8 * 40 + 40 * 30 * 64
    assert found["pre_border_share"] == pytest.approx(faces / (faces + 40 * 30 * 64))


def test_sides_touch_over_a_narrow_seam_and_not_over_a_wide_one():
    plane = {}
    for seam_nm in (0.0, 0.6 * CONTACT_GAP_NM, 2 * CONTACT_GAP_NM):
        codes = _disc_between_sides(ISOTROPIC_NM, (1, 2, 2), seam_nm=seam_nm)
        plane[seam_nm] = morphometry(codes, ISOTROPIC_NM)
    none, narrow, wide = plane.values()
    assert narrow["contact_area_nm2"] == pytest.approx(none["contact_area_nm2"], rel=0.03)
    assert wide["contact_area_nm2"] == pytest.approx(wide["cleft_area_nm2"], rel=0.02)
    assert none["contact_area_nm2"] > 4 * none["cleft_area_nm2"]


@pytest.mark.parametrize("code", [1, 3])
def test_a_cleft_without_a_partner_has_the_area_of_its_plane(code):
    codes = _disc_between_sides(SECTIONS_NM, (1, 2, 3))
    codes[codes == code] = 0
    found = morphometry(codes, SECTIONS_NM)
    assert found["cleft_area_nm2"] == pytest.approx(np.pi * 150**2, rel=0.06)
    assert found["contact_area_nm2"] == 0
    assert np.isnan(found["pre_to_post_nm"])


def test_a_cleft_inside_of_one_side_has_an_area_and_no_part_in_the_contact():
    codes = np.roll(_disc_between_sides(SECTIONS_NM, (1, 0, 0), half_nm=16), 30, axis=0)
    found = morphometry(codes, SECTIONS_NM)
    assert found["cleft_area_nm2"] == pytest.approx(np.pi * 150**2, rel=0.06)


def test_components_that_share_a_corner_are_one():
    codes = np.zeros((12, 12, 6), np.uint8)
    codes[2:4, 2:4, 2], codes[4:6, 4:6, 3], codes[9, 9, 5] = 2, 2, 2
    assert morphometry(codes, SECTIONS_NM)["n_cleft_components"] == 2


def test_an_empty_chunk_has_no_sizes():
    found = morphometry(np.zeros((8, 8, 4), np.uint8), SECTIONS_NM)
    assert found["contact_area_nm2"] == 0 == found["n_cleft_components"]
    assert np.isnan([found["cleft_area_nm2"], found["cleft_to_border_nm"], found["pre_border_share"]]).all()


class _Store:
    synapse_id = np.array([2**60 + 1, 5, 2**53 + 1])
    voxel_size_nm = SECTIONS_NM

    def __init__(self):
        codes_n = [_disc_between_sides(SECTIONS_NM, direction) for direction in DIRECTIONS[:2]]
        codes_n.append(np.zeros_like(codes_n[0]))
        self.chunks_ncxyz = np.stack([np.stack([codes, codes]) for codes in codes_n])
        self.read_at_once = 0

    def __len__(self):
        return 3

    def read(self, indices):
        self.read_at_once = max(self.read_at_once, len(indices))
        return self.chunks_ncxyz[indices]


def test_a_store_is_measured_in_batches_and_in_order():
    store = _Store()
    table = store_morphometry(store, batch_size=2)
    assert store.read_at_once == 2
    assert table["synapse_id"].tolist() == [2**60 + 1, 5, 2**53 + 1]
    assert list(table.columns) == ["synapse_id", *MORPHOMETRY_LABELS]
    checked = SYNAPSE_MORPHOMETRY.validate(table)
    single = morphometry(store.chunks_ncxyz[1, 1], SECTIONS_NM)
    pd.testing.assert_series_equal(
        checked.loc[1, list(single)], pd.Series(single), check_names=False, check_dtype=False
    )


@pytest.fixture(scope="module")
def simulated_chunks():
    """Voxels of each cleft by the truth, and the sizes that are measured, of a small simulated volume."""
    volume = simulate(SimulationConfig.small(seed=3, defect_fraction=0.0))
    table = volume.synapse_table.set_index("id")
    found = {}
    for row in volume.truth_table.to_dict("records"):
        centre = np.array([row[f"centre_{axis}_nm"] for axis in "xyz"]) / volume.voxel_size_nm
        window = tuple(
            slice(max(int(place) - n, 0), int(place) + n) for place, n in zip(centre, (32, 32, 13), strict=True)
        )
        cleft_xyz = volume.cleft_xyz[window]
        neurites = volume.segmentation_xyz[window]
        codes = np.zeros(cleft_xyz.shape, np.uint8)
        codes[neurites == table.loc[row["synapse_id"], "pre_root_id"]] = 1
        codes[neurites == table.loc[row["synapse_id"], "post_root_id"]] = 3
        codes[cleft_xyz == cleft_xyz[tuple(length // 2 for length in cleft_xyz.shape)]] = 2
        if (codes == 2).sum() == row["cleft_size_vx"]:
            found[row["synapse_id"]] = {"n_voxels": row["cleft_size_vx"]} | morphometry(codes, volume.voxel_size_nm)
    return pd.DataFrame.from_dict(found, orient="index"), volume.voxel_size_nm


def test_simulated_clefts_are_as_thick_as_they_were_drawn(simulated_chunks):
    """The simulation labels 22 nm on either side of the membrane."""
    sizes, voxel_size_nm = simulated_chunks
    assert len(sizes) >= 10
    np.testing.assert_allclose(sizes["cleft_volume_um3"], sizes["n_voxels"] * np.prod(voxel_size_nm) / 1e9)
    assert sizes["cleft_thickness_nm"].median() == pytest.approx(2 * HALF_CLEFT_LABEL_NM, rel=0.1)
    true_area = sizes["cleft_volume_um3"] * 1e9 / (2 * HALF_CLEFT_LABEL_NM)
    assert np.corrcoef(sizes["cleft_area_nm2"], true_area)[0, 1] > 0.97
    assert (sizes["contact_area_nm2"] >= sizes["cleft_area_nm2"] * 0.95).all()
