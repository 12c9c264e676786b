import pytest
import torch


@pytest.fixture
def pair():
    """Projections of two views that resemble each other, (6, 5) each, in double precision."""
    generator = torch.Generator().manual_seed(0)
    z_i = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return z_i, z_i + 0.5 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
