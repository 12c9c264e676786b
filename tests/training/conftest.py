import numpy as np
import pytest

from synapseclr.training import PretrainingConfig
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store

N_SYNAPSES = 20


@pytest.fixture(scope="session")
def chunks(tmp_path_factory) -> ChunkStore:
    """Twenty tiny chunks: noise, with a presynaptic slab, a cleft and a postsynaptic slab."""
    rng = np.random.default_rng(0)
    intensity = rng.integers(60, 200, (N_SYNAPSES, 20, 20, 8))
    codes = np.zeros_like(intensity)
    codes[:, 4:16, 4:10] = 1
    codes[:, 4:16, 10:16] = 3
    codes[:, 7:13, 9:11, 2:6] = 2
    zeros = np.zeros(N_SYNAPSES)
    records = {
        "synapse_id": np.arange(100, 100 + N_SYNAPSES),
        "cleft_id": zeros,
        "n_cutout_sections": zeros,
        "n_padded_voxels": zeros,
    }
    batch = ChunkBatch(np.stack([intensity, codes], axis=1).astype(np.uint8), records)
    path = str(tmp_path_factory.mktemp("chunks") / "chunks.zarr")
    write_chunk_store(ChunkStream([batch], (20, 20, 8), (16, 16, 40), N_SYNAPSES), path)
    return ChunkStore(path)


@pytest.fixture(scope="session")
def tiny_config() -> PretrainingConfig:
    """Everything random is on; the network is as narrow as it gets."""
    return PretrainingConfig.model_validate(
        {
            "epochs": 3,
            "batch_size": 4,
            "validation_fraction": 0.2,
            "model": {"encoder": "resnet18", "width_factor": 0.125, "projection_dims": [16, 8]},
            "augmentation": {
                "axial_to_sagittal_spacing": 2.5,
                "final_crop_size": 16,
                "final_img_size": 16,
                "cutout_size_min": 2,
                "cutout_size_max": 4,
                "active_zone_inflation_radii": [1, 2],
            },
            "accelerator": "cpu",
        }
    )
