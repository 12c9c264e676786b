"""SimCLR: an encoder with a projection head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAYERS = ("encoder.fc", "projector.mlp.0", "projector.mlp.3")
"""The recorded layers: backbone feature, middle of the projector, end of the projector."""

BACKBONE, MIDDLE, PROJECTION = LAYERS


class Projector(nn.Module):
    """Linear, BatchNorm, ReLU, Linear, without biases in the linear layers.

    Args:
        in_features: Dimension of the backbone feature.
        dims: Dimensions of the hidden and of the output layer.
    """

    def __init__(self, in_features: int, dims: tuple[int, int] = (512, 128)) -> None:
        super().__init__()
        hidden, out = dims
        self.mlp = nn.Sequential(
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=False),
            nn.Linear(hidden, out, bias=False),
        )

    def forward(self, features_bf: Tensor) -> dict[str, Tensor]:
        """Project ``(b, f)``; returns the hidden pre-activation and the output by their recorded names."""
        middle = self.mlp[0](features_bf)
        return {MIDDLE: middle, PROJECTION: self.mlp[3](self.mlp[2](self.mlp[1](middle)))}


class SimCLR(nn.Module):
    """Encoder and projector whose forward returns the three recorded layers by name.

    Args:
        encoder: Maps ``(b, c, x, y, z)`` to ``(b, n_features)``, as :func:`synapseclr.models.build_encoder` makes it.
            One whose ``takes_masks`` is true gets the masks of the view too; one with ``n_projected`` features for
            the projector keeps the others from it.
        projection_dims: Hidden and output dimension of the projector. Default as published.
    """

    def __init__(self, encoder: nn.Module, projection_dims: tuple[int, int] = (512, 128)) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_projected = int(getattr(encoder, "n_projected", encoder.n_features))  # type: ignore[arg-type]
        self.projector = Projector(self.n_projected, projection_dims)

    @property
    def takes_masks(self) -> bool:
        """True if ``forward`` needs the masks of the view."""
        return bool(getattr(self.encoder, "takes_masks", False))

    def forward(self, intensity_bcxyz: Tensor, mask_bcxyz: Tensor | None = None) -> dict[str, Tensor]:
        """Embed a batch.

        Args:
            intensity_bcxyz: Masked, normalised intensities, shape (batch, channel, x, y, z).
            mask_bcxyz: Masks (presynaptic, cleft, postsynaptic), shape (batch, 3, x, y, z), as views have them; only
                an encoder that takes masks looks at them.

        Returns:
            ``encoder.fc`` (b, n_features), ``projector.mlp.0`` (b, hidden), ``projector.mlp.3`` (b, out).

        Raises:
            ValueError: If the encoder takes masks and there are none.
        """
        if self.takes_masks:
            if mask_bcxyz is None:
                raise ValueError("this encoder pools over regions: give it the masks of the view too, (b, 3, x, y, z)")
            features_bf: Tensor = self.encoder(intensity_bcxyz, mask_bcxyz)
        else:
            features_bf = self.encoder(intensity_bcxyz)
        return {BACKBONE: features_bf, **self.projector(features_bf[:, : self.n_projected])}


def initialise(model: nn.Module, seed: int) -> None:
    """Draw all weights of a published encoder or a projector anew from a seed, without torch's global generator.

    Convolutions: Kaiming normal over fan-out (He et al. 2015, doi:10.1109/ICCV.2015.123); linear layers: uniform in
    +-1/sqrt(fan-in), torch's own default; batch norms: weight 1, bias 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d):
            module.reset_parameters()
