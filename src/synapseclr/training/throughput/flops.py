"""Floating point operations of a training step."""

from __future__ import annotations

import logging

import torch
from lightning.fabric.utilities.throughput import measure_flops

from synapseclr.training.config import PretrainingConfig

logger = logging.getLogger(__name__)

_VIEWS = 2
_FORWARD_AND_BACKWARD = 3


def training_flops_per_synapse(config: PretrainingConfig) -> float | None:
    """Floating point operations that a training step spends on one synapse in encoder and projector.

    The forward pass of one view is counted by torch's ``FlopCounterMode`` at the configured view size, on the meta
    device, where nothing is computed: convolutions and matrix products, a multiplication and an addition each counting
    as one operation. There are two views, and the backward pass counts as twice the forward pass (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1); operations that are done again, as with activation checkpointing, do not count.

    Returns:
        The number, or None, with a warning in the log, if the model cannot run on the meta device.
    """
    size = config.augmentation.final_img_size
    view_bcxyz = torch.empty(1, config.model.in_channels, size, size, size, device="meta")
    mask_bcxyz = torch.empty(1, 3, size, size, size, dtype=torch.bool, device="meta")
    model = config.model.build(config.seed).eval().to("meta")
    try:
        with torch.no_grad():
            forward = measure_flops(model, lambda: model(view_bcxyz, mask_bcxyz))
    except (RuntimeError, NotImplementedError) as error:
        logger.warning(
            "The operations of encoder %s were not counted, so TFLOP/s are not recorded: %s",
            config.model.encoder,
            error,
        )
        return None
    return float(_VIEWS * _FORWARD_AND_BACKWARD * forward)
