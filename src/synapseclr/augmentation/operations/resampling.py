"""Resampling of the chunk to an isotropic cube in its pose, and the published form of it.

The published operation keeps its errors, for parity with published weights and golden vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from synapseclr.augmentation.masks import CLEFT, POST, PRE
from synapseclr.augmentation.operation import Operation, ViewState
from synapseclr.augmentation.preparation import LEVELS
from synapseclr.augmentation.sampling import sample
from synapseclr.errors import SynapseCLRError

LEAST_WEIGHT = 1e-6
AXES = 3


class Resampling(Operation):
    """Sample the prepared chunk once: intensity, weight, distances, and the section that each voxel lies in."""

    name: ClassVar[str] = "resampling"
    random: ClassVar[bool] = False

    def apply(self, view: ViewState, draws: None) -> None:
        """Resample; masks are where the sampled distances are not positive, and the cleft wins."""
        assert view.prepared is not None, "resampling needs a prepared batch"
        sampled = sample(view.prepared, view.preparation, view.pose, view.config.final_img_size)
        view.weight_bcxyz = sampled.weight_bxyz[:, None]
        view.intensity_bcxyz = carried_intensity(sampled.signal_bxyz, sampled.weight_bxyz)[:, None]
        view.distance_bcxyz = sampled.distance_bcxyz
        view.section_bxyz = sampled.section_bxyz
        view.mask_bcxyz = masks_within(view, 0.0)
        view.is_resampled = True


def carried_intensity(signal: Tensor, weight: Tensor) -> Tensor:
    """Intensity in [0, 1] of a voxel from the signal and the weight that it carries; overwrites the signal."""
    return signal.div_(weight.clamp(min=LEAST_WEIGHT)).clamp_(0.0, 1.0)


def masks_within(view: ViewState, distance: float) -> Tensor:
    """Voxels within a distance, in output voxels, of presynaptic side, cleft and postsynaptic side; disjoint."""
    assert view.distance_bcxyz is not None
    within = view.distance_bcxyz <= int(min(view.preparation.distance_code(distance) + 0.5, LEVELS - 1))
    cleft = within[:, CLEFT]
    pre = within[:, PRE] & ~cleft
    return torch.stack([pre, cleft, within[:, POST] & ~cleft & ~pre], dim=1)


class PublishedResampling(Operation):
    """Trilinear resampling of intensities and masks without anti-aliasing, zeros outside, masks above 0.5.

    The spacing correction lands on x, and displacements are in half sides of the chunk: see ``published_theta``.
    """

    name: ClassVar[str] = "published_resampling"
    random: ClassVar[bool] = False

    def apply(self, view: ViewState, draws: None) -> None:
        """Resample the chunk as the operations before left it.

        Raises:
            SynapseCLRError: If the chunk is not square in x and y (the published code refuses it too).
        """
        config, shape = view.config, tuple(view.intensity_bcxyz.shape[2:])
        if shape[0] != shape[1]:
            raise SynapseCLRError(f"published fidelity needs chunks that are square in x and y, found {shape}")
        scale_i = published_scale(shape, config.final_crop_size, config.axial_to_sagittal_spacing)
        theta_bik = published_theta(view.pose.matrix_bij, view.pose.displacement_bi, scale_i)
        size = config.final_img_size
        view.intensity_bcxyz, view.mask_bcxyz = resample_published(
            view.intensity_bcxyz, view.mask_bcxyz.float(), theta_bik, size
        )
        view.is_resampled = True


def published_scale(shape_xyz: Sequence[int], final_crop_size: int, spacing: float) -> tuple[float, ...]:
    """The published scale factors ``(orig_x / crop) * (1, 1, ratio * orig_z / orig_x)``."""
    crop = shape_xyz[0] / final_crop_size
    return crop, crop, crop * spacing * shape_xyz[2] / shape_xyz[0]


def published_theta(rotation_bij: Tensor | None, displacement_bi: Tensor | None, scale_i: tuple[float, ...]) -> Tensor:
    """The published affine matrices for ``torch.nn.functional.affine_grid``.

    Its rows follow grid_sample's (z, y, x) order, which the published scale factors (x, y, z) do not: the spacing
    correction lands on x. Reproduced for parity.

    Args:
        rotation_bij: Rotation matrices, shape (n or 1, 3, 3), or None for the identity.
        displacement_bi: Displacements in units of the input's half sides, shape (n or 1, 3), or None.
        scale_i: From ``published_scale``.

    Returns:
        float32, shape (n or 1, 3, 4).
    """
    n = max((len(draw) for draw in (rotation_bij, displacement_bi) if draw is not None), default=1)
    theta_bik = torch.zeros(n, AXES, AXES + 1)
    theta_bik[:, :, :AXES] = torch.eye(AXES) if rotation_bij is None else rotation_bij.to(torch.float32)
    for axis, scale in enumerate(scale_i):
        theta_bik[:, axis, :AXES] /= scale
    if displacement_bi is not None:
        theta_bik[:, :, AXES] = displacement_bi
    return theta_bik


def resample_published(
    intensity_bcxyz: Tensor, mask_bcxyz: Tensor, theta_bik: Tensor, final_img_size: int
) -> tuple[Tensor, Tensor]:
    """Resample with zeros outside; masks are thresholded above 0.5.

    Args:
        intensity_bcxyz: Intensities, shape (batch, 1, x, y, z).
        mask_bcxyz: Masks as 0 or 1, float32, shape (batch, 3, x, y, z).
        theta_bik: Affine matrices, shape (1 or batch, 3, 4), on the CPU.
        final_img_size: Side of the output cube.

    Returns:
        Intensities in [0, 1] and boolean masks, (batch, 1 or 3, size, size, size), contiguous.
    """
    batch, size = len(intensity_bcxyz), final_img_size
    theta = theta_bik.to(intensity_bcxyz.device, non_blocking=True)
    grid = F.affine_grid(theta, [len(theta), 1, size, size, size], align_corners=True).expand(batch, -1, -1, -1, -1)
    intensity, mask = (F.grid_sample(each, grid, align_corners=True) for each in (intensity_bcxyz, mask_bcxyz))
    return intensity.clamp_(0.0, 1.0), mask > 0.5
