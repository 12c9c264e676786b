"""Who embeds what; that several processes give the features of one, bit for bit, is in test_scale.py."""

import pytest

from synapseclr.errors import ConfigurationError
from synapseclr.training import EmbeddingConfig, embed_to_shards, workers


def test_one_gpu_cannot_be_shared_out(chunks, tiny_config, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    config = EmbeddingConfig(device="cuda:1", devices=2)
    with pytest.raises(ConfigurationError, match=r"device is cuda:1, which is one GPU, but embedding.devices is 2"):
        embed_to_shards(tiny_config.model.build(0), chunks, tiny_config.augmentation, config, str(tmp_path), "")


@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_shares_are_complete_and_even(monkeypatch, n):
    monkeypatch.setattr(workers, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(workers, "rank", lambda rank=rank: rank)
        shares.append(list(workers.own_share(n)))
    assert sum(shares, []) == list(range(n))  # noqa: RUF017
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
