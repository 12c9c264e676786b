import numpy as np
import torch

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
