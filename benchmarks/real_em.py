"""Retrieval on a small real EM volume without labels: ``python benchmarks/real_em.py FOLDER SCRATCH``.

FOLDER holds the FlyEM FIB-25 medulla sample as ``scripts/import_npz_volume.py`` takes it (28 synapses). Two questions:

- *same neurite*: of a synapse's nearest neighbours, at which rank does the first one come that shares its presynaptic
  or its postsynaptic neurite?
- *other view*: of one random view of each synapse, at which rank does the other view of the same synapse come?

Mean reciprocal ranks with 90 % intervals by a bootstrap of presynaptic neurites, for the trained encoder (three seeds),
the same untrained, statistics of masks and of the image, and chance. Statistics do not depend on a view, so only the
first question is theirs. Writes ``benchmarks/results/real_em.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/real_em.json"
LAYER, N_DRAWS = "encoder.fc", 4000


def make_chunks(source: Path, scratch: Path) -> None:
    """Import the volume and cut its chunks, unless they are there."""
    if (scratch / "03_primary/synapse_metadata.parquet").exists():
        return
    imported = scratch / "01_raw/imported"
    subprocess.run([sys.executable, ROOT / "scripts/import_npz_volume.py", source, imported], check=True)
    command = [sys.executable, "-m", "kedro", "run", "--env=fib25", "--pipeline=preprocessing"]
    variables = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"}
    subprocess.run([*command, f"--params=data_root={scratch}"], cwd=ROOT, env=variables, check=True)


def configured(seed: int, epochs: int) -> tuple[Any, Any]:
    """Pretraining and embedding of the environment ``fib25``, from a seed."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS
    from synapseclr.training import EmbeddingConfig, PretrainingConfig

    parameters = OmegaConfigLoader(str(ROOT / "conf"), env="fib25", **CONFIG_LOADER_ARGS)["parameters"]
    changes = {"seed": seed, "epochs": epochs, "validation_fraction": 0.0}
    pretraining = PretrainingConfig.model_validate({**parameters["pretraining"], **changes})
    return pretraining, EmbeddingConfig(**parameters["embedding"])


def two_views(weights: Any, store: Any, config: Any, seed: int) -> list[np.ndarray]:
    """Features of two random views of every synapse, (n, f) each."""
    import torch

    from synapseclr.augmentation import Augmenter

    augmenter = Augmenter(config.augmentation.replaced(batch_mode="decoupled"))
    chunks = torch.from_numpy(store.read(list(range(len(store)))))
    views = augmenter.views(chunks, 2, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        model = weights.build()
        return [model(view.intensity_bcxyz, view.mask_bcxyz)[LAYER].numpy() for view in views]


def main() -> None:
    """Train, embed, search, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    import torch

    from synapseclr.analysis.handcrafted import store_mask_statistics, store_statistics
    from synapseclr.analysis.search import reciprocal_ranks
    from synapseclr.analysis.traits import grouped_interval
    from synapseclr.training import embed_store, fit, untrained_weights
    from synapseclr.volumes import ChunkStore

    given.scratch.mkdir(parents=True, exist_ok=True)
    make_chunks(given.source.resolve(), given.scratch.resolve())
    store = ChunkStore(str(given.scratch / "02_intermediate/synapse_chunks.zarr"))
    table = pd.read_parquet(given.scratch / "03_primary/synapse_metadata.parquet").sort_values("chunk_index")
    pre_n, post_n = (table[f"{side}_root_id"].to_numpy() for side in ("pre", "post"))
    same_nn = ((pre_n[:, None] == pre_n) | (post_n[:, None] == post_n)).astype(float)
    np.fill_diagonal(same_nn, np.nan)
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, list[np.ndarray]]] = {"same neurite": {}, "other view": {}}

    def search(question: str, name: str, query: np.ndarray, gallery: np.ndarray, match: np.ndarray) -> None:
        found[question].setdefault(name, []).append(reciprocal_ranks(query, gallery, match))

    statistics = {
        "mask statistics": store_mask_statistics(store, store.voxel_size_nm),
        "image statistics": store_statistics(store),
    }
    for name, features_nf in statistics.items():
        search("same neurite", name, features_nf, features_nf, same_nn)
    for seed in range(given.seeds):
        pretraining, embedding = configured(seed, given.epochs)
        trained = fit(store, pretraining, str(given.scratch / "checkpoints")).weights
        encoders = {"trained": trained, "untrained": untrained_weights(pretraining.model, store, pretraining)}
        for name, weights in encoders.items():
            features_nf = embed_store(weights.build(), store, pretraining.augmentation, embedding)[LAYER]
            search("same neurite", name, features_nf, features_nf, same_nn)
            for draw in range(5):
                first, second = two_views(weights, store, pretraining, 100 + draw)
                search("other view", name, first, second, np.eye(len(store)))
    for _ in range(200):
        noise_nf = rng.normal(size=(len(store), 8))
        search("same neurite", "chance", noise_nf, noise_nf, same_nn)
        search("other view", "chance", noise_nf, rng.normal(size=noise_nf.shape), np.eye(len(store)))
    rows = []
    for question, by_name in found.items():
        for name, draws in by_name.items():
            rank_n = np.mean(draws, axis=0)  # NaN: a query without a match
            has_match_n = np.isfinite(rank_n)
            mean = float(rank_n[has_match_n].mean())
            low, high = grouped_interval(rank_n[has_match_n], pre_n[has_match_n], n_draws=N_DRAWS)
            row = {
                "case": f"{question}, {name}",
                "mean": mean,
                "low": low,
                "high": high,
                "unit": "mean reciprocal rank",
            }
            rows.append({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
            print(f"{question:14s} {name:18s} {mean:.3f} [{low:.3f}, {high:.3f}]")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    data = {
        "n_synapses": len(store),
        "n_with_a_match": int((np.nansum(same_nn, axis=1) > 0).sum()),
        "epochs": given.epochs,
        "seeds": given.seeds,
    }
    given.output.write_text(json.dumps({"machine": machine, "data": data, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
