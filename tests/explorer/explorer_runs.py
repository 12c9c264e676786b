"""A run's outputs made by hand: clusters of synapses with known neighbours, chunks on disk, hostile names."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.explorer.label_tables import LabelTables
from synapseclr.explorer.run_outputs import RunOutputs
from synapseclr.explorer.web_server import create_app, make_explorer_server

HOSTILE = "<img src=x onerror=alert(1)>"
FIRST_ID = 2**53 + 1  # numbers of JavaScript would round it
N_SMALL = 60


@dataclass
class StoredChunks:
    """A chunk store in memory, with the part of ChunkStore's interface that the explorer uses."""

    synapse_id: np.ndarray
    voxel_size_nm: tuple[float, float, float] = (16.0, 16.0, 40.0)
    chunk_size_vx: tuple[int, int, int] = (48, 40, 12)

    def __len__(self):
        return len(self.synapse_id)

    def read(self, positions):
        rng = np.random.default_rng(int(positions[0]))
        chunk = rng.integers(90, 200, (1, 2, *self.chunk_size_vx), dtype=np.uint8)
        chunk[:, 1] = 0
        chunk[:, 1, 4:22, 6:34, 1:11] = 1
        chunk[:, 1, 26:44, 6:34, 1:11] = 3
        chunk[:, 1, 22:26, 12:28, 3:9] = 2
        return chunk


def make_synapses(n: int, n_features: int) -> AnnData:
    """Three clusters in a plane; features are the plane and noise, so that neighbours in one are so in the other."""
    rng = np.random.default_rng(0)
    cluster = np.arange(n) % 3
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [5.0, 9.0]], np.float32)
    plane = (centres[cluster] + rng.normal(size=(n, 2))).astype(np.float32)
    features = np.concatenate([plane, 0.01 * rng.normal(size=(n, n_features - 2))], axis=1).astype(np.float32)
    obs = pd.DataFrame(
        {
            "synapse_id": FIRST_ID + np.arange(n, dtype=np.int64),
            "pre_root_id": np.uint64(2**63) + (np.arange(n) // 2).astype(np.uint64),
            # The last one's is the id of the first synapse.
            "post_root_id": np.append(np.arange(n - 1, dtype=np.int64) // 3, FIRST_ID),
            **{f"centre_{axis}_nm": rng.uniform(0, 9000, n).round(1) for axis in "xyz"},
            "pre_cell_type": np.where(np.arange(n) % 4 == 0, np.nan, cluster == 1),
            "cleft_size_log1p_zscore": np.where(np.arange(n) % 5 == 0, np.nan, plane[:, 0]),
            "leiden_cluster": pd.Categorical.from_codes(cluster, [HOSTILE, "../../etc", "third"]),
        },
        index=[str(FIRST_ID + row) for row in range(n)],
    )
    pca = np.concatenate([plane, rng.normal(size=(n, 6)).astype(np.float32)], axis=1)
    return AnnData(X=features, obs=obs, obsm={"X_umap": plane, "X_pca": pca}, uns={"provenance": {"weights": "abc"}})


def make_outputs(folder: Path, n: int = N_SMALL, n_features: int = 16) -> RunOutputs:
    synapses = make_synapses(n, n_features)
    ids = synapses.obs["synapse_id"].to_numpy()
    plane_x = synapses.obsm["X_umap"][:, 0].astype(float)
    imputed = pd.DataFrame(
        {
            "synapse_id": ids,
            "cleft_size_log1p_zscore_mean": plane_x,
            "cleft_size_log1p_zscore_sd": 0.5,
            "cleft_size_vx_mean": 250.0,
            "cleft_size_vx_lower_90": 100.0,
            "cleft_size_vx_upper_90": 480.0,
            "pre_cell_type_probability": 0.25,
            "pre_cell_type_probability_sd": 0.05,
        }
    )
    scores = pd.DataFrame(
        {
            "rank": np.arange(n, 0, -1),
            "synapse_id": ids[::-1],
            "score": np.linspace(0, 1, n),
            "unsupervised": np.linspace(0, 9, n),
            "likeness": np.nan,
            "is_example": False,
            "is_accepted": False,
        }
    )
    occlusion = pd.DataFrame(
        {"synapse_id": ids[:1], "label": "presynaptic cell type", "score": -1.25}
        | {f"{region}_change": 0.5 for region in ("presynaptic", "cleft", "postsynaptic")}
    )
    return RunOutputs(
        synapses=synapses,
        chunks=StoredChunks(ids[:-1]),  # the last synapse has no chunk
        tables={"imputed_traits": imputed, "outlier_scores": scores, "occlusion_effects": occlusion},
        neuroglancer=NeuroglancerConfig(em="gs://bucket/em", segmentation="gs://bucket/seg"),
        labels=LabelTables(str(folder / "synapse_labels")),
        notes=("A note.",),
        title="a run",
    )


@dataclass
class Served:
    outputs: RunOutputs
    address: str
    labels: Path


def serve(outputs: RunOutputs, labels: Path, **options):
    server = make_explorer_server(create_app(outputs, **options), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return server, Served(outputs, f"http://127.0.0.1:{server.port}/", labels)
