import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from synapseclr.augmentation.components import neurite_sides, touching_components

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
