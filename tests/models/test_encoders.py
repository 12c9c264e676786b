import subprocess
import sys

import pytest
import torch

from synapseclr.errors import ConfigurationError
from synapseclr.models import build_encoder


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
