from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from published_release import published  # noqa: F401

from synapseclr.volumes import PrecomputedLayer, PreprocessingConfig, VolumeLayer, write_precomputed

BIG = 648_518_346_349_500_000  # root ids above 2^53, where float64 is no longer exact


@dataclass
class TinyVolume:
    em: VolumeLayer
    segmentation: VolumeLayer
    cleft: VolumeLayer
    synapses: pd.DataFrame
    config: PreprocessingConfig
    em_xyz: np.ndarray


@pytest.fixture(scope="session")
def tiny_volume(tmp_path_factory: pytest.TempPathFactory) -> TinyVolume:
    """Two slabs (pre below, post above) with clefts between them, one per synapse."""
    folder: Path = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    em = rng.integers(1, 255, (64, 48, 20)).astype(np.uint8)
    em[:, :, 7] = 0  # a cut-out section
    segmentation = np.full(em.shape, BIG + 1, dtype=np.uint64)
    segmentation[:, 24:] = BIG + 3
    cleft = np.zeros(em.shape, dtype=np.uint32)
    cleft[8:12, 23:25, 9:12] = 901
    cleft[40:44, 23:25, 9:12] = 902
    for name, array, kind in (
        ("em", em, "image"),
        ("seg", segmentation, "segmentation"),
        ("cleft", cleft, "segmentation"),
    ):
        write_precomputed(array, f"file://{folder / name}", (16, 16, 40), kind, (32, 32, 8))
    synapses = pd.DataFrame(
        {
            "id": np.array([7, 3], dtype=np.int64),
            "pre_root_id": np.array([BIG + 1, BIG + 3], dtype=np.int64),
            "post_root_id": np.array([BIG + 3, BIG + 1], dtype=np.int64),
            "ctr_pos_x_vx": [42.0, 10.0],
            "ctr_pos_y_vx": [24.0, 24.0],
            "ctr_pos_z_vx": [10.0, 10.0],
        }
    )
    layers = (PrecomputedLayer(f"file://{folder / name}", f"{name} volume") for name in ("em", "seg", "cleft"))
    config = PreprocessingConfig(
        voxel_size_nm=(16, 16, 40), chunk_size_vx=(24, 20, 8), max_cleft_distance_nm=150, synapses_per_shard=2
    )
    return TinyVolume(*layers, synapses, config, em)
