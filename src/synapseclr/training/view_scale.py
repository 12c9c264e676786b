"""The physical scale of views: weights record that of their training, and are applied to views of the same only."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from synapseclr.augmentation import AugmentationConfig

logger = logging.getLogger(__name__)

VOXEL_SIZE, VIEW_VOXEL = "voxel_size_nm", "view_voxel_nm"
"""Names in the provenance of weights, for the chunks and for the views that they were trained on."""

TOLERANCE = 0.02
"""Relative difference up to which two scales are the same: crops are whole voxels, magnification blurs much more."""


@dataclass(frozen=True)
class ViewScale:
    """Sizes of voxels (x, y, z) in nm.

    Attributes:
        voxel_size_nm: Of the chunks.
        view_voxel_nm: Of the views that are made out of them, before magnification.
    """

    voxel_size_nm: tuple[float, ...]
    view_voxel_nm: tuple[float, ...]

    @classmethod
    def of_views(cls, augmentation: AugmentationConfig, voxel_size_nm: Sequence[float]) -> ViewScale:
        """Scale of the views that an augmentation makes out of chunks."""
        pitch_vx = augmentation.final_crop_size / augmentation.final_img_size
        x, y, z = voxel_size_nm
        spacing = augmentation.axial_to_sagittal_spacing
        return cls((x, y, z), (x * pitch_vx, y * pitch_vx, z / spacing * pitch_vx))

    @classmethod
    def of_weights(cls, provenance: Mapping[str, str], augmentation: AugmentationConfig) -> ViewScale | None:
        """Scale that weights were trained at; None if they do not say.

        Args:
            provenance: Of the weights.
            augmentation: Says how many voxels go into one of a view, where weights know their chunks' voxel size only.
        """
        chunks, views = (_lengths(provenance.get(name, "")) for name in (VOXEL_SIZE, VIEW_VOXEL))
        if views is None and chunks is not None:
            views = (chunks[0] * augmentation.final_crop_size / augmentation.final_img_size,) * 3
        return None if views is None else cls(chunks or (), views)

    def record(self) -> dict[str, str]:
        """The same as entries of a provenance, which are texts: "8 x 8 x 40"."""
        return {VOXEL_SIZE: _text(self.voxel_size_nm), VIEW_VOXEL: _text(self.view_voxel_nm)}

    def equals(self, other: ViewScale) -> bool:
        """Tell whether the views show things at one size, whatever the chunks they were made of."""
        ratios = np.asarray(self.view_voxel_nm) / np.asarray(other.view_voxel_nm)
        return bool((np.abs(ratios - 1) <= TOLERANCE).all())


def fitted_augmentation(
    provenance: Mapping[str, str],
    augmentation: AugmentationConfig,
    voxel_size_nm: Sequence[float],
    resample: bool | None = False,
    name: str = "The weights",
) -> AugmentationConfig:
    """Make sure that chunks are seen at the scale at which weights were trained.

    Args:
        provenance: Of the weights; those that do not say their scale fit.
        augmentation: Pretraining's.
        voxel_size_nm: Of the chunks (x, y, z).
        resample: Whether views of another scale are sampled at that of the weights instead; None: there is no choice.
        name: What the error calls the weights.

    Returns:
        The augmentation; where views are resampled with another ``final_crop_size`` and spacing.

    Raises:
        ConfigurationError: If the scales differ and views are not to be resampled.
    """
    trained = ViewScale.of_weights(provenance, augmentation)
    present = ViewScale.of_views(augmentation, voxel_size_nm)
    if trained is None or trained.equals(present):
        return augmentation
    x, _, z = voxel_size_nm
    crop_vx = 2 * round(trained.view_voxel_nm[0] * augmentation.final_img_size / x / 2)
    spacing = round(z / x * trained.view_voxel_nm[0] / trained.view_voxel_nm[2], 4)
    if resample and crop_vx:
        logger.warning(
            "%s were trained on views of %s nm a voxel: these views are sampled so, %d voxels of the chunks a side.",
            name,
            _text(trained.view_voxel_nm),
            crop_vx,
        )
        return augmentation.replaced(final_crop_size=crop_vx, axial_to_sagittal_spacing=spacing)
    sampled = (
        f"final_crop_size to {crop_vx} and axial_to_sagittal_spacing to {spacing:g} under pretraining.augmentation"
    )
    of_chunks = f", made of chunks of {_text(trained.voxel_size_nm)} nm" if trained.voxel_size_nm else ""
    cut = f", or preprocessing.voxel_size_nm to [{_text(trained.voxel_size_nm, ', ')}]" if trained.voxel_size_nm else ""
    choice = "" if resample is None else "embedding.resample_to_weights to true, or "
    raise ConfigurationError(
        f"{name} were trained on views of {_text(trained.view_voxel_nm)} nm a voxel{of_chunks}, but these views have "
        f"{_text(present.view_voxel_nm)} nm, made of chunks of {_text(voxel_size_nm)} nm: set {choice}{sampled}{cut}."
    )


def _text(lengths_nm: Sequence[float], separator: str = " x ") -> str:
    return separator.join(f"{length:.6g}" for length in lengths_nm)


def _lengths(text: str) -> tuple[float, float, float] | None:
    """Three lengths out of a text; None if it does not hold them."""
    try:
        x, y, z = map(float, text.split(" x "))
    except ValueError:
        return None
    return x, y, z
