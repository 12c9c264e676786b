"""The analyses on the encoder's features and the former demo's: ``python benchmarks/former_encoder.py FOLDER``.

The former demo trained a ResNet-18 of the published strides, pooled over the whole map, and embedded one pose. Both
encoders are trained on the demo's volume by their own parameters (``representation.py``, variants ``demo`` and
``former demo``), and used on that volume and on those of ``calibration.py``, which neither encoder saw: run that
benchmark first with the same FOLDER, it leaves the volumes there. Measured on each volume:

- *imputation*: linear probes of the annotated traits, over folds split by neurite;
- *consensus*: held-out neurites typed from the imputed cell types;
- *outliers*: AUC of the simulated defects, without examples and with five;
- *similarity*: share of a synapse's ten nearest neighbours of other neurites that have its cell type, less the share
  of any such synapses: 0 is chance.

``ours`` and ``baseline`` are means over the volumes; the interval is 90 % of the difference by bootstrap over the
volumes without the demo's. ``random`` rows compare with the new architecture untrained, ``mask_statistics`` with 25
statistics of the masks, which cost nothing (outliers are searched by their values, all else by normal scores of their
ranks, as in the pipelines). Finished volumes are kept in FOLDER. Writes ``benchmarks/results/former_encoder.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from calibration import DEMO, SEEDS
from outliers import interval
from representation import LAYER, demo_parameters, load, pretraining_of, scores_of

RESULT = Path(__file__).parent / "results/former_encoder.json"
VARIANTS = ("demo", "former demo", "random", "mask_statistics")
CELL_TYPES = (("pre_cell_type", "pre_root_id"), ("post_cell_type", "post_root_id"))


def encoder(folder: Path, variant: str, parameters: dict[str, Any]) -> Any:
    """Weights of a variant, trained on the demo's volume unless they are there."""
    from synapseclr.models.weights import load_weights
    from synapseclr.training import fit, untrained_weights

    path = folder / f"encoder_{variant.replace(' ', '_')}.safetensors"
    if not path.exists():
        store, _ = load(folder / f"seed_{DEMO}")
        config = pretraining_of(parameters, variant, 0)
        untrained = variant == "random"
        weights = (
            untrained_weights(config.model, store, config)
            if untrained
            else fit(store, config, str(folder / "checkpoints")).weights
        )
        path.write_bytes(weights.to_bytes())
    return load_weights(path)


def agreement(features_nf: np.ndarray, table: pd.DataFrame, trait: str, group: str, k: int = 10) -> float:
    """Share of the k nearest synapses of other neurites with the same class, less that of all such synapses."""
    is_known_n = table[trait].notna().to_numpy()
    features_kf, known = features_nf[is_known_n].astype(np.float64), table[is_known_n]
    features_kf = (features_kf - features_kf.mean(axis=0)) / (features_kf.std(axis=0) + 1e-9)
    squared_k = (features_kf**2).sum(axis=1)
    squared_kk = squared_k[:, None] + squared_k - 2 * features_kf @ features_kf.T
    neurite_k, class_k = known[group].to_numpy(), known[trait].to_numpy(dtype=float)
    is_other_kk = neurite_k[:, None] != neurite_k
    squared_kk[~is_other_kk] = np.inf
    nearest_kk = np.argsort(squared_kk, axis=1)[:, :k]
    is_same_kk = class_k[:, None] == class_k
    chance_k = (is_same_kk & is_other_kk).sum(axis=1) / is_other_kk.sum(axis=1)
    return float((np.take_along_axis(is_same_kk, nearest_kk, axis=1).mean(axis=1) - chance_k).mean())


def measure(
    features_nf: np.ndarray,
    table: pd.DataFrame,
    truth: pd.DataFrame,
    parameters: dict[str, Any],
    searched_nf: np.ndarray | None = None,
) -> dict[str, float]:
    """All measures of one representation (n, f) of one volume; outliers are searched in ``searched_nf`` if given."""
    from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
    from synapseclr.analysis.consensus import (
        CELL_TYPE_TRAITS,
        evaluate_consensus,
        neurite_posteriors,
        synapse_evidence,
    )
    from synapseclr.analysis.imputation.imputing import impute_traits
    from synapseclr.analysis.outliers import OutliersConfig, evaluate_detection, known_defects

    found = {f"imputation: {trait}": s for trait, s in scores_of(features_nf, table, parameters).items()}
    imputation = ImputationConfig(**parameters["imputation"])
    imputed = impute_traits(features_nf, table, pd.DataFrame(), imputation, CELL_TYPE_TRAITS).traits
    consensus = ConsensusConfig(**parameters["consensus"])
    _, held_out, _ = neurite_posteriors(synapse_evidence(imputed, table), consensus)
    of_all = evaluate_consensus(held_out, consensus).query("stratum == 'all' and method == 'corrected'").iloc[0]
    found["consensus: accuracy of neurites"] = float(of_all["accuracy"])
    found["consensus: log loss"] = float(of_all["log_loss"])
    defect_n = known_defects(truth, table["synapse_id"].to_numpy())
    assert defect_n is not None
    config = OutliersConfig.model_validate(parameters["outliers"])
    detection = evaluate_detection(
        {"one": {LAYER: features_nf if searched_nf is None else searched_nf}}, defect_n, config
    )
    detection = detection.query("kind == 'all kinds' and metric == 'roc_auc'").set_index(["method", "n_examples"])
    found["outliers: AUC without examples"] = float(detection.loc[(config.unsupervised, 0), "mean"])
    found["outliers: AUC with 5 examples"] = float(detection.loc[("examples", 5), "mean"])
    for trait, group in CELL_TYPES:
        found[f"similarity: {trait}"] = agreement(features_nf, table, trait, group)
    return found


def make_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over the volumes, by measure and rival."""
    rows = []
    for measure_name in [name for name in table if ":" in name]:
        of_variant = table.pivot_table(measure_name, "volume", "variant")
        for rival in VARIANTS[1:]:
            for where, part in (("demo", of_variant.loc[[DEMO]]), ("other volumes", of_variant.drop(index=DEMO))):
                difference_v = (part["demo"] - part[rival]).to_numpy()
                row = {
                    "case": f"{measure_name}, {where}, against {rival}",
                    "ours": round(float(part["demo"].mean()), 4),
                    "baseline": round(float(part[rival].mean()), 4),
                    "volumes": len(part),
                }
                rows.append(row | ({"difference_interval_90": interval(difference_v)} if len(part) > 1 else {}))
    return rows


def main() -> None:
    """Measure what is missing, then write and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where calibration.py keeps its volumes")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    from synapseclr.analysis.handcrafted import store_mask_statistics
    from synapseclr.analysis.representations import normal_scores
    from synapseclr.training import EmbeddingConfig, embed_store

    parameters, path = demo_parameters(), given.folder / "former_encoder.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in [DEMO, *given.seeds]:
        store, table = load(given.folder / f"seed_{seed}")
        truth = pd.read_csv(given.folder / f"seed_{seed}/01_raw/simulated/truth.csv")
        for variant in VARIANTS:
            if any((row["volume"], row["variant"]) == (seed, variant) for row in rows):
                continue
            if variant == "mask_statistics":
                values_nk = store_mask_statistics(store, store.voxel_size_nm)
                found = measure(normal_scores(values_nk), table, truth, parameters, values_nk)
                rows.append({"volume": seed, "variant": variant} | found)
                with path.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                continue
            weights = encoder(given.folder, variant, parameters)
            augmentation = pretraining_of(parameters, variant, 0).augmentation
            # The former demo embedded one pose at one magnification.
            poses = {"n_rotations": 1, "magnifications": [1.0]} if variant == "former demo" else {}
            embedding = EmbeddingConfig(**{**parameters["embedding"], **poses})
            features_nf = embed_store(weights.build(), store, augmentation, embedding)[LAYER]
            rows.append({"volume": seed, "variant": variant} | measure(features_nf, table, truth, parameters))
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    result = make_rows(pd.DataFrame(rows))
    processor = platform.processor() or platform.machine()
    machine = {"processor": processor, "cores": os.cpu_count(), "seeds": [DEMO, *given.seeds]}
    RESULT.write_text(json.dumps({"machine": machine, "rows": result}, indent=2) + "\n")
    print(pd.DataFrame(result).to_string())


if __name__ == "__main__":
    main()
