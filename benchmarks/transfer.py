"""An encoder trained on two imaging styles, used on a third: ``python benchmarks/transfer.py SCRATCH``.

Three volumes are simulated from seeds of their own in the styles A, B and C (docs/simulation.md). An encoder is trained
on A and B together, by the demo's parameters. Probes are fitted on A and B and applied to C as they are; the loss is
against probes of the same features fitted in C itself, on folds split by neurite. The same is done with the encoder
untrained, with statistics of the masks and of the image. Ways to align volumes, none of which uses a label:

- *standardised*: the features of each volume have mean 0 and variance 1 of their own;
- *matched grey levels*: each volume's intensities are mapped to the histogram of A before anything else;
- *batch norm of C*: the running statistics of the encoder are taken anew from views of the volume that it embeds.

The batch effect is how well a linear probe tells C from A and B by features (ROC AUC, folds split by neurite; 0.5: not
at all). Writes ``benchmarks/results/transfer.json``: means over training seeds.
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
from representation import LAYER, ROOT, TRAITS, demo_parameters, load

RESULT = Path(__file__).parent / "results/transfer.json"
STYLES = {"A": 421, "B": 422, "C": 423}
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
ID_STEP = 10**6  # synapses of different volumes have different ids in the joined store


def make_volume(folder: Path, seed: int, style: str) -> None:
    """Simulate and cut a volume in a style, unless it is there."""
    if (folder / "03_primary/annotations.parquet").exists():
        return
    parameters = f"data_root={folder},simulation.seed={seed},simulation.style.preset={style}"
    command = [sys.executable, "-m", "kedro", "run", "--pipelines=simulation,preprocessing", f"--params={parameters}"]
    variables = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder.parent}/mlflow.db"}
    subprocess.run(command, cwd=ROOT, env=variables, check=True, stdout=subprocess.DEVNULL)


def write_store(path: Path, chunk_ncxyz: np.ndarray, like: Any) -> Any:
    """Write chunks as a store like another one."""
    from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store

    if not path.exists():
        zeros = np.zeros(len(chunk_ncxyz), dtype=np.int64)
        records = {"cleft_id": zeros, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
        batch = ChunkBatch(chunk_ncxyz, {"synapse_id": np.arange(len(chunk_ncxyz)), **records})
        stream = ChunkStream([batch], like.chunk_size_vx, like.voxel_size_nm, len(chunk_ncxyz))
        write_chunk_store(stream, str(path))
    return ChunkStore(str(path))


def matched(chunk_ncxyz: np.ndarray, reference_ncxyz: np.ndarray) -> np.ndarray:
    """Chunks whose grey levels above 0 have the histogram of the reference's; masks stay."""
    levels = [
        np.bincount(chunks[:, 0].ravel(), minlength=256)[1:].cumsum() for chunks in (chunk_ncxyz, reference_ncxyz)
    ]
    quantiles = [counts / counts[-1] for counts in levels]
    table = np.concatenate([[0], 1 + np.searchsorted(quantiles[1], quantiles[0]).clip(0, 254)]).astype(np.uint8)
    return np.stack([table[chunk_ncxyz[:, 0]], chunk_ncxyz[:, 1]], axis=1)


def standardised(features_nf: np.ndarray) -> np.ndarray:
    """Features of mean 0 and variance 1 within their volume."""
    std_f = features_nf.std(axis=0)
    return (features_nf - features_nf.mean(axis=0)) / np.where(std_f > 1e-7, std_f, 1.0)


def probe(train: tuple[Any, np.ndarray, np.ndarray], test_bf: np.ndarray, is_class: bool) -> np.ndarray:
    """Predictions of a linear probe fitted on (features, target, groups)."""
    from synapseclr.analysis.traits.probes import fold_coordinates, linear_probe

    features_af, target_a, groups_a = train
    train_ar, test_br = fold_coordinates(features_af, test_bf)
    return linear_probe(train_ar, target_a, test_br, is_class, groups_a, PENALTIES)


def applied(features: dict[str, np.ndarray], tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Scores on C of probes fitted on A and B, by trait."""
    from synapseclr.analysis.traits import TRAITS as ALL
    from synapseclr.analysis.traits import fold_score, trait_values

    scores = {}
    for trait in (trait for trait in ALL if trait.name in TRAITS):
        values = {style: trait_values(table, trait) for style, table in tables.items()}
        known = {style: np.isfinite(value) for style, value in values.items()}
        groups = np.concatenate([tables[s][trait.group].to_numpy()[known[s]] + ID_STEP * i for i, s in enumerate("AB")])
        train = (
            np.concatenate([features[s][known[s]] for s in "AB"]),
            np.concatenate([values[s][known[s]] for s in "AB"]),
            pd.factorize(groups)[0],
        )
        predicted = probe(train, features["C"][known["C"]], trait.is_class)
        scores[trait.name] = fold_score(trait.metric, values["C"][known["C"]], predicted)
    return scores


def within(features_nf: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
    """Scores of probes fitted in the volume itself, on folds split by neurite."""
    from representation import scores_of

    return scores_of(features_nf, table, demo_parameters())


def batch_effect(features: dict[str, np.ndarray], tables: dict[str, pd.DataFrame]) -> float:
    """ROC AUC of a linear probe that tells C from A and B."""
    from synapseclr.analysis.traits import fold_score
    from synapseclr.analysis.traits.folds import grouped_folds

    joined = np.concatenate([features[style] for style in "ABC"])
    is_c = np.concatenate([np.full(len(features[style]), float(style == "C")) for style in "ABC"])
    groups = np.concatenate([tables[s]["pre_root_id"].to_numpy() + ID_STEP * i for i, s in enumerate("ABC")])
    groups = pd.factorize(groups)[0]
    folds = grouped_folds(is_c, groups, True, 3, 0)
    assert folds is not None
    scores = [
        fold_score("roc_auc", is_c[test], probe((joined[train], is_c[train], groups[train]), joined[test], True))
        for train, test in folds
    ]
    return float(np.mean(scores))


def main() -> None:
    """Make the volumes, train, align, score, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--epochs", type=int, default=45, help="half of the demo's: there are twice as many synapses")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the training; scores are their means"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    import torch

    from synapseclr.analysis.handcrafted import store_mask_statistics, store_statistics
    from synapseclr.training import (
        EmbeddingConfig,
        PretrainingConfig,
        adapted_weights,
        embed_store,
        fit,
        untrained_weights,
    )

    given.scratch.mkdir(parents=True, exist_ok=True)
    parameters = demo_parameters()
    stores, tables = {}, {}
    for style, seed in STYLES.items():
        make_volume(given.scratch / style, seed, style)
        stores[style], tables[style] = load(given.scratch / style)
    chunks = {style: store.read(slice(0, len(store))) for style, store in stores.items()}
    grey = {
        s: write_store(given.scratch / f"{s}_matched.zarr", matched(chunks[s], chunks["A"]), stores["A"]) for s in "ABC"
    }
    both = write_store(given.scratch / "AB.zarr", np.concatenate([chunks["A"], chunks["B"]]), stores["A"])
    both_grey = write_store(
        given.scratch / "AB_matched.zarr",
        np.concatenate([grey[s].read(slice(0, len(grey[s]))) for s in "AB"]),
        stores["A"],
    )

    def rows_of(seed: int) -> list[dict[str, Any]]:
        settings = {**parameters["pretraining"], "epochs": given.epochs, "seed": seed}
        config = PretrainingConfig.model_validate(settings)
        embedding = EmbeddingConfig(**parameters["embedding"])

        def embedded(weights: Any, sources: dict[str, Any], own_norms: bool = False) -> dict[str, np.ndarray]:
            found = {}
            for style, store in sources.items():
                used = adapted_weights(weights, store, config) if own_norms else weights
                found[style] = embed_store(used.build(), store, config.augmentation, embedding)[LAYER]
            return found

        trained = fit(both, config, str(given.scratch / "checkpoints")).weights
        trained_grey = fit(both_grey, config, str(given.scratch / "checkpoints")).weights
        untrained = untrained_weights(config.model, both, config)
        as_they_are = embedded(trained, stores)
        features = {
            "trained": as_they_are,
            "trained, standardised": {style: standardised(each) for style, each in as_they_are.items()},
            "trained, batch norm of C": embedded(trained, stores, own_norms=True),
            "trained, matched grey levels": embedded(trained_grey, grey),
            "untrained": embedded(untrained, stores),
            "mask statistics": {s: store_mask_statistics(each, each.voxel_size_nm) for s, each in stores.items()},
            "image statistics": {s: store_statistics(each) for s, each in stores.items()},
        }
        for name in ("untrained", "mask statistics", "image statistics"):
            features[f"{name}, standardised"] = {style: standardised(each) for style, each in features[name].items()}
        rows = []
        for name, of_styles in features.items():
            transferred, own = applied(of_styles, tables), within(of_styles["C"], tables["C"])
            row = {"case": name, "batch_effect": round(batch_effect(of_styles, tables), 3)}
            for trait in TRAITS:
                row |= {trait: round(transferred[trait], 3), f"{trait}, fitted in C": round(own[trait], 3)}
            rows.append(row)
            print(json.dumps(row), flush=True)
        return rows

    found = pd.concat([pd.DataFrame(rows_of(seed)) for seed in given.seeds])
    rows = found.groupby("case", sort=False).mean().round(3).reset_index().to_dict("records")
    processor = platform.processor() or platform.machine()
    machine = {"processor": processor, "cores": os.cpu_count(), "torch": torch.__version__}
    data = {
        "n_synapses": {style: len(store) for style, store in stores.items()},
        "epochs": given.epochs,
        "seeds": given.seeds,
    }
    given.output.write_text(json.dumps({"machine": machine, "data": data, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
