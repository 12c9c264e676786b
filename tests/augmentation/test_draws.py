"""Distributions of what has no golden vector; seeds are fixed, tolerances are five standard errors."""

import math

import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, draw_view
from synapseclr.augmentation.cutouts import draw_hole_centres, hole_probability
from synapseclr.augmentation.draws import draw_rotations

N = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def close_to(found, expected, std, n=N):
    assert abs(float(found) - expected) < 5 * std / math.sqrt(n)


@pytest.fixture(scope="module")
def draws():
    config = AugmentationConfig(batch_mode="decoupled", enable_swiss_cheese=True)
    return draw_view(config, N, 52, generator())


def test_rotations_are_proper():
    rotation = draw_rotations(100, generator())
    eye = torch.eye(3, dtype=torch.float64).expand(100, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, eye)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(100, dtype=torch.float64))


def test_rotations_have_the_trace_distribution_of_so3():
    # Haar measure: the angle t has density (1 - cos t) / pi, so the trace 1 + 2 cos t has mean 0 and variance 1.
    rotation = draw_rotations(N, generator())
    trace = rotation.diagonal(dim1=1, dim2=2).sum(1)
    close_to(trace.mean(), 0.0, 1.0)
    close_to((trace**2).mean(), 1.0, math.sqrt(3 - 1))
    angle = torch.arccos(((trace - 1) / 2).clamp(-1, 1)).sort().values
    cdf = (angle - angle.sin()) / math.pi
    ranks = torch.arange(1, N + 1, dtype=torch.float64) / N
    assert float((cdf - ranks).abs().max()) < 1.95 / math.sqrt(N)  # Kolmogorov-Smirnov, p = 0.001


def test_rotated_axes_are_uniform_on_the_sphere():
    rotation = draw_rotations(N, generator(1))
    for axis in range(3):
        for component in rotation[:, :, axis].T:
            close_to(component.mean(), 0.0, math.sqrt(1 / 3))
            close_to((component**2).mean(), 1 / 3, math.sqrt(1 / 5 - 1 / 9))


def test_section_cutouts_have_the_configured_frequency(draws):
    cut = draws.section_cut_bz
    close_to((cut.sum(1) > 0).float().mean(), 0.5, 0.5)
    cut_in_chosen = cut[cut.any(1)].float().mean()
    close_to(cut_in_chosen, 10 / 52, 0.4, n=int(cut.any(1).sum()) * 52)


def test_box_cutouts_have_the_configured_frequency(draws):
    (index,) = draws.corner_index_b
    close_to((index > 0).float().mean(), 0.5, 0.5)
    counts = torch.bincount(index, minlength=27)[1:].double()
    expected = counts.sum() / 26
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 25 + 5 * math.sqrt(2 * 25)
    for box in (*draws.random_boxes, draws.periphery):
        close_to(box.apply_b.float().mean(), 0.25, math.sqrt(0.25 * 0.75))
    sides = draws.random_boxes[0].high_bi - draws.random_boxes[0].low_bi
    assert 1 <= int(sides.min()) <= int(sides.max()) == 36


def test_flips_blur_and_radii_have_the_configured_frequency(draws):
    for chance in (*draws.flip_bi.T, draws.swap_b):
        close_to(chance.float().mean(), 0.5, 0.5)
    close_to((draws.blur_sigma_b > 0).float().mean(), 0.5, 0.5)
    for radius in range(1, 10):
        close_to((draws.radius_b == radius).float().mean(), 1 / 9, math.sqrt(8) / 9)


def test_tones_and_displacements_fill_their_ranges(draws):
    for values, low, high in [
        (draws.sectional.intercept, -0.05, 0.05),
        (draws.sectional.gamma, 0.9, 1.1),
        (draws.global_tone.slope, 0.9, 1.1),
        (draws.noise.additive_scale_b, 0.0, 0.05),
        (draws.displacement_bi, -0.2, 0.2),
    ]:
        assert low <= float(values.min()) <= float(values.max()) <= high
        close_to(values.mean(), (low + high) / 2, (high - low) / math.sqrt(12), n=values.numel())


def test_holes_fill_the_drawn_fraction_on_average():
    fraction = torch.full((8,), 0.2)
    probability = hole_probability(fraction, (2, 3))
    centres = draw_hole_centres(probability, 24, seed=0)
    for layer, expected in enumerate(probability[0].tolist()):
        close_to(centres[:, layer].float().mean(), expected, math.sqrt(expected), n=8 * 24**3)


def test_coupled_draws_are_shared_and_decoupled_are_not():
    coupled = draw_view(AugmentationConfig(), 6, 52, generator())
    decoupled = draw_view(AugmentationConfig(batch_mode="decoupled"), 6, 52, generator())
    for name in ("section_cut_bz", "rotation_bij", "displacement_bi", "blur_sigma_b", "flip_bi", "swap_b", "radius_b"):
        assert len(getattr(coupled, name)) == 1
        assert len(getattr(decoupled, name)) == 6
    assert len(decoupled.rotation_bij.flatten(1).unique(dim=0)) == 6


def test_published_coupled_draws_share_only_what_the_published_code_shares():
    draws = draw_view(AugmentationConfig(fidelity="published"), 6, 52, generator())
    assert len(draws.rotation_bij) == len(draws.corner_index_b[0]) == len(draws.radius_b) == 1
    assert len(draws.section_cut_bz) == len(draws.sectional.gamma) == len(draws.noise.additive_scale_b) == 6


def test_same_generator_state_gives_the_same_draws():
    first, second = (draw_view(AugmentationConfig(), 2, 8, generator(5)) for _ in range(2))
    assert torch.equal(first.rotation_bij, second.rotation_bij)
    assert first.noise.seed == second.noise.seed


def test_nothing_random_is_drawn_for_extraction():
    draws = draw_view(AugmentationConfig.extract(), 2, 8)
    assert draws.radius_b.tolist() == [3]
    assert draws.rotation_bij is None
    assert draws.flip_bi is None
