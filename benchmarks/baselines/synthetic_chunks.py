"""Chunks of the published size for the augmentation's benchmark."""

import torch


def synthetic_chunks(batch: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Two curved neurites that meet at a patch of cleft, with textured intensities."""
    x, y, z = (torch.linspace(-1, 1, n).reshape([-1 if i == a else 1 for i in range(3)]) for a, n in enumerate(shape))
    height = x - 0.1 * torch.cos(3 * y) - 0.05 * z
    tube = (y**2 + z**2) < 0.3
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[tube & (height < 0) & (height > -0.8)] = 1
    mask[tube & (height >= 0) & (height < 0.8)] = 3
    mask[(height.abs() < 0.02) & ((y**2 + z**2) < 0.1)] = 2
    chunk = torch.randint(1, 256, (batch, 2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chunk[:, 1] = mask
    return chunk
