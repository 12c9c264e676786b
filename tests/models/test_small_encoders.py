import pytest
import torch

from synapseclr.models import ModelConfig
from synapseclr.models.small_encoders import LEAST_VARIANCE, RegionResNet, pool_regions, regions


def masks(batch=2, size=16):
    """A presynaptic and a postsynaptic half with a cleft between them."""
    mask = torch.zeros(batch, 3, size, size, size, dtype=torch.bool)
    half = size // 2
    mask[:, 0, : half - 1] = mask[:, 1, half - 1 : half + 1, 4:-4, 4:-4] = mask[:, 2, half + 1 :] = True
    return mask


def test_pooling_is_mean_and_spread_over_each_region():
    generator = torch.Generator().manual_seed(0)
    maps, weights = torch.rand(2, 5, 4, 4, 4, generator=generator), torch.zeros(2, 3, 4, 4, 4)
    weights[:, 0, :2] = 1
    weights[:, 1] = torch.rand(2, 4, 4, 4, generator=generator)
    pooled = pool_regions(maps, weights).view(2, 2, 3, 5)
    inside = maps[:, :, :2].flatten(2)
    torch.testing.assert_close(pooled[:, 0, 0], inside.mean(2), atol=1e-3, rtol=0)
    spread = (inside.var(2, unbiased=False) + LEAST_VARIANCE).sqrt()
    torch.testing.assert_close(pooled[:, 1, 0], spread, atol=1e-3, rtol=0)
    mean = (maps * weights[:, 1:2]).flatten(2).sum(2) / weights[:, 1:2].flatten(2).sum(2)
    torch.testing.assert_close(pooled[:, 0, 1], mean, atol=1e-3, rtol=0)
    assert float(pooled[:, 0, 2].abs().max()) == 0  # an empty region


def test_regions_are_the_sides_and_what_of_them_is_at_the_cleft():
    region, volume = regions(masks().float())
    pre, post, pre_at_cleft, post_at_cleft = region[0]
    assert pre[:3].min() == 1
    assert pre[5:].max() == 0  # the cleft, in planes 3 and 4, belongs to both sides
    assert post[5:].min() == 1
    assert post[:3].max() == 0
    assert pre_at_cleft[0].max() == 0
    assert pre_at_cleft[2, 3, 3] == 1
    assert post_at_cleft[7].max() == 0
    assert volume.shape == (2, 4)
    halved = masks()
    halved[1, 1, :, :8] = False
    assert regions(halved.float())[1][1, 2] < volume[0, 2]  # a smaller cleft


@pytest.mark.parametrize("size", [16, 17, 24])
@pytest.mark.parametrize("in_channels", [1, 2])
def test_the_model_keeps_volumes_from_the_projector(size, in_channels):
    model = ModelConfig(encoder="region_resnet", in_channels=in_channels, width_factor=0.125, projection_dims=(16, 8))
    network = model.build(0).eval()
    assert network.projector.mlp[0].in_features == network.encoder.n_features - 4
    layers = network(torch.randn(2, in_channels, size, size, size), masks(size=size))
    assert layers["encoder.fc"].shape == (2, network.encoder.n_features)
    assert layers["projector.mlp.3"].shape == (2, 8)


def test_masks_are_for_pooling_only():
    """Outside of all regions the network sees the image, but nothing of it is read out."""
    network = RegionResNet(1, 0.125).eval()
    image, mask = torch.randn(1, 1, 16, 16, 16), masks(1)
    nothing = network(image, torch.zeros_like(mask)).detach()
    assert float(nothing[:, : network.n_projected].abs().max()) == pytest.approx(LEAST_VARIANCE**0.5)
    assert float(nothing[:, network.n_projected :].abs().max()) == 0


def test_an_encoder_that_needs_masks_says_so():
    network = ModelConfig(encoder="region_resnet", in_channels=1, width_factor=0.125).build(0)
    with pytest.raises(ValueError, match="give it the masks"):
        network(torch.zeros(1, 1, 16, 16, 16))
