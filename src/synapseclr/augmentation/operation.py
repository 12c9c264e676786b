"""Base class of the operations, the random numbers they draw, and the state of a view between two of them.

A view is made by a list of operations. All of them draw their random numbers first, on the CPU, so that a view can be
replayed; then each changes the state in turn. A new operation is a subclass of ``Operation`` in a file
in ``operations/`` or anywhere else, and a line in the list (docs/extending.md shows one).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, check_ranges
from synapseclr.augmentation.masks import CLEFT
from synapseclr.augmentation.preparation import Preparation, PreparedChunks
from synapseclr.augmentation.sampling import Pose
from synapseclr.parameters import Parameters


@dataclass(frozen=True)
class Source:
    """Random numbers of one view of a batch.

    Attributes:
        generator: A CPU generator; None is torch's default one.
        batch: Number of chunks.
        n: How many draws an operation makes: 1, shared by the batch, where it is coupled; else one for each chunk.
        n_intensity: The same for section cut-outs, tones and noise: the published code draws them for each chunk also
            where the batch is coupled.
        n_sections: Sections of a chunk.
    """

    generator: torch.Generator | None
    batch: int
    n: int
    n_intensity: int
    n_sections: int

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers from ``low`` to ``high``, float32."""
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """True with a probability."""
        return torch.rand(shape, generator=self.generator) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from ``low`` to ``high - 1``."""
        return torch.randint(low, high, shape, generator=self.generator)

    def choice(self, choices: tuple[float, ...], n: int) -> Tensor:
        """Draw from the choices, each equally likely; from a single one, nothing is drawn."""
        if len(choices) == 1:
            return torch.full((n,), choices[0])
        return torch.tensor(choices)[self.integers(0, len(choices), n)]

    def seed(self) -> int:
        """A seed for a field as large as the image, which is generated on the batch's device when it is applied."""
        return int(self.integers(0, 2**62, 1))


@dataclass
class ViewState:
    """State of a view. Volumes are (batch, ..., x, y, z): the chunk before the resampling, the image after it.

    Attributes:
        config: The configuration.
        preparation: The preparation of the batch.
        prepared: The prepared batch; None under published fidelity.
        pose: Place of the output cube in the chunk; operations before the resampling change it.
        intensity_bcxyz: Intensities in [0, 1], one channel until the z-score.
        weight_bcxyz: Share of each voxel that carries a signal; None under published fidelity, which has no such share.
        mask_bcxyz: Boolean masks (pre, cleft, post).
        distance_bcxyz: Distance codes to presynaptic side, cleft and postsynaptic side, uint8.
        section_bxyz: Section of the chunk that a voxel lies in, int32; None before the resampling.
        shown: Boolean volumes (batch or 1, 1 or 2, x, y, z); the view shows its signal where all are True.
        is_resampled: True once the volumes are images.
    """

    config: AugmentationConfig
    preparation: Preparation
    prepared: PreparedChunks | None
    intensity_bcxyz: Tensor
    mask_bcxyz: Tensor
    weight_bcxyz: Tensor | None = None
    distance_bcxyz: Tensor | None = None
    section_bxyz: Tensor | None = None
    pose: Pose = field(default_factory=Pose.identity)
    is_resampled: bool = False
    shown: list[Tensor] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Device of the batch."""
        return self.intensity_bcxyz.device if self.prepared is None else self.prepared.volume_bxyzc.device

    @property
    def published(self) -> bool:
        """True where the published code is reproduced with its errors."""
        return self.config.fidelity == "published"

    def per_section(self, values_nz: Tensor) -> Tensor:
        """Values by section, (n, sections) on the CPU, looked up for every voxel; broadcasts with intensities."""
        values = values_nz.to(self.device, non_blocking=True)
        if self.section_bxyz is None:
            return values[:, None, None, None, :]
        section = self.section_bxyz
        if len(values) > 1:
            # Rows of the table lie one after the other: a sample's sections begin at its own offset.
            first = torch.arange(len(values), dtype=torch.int32, device=self.device) * values.shape[1]
            section = section + first[:, None, None, None]
        return values.flatten().index_select(0, section.flatten()).view(section.shape)[:, None]

    def per_sample(self, values_n: Tensor) -> Tensor:
        """Reshape values of samples, (n,) on the CPU, to (n, 1, 1, 1, 1) on the batch's device."""
        return values_n.to(self.device, non_blocking=True)[:, None, None, None, None]

    def hide(self, keep_rxyz: Tensor, row_r: Tensor | None) -> None:
        """Hide intensity and masks of some samples where a keep mask is False.

        A sample that would lose its whole cleft keeps everything: its view would be empty. The published code has no
        such guard.

        Args:
            keep_rxyz: One mask for each of the samples, (r, x, y, z), or one for all, (1, x, y, z).
            row_r: Rows of the samples in the batch; None for all.
        """
        rows = slice(None) if row_r is None else row_r.to(self.device, non_blocking=True)
        if self.published:
            self.intensity_bcxyz[rows] = self.intensity_bcxyz[rows] * keep_rxyz[:, None]
        else:
            keep_rxyz = spare_whole_cleft(keep_rxyz, self.mask_bcxyz[rows, CLEFT])
            self.weight_bcxyz[rows] = self.weight_bcxyz[rows] * keep_rxyz[:, None]  # type: ignore[index]
        self.mask_bcxyz[rows] = self.mask_bcxyz[rows] & keep_rxyz[:, None]


def chosen_rows(apply_n: Tensor) -> Tensor | None:
    """Rows of the samples to which a draw, (n,) on the CPU, applies; None for one draw that all samples share."""
    return None if len(apply_n) == 1 else torch.nonzero(apply_n).flatten()


class Operation(Parameters):
    """Base class of the operations; a subclass adds its parameters as fields.

    Attributes:
        name: The name under which lists of operations know it.
        random: True if it draws random numbers. Such operations are left out of extraction.
    """

    name: ClassVar[str]
    random: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        check_ranges(self)
        return self

    def draw(self, source: Source, config: AugmentationConfig) -> Any:
        """Draw what ``apply`` needs; None where nothing is random."""
        return None

    def apply(self, view: ViewState, draws: Any) -> None:
        """Change the state of the view."""
        raise NotImplementedError


def spare_whole_cleft(keep_bxyz: Tensor, cleft_bxyz: Tensor) -> Tensor:
    """Undo the cut-outs of samples that would lose their whole cleft to them.

    Args:
        keep_bxyz: Keep masks, shape (batch or 1, x, y, z).
        cleft_bxyz: Boolean cleft masks, shape (batch, x, y, z).

    Returns:
        Keep masks, shape (batch, x, y, z), on the same device, computed without a host synchronisation.
    """
    lost_b = cleft_bxyz.flatten(1).any(1) & ~(cleft_bxyz & keep_bxyz).flatten(1).any(1)
    return keep_bxyz | lost_b[:, None, None, None]
