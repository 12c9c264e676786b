"""One convolution, averaged: the cheapest encoder, which any other one has to beat."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 64  # at width 1, as in the published stem


class SingleConvolution(nn.Module):
    """The published stem alone, a 7^3 convolution of stride 2 and a ReLU, averaged over the image.

    Untrained, it scored as much on the simulation as an encoder that pools its last map of one voxel does trained.

    Args:
        in_channels: 2: presynaptic and postsynaptic side; 1: both in one.
        width_factor: Multiplies the 64 channels.

    Attributes:
        n_features: Number of channels.
    """

    def __init__(self, in_channels: int = 1, width_factor: float = 1.0) -> None:
        super().__init__()
        self.n_features = max(1, int(CHANNELS * width_factor))
        self.conv1 = nn.Conv3d(in_channels, self.n_features, 7, 2, 3, bias=False)
        self.fc = nn.Identity()

    def forward(self, intensity_bcxyz: Tensor) -> Tensor:
        """Map images (b, c, x, y, z) to means over channels (b, n_features)."""
        features_bf: Tensor = self.fc(F.relu(self.conv1(intensity_bcxyz)).mean(dim=(2, 3, 4)))
        return features_bf
