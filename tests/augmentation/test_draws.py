"""Distributions of what has no golden vector; seeds are fixed, tolerances are five standard errors."""

import math

import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.operations.cutouts import draw_hole_centres, hole_probability
from synapseclr.augmentation.operations.pose import draw_rotations, spread_rotations

N = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def close_to(found, expected, std, n=N):
    assert abs(float(found) - expected) < 5 * std / math.sqrt(n)


def draw_view(config, batch, n_sections, source):
    return Augmenter(config).draw_for(batch, n_sections, source)


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
    cut = draws["section_cutout"]
    close_to((cut.sum(1) > 0).float().mean(), 0.5, 0.5)
    cut_in_chosen = cut[cut.any(1)].float().mean()
    close_to(cut_in_chosen, 10 / 52, 0.4, n=int(cut.any(1).sum()) * 52)


def test_box_cutouts_have_the_configured_frequency(draws):
    (index,) = draws["corner_cutout"]
    close_to((index > 0).float().mean(), 0.5, 0.5)
    counts = torch.bincount(index, minlength=27)[1:].double()
    expected = counts.sum() / 26
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 25 + 5 * math.sqrt(2 * 25)
    for box in (*draws["random_cutout"], draws["periphery_cutout"]):
        close_to(box.apply_n.float().mean(), 0.25, math.sqrt(0.25 * 0.75))
    sides = draws["random_cutout"][0].high_ni - draws["random_cutout"][0].low_ni
    assert 1 <= int(sides.min()) <= int(sides.max()) == 36


def test_flips_blur_and_radii_have_the_configured_frequency(draws):
    for chance in (*draws["flips"].flip_ni.T, draws["flips"].swap_n):
        close_to(chance.float().mean(), 0.5, 0.5)
    close_to((draws["gaussian_blur"] > 0).float().mean(), 0.5, 0.5)
    for radius in range(1, 10):
        close_to((draws["active_zone"] == radius).float().mean(), 1 / 9, math.sqrt(8) / 9)


def test_tones_and_displacements_fill_their_ranges(draws):
    for values, low, high in [
        (draws["sectional_intensity"].intercept, -0.05, 0.05),
        (draws["sectional_intensity"].gamma, 0.9, 1.1),
        (draws["global_intensity"].slope, 0.9, 1.1),
        (draws["pixel_noise"].additive_scale_n, 0.0, 0.05),
        (draws["displacement"], -0.2, 0.2),
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
    for name in ("section_cutout", "rotation", "displacement", "gaussian_blur", "active_zone"):
        assert len(coupled[name]) == 1
        assert len(decoupled[name]) == 6
    assert len(coupled["flips"].swap_n) == 1
    assert len(decoupled["flips"].flip_ni) == 6
    assert len(decoupled["rotation"].flatten(1).unique(dim=0)) == 6


def test_published_coupled_draws_share_only_what_the_published_code_shares():
    draws = draw_view(AugmentationConfig(fidelity="published"), 6, 52, generator())
    assert len(draws["rotation"]) == len(draws["corner_cutout"][0]) == 1
    assert isinstance(draws["published_active_zone"], int)
    assert len(draws["section_cutout"]) == len(draws["sectional_intensity"].gamma) == 6
    assert len(draws["pixel_noise"].additive_scale_n) == 6


def test_same_generator_state_gives_the_same_draws():
    first, second = (draw_view(AugmentationConfig(), 2, 8, generator(5)) for _ in range(2))
    assert torch.equal(first["rotation"], second["rotation"])
    assert first["pixel_noise"].seed == second["pixel_noise"].seed


def test_nothing_random_is_drawn_for_extraction():
    before = torch.get_rng_state()
    draws = Augmenter(AugmentationConfig.extract()).draw_for(2, 8)
    assert {name: each.tolist() for name, each in draws.items()} == {"active_zone": [3]}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n", [1, 8, 30])
def test_poses_of_extraction_are_rotations_spread_over_so3(n):
    rotation = spread_rotations(n)
    eye = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, eye)
    torch.testing.assert_close(rotation[0], eye[0])
    trace = (rotation[:, None] @ rotation.mT).diagonal(dim1=2, dim2=3).sum(-1) - 4 * torch.eye(n)
    # Radians between the nearest two poses.
    assert float(torch.arccos(((trace.max() - 1) / 2).clamp(-1, 1))) > {1: 0, 8: 1.4, 30: 0.9}[n]
