"""Encoders of this project: one that pools every stage over the regions of masks, and a single convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM_CHANNELS, STAGE_CHANNELS = 64, (128, 256)  # at width 1
REGIONS = ("presynaptic side", "postsynaptic side", "presynaptic side at the cleft", "postsynaptic side at the cleft")
VOLUMES = ("presynaptic side", "postsynaptic side", "cleft", "contact of both sides")
N_STATISTICS = 2  # mean and spread
LEAST_VARIANCE = 1e-4
CHANNELS = 64  # at width 1, as in the published stem


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions beside a shortcut, after He et al. 2016, doi:10.1109/CVPR.2016.90."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.downsample = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm3d(out_channels)
        )

    def forward(self, x_bcxyz: Tensor) -> Tensor:
        """(b, in, x, y, z) to (b, out, x / stride, y / stride, z / stride)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_bcxyz)), inplace=True)))
        return F.relu(residual + self.downsample(x_bcxyz), inplace=True)


class RegionResNet(nn.Module):
    """A small 3D ResNet that keeps a map, read out over regions.

    The stem (4^3, stride 2) and each of two stages (stride 2) are pooled over the presynaptic side, the postsynaptic
    side, and the part of each near the cleft: mean and standard deviation of every channel. The published ResNets end
    an image of 24 voxels in a map of one voxel, into which a density of 50 nm disappears. The masks are for pooling
    only: the network does not see them. The logarithms of four volumes are appended to the features and kept from the
    projector (``n_projected``), since a view's cut-outs change them and contrast would otherwise live off them.

    Args:
        in_channels: 2: presynaptic and postsynaptic side; 1: both in one.
        width_factor: Multiplies all channels (64 in the stem, 128, 256 at 1.0).

    Attributes:
        n_features: 4 regions x 2 statistics x channels of all stages, and 4 volumes.
        n_projected: The features that the projector takes: all but the volumes.
        takes_masks: Says that ``forward`` needs the masks of the view.
    """

    takes_masks = True

    def __init__(self, in_channels: int = 2, width_factor: float = 1.0) -> None:
        super().__init__()
        stem, *widths = (max(1, int(channels * width_factor)) for channels in (STEM_CHANNELS, *STAGE_CHANNELS))
        self.conv1 = nn.Conv3d(in_channels, stem, 4, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(stem)
        self.layers = nn.ModuleList(
            ResidualBlock(before, after, stride=2) for before, after in zip((stem, *widths), widths, strict=False)
        )
        self.fc = nn.Identity()
        self.n_projected = len(REGIONS) * N_STATISTICS * (stem + sum(widths))
        self.n_features = self.n_projected + len(VOLUMES)

    def forward(self, intensity_bcxyz: Tensor, mask_bcxyz: Tensor) -> Tensor:
        """Embed a batch.

        Args:
            intensity_bcxyz: Masked, normalised intensities, (b, in_channels, x, y, z), at least 8 voxels a side.
            mask_bcxyz: Masks (presynaptic, cleft, postsynaptic), (b, 3, x, y, z).

        Returns:
            Features (b, n_features).
        """
        map_bcxyz = F.relu(self.bn1(self.conv1(intensity_bcxyz)), inplace=True)
        with torch.no_grad():
            region_brxyz, volume_bv = regions(mask_bcxyz.to(map_bcxyz.dtype))
        pooled = [pool_regions(map_bcxyz, region_brxyz)]
        for layer in self.layers:
            map_bcxyz = layer(map_bcxyz)
            pooled.append(pool_regions(map_bcxyz, region_brxyz))
        features_bf: Tensor = self.fc(torch.cat([*pooled, volume_bv.to(map_bcxyz.dtype)], dim=1))
        return features_bf


def regions(mask_bcxyz: Tensor) -> tuple[Tensor, Tensor]:
    """Regions at half resolution, and the logarithms of volumes.

    Args:
        mask_bcxyz: Masks (presynaptic, cleft, postsynaptic) as 0 or 1, (b, 3, x, y, z).

    Returns:
        Shares of each voxel that belong to :data:`REGIONS`, (b, 4, x / 2, y / 2, z / 2), and
        ``log(1 + voxels)`` of :data:`VOLUMES`, (b, 4).
    """
    pre, cleft, post = F.avg_pool3d(mask_bcxyz, 2).split(1, dim=1)
    # A voxel is at the cleft if it or one of its 26 neighbours holds some of it.
    at_cleft = F.max_pool3d((cleft > 0).to(cleft.dtype), 3, 1, 1)
    pre, post = pre + cleft, post + cleft
    volumes = torch.cat([pre, post, cleft, pre * post], dim=1).flatten(2).sum(2)
    return torch.cat([pre, post, at_cleft * pre, at_cleft * post], dim=1), torch.log1p(volumes)


def pool_regions(map_bcxyz: Tensor, region_brxyz: Tensor) -> Tensor:
    """Mean and standard deviation of every channel over every region.

    Args:
        map_bcxyz: A stage's output, (b, c, ...).
        region_brxyz: Weights of the regions, at this or a higher resolution, (b, r, ...).

    Returns:
        (b, 2 r c); 0 for a region that is empty, but for the least standard deviation.
    """
    weight_brv = F.adaptive_avg_pool3d(
        region_brxyz, (map_bcxyz.shape[2], map_bcxyz.shape[3], map_bcxyz.shape[4])
    ).flatten(2)
    # weighted moments of all channels and regions at once, as two matrix products
    weight_brv = weight_brv / (weight_brv.sum(2, keepdim=True) + 1e-3)
    map_bvc = map_bcxyz.flatten(2).mT
    mean_brc = weight_brv @ map_bvc
    variance_brc = (weight_brv @ map_bvc**2 - mean_brc**2).clamp(min=0)
    return torch.cat([mean_brc.flatten(1), (variance_brc + LEAST_VARIANCE).sqrt().flatten(1)], dim=1)


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
