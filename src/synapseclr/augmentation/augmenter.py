"""The augmenter: one random view of a batch of chunks, in the published order of operations."""

from typing import NamedTuple

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.corrected import apply_corrected
from synapseclr.augmentation.draws import ViewDraws, draw_view
from synapseclr.augmentation.pooling import Chunks
from synapseclr.augmentation.published import apply_published
from synapseclr.errors import SynapseCLRError


class View(NamedTuple):
    """One view of a batch.

    Attributes:
        intensity_bcxyz: z-scored intensities, float32, shape (batch, 1 or 2, size, size, size).
        mask_bcxyz: Boolean masks (presynaptic, cleft, postsynaptic), shape (batch, 3, size, size, size).
    """

    intensity_bcxyz: Tensor
    mask_bcxyz: Tensor


class Augmenter:
    """Random views of chunk batches, on the device of the batch.

    Example:
        >>> augmenter = Augmenter(AugmentationConfig.so3())
        >>> view_i, view_j = augmenter.views(chunk_bcxyz, 2, torch.Generator().manual_seed(0))

    Args:
        config: What to do.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        self.config = config

    def __call__(self, chunk_bcxyz: Tensor, generator: torch.Generator | None = None) -> View:
        """Draw and apply one view.

        Args:
            chunk_bcxyz: uint8 chunks, shape (batch, 2, x, y, z): intensity, and mask codes 0 background,
                1 presynaptic, 2 cleft, 3 postsynaptic.
            generator: A CPU generator; ``None`` takes torch's default one. In distributed training give every process
                its own seed.

        Raises:
            SynapseCLRError: If the chunks have another type or shape.
        """
        return self.views(chunk_bcxyz, 1, generator)[0]

    def views(self, chunk_bcxyz: Tensor, n_views: int = 2, generator: torch.Generator | None = None) -> list[View]:
        """Several views of one batch; decoding and anti-aliasing are shared between them."""
        _check(chunk_bcxyz)
        draws = [self.draw(chunk_bcxyz, generator) for _ in range(n_views)]
        return self.replay(chunk_bcxyz, draws)

    def draw(self, chunk_bcxyz: Tensor, generator: torch.Generator | None = None) -> ViewDraws:
        """The random numbers of one view of these chunks, without applying them."""
        return draw_view(self.config, chunk_bcxyz.shape[0], chunk_bcxyz.shape[-1], generator)

    @torch.no_grad()
    def replay(self, chunk_bcxyz: Tensor, draws: list[ViewDraws]) -> list[View]:
        """Apply drawn views: the same draws on the same chunks and device give the same views."""
        _check(chunk_bcxyz)
        if self.config.fidelity == "published":
            return [View(*apply_published(chunk_bcxyz, self.config, each)) for each in draws]
        chunks = Chunks(chunk_bcxyz, self.config)
        return [View(*apply_corrected(chunks, self.config, each)) for each in draws]


def _check(chunk_bcxyz: Tensor) -> None:
    if chunk_bcxyz.dtype != torch.uint8 or chunk_bcxyz.ndim != 5 or chunk_bcxyz.shape[1] != 2:
        raise SynapseCLRError(
            "expected uint8 chunks of shape (batch, 2, x, y, z) holding intensity and mask codes, "
            f"found {chunk_bcxyz.dtype} {tuple(chunk_bcxyz.shape)}"
        )
    if 0 in chunk_bcxyz.shape:
        raise SynapseCLRError(f"the batch of chunks is empty: shape {tuple(chunk_bcxyz.shape)}")
