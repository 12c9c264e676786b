"""The augmenter: random views of a batch of chunks, by a list of operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, find_operation
from synapseclr.augmentation.operation import Operation, Source, ViewState
from synapseclr.augmentation.preparation import Preparation, PreparedChunks
from synapseclr.augmentation.sampling import Pose
from synapseclr.errors import SynapseCLRError

N_CODES = 3


class View(NamedTuple):
    """One view of a batch.

    Attributes:
        intensity_bcxyz: z-scored intensities, float32, shape (batch, 1 or 2, size, size, size).
        mask_bcxyz: Boolean masks (presynaptic, cleft, postsynaptic), shape (batch, 3, size, size, size).
    """

    intensity_bcxyz: Tensor
    mask_bcxyz: Tensor


ViewDraws = dict[str, Any]
"""All random numbers of one view, by operation. They live on the CPU and are small: decisions taken from them cost no
device synchronisation. Voxel-wise fields (noise, hole centres) are represented by a seed."""


class Augmenter:
    """Random views of chunk batches, on the device of the batch.

    Example:
        >>> augmenter = Augmenter(AugmentationConfig.so3())
        >>> view_i, view_j = augmenter.views(chunk_bcxyz, 2, torch.Generator().manual_seed(0))

    Args:
        config: The operations and their parameters.

    Attributes:
        operations: In the order in which they are applied.
        names: Of the operations, unique; the keys of what :meth:`draw` returns.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        self.config = config
        self.operations: list[Operation] = build_operations(config)
        self.preparation = Preparation.of(config)
        self.names = _unique_names(self.operations)

    def __call__(self, chunks: Tensor | PreparedChunks, generator: torch.Generator | None = None) -> View:
        """Draw and apply one view.

        Args:
            chunks: uint8 chunks, shape (batch, 2, x, y, z): intensity, and mask codes 0 background, 1 presynaptic,
                2 cleft, 3 postsynaptic; or the result of ``prepare``.
            generator: A CPU generator; ``None`` takes torch's default one. In distributed training give every process
                its own seed.

        Raises:
            SynapseCLRError: If the chunks have another type or shape.
        """
        return self.views(chunks, 1, generator)[0]

    def prepare(self, chunk_bcxyz: Tensor) -> Tensor | PreparedChunks:
        """Prepare chunks for all of their views; under published fidelity they are returned as they are.

        Raises:
            SynapseCLRError: If the chunks have another type or shape.
        """
        _check(chunk_bcxyz)
        return chunk_bcxyz if self.config.fidelity == "published" else self.preparation(chunk_bcxyz)

    def views(
        self, chunks: Tensor | PreparedChunks, n_views: int = 2, generator: torch.Generator | None = None
    ) -> list[View]:
        """Several views of one batch, which is prepared once."""
        prepared = self.prepare(chunks) if isinstance(chunks, Tensor) else chunks
        return self.replay(prepared, [self.draw(prepared, generator) for _ in range(n_views)])

    def draw(self, chunks: Tensor | PreparedChunks, generator: torch.Generator | None = None) -> ViewDraws:
        """Draw the random numbers of one view of these chunks, without applying them.

        Raises:
            ValueError: If the generator is not on the CPU (its numbers would have to be read back from the device).
        """
        if isinstance(chunks, PreparedChunks):
            return self.draw_for(len(chunks.volume_bxyzc), chunks.shape_xyz[2], generator)
        return self.draw_for(len(chunks), chunks.shape[-1], generator)

    def draw_for(self, batch: int, n_sections: int, generator: torch.Generator | None = None) -> ViewDraws:
        """``draw`` for a number of chunks with a number of sections.

        Under ``coupled`` every draw is shared over the batch (n = 1). The published code shares only the geometric and
        cut-out draws (and the inflation radius in either mode): ``fidelity="published"`` follows it.
        """
        if generator is not None and generator.device.type != "cpu":
            raise ValueError(
                f"the generator is on {generator.device}; pass a CPU torch.Generator: draws steer the host without a "
                "device synchronisation, and noise fields are generated on the batch's device from a drawn seed"
            )
        n = 1 if self.config.batch_mode == "coupled" else batch
        source = Source(generator, batch, n, batch if self.config.fidelity == "published" else n, n_sections)
        drawn = zip(self.names, (each.draw(source, self.config) for each in self.operations), strict=True)
        return {name: draws for name, draws in drawn if draws is not None}

    @torch.no_grad()
    def replay(self, chunks: Tensor | PreparedChunks, draws: Sequence[ViewDraws]) -> list[View]:
        """Apply drawn views: the same draws on the same chunks and device give the same views."""
        prepared = self.prepare(chunks) if isinstance(chunks, Tensor) else chunks
        return [self._apply(prepared, each) for each in draws]

    @torch.no_grad()
    def posed_view(self, chunks: PreparedChunks, matrix_bij: Tensor) -> View:
        """The view of an extraction configuration with the output cube turned.

        Args:
            chunks: The result of ``prepare``.
            matrix_bij: Rotations, perhaps magnified (``Pose``), (batch or 1, 3, 3), float64, on the CPU.
        """
        draws = self.draw_for(len(chunks.volume_bxyzc), chunks.shape_xyz[2])
        return self._apply(chunks, draws, Pose(matrix_bij, Pose.identity().displacement_bi))

    def _apply(self, chunks: Tensor | PreparedChunks, draws: ViewDraws, pose: Pose | None = None) -> View:
        view = self.begin(chunks)
        if pose is not None:
            view.pose = pose
        for name, operation in zip(self.names, self.operations, strict=True):
            operation.apply(view, draws.get(name))
        return View(view.intensity_bcxyz, view.mask_bcxyz)

    def begin(self, chunks: Tensor | PreparedChunks) -> ViewState:
        """The state of a view before the first operation."""
        if isinstance(chunks, PreparedChunks):
            nothing = torch.empty(0)
            return ViewState(self.config, self.preparation, chunks, nothing, nothing)
        # The published code decodes the chunk and works on all of it at full resolution.
        intensity = chunks[:, :1].float().div_(self.config.norm_scale).clamp_(0.0, 1.0)
        mask = torch.stack([chunks[:, 1] == code for code in range(1, N_CODES + 1)], dim=1)
        return ViewState(self.config, self.preparation, None, intensity, mask)


def build_operations(config: AugmentationConfig) -> list[Operation]:
    """The operations of a configuration, in their order; parameters not given in the list are the published fields."""
    operations: list[Operation] = []
    for name, given in config.listed_operations():
        kind = find_operation(name)
        flat = {field: getattr(config, field) for field in kind.model_fields if field in type(config).model_fields}
        operations.append(kind(**(flat | dict(given))))
    return operations


def _unique_names(operations: Sequence[Operation]) -> list[str]:
    """Keys of the draws; an operation that is listed again gets a number."""
    names: list[str] = []
    for each in operations:
        n_before = sum(name.split("#")[0] == each.name for name in names)
        names.append(f"{each.name}#{n_before + 1}" if n_before else each.name)
    return names


def _check(chunk_bcxyz: Tensor) -> None:
    if chunk_bcxyz.dtype != torch.uint8 or chunk_bcxyz.ndim != 5 or chunk_bcxyz.shape[1] != 2:
        raise SynapseCLRError(
            "expected uint8 chunks of shape (batch, 2, x, y, z) holding intensity and mask codes, "
            f"found {chunk_bcxyz.dtype} {tuple(chunk_bcxyz.shape)}"
        )
    if 0 in chunk_bcxyz.shape:
        raise SynapseCLRError(f"the batch of chunks is empty: shape {tuple(chunk_bcxyz.shape)}")
