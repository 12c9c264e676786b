import numpy as np
import pytest
import torch

from synapseclr.augmentation import Augmenter
from synapseclr.augmentation.operations.pose import spread_rotations
from synapseclr.errors import ConfigurationError
from synapseclr.training import EmbeddingConfig, embed_store
from synapseclr.training.extraction import embed_batches


def test_every_synapse_gets_the_three_layers_in_store_order(chunks, tiny_config):
    model = tiny_config.model.build(0)
    layers = embed_store(model, chunks, tiny_config.augmentation, EmbeddingConfig(batch_size=8, device="cpu"))
    assert {name: features.shape for name, features in layers.items()} == {
        "encoder.fc": (20, 64),
        "projector.mlp.0": (20, 16),
        "projector.mlp.3": (20, 8),
    }
    alone = embed_batches(model, [chunks.read([13])], tiny_config.augmentation, torch.device("cpu"))
    np.testing.assert_allclose(layers["encoder.fc"][13], alone["encoder.fc"][0], rtol=1e-4, atol=1e-5)


def test_embedding_does_not_depend_on_the_batch_size(chunks, tiny_config):
    model = tiny_config.model.build(0)
    a, b = (
        embed_store(model, chunks, tiny_config.augmentation, EmbeddingConfig(batch_size=size, device="cpu"))
        for size in (3, 20)
    )
    np.testing.assert_allclose(a["encoder.fc"], b["encoder.fc"], rtol=1e-4, atol=1e-5)


def test_a_model_in_training_stays_in_training(chunks, tiny_config):
    model = tiny_config.model.build(0).train()
    before = model.encoder.bn1.running_mean.clone()
    embed_batches(model, [chunks.read([0, 1])], tiny_config.augmentation, torch.device("cpu"))
    assert model.training
    torch.testing.assert_close(model.encoder.bn1.running_mean, before)


def test_layers_are_averaged_over_poses_and_the_spread_is_kept(chunks, tiny_config):
    model = tiny_config.model.build(0)
    one, eight = (
        embed_store(model, chunks, tiny_config.augmentation, EmbeddingConfig(device="cpu", n_rotations=n))
        for n in (1, 8)
    )
    assert "rotation_spread" not in one
    assert eight["rotation_spread"].shape == (len(chunks),)
    assert (eight["rotation_spread"] > 0).all()
    augmenter = Augmenter(tiny_config.augmentation.for_extraction())
    prepared = augmenter.prepare(torch.from_numpy(chunks.read([3])))
    with torch.inference_mode():
        poses = [
            model.eval()(augmenter.posed_view(prepared, matrix[None]).intensity_bcxyz)["encoder.fc"]
            for matrix in spread_rotations(8)
        ]
    np.testing.assert_allclose(eight["encoder.fc"][3], torch.cat(poses).mean(0).numpy(), atol=1e-5)
    np.testing.assert_allclose(one["encoder.fc"][3], poses[0][0].numpy(), atol=1e-5)


def test_magnifications_stand_side_by_side(chunks, tiny_config):
    model, augmentation = tiny_config.model.build(0), tiny_config.augmentation
    settings = {"device": "cpu", "n_rotations": 2}
    one, both = (
        embed_store(model, chunks, augmentation, EmbeddingConfig(**settings, magnifications=factors))
        for factors in ((1.0,), (1.0, 2.0))
    )
    n_features = one["encoder.fc"].shape[1]
    for name in ("encoder.fc", "projector.mlp.3"):
        width = one[name].shape[1]
        assert both[name].shape == (len(chunks), 2 * width)
        np.testing.assert_allclose(both[name][:, :width], one[name], atol=1e-5)
    assert np.abs(both["encoder.fc"][:, n_features:] - one["encoder.fc"]).max() > 0.01
    assert both["rotation_spread"].shape == (len(chunks),)


def test_published_fidelity_is_not_averaged_over_poses(chunks, tiny_config):
    augmentation = tiny_config.augmentation.replaced(fidelity="published")
    with pytest.raises(ConfigurationError, match=r"embedding.n_rotations is 2 and .* but fidelity 'published'"):
        embed_store(tiny_config.model.build(0), chunks, augmentation, EmbeddingConfig(device="cpu", n_rotations=2))


def test_synapses_are_prepared_once_for_all_embeddings_of_a_store(chunks, tiny_config, monkeypatch):
    prepared, whole = [], Augmenter.prepare
    monkeypatch.setattr(Augmenter, "prepare", lambda self, chunk: prepared.append(len(chunk)) or whole(self, chunk))
    config = EmbeddingConfig(device="cpu", batch_size=8)
    augmentation = tiny_config.augmentation.replaced(axial_to_sagittal_spacing=2.4)  # nobody has prepared it before
    for seed in range(2):
        embed_store(tiny_config.model.build(seed), chunks, augmentation, config)
    assert sum(prepared) == len(chunks)
    embed_store(tiny_config.model.build(0), chunks, augmentation, config.model_copy(update={"chunk_cache_mb": 0}))
    assert sum(prepared) == 2 * len(chunks)  # nothing is to be kept, nor taken from what is
