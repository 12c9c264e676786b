"""Embedding in several processes; on several machines: test_scale.py."""

import numpy as np
import pytest

from synapseclr.errors import ConfigurationError
from synapseclr.training import EmbeddingConfig, embed_store
from synapseclr.training.scale import processes


def test_two_processes_give_the_features_of_one_in_store_order(chunks, tiny_config):
    """Seven batches of at most three: four for one process, three, of which one is smaller, for the other."""
    model = tiny_config.model.build(0)
    one, two = (
        embed_store(model, chunks, tiny_config.augmentation, EmbeddingConfig(batch_size=3, device="cpu", devices=n))
        for n in (1, 2)
    )
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_one_gpu_cannot_be_shared_out(chunks, tiny_config, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    config = EmbeddingConfig(device="cuda:1", devices=2)
    with pytest.raises(ConfigurationError, match=r"device is cuda:1, which is one GPU, but embedding.devices is 2"):
        embed_store(tiny_config.model.build(0), chunks, tiny_config.augmentation, config)


@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_shares_are_complete_and_even(monkeypatch, n):
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(list(processes.own_share(n)))
    assert sum(shares, []) == list(range(n))  # noqa: RUF017
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
