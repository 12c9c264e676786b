import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synapseclr.augmentation import AugmentationConfig, Augmenter, View
from synapseclr.augmentation.operation import spare_whole_cleft
from synapseclr.augmentation.operations.flips import flip_axes, swap_xy
from synapseclr.errors import SynapseCLRError

BLACK = (0.0 - 0.44) / 0.28
SMALL = AugmentationConfig(enable_swiss_cheese=True, axial_to_sagittal_spacing=2.5).resized(20, 12)
PLAIN = AugmentationConfig.extract(
    final_crop_size=24, final_img_size=24, axial_to_sagittal_spacing=1.0, enable_active_zone=False
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["corrected", "published"]),
    st.sampled_from(["coupled", "decoupled"]),
    st.sampled_from(["merged", "separate"]),
    st.sampled_from([(24, 24, 8), (17, 17, 5), (20, 20, 1), (31, 31, 9)]),
)
def test_views_stay_in_range_and_masks_disjoint(make_chunk, seed, fidelity, mode, channels, shape):
    config = SMALL.replaced(fidelity=fidelity, batch_mode=mode, channel_organization=channels)
    view = Augmenter(config)(make_chunk(3, shape, seed), generator(seed))
    raw = view.intensity_bcxyz * config.intensity_std + config.intensity_mean
    assert view.intensity_bcxyz.shape == (3, 1 if channels == "merged" else 2, 12, 12, 12)
    assert view.mask_bcxyz.shape == (3, 3, 12, 12, 12)
    assert view.mask_bcxyz.dtype == torch.bool
    assert -1e-6 <= float(raw.min()) <= float(raw.max()) <= 1 + 1e-6
    assert int(view.mask_bcxyz.sum(1).max()) <= 1


@pytest.mark.parametrize("fidelity", ["corrected", "published"])
def test_identity_configuration_returns_the_input(make_chunk, fidelity):
    chunk = make_chunk(2, (24, 24, 24))
    view = Augmenter(PLAIN.replaced(fidelity=fidelity))(chunk)
    torch.testing.assert_close(view.intensity_bcxyz[:, 0] * 0.28 + 0.44, chunk[:, 0] / 255.0, atol=1e-5, rtol=0)
    assert torch.equal(view.mask_bcxyz, torch.stack([chunk[:, 1] == code for code in (1, 2, 3)], dim=1))


@pytest.mark.parametrize("fidelity", ["corrected", "published"])
@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
def test_replayed_draws_give_the_same_view(chunk, fidelity, mode):
    augmenter = Augmenter(SMALL.replaced(fidelity=fidelity, batch_mode=mode))
    draws = [augmenter.draw(chunk, generator(seed)) for seed in range(2)]
    for first, second in zip(augmenter.replay(chunk, draws), augmenter.replay(chunk, draws), strict=True):
        assert torch.equal(first.intensity_bcxyz, second.intensity_bcxyz)
        assert torch.equal(first.mask_bcxyz, second.mask_bcxyz)


def test_both_views_in_one_pass_equal_two_calls(chunk):
    augmenter, source = Augmenter(SMALL), generator()
    pair = augmenter.views(chunk, 2, generator())
    single = [augmenter(chunk, source) for _ in range(2)]
    for one, other in zip(pair, single, strict=True):
        assert isinstance(one, View)
        assert torch.equal(one.intensity_bcxyz, other.intensity_bcxyz)
    assert not torch.equal(pair[0].intensity_bcxyz, pair[1].intensity_bcxyz)


def test_coupled_shares_the_geometry_and_decoupled_does_not(make_chunk):
    same = make_chunk(1).expand(3, -1, -1, -1, -1).contiguous()
    config = SMALL.replaced(enable_pixel_noise=False, enable_active_zone=False)
    coupled = Augmenter(config)(same, generator()).intensity_bcxyz
    decoupled = Augmenter(config.replaced(batch_mode="decoupled"))(same, generator()).intensity_bcxyz
    assert torch.equal(coupled[0], coupled[1])
    assert not torch.equal(decoupled[0], decoupled[1])


def test_one_sample_does_not_depend_on_the_batch_it_is_in(make_chunk):
    chunk = make_chunk(4)
    config = SMALL.replaced(enable_pixel_noise=False)
    whole, part = (Augmenter(config)(batch, generator()) for batch in (chunk, chunk[1:2]))
    torch.testing.assert_close(whole.intensity_bcxyz[1:2], part.intensity_bcxyz)


@pytest.mark.parametrize("quarter", range(3))
def test_corrected_rotation_turns_about_the_right_axis(make_chunk, quarter):
    volume = make_chunk(1, (24, 24, 24))
    half = math.pi / 2
    c, s = round(math.cos(half)), round(math.sin(half))
    rotation = torch.eye(3, dtype=torch.float64)
    first, second = (axis for axis in range(3) if axis != quarter)
    rotation[first, first], rotation[first, second], rotation[second, first], rotation[second, second] = c, -s, s, c
    augmenter = Augmenter(PLAIN)
    prepared = augmenter.prepare(volume)
    plain, view = augmenter(prepared), augmenter.posed_view(prepared, rotation[None])
    # Output voxel u shows input voxel R u: a quarter turn from the second axis to the first.
    expected = torch.rot90(plain.intensity_bcxyz, -1, (first + 2, second + 2))
    torch.testing.assert_close(view.intensity_bcxyz, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("spacing", [1.0, 2.5, 5.0, 3.3])
def test_corrected_views_are_isotropic(spacing):
    """A physical ball stays a ball: equal extents along every axis, whatever the spacing."""
    sections = round(40 / spacing)
    x = torch.arange(40) - 19.5
    z = (torch.arange(sections) - (sections - 1) / 2) * spacing
    ball = x[:, None, None] ** 2 + x[None, :, None] ** 2 + z**2 <= 12**2
    chunk = torch.stack([torch.full_like(ball, 128, dtype=torch.uint8), ball.to(torch.uint8) * 2])[None]
    config = PLAIN.replaced(final_crop_size=32, final_img_size=32, axial_to_sagittal_spacing=spacing)
    mask = Augmenter(config)(chunk).mask_bcxyz[0, 1]
    extents = [int(mask.any(a).any(b).sum()) for a, b in ((1, 1), (0, 1), (0, 0))]
    assert abs(extents[0] - extents[1]) <= 0
    assert abs(extents[0] - extents[2]) <= spacing


def test_corrected_downsampling_averages_what_lies_between_the_samples(make_chunk):
    chunk = make_chunk(1, (32, 32, 4), cleft=False)
    chunk[:, 0, ::2] = 1
    chunk[:, 0, 1::2] = 201
    config = PLAIN.replaced(final_crop_size=16, final_img_size=8, axial_to_sagittal_spacing=5.0)
    assert Augmenter(config).preparation.boxes == (2, 2, 1)
    raw = Augmenter(config)(chunk).intensity_bcxyz * 0.28 + 0.44
    torch.testing.assert_close(raw, torch.full_like(raw, 101 / 255), atol=1e-4, rtol=0)


def test_thin_cleft_survives_pooling(make_chunk):
    chunk = make_chunk(1, (32, 32, 4), cleft=False)
    chunk[:, 1, 16] = 2
    config = PLAIN.replaced(final_crop_size=16, final_img_size=8, axial_to_sagittal_spacing=5.0)
    assert Augmenter(config)(chunk).mask_bcxyz[0, 1].any(0).all()


@pytest.mark.parametrize(("background", "expected"), [("black", BLACK), ("mean", 0.0)])
def test_masked_voxels_hold_one_constant_through_noise_and_tone(make_chunk, background, expected):
    chunk = make_chunk(2, (24, 24, 8))
    chunk[:, :, :, :, 3] = 0  # a missing section
    config = PLAIN.replaced(
        enable_sectional_intensity=True,
        enable_global_intensity=True,
        enable_pixel_noise=True,
        enable_gaussian_blur=True,
        gaussian_blur_prob=1.0,
        axial_to_sagittal_spacing=3.0,
        background=background,
    )
    intensity = Augmenter(config)(chunk, generator()).intensity_bcxyz
    missing = intensity[:, 0, :, :, 9:12]
    torch.testing.assert_close(missing, torch.full_like(missing, expected))
    assert not torch.isclose(intensity[:, 0, :, :, 13:], torch.tensor(expected), atol=1e-7).all()


def test_padding_and_the_world_beyond_the_chunk_are_masked(make_chunk):
    chunk = make_chunk(1, (24, 24, 24))
    chunk[:, :, :6] = 0
    intensity = Augmenter(PLAIN.replaced(final_crop_size=48, final_img_size=48))(chunk).intensity_bcxyz[0, 0]
    assert torch.allclose(intensity[:18], torch.tensor(BLACK))
    assert torch.allclose(intensity[:, :12], torch.tensor(BLACK))
    assert not torch.allclose(intensity[20, 20], torch.tensor(BLACK))


@pytest.mark.parametrize("fidelity", ["corrected", "published"])
@pytest.mark.parametrize("channels", ["merged", "separate"])
@pytest.mark.parametrize("missing", [(1,), (2,), (3,), (1, 2, 3)])
def test_missing_labels_give_a_defined_view(make_chunk, fidelity, channels, missing):
    chunk = make_chunk()
    for code in missing:
        chunk[:, 1][chunk[:, 1] == code] = 0
    config = PLAIN.replaced(
        fidelity=fidelity,
        channel_organization=channels,
        axial_to_sagittal_spacing=3.0,
        enable_active_zone=True,
        active_zone_inflation_radii=(1,),
    )
    view = Augmenter(config)(chunk)
    assert bool(torch.isfinite(view.intensity_bcxyz).all())
    constant = bool((view.intensity_bcxyz == view.intensity_bcxyz.flatten()[0]).all())
    assert constant == (missing == (1, 2, 3) or (missing == (2,) and fidelity == "published"))


def test_a_view_never_loses_its_whole_cleft_to_cutouts():
    size = SMALL.final_img_size
    keep = torch.ones(1, size, size, size, dtype=torch.bool)
    keep[:, : size // 2] = False
    cleft = torch.zeros(3, size, size, size, dtype=torch.bool)
    cleft[0, 0, 0, 0] = cleft[1, 0, 0, 0] = cleft[1, -1, 0, 0] = True
    spared = spare_whole_cleft(keep, cleft)
    assert spared[0].all()
    assert torch.equal(spared[1], keep[0])
    assert torch.equal(spared[2], keep[0])


@given(st.integers(0, 10_000))
def test_views_with_every_cutout_keep_some_cleft(make_chunk, seed):
    chunk = make_chunk(3, (24, 24, 12))
    chunk[:, 1][chunk[:, 1] == 2] = 1
    chunk[:, 1, 5:7, 5:7, :3] = 2  # far from the centre, where cut-outs fall
    config = SMALL.replaced(
        corner_cutout_prob=1.0,
        random_cutout_prob=1.0,
        random_periphery_cutout_prob=1.0,
        enable_rotation=False,
        enable_displacement=False,
    )
    before = Augmenter(config.for_extraction())(chunk).mask_bcxyz[:, 1].flatten(1).any(1)
    after = Augmenter(config)(chunk, generator(seed)).mask_bcxyz[:, 1].flatten(1).any(1)
    assert bool(before.all())
    assert bool(after.all())


def test_active_zone_keeps_only_pieces_that_meet_the_cleft(make_chunk):
    chunk = make_chunk(1, (24, 24, 24))
    chunk[:, 1, 22:, :2, :2] = 1  # a stray fragment
    config = PLAIN.replaced(enable_active_zone=True, active_zone_inflation_radii=(1,))
    view = Augmenter(config)(chunk)
    assert not view.mask_bcxyz[0, :, 22:].any()
    assert torch.allclose(view.intensity_bcxyz[0, 0, 22:], torch.tensor(BLACK))


@given(st.integers(0, 1000), st.lists(st.booleans(), min_size=3, max_size=3), st.booleans())
def test_flips_and_swaps_are_involutions(seed, flip, swap):
    volume = torch.rand(2, 1, 5, 5, 5, generator=generator(seed))
    for rows in (1, 2):
        flips, swaps = torch.tensor([flip, [not flag for flag in flip]])[:rows], torch.tensor([swap, not swap])[:rows]
        assert torch.equal(flip_axes(flip_axes(volume, flips), flips), volume)
        assert torch.equal(swap_xy(swap_xy(volume, swaps), swaps), volume)


@pytest.mark.parametrize(
    "chunk",
    [torch.zeros(1, 2, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, 8).byte()],
)
def test_other_types_and_shapes_are_refused(chunk):
    with pytest.raises(SynapseCLRError, match=r"uint8 chunks of shape"):
        Augmenter(PLAIN)(chunk)


def test_empty_batch_is_refused():
    with pytest.raises(SynapseCLRError, match="empty"):
        Augmenter(PLAIN)(torch.zeros(0, 2, 8, 8, 8, dtype=torch.uint8))
