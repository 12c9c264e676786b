import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.preparation import Preparation, signed_distance

PLAIN = AugmentationConfig.extract(final_crop_size=24, final_img_size=24, axial_to_sagittal_spacing=1.0)


def box_distance(mask_xyz, step_i):
    """Distance from every voxel's centre to the nearest box of the mask, voxel by voxel."""
    boxes = np.argwhere(mask_xyz)
    found = np.full(mask_xyz.shape, np.inf)
    for index in np.ndindex(mask_xyz.shape):
        if len(boxes):
            apart = np.maximum(np.abs(boxes - index) - 0.5, 0) * step_i
            found[index] = np.sqrt((apart**2).sum(1)).min()
    return found


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 5)),
    st.floats(0, 1),
    st.integers(0, 99),
    st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.5, 1.4), (1.0, 2.0, 3.0)]),
)
def test_signed_distance_is_that_to_the_nearest_box(shape, density, seed, step):
    mask = torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(seed)) < density
    found = signed_distance(mask, step, outside=4.0, inside=max(step) / 2)
    for one, distance in zip(mask[0].numpy(), found[0].numpy(), strict=True):
        outside, inside = box_distance(one, step), box_distance(~one, step)
        expected = np.where(one, -np.minimum(inside, max(step) / 2), np.minimum(outside, 4.0))
        np.testing.assert_allclose(distance, expected, rtol=1e-5)


@pytest.mark.parametrize("spacing", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_an_inflated_ball_is_a_ball_whatever_the_spacing(spacing, radius):
    """The radius is right within a voxel: the corners of boxes reach out of a round surface, by at most 0.7."""
    sections = round(64 / spacing)
    x, z = torch.arange(64) - 31.5, (torch.arange(sections) - (sections - 1) / 2) * spacing
    ball = x[:, None, None] ** 2 + x[None, :, None] ** 2 + z**2 <= 14**2
    chunk = torch.stack([torch.full_like(ball, 128, dtype=torch.uint8), ball.to(torch.uint8) * 2])[None]
    config = PLAIN.replaced(
        final_crop_size=60,
        final_img_size=60,
        axial_to_sagittal_spacing=spacing,
        active_zone_inflation_radii=(radius,),
    )
    shown = Augmenter(config)(chunk).intensity_bcxyz[0, 0] > -1
    found = (float(shown.sum()) / (4 / 3 * np.pi)) ** (1 / 3) - 14
    assert radius - 0.3 < found < radius + (0.7 if radius else 0.3)


@pytest.mark.parametrize(("crop", "size"), [(24, 24), (44, 24), (48, 24), (24, 48), (50, 17)])
def test_averages_keep_what_is_uniform_and_where_it_lies(make_chunk, crop, size):
    """A grey level stays itself at any pitch, and a step in it stays at its place."""
    chunk = make_chunk(1, (60, 60, 24))
    chunk[:, 0, :30], chunk[:, 0, 30:] = 60, 180
    config = PLAIN.replaced(
        final_crop_size=crop, final_img_size=size, axial_to_sagittal_spacing=2.5, enable_active_zone=False
    )
    raw = Augmenter(config)(chunk).intensity_bcxyz[0, 0] * 0.28 + 0.44
    profile = raw[:, size // 2, size // 2] * 255
    low, high = profile[: size // 2 - 2], profile[size - size // 2 + 2 :]
    torch.testing.assert_close(low, torch.full_like(low, 60), atol=0.6, rtol=0)
    torch.testing.assert_close(high, torch.full_like(high, 180), atol=0.6, rtol=0)


def test_training_and_extraction_of_small_images_share_a_preparation():
    config = AugmentationConfig().resized(44, 24)
    assert Preparation.of(config) == Preparation.of(config.for_extraction())
    assert Preparation.of(config) != Preparation.of(config.replaced(connectivity=6))


def test_prepared_synapses_give_the_views_of_their_chunks(make_chunk):
    config = AugmentationConfig(axial_to_sagittal_spacing=2.5).resized(20, 12)
    augmenter, chunk = Augmenter(config), make_chunk(3, (24, 24, 8))
    (direct,) = augmenter.views(chunk, 1, torch.Generator().manual_seed(1))
    (prepared,) = augmenter.views(augmenter.prepare(chunk), 1, torch.Generator().manual_seed(1))
    assert torch.equal(direct.intensity_bcxyz, prepared.intensity_bcxyz)
    assert torch.equal(direct.mask_bcxyz, prepared.mask_bcxyz)
