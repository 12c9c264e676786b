"""What all objectives promise: precision, and no more memory than a matrix of pairs."""

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from synapseclr.objectives import ObjectiveConfig, dcl, nt_xent, vicreg_loss

CONTRASTIVE = [partial(nt_xent, temperature=0.01), partial(dcl, temperature=0.01)]
ALL = [*CONTRASTIVE, vicreg_loss]
NAMES = ["nt_xent", "dcl", "vicreg"]


class Recorder(TorchDispatchMode):
    """Remembers every operation with the size of its largest result."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in (result if isinstance(result, (tuple, list)) else [result]) if torch.is_tensor(t)]
        self.operations.append((function.__name__, max((t.numel() for t in tensors), default=0)))
        return result

    @property
    def products(self):
        return sum(name.startswith(("mm", "bmm", "addmm")) for name, _ in self.operations)


def value_and_gradients(objective, z_i, z_j):
    leaves = [z.clone().requires_grad_() for z in (z_i, z_j)]
    loss = objective(*leaves)
    return loss.detach(), torch.autograd.grad(loss, leaves)


@pytest.fixture
def similar():
    """Views (32, 6) in single precision whose partners are close, but not always the closest."""
    generator = torch.Generator().manual_seed(1)
    z_i = torch.randn(32, 6, generator=generator)
    return z_i, z_i + 0.3 * torch.randn(32, 6, generator=generator)


@pytest.mark.parametrize("objective", ALL, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_at_temperature_001_it_equals_double_precision(objective, dtype, similar):
    inputs = [z.to(dtype) for z in similar]
    loss, gradients = value_and_gradients(objective, *inputs)
    expected, expected_gradients = value_and_gradients(objective, *(z.double() for z in inputs))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    for ours, wanted in zip(gradients, expected_gradients, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-2, atol=1e-3 * wanted.abs().max().item())


@pytest.mark.parametrize("objective", CONTRASTIVE, ids=NAMES[:2])
def test_opposite_and_equal_partners_at_a_low_temperature_are_finite(objective):
    z = torch.eye(8)
    for partner in (z, -z):
        loss, gradients = value_and_gradients(objective, z, partner)
        assert torch.isfinite(loss)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("objective", ALL, ids=NAMES)
def test_mixed_precision_leaves_the_objective_alone(objective, similar):
    expected = objective(*similar)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(objective(*similar), expected)


@pytest.mark.parametrize(("objective", "products"), zip(ALL, (1, 1, 2), strict=True), ids=NAMES)
def test_nothing_is_larger_than_the_matrix_of_pairs(objective, products):
    """The broadcast form makes a (2B, 2B, D) tensor."""
    batch, dimension = 24, 40
    views = [torch.randn(batch, dimension, requires_grad=True) for _ in range(2)]
    with Recorder() as recorder:
        loss = objective(*views)
        assert recorder.products == products
        loss.backward()
    assert recorder.products > products  # the backward pass was recorded, too
    assert max(size for _, size in recorder.operations) <= (2 * batch) ** 2


@pytest.mark.parametrize("name", ["nt_xent", "decoupled", "vicreg"])
def test_every_configured_objective_learns_to_join_the_views(name):
    objective = ObjectiveConfig(name=name).build()
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(8, 4, generator=generator).requires_grad_() for _ in range(2)]
    optimiser = torch.optim.Adam(views, lr=0.05)
    start = objective(*views).item()
    for _ in range(100):
        optimiser.zero_grad()
        loss = objective(*views)
        loss.backward()
        optimiser.step()
    assert loss.item() < start - 0.5
    assert torch.nn.functional.cosine_similarity(*views).min() > 0.9
