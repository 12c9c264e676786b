import subprocess
import sys

import pytest
from pydantic import ValidationError

from synapseclr.augmentation import AugmentationConfig


def test_defaults_are_the_published_pretraining_values():
    config = AugmentationConfig()
    assert (config.final_crop_size, config.final_img_size) == (192, 96)
    assert (config.intensity_mean, config.intensity_std, config.norm_scale) == (0.44, 0.28, 255.0)
    assert config.active_zone_inflation_radii == tuple(range(1, 10))
    assert config.fidelity == "corrected"
    assert not config.enable_swiss_cheese


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"no_such_field": 1}, "no_such_field"),
        ({"gaussian_blur_prob": 1.5}, "less than or equal to 1"),
        ({"sectional_intensity_slope_min": 1.2}, "sectional_intensity_slope_min"),
        ({"cutout_size_min": 40}, "cutout_size_min"),
        ({"final_img_size": 32}, "cutout_size_max"),
        ({"final_crop_size": 191}, "even"),
        ({"active_zone_inflation_radii": ()}, "at least one"),
        ({"active_zone_inflation_radii": (200,)}, "127"),
        ({"connectivity": 8}, "connectivity"),
        ({"fidelity": "published", "final_img_size": 98}, "divisible by 4"),
        ({"periphery_cutout_center_fraction_min": 0.75}, "no room"),
        ({"intensity_std": 0.0}, "greater than 0"),
    ],
)
def test_impossible_parameters_are_refused_with_their_name(change, message):
    with pytest.raises(ValidationError, match=message):
        AugmentationConfig(**change)


def test_extraction_of_a_pretraining_configuration_keeps_sizes_and_z_score():
    config = AugmentationConfig(intensity_mean=0.5, axial_to_sagittal_spacing=2.5).resized(64, 32).for_extraction()
    assert (config.final_crop_size, config.final_img_size, config.intensity_mean) == (64, 32, 0.5)
    assert config.active_zone_inflation_radii == (1,)  # as long as the published 3 of 96 voxels
    switches = {name: value for name, value in config.model_dump().items() if name.startswith("enable_")}
    assert [name for name, value in switches.items() if value] == ["enable_active_zone"]


def test_resized_scales_lengths_in_output_voxels():
    config = AugmentationConfig().resized(64, 32)
    assert (config.cutout_size_min, config.cutout_size_max) == (4, 12)
    assert config.active_zone_inflation_radii == (1, 2, 3)


def test_named_configurations_differ_where_they_should():
    assert not AugmentationConfig.dihedral().enable_rotation
    assert AugmentationConfig.dihedral().enable_xy_swap
    assert AugmentationConfig.display().final_img_size == 192
    assert AugmentationConfig.extract(final_img_size=48).final_img_size == 48


def test_configuration_survives_json():
    config = AugmentationConfig.so3(fidelity="published")
    assert AugmentationConfig.model_validate_json(config.model_dump_json()) == config


def test_configuration_imports_without_torch():
    code = "import sys; import synapseclr.augmentation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
