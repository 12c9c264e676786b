"""Parity with the published implementation: masks bit-equal, intensities within 1e-5."""

import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.masks import ball_volume, dilate_ball
from synapseclr.augmentation.operations.active_zone import active_zone
from synapseclr.augmentation.operations.cutouts import (
    BoxDraws,
    corner_keep,
    holes_keep,
    periphery_keep,
    random_box_keep,
)
from synapseclr.augmentation.operations.flips import flip_axes, swap_xy
from synapseclr.augmentation.operations.gaussian_blur import blur_gaussian, blur_weights
from synapseclr.augmentation.operations.intensity import map_tone
from synapseclr.augmentation.operations.pixel_noise import add_pixel_noise
from synapseclr.augmentation.operations.resampling import (
    published_scale,
    published_theta,
    resample_published,
)

MODES = ["coupled", "decoupled"]
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


def same_bits(found, expected):
    assert found.shape == expected.shape
    assert torch.equal(found, expected), f"{int((found != expected).sum())} voxels differ"


def close(found, expected):
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("radius", range(10))
def test_dilation_matches_recorded_inflation(golden, radius):
    g = golden("g01_inflate")
    same_bits(dilate_ball(g["mask_bxyz"], radius), g["inflated_rbxyz"][radius])


@pytest.mark.parametrize("connectivity", [0, 6, 18, 26])
@pytest.mark.parametrize("radius", [0, 3])
def test_active_zone_matches_recording(golden, connectivity, radius):
    g = golden("g02_active_zone")
    same_bits(active_zone(g["mask_bcxyz"], connectivity, radius), g[f"active_zone__conn{connectivity}__rad{radius}"])


@pytest.mark.parametrize(
    "tag", ["det", "rot_coupled", "full_coupled", "full_decoupled", "disp_decoupled", "rot90x", "rot90y", "rot90z"]
)
def test_affine_matches_recording(golden, tag):
    g = golden("g03_affine")
    rotation = g.get(f"{tag}__rotmat_bij")
    displacement = g.get(f"{tag}__disp_bi")
    expected_mask = g[f"{tag}__mask_bcxyz"]
    chunk = g["chunk_bcxyz_u8"][: len(expected_mask)]
    scale = published_scale(chunk.shape[2:], int(g["final_crop_size"]), int(g["axial_to_sagittal_spacing"]))
    if f"{tag}__scale_i" in g:
        assert scale == pytest.approx(g[f"{tag}__scale_i"].tolist())
    theta = published_theta(rotation, displacement, scale)
    close(theta.expand(len(chunk), 3, 4), g[f"{tag}__theta_bik"])
    decoded = chunk[:, :1] / 255.0, torch.stack([chunk[:, 1] == code for code in (1, 2, 3)], dim=1).float()
    found, mask = resample_published(*decoded, g[f"{tag}__theta_bik"][: len(theta)], int(g["final_img_size"]))
    same_bits(mask, expected_mask)
    close(found, g[f"{tag}__intensity_bcxyz"])


def test_affine_matrices_match_recording_at_real_geometry(golden):
    g = golden("g03_affine")
    scale = published_scale((256, 256, 52), 192, 5)
    assert scale == pytest.approx(g["real_geometry__scale_i"].tolist())
    theta = published_theta(g["real_geometry__rotmat_bij"], g["real_geometry__disp_bi"], scale)
    close(theta, g["real_geometry__theta_bik"])


@pytest.mark.parametrize("organisation", ["merged", "separate"])
@pytest.mark.parametrize("batch_mode", MODES)
@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("conn26__rad3", {}),
        ("conn26__rad0", {"active_zone_inflation_radii": (0,)}),
        ("conn26__rad2", {"active_zone_inflation_radii": (2,)}),
        ("conn6__rad3", {"connectivity": 6}),
        ("conn0__rad3", {"connectivity": 0}),
        ("no_active_zone", {"enable_active_zone": False}),
    ],
)
def test_extraction_matches_recording(golden, organisation, batch_mode, case, settings):
    g = golden("g04_extract_small")
    config = AugmentationConfig.extract(
        fidelity="published",
        batch_mode=batch_mode,
        final_crop_size=48,
        final_img_size=24,
        channel_organization=organisation,
        **settings,
    )
    view = Augmenter(config)(g["chunk_bcxyz_u8"])
    same_bits(view.mask_bcxyz, g[f"{organisation}__{case}__mask"])
    close(view.intensity_bcxyz, g[f"{organisation}__{case}__intensity"])


@pytest.mark.parametrize("strength", ["pretrain", "strong"])
@pytest.mark.parametrize("scope", ["sectional", "global"])
def test_tone_map_matches_recording(golden, strength, scope):
    g = golden("g05_intensity")
    key = f"{strength}__{scope}"
    draws = [g[f"{key}__{name}"].reshape(2, 1, 1, 1, -1) for name in ("intercept", "slope", "gamma")]
    close(map_tone(g["intensity_bcxyz"], *draws), g[f"{key}__out"])


def test_blur_kernels_match_recording(golden):
    g = golden("g06_kernels")
    edge, centre = blur_weights(g["blur_sigmas"]).unbind(1)
    line = torch.stack([edge, centre, edge], dim=1)
    found = line[:, :, None, None] * line[:, None, :, None] * line[:, None, None, :]
    close(found[:, None].float(), g["blur_kernels_rixyz"])


@pytest.mark.parametrize("size", [16, 24])
def test_corner_boxes_match_recording(golden, size):
    found = corner_keep(torch.arange(27), size, preserve_centre=False, published=True)
    same_bits(found, golden("g06_kernels")[f"corner_masks_{size}_jxyz"])


def test_ball_volumes_match_recording(golden):
    g = golden("g06_kernels")
    assert [ball_volume(int(radius)) for radius in g["ball_radii"]] == g["ball_volumes"].tolist()


def recorded(golden, part, op):
    """(intensity, mask, draws in order, recorded intensity, recorded mask or None)."""
    g = golden(f"g11_ops_{part}")
    kinds = ("rand", "randint", "randn_like", "bernoulli", "categorical")
    names = [f"{op}__draw{i:02d}_{kind}" for i in range(10) for kind in kinds]
    draws = [g[name] for name in names if name in g]
    expected_mask = g.get(f"{op}__mask")
    return g["intensity_bcxyz"], g["mask_bcxyz"], draws, g[f"{op}__intensity"], expected_mask


def test_section_cutout_matches_recording(golden):
    x, _, (_, cut_bz), expected, _ = recorded(golden, "noise_blur", "section_cutout")
    close(x * ~cut_bz.bool()[:, None, None, None, :], expected)


def test_pixel_noise_matches_recording(golden):
    x, _, (additive, multiplicative, *fields), expected, _ = recorded(golden, "noise_blur", "pixel_noise")
    scales = [0.05 * scale[:, None, None, None, None] for scale in (additive, multiplicative)]
    close(add_pixel_noise(x, *scales, *fields, empirical_mean=True), expected)


@pytest.mark.parametrize("mode", MODES)
def test_blur_matches_recording(golden, mode):
    x, _, (chance, choice), expected, _ = recorded(golden, "noise_blur", f"blur_{mode}")
    # The recording ran at a blur probability that its draws place between 0.588 and 0.809.
    sigma = torch.where(chance < 0.7, torch.tensor([0.25, 0.5, 0.75])[choice], 0.0)
    close(blur_gaussian(x, sigma), expected)


def check_cut(keep, x, mask, expected, expected_mask):
    close(x * keep[:, None], expected)
    if expected_mask is not None:
        same_bits(mask & keep[:, None], expected_mask)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("op", "preserve"), [("corner", True), ("corner_nocenter", False)])
def test_corner_cutout_matches_recording(golden, mode, op, preserve):
    x, mask, (do, index), *expected = recorded(golden, "cutouts", f"{op}_{mode}")
    keep = corner_keep(torch.where(do.bool(), index + 1, 0), 24, preserve, published=True)
    check_cut(keep, x, mask, *expected)


@pytest.mark.parametrize("mode", MODES)
def test_random_cutout_matches_recording(golden, mode):
    x, mask, draws, *expected = recorded(golden, "cutouts", f"random_cutout_{mode}")
    low, side = torch.stack(draws[:3], dim=1), torch.stack(draws[3:6], dim=1)
    keep = random_box_keep(BoxDraws(low, (low + side).clamp(max=24), draws[6].bool()), 24, preserve_centre=True)
    check_cut(keep, x, mask, *expected)


@pytest.mark.parametrize("mode", MODES)
def test_periphery_cutout_matches_recording(golden, mode):
    x, mask, draws, *expected = recorded(golden, "cutouts", f"periphery_{mode}")
    centre, half = torch.stack(draws[:3], dim=1), draws[3][:, None]
    low, high = (centre - half).clamp(min=0), (centre + half).clamp(max=24)
    check_cut(periphery_keep(BoxDraws(low, high, draws[4].bool()), 24), x, mask, *expected)


@pytest.mark.parametrize("mode", MODES)
def test_ball_holes_match_recording(golden, mode):
    x, mask, (_, centres), *expected = recorded(golden, "cutouts", f"swiss_{mode}")
    # Radii 2, 3, 4 are the ones whose holes reproduce the recording.
    check_cut(holes_keep(centres.bool(), (2, 3, 4)), x, mask, *expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", range(3))
def test_flip_matches_recording(golden, mode, axis):
    x, mask, (chance,), expected, expected_mask = recorded(golden, "flips", f"{'xyz'[axis]}_flip_{mode}")
    flip = torch.zeros(len(chance), 3, dtype=torch.bool)
    flip[:, axis] = chance > 0.5
    close(flip_axes(x, flip), expected)
    same_bits(flip_axes(mask, flip), expected_mask)


@pytest.mark.parametrize("mode", MODES)
def test_xy_swap_matches_recording(golden, mode):
    x, mask, (chance,), expected, expected_mask = recorded(golden, "flips", f"xy_swap_{mode}")
    close(swap_xy(x, chance > 0.5), expected)
    same_bits(swap_xy(mask, chance > 0.5), expected_mask)
