"""Encoders by name."""

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from synapseclr.errors import ConfigurationError
from synapseclr.models import BACKBONE_NAMES, EncoderWeights, ModelConfig, build_encoder, load_encoder
from synapseclr.models.encoders import SCALABLE

# Features at width 1, as the papers have them (the encoders of segmentation networks: channels of the last stage).
FEATURES = {
    "densenet121": 1024,
    "densenet169": 1664,
    "segresnet": 256,
    "mednext_s": 512,
    "seresnet50": 2048,
    "seresnext50": 2048,
    "efficientnet_b0": 1280,
}


def test_the_dilated_shortcut_passes_gradients():
    encoder = build_encoder("resnet18_medicalnet", width_factor=0.125)
    shortcut = encoder.layer2[0].downsample
    x = torch.randn(1, 8, 4, 4, 4, requires_grad=True)
    shortcut(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("width", [0.125, 0.25])
def test_the_width_factor_scales_the_features(width):
    encoder = build_encoder("resnet18", in_channels=2, width_factor=width)
    assert encoder(torch.randn(2, 2, 16, 16, 16)).shape == (2, int(512 * width))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"Unknown encoder 'vgg'.*resnet18_no_max_pool_cifar_stem"):
        build_encoder("vgg")


def test_naming_models_imports_neither_torch_nor_mlflow():
    code = (
        "import sys, synapseclr.models as models; names = [models.load_encoder, models.model_card, models.export, "
        "models.import_checkpoint, models.ImportReport]; assert not {'torch', 'mlflow', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def config(name, in_channels=1, width=0.25):
    width = width if name in SCALABLE else 1.0
    return ModelConfig(encoder=name, in_channels=in_channels, width_factor=width, projection_dims=(16, 8))


def images(in_channels=1, size=24, n=2):
    return torch.randn(n, in_channels, size, size, size, generator=torch.Generator().manual_seed(0))


def test_every_backbone_has_its_dimension_here():
    assert set(FEATURES) == set(BACKBONE_NAMES)


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_the_features_at_full_width(name):
    with torch.device("meta"):
        assert build_encoder(name).n_features == FEATURES[name]


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_it_trains_in_two_channels_and_touches_no_global_generator(name):
    model = config(name, in_channels=2).build(0)
    before = torch.get_rng_state()
    layers = model(images(2))
    layers["projector.mlp.3"].pow(2).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert layers["encoder.fc"].shape == (2, model.encoder.n_features)
    assert layers["encoder.fc"].std(dim=0).max() > 0, "two images have the same features"
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert next(model.encoder.parameters()).grad.abs().max() > 0


@pytest.mark.parametrize("size", [25, 32, 48])
@pytest.mark.parametrize("name", ["densenet121", "efficientnet_b0"])
def test_sizes_that_monai_makes_no_provision_for(name, size):
    model = config(name).build(0).eval()
    with torch.no_grad():
        assert model(images(size=size, n=1))["encoder.fc"].isfinite().all()


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_weights_make_the_way_through_a_file_and_load_encoder(name, tmp_path):
    model = config(name).build(3)
    model(images())  # moves batch-norm statistics
    weights = EncoderWeights(dict(model.state_dict()), config(name), {"seed": "3"})
    file = tmp_path / "encoder_weights.safetensors"
    file.write_bytes(weights.to_bytes())
    loaded = load_encoder(file)
    with torch.no_grad():
        expected, found = model.eval()(images()), loaded(images())
    assert {layer: tensor.shape for layer, tensor in found.items()} == {k: v.shape for k, v in expected.items()}
    for layer in expected:
        torch.testing.assert_close(found[layer], expected[layer], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["densenet121", "segresnet", "mednext_s"])
def test_the_width_factor_scales_the_features_of_a_backbone(name):
    assert config(name).build(0).encoder.n_features == FEATURES[name] // 4


@pytest.mark.parametrize("name", sorted(set(BACKBONE_NAMES) - set(SCALABLE)))
def test_one_width_only_is_said(name):
    with pytest.raises(ConfigurationError, match=rf"width_factor is 0.5, but {name} has one width.*densenet121"):
        build_encoder(name, width_factor=0.5)
    with pytest.raises(ValidationError, match="has one width only: set width_factor to 1"):
        ModelConfig(encoder=name, width_factor=0.5)


def test_no_channel_left_is_said():
    with pytest.raises(ConfigurationError, match=r"width_factor 0.01 leaves segresnet no channel \(32 at 1.0\)"):
        build_encoder("segresnet", width_factor=0.01)


@pytest.mark.parametrize("name", ["mednext_s", "efficientnet_b0"])
def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(name):
    first = EncoderWeights(dict(config(name).build(3).state_dict()), config(name), {})
    torch.rand(5)
    again, other = (EncoderWeights(dict(config(name).build(seed).state_dict()), config(name), {}) for seed in (3, 4))
    assert again.sha256 == first.sha256
    assert other.sha256 != first.sha256


def test_an_unknown_name_lists_both_kinds():
    with pytest.raises(ConfigurationError, match=r"Unknown encoder 'vgg'.*resnet18_medicalnet, densenet121"):
        build_encoder("vgg")
