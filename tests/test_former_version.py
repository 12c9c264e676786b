"""Files of the former version (tests/former_version/README.md says how they were made) are read by this one."""

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from synapseclr.datasets import ChunkStoreDataset, EncoderWeightsDataset
from synapseclr.volumes.store.verification import verify_chunk_store

_FOLDER = Path(__file__).parent / "former_version"
_STORE_SHA256 = "5b1091426d701f0b59d13d4725b46fe6ab0a72e6e6813cf98fd7e83216f90c8d"
_WEIGHTS_SHA256 = "530a150dcd222c4d0a3f8341ff28a561b66d04e94dbd7f0f68fc5c7444b79593"


def _expected_chunks() -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.stack([rng.integers(1, 255, (3, 12, 12, 6)), rng.integers(0, 4, (3, 12, 12, 6))], axis=1).astype(np.uint8)


def test_store_has_the_same_chunks_ids_and_digest() -> None:
    store = ChunkStoreDataset(filepath=str(_FOLDER / "synapse_chunks.zarr")).load()
    assert store.sha256 == _STORE_SHA256
    assert store.synapse_id.tolist() == [2**62 + 1, 7, 9]
    assert store.records["cleft_id"].tolist() == [2**63 + 5, 1, 2]
    assert store.records["n_cutout_sections"].tolist() == [0, 1, 0]
    assert store.records["n_padded_voxels"].tolist() == [0, 0, 144]
    assert store.rejected == {12: "no labelled cleft lies within 500 nm of its centre"}
    assert (store.voxel_size_nm, store.chunk_size_vx) == ((8.0, 8.0, 40.0), (12, 12, 6))
    np.testing.assert_array_equal(store.read([2, 0, 1]), _expected_chunks()[[2, 0, 1]])


def test_store_is_verified_and_repaired(tmp_path: Path) -> None:
    store = tmp_path / "synapse_chunks.zarr"
    shutil.copytree(_FOLDER / "synapse_chunks.zarr", store)
    assert verify_chunk_store(str(store)).is_intact
    shutil.rmtree(store / "cleft_id")
    assert verify_chunk_store(str(store), repair=True).damaged_arrays == ["cleft_id"]
    assert verify_chunk_store(str(store)).is_intact
    assert ChunkStoreDataset(filepath=str(store)).load().sha256 == _STORE_SHA256


def test_weights_give_the_same_features() -> None:
    weights = EncoderWeightsDataset(filepath=str(_FOLDER / "encoder_weights.safetensors")).load()
    assert weights.sha256 == _WEIGHTS_SHA256
    assert weights.provenance["seed"] == "3"
    assert weights.model.width_factor == 1 / 64
    image = torch.linspace(-1, 1, 16**3).reshape(1, 1, 16, 16, 16)
    with torch.no_grad():
        layers = weights.build()(image)
    assert layers["projector.mlp.3"].tolist() == [pytest.approx([-0.0010, 0.0042], abs=1e-4)]
    assert layers["encoder.fc"][0].tolist() == pytest.approx(
        [0.0587, 0.0083, 0.0, 0.0028, 0.0, 0.0426, 0.0017, 0.0821], abs=1e-4
    )


def test_an_mlflow_model_embeds_chunks_as_before() -> None:
    model = mlflow.pyfunc.load_model(str(_FOLDER / "encoder_model"))
    store = ChunkStoreDataset(filepath=str(_FOLDER / "synapse_chunks.zarr")).load()
    assert model.metadata.metadata["chunks_sha256"] == store.sha256
    expected_nf = np.load(_FOLDER / "encoder_model_features.npy")
    features_nf = model.predict(store.read(slice(None)))
    assert features_nf.shape == (3, 120)
    assert np.ptp(expected_nf, axis=0).max() > 0.5
    np.testing.assert_allclose(features_nf, expected_nf, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.predict(model.input_example), expected_nf[:1], rtol=1e-4, atol=1e-4)
