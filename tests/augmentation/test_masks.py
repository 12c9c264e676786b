import edt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from synapseclr.augmentation.masks import dilate_ball, neurite_sides, touching_components

shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


def random_mask(shape, density, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density


@given(shapes, st.floats(0.2, 0.8), st.integers(0, 99), st.sampled_from([6, 18, 26]))
@example((3, 1, 1, 1), 0.5, 3, 26)  # cc3d underestimated its number of labels
def test_components_agree_with_scipy(shape, density, seed, connectivity):
    domain, start = random_mask(shape, density, seed), random_mask(shape, 0.1, seed + 1)
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    found = touching_components(domain, start, connectivity)
    for one_domain, one_start, one_found in zip(domain.numpy(), start.numpy(), found.numpy(), strict=True):
        labels, _ = ndimage.label(one_domain, structure)
        touched = np.setdiff1d(labels[one_start], [0])
        assert np.array_equal(one_found, np.isin(labels, touched))


def test_pieces_of_different_neurites_are_not_one_component():
    mask = torch.zeros(1, 3, 6, 3, 3, dtype=torch.bool)
    mask[0, 0, :2] = mask[0, 1, 2:3] = True
    mask[0, 2, 3:5] = True
    mask[0, 0, 5] = True  # touches the postsynaptic piece, not the cleft
    pre, post = neurite_sides(mask, 26)
    assert pre[0, :3].all()
    assert not pre[0, 3:].any()
    assert post[0, 2:5].all()


def test_samples_of_a_batch_do_not_touch_each_other():
    domain = torch.ones(2, 4, 4, 4, dtype=torch.bool)
    start = torch.zeros_like(domain)
    start[0, -1] = True
    assert touching_components(domain, start, 26).flatten(1).any(1).tolist() == [True, False]


def test_unknown_connectivity_is_refused():
    with pytest.raises(ValueError, match="6, 18 or 26"):
        touching_components(torch.ones(1, 2, 2, 2) > 0, torch.ones(1, 2, 2, 2) > 0, 4)


@given(shapes, st.floats(0, 0.5), st.integers(0, 99), st.integers(1, 14))
def test_dilation_matches_edt(shape, density, seed, radius):
    mask = random_mask(shape, density, seed)
    found = dilate_ball(mask, radius)
    for one, grown in zip(mask, found, strict=True):
        expected = np.zeros(one.shape, bool)
        if one.any():
            # Squared distances of integer voxels are integers: rounding makes edt's float32 comparison exact.
            expected = np.rint(edt.edtsq(~one.numpy(), anisotropy=(1, 1, 1))) <= radius**2
        assert np.array_equal(grown.numpy(), expected)


@pytest.mark.parametrize("radius", [1, 3, 9])
def test_dilation_matches_dense_convolution(radius):
    mask = random_mask((2, 20, 21, 22), 0.002, radius)
    line = torch.arange(-radius, radius + 1) ** 2
    ball = (line[:, None, None] + line[None, :, None] + line <= radius**2).float()
    dense = F.conv3d(mask[:, None].float(), ball[None, None], padding=radius)[:, 0] > 0.5
    assert torch.equal(dilate_ball(mask, radius), dense)


@given(shapes, st.integers(0, 99), st.integers(0, 12))
def test_dilation_is_monotone_in_the_radius(shape, seed, radius):
    mask = random_mask(shape, 0.05, seed)
    smaller, larger = dilate_ball(mask, radius), dilate_ball(mask, radius + 1)
    assert bool((mask <= smaller).all())
    assert bool((smaller <= larger).all())


def test_one_radius_per_sample_equals_separate_dilations():
    mask = random_mask((3, 12, 12, 12), 0.01, 0)
    radii = torch.tensor([0, 2, 5])
    separate = [dilate_ball(mask[i : i + 1], int(radius)) for i, radius in enumerate(radii)]
    assert torch.equal(dilate_ball(mask, radii), torch.cat(separate))


def test_large_radius_reaches_the_whole_volume():
    mask = torch.zeros(1, 40, 2, 3, dtype=torch.bool)
    mask[0, 0] = True
    assert int(dilate_ball(mask, 30)[0, :, 0, 0].sum()) == 31


@pytest.mark.parametrize(("mask", "radius"), [(torch.ones(1, 3, 3, 3), 1), (torch.ones(3, 3, 3) > 0, 1)])
def test_dilation_refuses_what_is_no_batch_of_masks(mask, radius):
    with pytest.raises(ValueError, match="boolean masks"):
        dilate_ball(mask, radius)


def test_dilation_refuses_a_radius_out_of_range():
    with pytest.raises(ValueError, match="127"):
        dilate_ball(torch.ones(1, 2, 2, 2) > 0, 128)
