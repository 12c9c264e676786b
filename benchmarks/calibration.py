"""Do cell types' probabilities come true on volumes never fitted on? ``python benchmarks/calibration.py [FOLDER]``.

A demo has about 390 annotated synapses on 58 to 75 neurites a side, too few to tell a good calibration from a bad one.
So several volumes are simulated with the demo's parameters and embedded by the demo's encoder. First the demo's own
volume is the annotated one, then each of the others in turn: its synapses are imputed and calibrated as
``kedro run --pipeline=imputation`` does it, and the probabilities that its models give to the synapses of the other
volumes, which neither they nor the encoder ever saw, are held against the simulation's truth. What held-out synapses
of the annotated volume say of the calibration stands beside it.

``ours`` is what is given out (beta calibration, one vote a neurite); ``baseline`` is what the Gaussian processes state,
or what a slope and an intercept of the log-odds make of it (Platt 1999; what was done before). Correction and penalty
were chosen on the volumes of seeds 0 (the demo's own annotations) to 8 and 111 to 118; the volumes tested by default
were not looked at before. Volumes are kept in FOLDER.

Writes ``benchmarks/results/calibration.json``. Errors are means over the annotated volumes; intervals are 90 % by
bootstrap over these. "By chance" is what perfect probabilities would show at the same number of neurites.
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
from outliers import ROOT, SCRATCH, interval, run_kedro
from scipy.optimize import minimize

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.consensus import CELL_TYPE_TRAITS
from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
from synapseclr.analysis.imputation.ensemble import Prediction, fit_member, mixture, recalibrated
from synapseclr.analysis.representations import layer_features
from synapseclr.analysis.traits import Trait, TraitSplit, split_trait
from synapseclr.analysis.traits.calibration import calibration_of_classes, logit

RESULT = Path(__file__).parent / "results/calibration.json"
DEMO = 0  # the demo's seed
SEEDS = (121, 122, 123, 124, 125, 126, 127, 128)
MEASURES = ("expected_calibration_error", "debiased_calibration_error", "calibration_error_by_chance", "log_loss")


def load_volume(folder: Path, seed: int, weights: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Features, annotations and true cell types of a volume, which is simulated and embedded if it is not there."""
    import anndata

    embeddings = folder / "07_model_output/synapse_embeddings.zarr"
    if not embeddings.exists():
        (folder / "06_models").mkdir(parents=True, exist_ok=True)
        (folder / "06_models/encoder_weights.safetensors").write_bytes(weights.read_bytes())
        run_kedro("simulation,preprocessing,embedding", folder, seed)
    table = anndata.read_zarr(embeddings)
    known = table.obs.reset_index(drop=True).assign(volume=seed)
    truth = pd.read_csv(folder / "01_raw/simulated/truth.csv").set_index("synapse_id").loc[known["synapse_id"]]
    for trait in CELL_TYPE_TRAITS:
        known[f"true_{trait.name}"] = truth[trait.name].to_numpy()
        # Root ids repeat between volumes.
        known[trait.group] = pd.factorize(known[trait.group])[0] + 100_000 * seed
    return layer_features(table), known


def slope_and_intercept(prediction: Prediction, split: TraitSplit) -> np.ndarray:
    """Penalised Platt scaling by synapse, fitted on the held-out synapses; float64 (n,)."""
    logit_a, sign_a = logit(prediction.stated_mean_on[0, split.rows_a]), np.where(split.target_a == 1.0, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> float:
        slope, intercept = parameters
        surplus = np.logaddexp(0.0, -sign_a * (slope * logit_a + intercept)).sum()
        return float(surplus + (slope - 1.0) ** 2 + 0.25 * intercept**2)

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), bounds=[(0.0, 20.0), (-20.0, 20.0)]).x
    corrected_n: np.ndarray = 1.0 / (1.0 + np.exp(-(slope * logit(prediction.stated_mean_on[0]) + intercept)))
    return corrected_n


def impute(inputs_nr: np.ndarray, known: pd.DataFrame, trait: Trait, seed: int) -> tuple[Prediction, TraitSplit]:
    """Impute a trait from the annotations of one volume at the synapses of all."""
    config = ImputationConfig()
    process = config.gaussian_processes
    annotations = known.assign(**{trait.name: known[trait.name].where(known["volume"] == seed)})
    splits = [
        split_trait(annotations, trait, config.n_folds, config.min_annotated, config.seed + 1000 * repetition)
        for repetition in range(process.n_seeds)
    ]
    members = [
        fit_member(inputs_nr, split, fold, process, config.seed + repetition)
        for repetition, split in enumerate(splits)
        for fold in split.folds
    ]
    return recalibrated(mixture(members, splits[0].rows_a), splits[0], splits[0].folds), splits[0]


def measure(inputs_nr: np.ndarray, known: pd.DataFrame, trait: Trait, seed: int) -> list[dict[str, Any]]:
    """Calibration on the annotated volume's held-out synapses and on all other volumes."""
    prediction, split = impute(inputs_nr, known, trait, seed)
    others = np.flatnonzero(~known["volume"].isin([seed, DEMO]))
    found = []
    for where, rows, target_n in (
        ("held-out synapses", split.rows_a, split.target_a),
        ("other volumes", others, known[f"true_{trait.name}"].to_numpy()[others]),
    ):
        neurite_n = known[trait.group].to_numpy()[rows]
        kinds = {"given out": prediction.mean_on[0], "stated": prediction.stated_mean_on[0]}
        if where == "other volumes":
            kinds["slope and intercept"] = slope_and_intercept(prediction, split)
        for kind, probability_n in kinds.items():
            measures = calibration_of_classes(probability_n[rows], target_n, neurite_n)
            keys = {"trait": trait.name, "seed": seed, "where": where, "kind": kind, "n": len(rows)}
            found.append(keys | {name: measures[name] for name in MEASURES})
    return found


def make_rows(table: pd.DataFrame, annotated: str) -> list[dict[str, Any]]:
    """Means over the annotated volumes; ``annotated`` says which these are."""
    rows = []
    for trait in CELL_TYPE_TRAITS:
        for where in ("other volumes", "held-out synapses"):
            part = table[(table["trait"] == trait.name) & (table["where"] == where)].set_index("kind")
            for name in ("expected_calibration_error", "debiased_calibration_error", "log_loss"):
                ours_v = part.loc[["given out"], name].to_numpy()
                for kind in [kind for kind in part.index.unique() if kind != "given out"]:
                    baseline_v = part.loc[[kind], name].to_numpy()
                    row = {
                        "case": f"{trait.name}, {annotated}, {where}: {name} against {kind}",
                        "ours": float(ours_v.mean()),
                        "baseline": float(baseline_v.mean()),
                        "unit": name,
                        "ratio": float(ours_v.mean() / baseline_v.mean()),
                        "by_chance": float(part.loc[["given out"], "calibration_error_by_chance"].mean()),
                        "n_synapses": int(part.loc[["given out"], "n"].mean()),
                        "n_volumes": len(ours_v),
                    }
                    if len(ours_v) > 1:
                        row["ours_interval_90"] = interval(ours_v)
                        row["difference_interval_90"] = interval(ours_v - baseline_v)
                    rows.append(row)
    return rows


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SCRATCH / "calibration", help="for the volumes")
    parser.add_argument("--weights", type=Path, default=ROOT / "data/06_models/encoder_weights.safetensors")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    seeds = [DEMO, *arguments.seeds]
    volumes = [load_volume(arguments.folder.resolve() / f"seed_{seed}", seed, arguments.weights) for seed in seeds]
    known = pd.concat([table for _, table in volumes], ignore_index=True)
    n_inputs = ImputationConfig().gaussian_processes.n_inputs
    inputs_nr = kernel_inputs(np.concatenate([features_nf for features_nf, _ in volumes]), n_inputs)
    found = []
    for seed in seeds:
        for trait in CELL_TYPE_TRAITS:
            found += measure(inputs_nr, known, trait, seed)
            print(
                seed,
                trait.name,
                {f"{r['where']}, {r['kind']}": round(r[MEASURES[0]], 3) for r in found[-5:]},
                flush=True,
            )
    table = pd.DataFrame(found)
    rows = make_rows(table[table["seed"] == DEMO], "the demo's annotations")
    rows += make_rows(table[table["seed"] != DEMO], "each volume's in turn")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "seeds": seeds,
    }
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(f"{row['case']}: {row['ours']:.4f}, {row['baseline']:.4f} (by chance {row['by_chance']:.4f})")


if __name__ == "__main__":
    main()
