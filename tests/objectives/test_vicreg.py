import pytest
import torch

from synapseclr.errors import ConfigurationError
from synapseclr.objectives import vicreg_loss


def naive(z_i, z_j, invariance=25.0, variance=25.0, covariance=1.0):
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
    for objective in (vicreg_loss, naive):
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
def test_bad_input_is_refused(shapes, message):
    with pytest.raises(ConfigurationError, match=message):
        vicreg_loss(*(torch.ones(shape) for shape in shapes))
