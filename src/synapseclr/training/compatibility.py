"""Whether an encoder takes what an augmentation makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from synapseclr.augmentation import AugmentationConfig
    from synapseclr.models import ModelConfig

_ORGANIZATIONS = {1: "merged", 2: "separate"}


def check_channels(model: ModelConfig, augmentation: AugmentationConfig) -> None:
    """Compare the channels of weights with those of the images that they are to embed.

    Raises:
        ConfigurationError: If they differ; names both, and what to set.
    """
    needed = _ORGANIZATIONS[model.in_channels]
    if augmentation.channel_organization != needed:
        raise ConfigurationError(
            f"The weights take in_channels {model.in_channels}, but the augmentation makes images of "
            f"channel_organization '{augmentation.channel_organization}'. For these weights, set under pretraining "
            f"augmentation.channel_organization: {needed} and model.in_channels: {model.in_channels}; or take weights "
            f"whose in_channels is {3 - model.in_channels}."
        )
