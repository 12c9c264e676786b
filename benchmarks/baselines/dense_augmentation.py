"""The augmentation as one would write it at first: what benchmarks/augmentation.py compares with.

Float maps at full resolution, ``grid_sample``, a dense ball convolution for the dilation and a component labelling
per sample: the structure of the published code.
"""

import cc3d
import numpy as np
import torch
import torch.nn.functional as F


def dense_dilation(mask_bxyz: torch.Tensor, radius: int) -> torch.Tensor:
    """Ball dilation by a dense convolution."""
    line = torch.arange(-radius, radius + 1, device=mask_bxyz.device) ** 2
    ball = (line[:, None, None] + line[None, :, None] + line <= radius**2).float()
    return F.conv3d(mask_bxyz[:, None].float(), ball[None, None], padding=radius)[:, 0] > 0.5


def looped_components(mask_bcxyz: torch.Tensor) -> torch.Tensor:
    """Pieces that touch the cleft, sample by sample on the CPU."""
    found = []
    for pre, cleft, post in mask_bcxyz.cpu().numpy():
        active = np.zeros_like(cleft)
        for side in (pre | cleft, post | cleft):
            labels = cc3d.connected_components(side, connectivity=26)
            for label in np.unique(labels[cleft]):
                active |= labels == label
        found.append(torch.from_numpy(active))
    return torch.stack(found).to(mask_bcxyz.device)


def dense_decode(chunk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float intensities and boolean masks at full resolution."""
    return chunk[:, :1].float() / 255.0, torch.stack([chunk[:, 1] == code for code in (1, 2, 3)], dim=1)


def dense_tone(x: torch.Tensor) -> torch.Tensor:
    """Per-section and global tone maps."""
    for shape in ((len(x), 1, 1, 1, x.shape[-1]), (len(x), 1, 1, 1, 1)):
        gamma, slope = 0.9 + 0.2 * torch.rand(shape, device=x.device), 0.9 + 0.2 * torch.rand(shape, device=x.device)
        x = (0.01 + slope * x**gamma).clamp(0, 1)
    return x


def dense_noise(x: torch.Tensor) -> torch.Tensor:
    """Lognormal and Gaussian noise."""
    factor = torch.exp(0.03 * torch.randn_like(x))
    return (x * factor / factor.mean(dim=(1, 2, 3, 4), keepdim=True) + 0.03 * torch.randn_like(x)).clamp(0, 1)


def dense_resample(x: torch.Tensor, mask: torch.Tensor, theta: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """affine_grid and grid_sample."""
    grid = F.affine_grid(theta.expand(len(x), 3, 4), [len(x), 1, size, size, size], align_corners=True)
    sampled = [F.grid_sample(volume, grid, align_corners=True) for volume in (x, mask.float())]
    return sampled[0], sampled[1] > 0.5


def dense_blur(x: torch.Tensor) -> torch.Tensor:
    """A 3 x 3 x 3 convolution for each of three kernels, one of which is taken."""
    kernel = torch.rand(3, 1, 3, 3, 3, device=x.device)
    return F.conv3d(x, kernel, padding=1)[:, :1]


def dense_view(chunk: torch.Tensor, theta: torch.Tensor, size: int, radius: int, random: bool) -> torch.Tensor:
    """A whole view the straightforward way."""
    x, mask = dense_decode(chunk)
    if random:
        x = dense_noise(dense_tone(x))
    x, mask = dense_resample(x, mask, theta, size)
    if random:
        x = dense_blur(x)
        keep = torch.ones_like(x, dtype=torch.bool)
        keep[..., : size // 4] = False
        x, mask = (x * keep).flip(2), (mask & keep).flip(2)
    zone = dense_dilation(looped_components(mask), radius)[:, None]
    return (x * zone - 0.44) / 0.28
