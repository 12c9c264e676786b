"""Weights know the scale of the views that they were trained on, and are applied to no other."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights, ModelConfig, model_card
from synapseclr.pipelines.embedding.nodes import embed_synapses
from synapseclr.training import EmbeddingConfig, fit, untrained_weights
from synapseclr.training.view_scale import ViewScale, fitted_augmentation

MODEL = ModelConfig(encoder="resnet18", in_channels=1, width_factor=0.125, projection_dims=(16, 8))
PUBLISHED = AugmentationConfig.so3()  # 192 voxels of 8 nm become 96 of 16 nm


def provenance(voxel_size_nm=(8, 8, 40), augmentation=PUBLISHED):
    return ViewScale.of_views(augmentation, voxel_size_nm).record()


def test_the_record_survives_the_file_and_stands_on_the_card():
    assert provenance() == {"voxel_size_nm": "8 x 8 x 40", "view_voxel_nm": "16 x 16 x 16"}
    weights = EncoderWeights(dict(MODEL.build(0).state_dict()), MODEL, provenance((7.5, 7.5, 50)))
    again = EncoderWeights.from_bytes(weights.to_bytes(), "a file")
    assert again.provenance == {"voxel_size_nm": "7.5 x 7.5 x 50", "view_voxel_nm": "15 x 15 x 20"}
    assert "| view_voxel_nm | 15 x 15 x 20 |" in model_card(again, {}, {}, "MIT")


def test_views_of_the_same_scale_are_left_as_they_are():
    assert fitted_augmentation(provenance(), PUBLISHED, (8, 8, 40)) is PUBLISHED
    finer = PUBLISHED.replaced(final_crop_size=204, axial_to_sagittal_spacing=50 / 7.5)
    assert fitted_augmentation(provenance(), finer, (7.5, 7.5, 50)) is finer  # within a voxel of the crop
    assert fitted_augmentation({}, PUBLISHED, (4, 4, 40)) is PUBLISHED  # weights that do not say


@pytest.mark.parametrize("voxel_size_nm", [(16, 16, 40), (7.5, 7.5, 50), (8, 8, 33)])
def test_another_scale_is_refused_with_what_to_set(voxel_size_nm):
    with pytest.raises(ConfigurationError) as error:
        fitted_augmentation(provenance(), PUBLISHED, voxel_size_nm)
    said = str(error.value)
    assert said.startswith("The weights were trained on views of 16 x 16 x 16 nm a voxel, made of chunks of 8 x 8 x 40")
    assert "embedding.resample_to_weights to true" in said
    assert "preprocessing.voxel_size_nm to [8, 8, 40]" in said
    assert said.count(". ") == 0
    # what it says to set is what it would do itself
    crop = int(said.split("final_crop_size to ")[1].split()[0])
    spacing = float(said.split("axial_to_sagittal_spacing to ")[1].split()[0])
    told = PUBLISHED.replaced(final_crop_size=crop, axial_to_sagittal_spacing=spacing)
    assert fitted_augmentation(provenance(), told, voxel_size_nm) is told
    resampled = fitted_augmentation(provenance(), PUBLISHED, voxel_size_nm, resample=True)
    assert (resampled.final_crop_size, round(resampled.axial_to_sagittal_spacing, 3)) == (crop, round(spacing, 3))


def test_weights_that_know_their_chunks_only_are_compared_by_these():
    with pytest.raises(ConfigurationError, match="8 x 8 x 40"):
        fitted_augmentation({"voxel_size_nm": "8 x 8 x 40"}, PUBLISHED, (16, 16, 40))
    assert fitted_augmentation({"voxel_size_nm": "8 x 8 x 40"}, PUBLISHED, (8, 8, 40)) is PUBLISHED


def test_resampled_views_show_the_same_ball_at_the_same_size():
    """One ball of 250 nm, stored at two voxel sizes: the weights' views of either have it equally large."""
    plain = AugmentationConfig.extract(final_crop_size=96, final_img_size=48, enable_active_zone=False)
    volumes = {}
    for voxel_size_nm in ((8, 8, 40), (12.5, 12.5, 50)):
        shape = tuple(int(1000 / v) for v in voxel_size_nm)
        axes = [(np.arange(n) - n // 2) * v for n, v in zip(shape, voxel_size_nm, strict=True)]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        is_ball = x**2 + y**2 + z**2 < 250**2
        chunk = np.stack([np.where(is_ball, 250, 10), np.ones(shape)]).astype(np.uint8)[None]
        fitted = fitted_augmentation(provenance(augmentation=plain), plain, voxel_size_nm, resample=True)
        view = Augmenter(fitted)(torch.from_numpy(chunk))
        middle = (view.intensity_bcxyz.max() + view.intensity_bcxyz.min()) / 2
        volumes[voxel_size_nm] = float((view.intensity_bcxyz > middle).sum())
    first, second = volumes.values()
    assert first == pytest.approx(4 / 3 * np.pi * (250 / 16) ** 3, rel=0.1)
    assert second == pytest.approx(first, rel=0.1)  # 62 voxels for 61.4; unfitted views have a quarter


@pytest.fixture(scope="module")
def of_half_the_size(chunks, tiny_config):
    """Untrained weights for chunks of 16 nm that say that they were trained at 8 nm."""
    weights = untrained_weights(tiny_config.model, chunks, tiny_config)
    assert weights.provenance["voxel_size_nm"] == "16 x 16 x 40"
    assert weights.provenance["view_voxel_nm"] == "16 x 16 x 16"
    return replace(
        weights, provenance=weights.provenance | {"voxel_size_nm": "8 x 8 x 40", "view_voxel_nm": "8 x 8 x 8"}
    )


def test_embedding_stops_or_resamples(chunks, tiny_config, of_half_the_size):
    ids = pd.DataFrame({"synapse_id": chunks.synapse_id, "pre_root_id": 1, "post_root_id": 2})
    traits = ids[["synapse_id"]].assign(pre_cell_type=np.nan)
    tables = chunks, ids, traits, tiny_config
    with pytest.raises(ConfigurationError, match="trained on views of 8 x 8 x 8 nm a voxel"):
        embed_synapses(of_half_the_size, *tables, EmbeddingConfig())
    found = embed_synapses(of_half_the_size, *tables, EmbeddingConfig(resample_to_weights=True))
    used = AugmentationConfig.model_validate_json(found.uns["provenance"]["augmentation"])
    assert (used.final_crop_size, used.axial_to_sagittal_spacing) == (8, 2.5)  # half as many voxels of the chunks
    own = replace(of_half_the_size, provenance={})
    plain = embed_synapses(own, *tables, EmbeddingConfig())
    assert plain.X.shape == found.X.shape
    assert np.abs(plain.X - found.X).max() > 0


def test_a_training_does_not_start_from_weights_of_another_scale(chunks, tiny_config, of_half_the_size, tmp_path):
    (tmp_path / "encoder_weights.safetensors").write_bytes(of_half_the_size.to_bytes())
    config = tiny_config.model_copy(update={"initial_weights": str(tmp_path / "encoder_weights.safetensors")})
    with pytest.raises(ConfigurationError, match=r"pretraining.initial_weights, .* were trained on views of 8 x 8 x 8"):
        fit(chunks, config, str(tmp_path / "checkpoints"))
