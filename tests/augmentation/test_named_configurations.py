"""The named augmentations of the configuration files."""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.settings import CONFIG_LOADER_ARGS
from synapseclr.training import PretrainingConfig

CONF = str(Path(__file__).parents[2] / "conf")
NAMES = ("so3", "dihedral", "extract", "display")


def parameters(environment, **given):
    loader = OmegaConfigLoader(CONF, env=environment, runtime_params=given, **CONFIG_LOADER_ARGS)
    return loader["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_microns_has_the_published_values(name):
    named = parameters("microns")["augmentations"]
    assert set(named) == set(NAMES)
    assert AugmentationConfig(**named[name]) == getattr(AugmentationConfig, name)()


def test_microns_spells_out_every_parameter():
    assert set(parameters("microns")["augmentations"]["so3"]) == set(AugmentationConfig.model_fields)


@pytest.mark.parametrize("environment", ["local", "microns"])
def test_extract_and_display_are_what_the_pipelines_derive(environment):
    named = {name: AugmentationConfig(**each) for name, each in parameters(environment)["augmentations"].items()}
    assert set(named) == set(NAMES)
    derived = Augmenter(named["so3"].for_extraction())
    assert Augmenter(named["extract"]).operations == derived.operations
    assert Augmenter(named["extract"]).preparation == derived.preparation
    assert named["dihedral"] == named["so3"].replaced(enable_rotation=False)
    assert named["display"].final_img_size == named["display"].final_crop_size == named["so3"].final_crop_size


@pytest.mark.parametrize("environment", ["local", "microns", "test", "fib25"])
@pytest.mark.parametrize("name", ["so3", "dihedral"])
def test_one_word_chooses_the_augmentation_of_pretraining(environment, name):
    # The order matters to a naive interpolation: the override comes before the choice.
    chosen = parameters(environment, pretraining={"augmentation": {"gaussian_blur_prob": 0.25}}, augmentation=name)
    config = PretrainingConfig(**chosen["pretraining"]).augmentation
    assert config.enable_rotation == (name == "so3")
    assert config.gaussian_blur_prob == 0.25
    assert parameters(environment)["augmentation"] == "so3"


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        InterpolationResolutionError, match=r"augmentation is 'so4'. Choose one of: so3, dihedral, extract, display"
    ):
        parameters("local", augmentation="so4")
