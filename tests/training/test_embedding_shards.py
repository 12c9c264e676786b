"""Embedding piece by piece: the features of one pass, whoever made them and however often it was interrupted."""

import contextlib
import json

import numpy as np
import pytest
import zarr

from synapseclr.training import EmbeddingConfig, embed_store, embed_to_shards
from synapseclr.volumes import ChunkStore

SETTINGS = EmbeddingConfig(batch_size=3, device="cpu", n_rotations=2, chunk_cache_mb=0)


class FailingStore(ChunkStore):
    """Chunks that can be read so many times."""

    n_left = 10**6

    def read(self, indices):
        if not self.n_left:
            raise OSError("the machine goes down")
        self.n_left -= 1
        return super().read(indices)


@pytest.fixture(scope="module")
def expected(chunks, tiny_config):
    return embed_store(tiny_config.model.build(0), chunks, tiny_config.augmentation, SETTINGS)


def stored(shards):
    return {name: zarr.open_array(f"{shards.url}/{shards._key(name)}")[:] for name in shards.widths}


def test_interrupted_embeddings_are_those_of_one_pass(chunks, tiny_config, expected, tmp_path):
    """Shards of nine synapses in pieces of three; the store fails at every fourth read, and the same call continues."""
    place, store, n_runs = str(tmp_path / "e.zarr.partial"), FailingStore(chunks.url), 0
    arguments = (tiny_config.model.build(0), store, tiny_config.augmentation, SETTINGS, place, "weights", (3, 9))
    shards = None
    while shards is None:
        n_runs, store.n_left = n_runs + 1, 3
        with contextlib.suppress(OSError):
            shards, spread_n = embed_to_shards(*arguments)
    assert n_runs == 4  # of seven pieces each run embeds two, after a look at the layers' widths
    found = stored(shards)
    np.testing.assert_array_equal(found.pop("X"), expected["encoder.fc"])
    for name, layer_nf in found.items():
        np.testing.assert_array_equal(layer_nf, expected[name])
    np.testing.assert_allclose(spread_n, expected["rotation_spread"], rtol=1e-6)
    assert not [key for key in shards.records.keys("") if key.startswith("piece")]


def test_other_weights_begin_anew(chunks, tiny_config, tmp_path):
    place = str(tmp_path / "e.zarr.partial")
    for seed in (0, 1):
        model = tiny_config.model.build(seed)
        shards, _ = embed_to_shards(model, chunks, tiny_config.augmentation, SETTINGS, place, f"weights {seed}")
        features_nf = embed_store(model, chunks, tiny_config.augmentation, SETTINGS)["encoder.fc"]
        np.testing.assert_array_equal(stored(shards)["X"], features_nf)
    assert json.loads(shards.records.read("plan.json"))["n_rows"] == len(chunks)
