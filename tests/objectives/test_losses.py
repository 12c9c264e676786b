"""Losses against slow versions that are obviously right."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from synapseclr.errors import ConfigurationError
from synapseclr.objectives import dcl, nt_xent, vicreg_loss


def naive(z_i, z_j, temperature):
    """The definition, one anchor at a time."""
    z = functional.normalize(torch.cat([z_i, z_j]), dim=1)
    n, losses = len(z_i), []
    for anchor in range(2 * n):
        similarity = torch.exp(z @ z[anchor] / temperature)
        positive = similarity[(anchor + n) % (2 * n)]
        losses.append(-torch.log(positive / (similarity.sum() - similarity[anchor])))
    return torch.stack(losses).mean()


def test_it_matches_the_definition(pair):
    torch.testing.assert_close(nt_xent(*pair, 0.3), naive(*pair, 0.3))


def test_it_does_not_depend_on_lengths_or_order(pair):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(nt_xent(3 * pair[0][order], pair[1][order]), nt_xent(*pair))


def test_it_is_symmetric_in_the_views(pair):
    torch.testing.assert_close(nt_xent(*pair), nt_xent(*pair[::-1]))


def test_identical_projections_give_the_logarithm_of_the_rivals():
    same = torch.ones(4, 3)
    assert nt_xent(same, same).item() == pytest.approx(np.log(2 * 4 - 1), rel=1e-6)


def test_it_is_finite_at_a_low_temperature(pair):
    assert torch.isfinite(nt_xent(*(z.float() for z in pair), 0.001))


@pytest.mark.parametrize("batch", ["b8", "b3"])
@pytest.mark.parametrize("temperature", ["0.5", "0.1"])
@pytest.mark.parametrize(("suffix", "tolerance"), [("", 1e-5), ("__f64", 1e-9)])
def test_values_and_gradients_equal_the_published_ones(golden_folder, batch, temperature, suffix, tolerance):
    golden = np.load(golden_folder / "g07_ntxent.npz")
    dtype = torch.float64 if suffix else torch.float32
    z_i, z_j = (torch.from_numpy(golden[f"{batch}__z_{side}"]).to(dtype).requires_grad_() for side in ("i", "j"))
    loss = nt_xent(z_i, z_j, float(temperature))
    loss.backward()
    prefix = f"{batch}__T{temperature}__"
    for name, value in (("loss", loss), ("grad_i", z_i.grad), ("grad_j", z_j.grad)):
        expected = golden[f"{prefix}{name}{suffix}"]
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("shapes", "temperature", "message"),
    [
        (((4, 3), (3, 3)), 0.5, "two \\(batch, dimension\\) tensors"),
        (((1, 3), (1, 3)), 0.5, "at least 2"),
        (((4, 3), (4, 3)), 0.0, "must be positive"),
    ],
)
def test_bad_input_is_refused(shapes, temperature, message):
    with pytest.raises(ConfigurationError, match=message):
        nt_xent(*(torch.ones(shape) for shape in shapes), temperature)


def naive_dcl(z_i, z_j, temperature):
    """The definition, one anchor and one rival at a time."""
    views = [[z / z.square().sum().sqrt() for z in side] for side in (z_i, z_j)]
    losses = []
    for side in (0, 1):
        for sample, anchor in enumerate(views[side]):
            rivals = [z for other in views for index, z in enumerate(other) if index != sample]
            denominator = sum(((anchor * rival).sum() / temperature).exp() for rival in rivals)
            numerator = ((anchor * views[1 - side][sample]).sum() / temperature).exp()
            losses.append(-(numerator / denominator).log())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_dcl_values_and_gradients_match_the_definition(pair, temperature):
    results = []
    for objective in (dcl, naive_dcl):
        leaves = [z.clone().requires_grad_() for z in pair]
        loss = objective(*leaves, temperature)
        results.append((loss.detach(), *torch.autograd.grad(loss, leaves)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_dcl_a_batch_whose_views_are_all_the_same_gives_the_logarithm_of_the_rivals():
    same = torch.ones(4, 3)
    assert dcl(same, same).item() == pytest.approx(math.log(2 * (4 - 1)), rel=1e-6)


def test_dcl_lies_below_nt_xent_by_what_the_positive_adds():
    """exp(NT-Xent) = exp(DCL) + 1 for one anchor; here all anchors are alike."""
    z_i, z_j = torch.tensor([[1.0, 0.2], [-1.0, -0.2]]), torch.tensor([[1.0, -0.2], [-1.0, 0.2]])
    assert nt_xent(z_i, z_j).exp().item() == pytest.approx(dcl(z_i, z_j).exp().item() + 1, rel=1e-5)


def test_dcl_does_not_depend_on_lengths_order_or_which_view_is_first(pair):
    expected, order = dcl(*pair), torch.tensor([3, 0, 5, 1, 4, 2])
    lengths = torch.arange(1, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(dcl(pair[0] * lengths, pair[1] * 7), expected)
    torch.testing.assert_close(dcl(pair[0][order], pair[1][order]), expected)
    torch.testing.assert_close(dcl(*pair[::-1]), expected)
    assert abs(dcl(pair[0][order], pair[1]) - expected) > 0.1


@pytest.mark.parametrize(
    ("shapes", "temperature", "message"),
    [
        (((4, 3), (3, 3)), 0.5, "DCL needs two \\(batch, dimension\\) tensors, got \\(4, 3\\) and \\(3, 3\\)"),
        (((1, 3), (1, 3)), 0.5, "at least 2"),
        (((4, 3), (4, 3)), -1.0, "must be positive"),
    ],
)
def test_bad_input_of_dcl_is_refused(shapes, temperature, message):
    with pytest.raises(ConfigurationError, match=message):
        dcl(*(torch.ones(shape) for shape in shapes), temperature)


def naive_vicreg(z_i, z_j, invariance=25.0, variance=25.0, covariance=1.0):
    """The definition, one entry at a time."""
    (n, d), loss = z_i.shape, 0.0
    for sample in range(n):
        for k in range(d):
            loss += invariance * (z_i[sample, k] - z_j[sample, k]) ** 2 / (n * d)
    for z in (z_i, z_j):
        mean = [sum(z[sample, k] for sample in range(n)) / n for k in range(d)]
        for k in range(d):
            for m in range(d):
                entry = sum((z[sample, k] - mean[k]) * (z[sample, m] - mean[m]) for sample in range(n)) / (n - 1)
                if k != m:
                    loss += covariance * entry**2 / d
                elif (entry + 1e-4) ** 0.5 < 1:
                    loss += variance * (1 - (entry + 1e-4) ** 0.5) / d
    return loss


@pytest.fixture
def ideal():
    """A batch (8, 4) with mean 0, standard deviation 1 and no correlation: columns of a Hadamard matrix."""
    signs = torch.tensor([[1.0]], dtype=torch.float64)
    for _ in range(3):
        signs = torch.cat([torch.cat([signs, signs], dim=1), torch.cat([signs, -signs], dim=1)])
    return signs[:, 1:5] * (7 / 8) ** 0.5


@pytest.mark.parametrize("weights", [(), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (3.0, 5.0, 7.0)])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_values_and_gradients_match_the_definition(pair, weights, scale):
    results = []
    for objective in (vicreg_loss, naive_vicreg):
        leaves = [(scale * z).requires_grad_() for z in pair]
        loss = objective(*leaves, *weights)
        results.append((loss.detach(), *torch.autograd.grad(loss, leaves)))
    assert results[1][0] > 0
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_a_decorrelated_batch_of_unit_spread_costs_nothing(ideal):
    torch.testing.assert_close(ideal.std(dim=0), torch.ones(4, dtype=torch.float64))
    assert vicreg_loss(ideal, ideal, 0, 1, 0) == 0
    assert vicreg_loss(ideal, ideal).item() == pytest.approx(0, abs=1e-20)
    assert vicreg_loss(2 * ideal, 2 * ideal, 0, 1, 0) == 0  # the hinge asks for no more
    assert vicreg_loss(ideal / 2, ideal, 0, 1, 0).item() == pytest.approx(1 - (0.25 + 1e-4) ** 0.5)
    assert vicreg_loss(ideal, ideal + 2, 1, 0, 0).item() == pytest.approx(4)


def test_a_collapsed_batch_costs_its_whole_spread_and_has_a_finite_gradient():
    same = torch.ones(4, 3, requires_grad=True)
    loss = vicreg_loss(same, same)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 25 * (1 - 1e-4**0.5), rel=1e-6)
    assert torch.isfinite(same.grad).all()


def test_it_does_not_depend_on_order_or_which_view_is_first_but_on_lengths(pair):
    expected, order = vicreg_loss(*pair), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(vicreg_loss(pair[0][order], pair[1][order]), expected)
    torch.testing.assert_close(vicreg_loss(*pair[::-1]), expected)
    assert abs(vicreg_loss(pair[0][order], pair[1]) - expected) > 0.1
    assert abs(vicreg_loss(2 * pair[0], 2 * pair[1]) - expected) > 0.1


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((4, 3), (4, 2)), "VICReg needs two"), (((4,), (4,)), "VICReg needs two"), (((1, 3), (1, 3)), "at least 2")],
)
def test_bad_input_of_vicreg_is_refused(shapes, message):
    with pytest.raises(ConfigurationError, match=message):
        vicreg_loss(*(torch.ones(shape) for shape in shapes))
