"""A style changes how the tissue looks, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from synapseclr.simulation import ImagingStyle, SimulationConfig, simulate
from synapseclr.simulation.config import PRESETS

NAMES = [name for name in PRESETS if name != "default"]
TINY = {"shape_vx": (160, 160, 64), "n_dendrites": 6, "n_fillers": 30, "seed": 5, "cutout_section_fraction": 0.0}


@pytest.fixture(scope="module")
def volumes():
    return {name: simulate(SimulationConfig.small(**TINY, style={"preset": name})) for name in PRESETS}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_sets_what_is_not_given(name):
    style = ImagingStyle.model_validate({"preset": name, "contrast": 2.0})
    assert style.contrast == 2.0
    assert {key: getattr(style, key) for key in PRESETS[name] if key != "contrast"} == {
        key: value for key, value in PRESETS[name].items() if key != "contrast"
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_style_survives_being_written_and_read(name):
    style = ImagingStyle.model_validate({"preset": name, "blur_nm": 3.0})
    assert ImagingStyle.model_validate_json(style.model_dump_json()) == style


@pytest.mark.parametrize("given", [{"preset": "D"}, {"contrast": 0.0}, {"sharpness": 2.0}])
def test_bad_styles_are_refused(given):
    with pytest.raises(ValidationError, match=next(iter(given))):
        SimulationConfig.model_validate({"style": given})


@pytest.mark.parametrize("name", NAMES)
def test_the_tissue_is_the_same_in_every_style(volumes, name):
    np.testing.assert_array_equal(volumes[name].segmentation_xyz, volumes["default"].segmentation_xyz)
    np.testing.assert_array_equal(volumes[name].cleft_xyz, volumes["default"].cleft_xyz)
    assert volumes[name].truth_table.equals(volumes["default"].truth_table)


def test_presets_look_as_they_say(volumes):
    sections = {name: volume.em_xyz.astype(float) for name, volume in volumes.items()}
    spread = {name: em.std() for name, em in sections.items()}
    unevenness = {name: em.mean(axis=(0, 1)).std() for name, em in sections.items()}
    assert spread["A"] < 0.85 * spread["default"] < spread["default"] < 0.85 * spread["B"]
    assert unevenness["A"] < 0.6 * unevenness["default"] < 0.6 * unevenness["B"]
    assert sections["C"].mean() < sections["default"].mean() - 15
    assert all(((em == 1) | (em == 255)).mean() < 0.02 for em in sections.values())


def test_stains_darken_their_own_structures_only(volumes):
    plain = volumes["default"]
    stained = simulate(SimulationConfig.small(**TINY, style={"membrane_stain": 1.6}))
    segments = plain.segmentation_xyz
    border = np.zeros(segments.shape, bool)
    border[1:] |= segments[1:] != segments[:-1]
    border[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    darker = plain.em_xyz.astype(float) - stained.em_xyz
    assert darker[border].mean() > 15
    assert np.median(darker[~border]) < 2


@pytest.mark.parametrize(("size_nm", "shape_vx"), [((12, 12, 40), (298, 298, 72)), ((16, 16, 30), (224, 224, 96))])
def test_the_same_amount_of_tissue_is_simulated_at_other_voxel_sizes(small_volume, size_nm, shape_vx):
    config = SimulationConfig.small(seed=3, defect_fraction=0.0, voxel_size_nm=size_nm, shape_vx=shape_vx)
    volume = simulate(config)
    assert volume.em_xyz.shape == shape_vx
    assert volume.voxel_size_nm == size_nm
    assert len(volume.synapse_table) == pytest.approx(len(small_volume.synapse_table), rel=0.4)
    clefts_nm3 = [v.truth_table["cleft_size_vx"].median() * np.prod(v.voxel_size_nm) for v in (volume, small_volume)]
    assert clefts_nm3[0] == pytest.approx(clefts_nm3[1], rel=0.35)
    assert volume.em_xyz.mean() == pytest.approx(small_volume.em_xyz.mean(), abs=8)
