"""Gaussian processes at the size of the published annotation: ``python benchmarks/imputation.py``.

5,623 simulated synapses with 512 features and the nine traits with their published kinds
(``synapseclr.simulation.embeddings``), 95,000 to impute. Compared on the same features and the same fold (a tenth of
the neurites is tested) are the default Gaussian process and the published one in gpytorch,
``baselines/published_svgp.py``: RBF, inducing points from k-means, Adam at 1e-3 on the whole batch, 20,001 steps.

The baseline takes about an hour of one core for all traits; train it first, in the background, with
``python benchmarks/imputation.py --train-baseline --folder FOLDER --inducing 25``. It can be stopped, and goes on from
its last state; ``--fold`` and ``--traits`` choose another fold and a part of the traits. Without it only times are
measured. Its time is that of single steps times 20,001, with gpytorch's own
RBF kernel at 25, 100 and 400 inducing points, and with a leaner one of the same values, which is what trained it.
All times are seconds of the processor with one thread, on both sides: other programs disturb these least.
Writes ``benchmarks/results/imputation.json``: ``ours`` and ``baseline`` are scores, then seconds. Score rows carry the
90 % interval of the difference (bootstrap over neurites of the test fold).
"""

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpytorch
import numpy as np
import torch
from baselines import published_svgp
from baselines.published_svgp import N_STEPS, Training, standardised
from baselines.svgp_problems import StockRBFKernel, check_lean_kernel, step_seconds, training_problem
from threadpoolctl import threadpool_limits

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.features import kernel_inputs
from synapseclr.analysis.gaussian_processes.models import fit_classes, fit_regression
from synapseclr.analysis.gaussian_processes.posterior import class_probability
from synapseclr.analysis.traits import TRAITS
from synapseclr.analysis.traits.folds import TraitSplit, split_trait
from synapseclr.analysis.traits.probes import fold_score
from synapseclr.simulation.embeddings import SimulatedEmbeddings, simulate_embeddings

RESULT = Path(__file__).parent / "results/imputation.json"
N_ANNOTATED, N_ALL, N_FOLDS, N_DRAWS = 5_623, 95_000, 10, 1000
TIMED_TRAITS = ("cleft_size_log1p_zscore", "pre_cell_type")


def one_fold(simulated: SimulatedEmbeddings, fold: int = 0) -> dict[str, TraitSplit]:
    """Splits by neurite into ten folds, as published nine tenths to train; one of the folds is used."""
    splits = [split_trait(simulated.annotations, trait, N_FOLDS, 30, seed=0) for trait in TRAITS]
    return {split.trait.name: replace(split, folds=[split.folds[fold]]) for split in splits}


def train_baseline(folder: Path, n_inducing: int, fold: int, traits: list[str], save_every: int = 250) -> None:
    """Train the published model on the traits, or go on with it, all traits abreast."""
    simulated = simulate_embeddings(N_ANNOTATED)
    inputs_nf = torch.as_tensor(standardised(simulated.features_nf))
    folder.mkdir(parents=True, exist_ok=True)
    splits = one_fold(simulated, fold)
    trainings = {}
    for name in traits:
        split = splits[name]
        trainings[name] = Training(training_problem(inputs_nf, split), n_inducing)
        trainings[name].resume(folder / f"{name}.pt")
    while min(training.step for training in trainings.values()) < N_STEPS:
        name = min(trainings, key=lambda name: trainings[name].step)
        training, split = trainings[name], splits[name]
        training.run(min(save_every, N_STEPS - training.step))
        training.save(folder / f"{name}.pt")
        predicted_b = training.predict(inputs_nf[split.rows_a[split.folds[0][1]]])
        np.save(folder / f"{name}.npy", predicted_b)
        score = fold_score(split.trait.metric, split.target_a[split.folds[0][1]], predicted_b)
        print(f"{name}: step {training.step} of {N_STEPS}, {training.seconds:.0f} s, {score:.4f}", flush=True)


def fit(inputs_nr: np.ndarray, split: TraitSplit, train: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """The default process: prediction at ``rows`` with its variance computed, and the processor's seconds."""
    start = time.process_time()
    fitted = fit_classes if split.trait.kind == "class" else fit_regression
    posterior = fitted(
        inputs_nr[split.rows_a[train]], split.target_a[train], inputs_nr[rows], GaussianProcessConfig(), 0
    )
    predicted_b = class_probability(posterior)[0] if split.trait.kind == "class" else posterior.mean_on[0]
    return predicted_b, time.process_time() - start


def difference_interval(split: TraitSplit, ours_b: np.ndarray, baseline_b: np.ndarray) -> tuple[float, float]:
    """90 % interval of our score less the baseline's, by drawing the neurites of the test fold."""
    test = split.folds[0][1]
    target_b = split.target_a[test]
    _, codes_b = np.unique(split.groups_a[test], return_inverse=True)
    members = [np.flatnonzero(codes_b == code) for code in range(codes_b.max() + 1)]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(N_DRAWS):
        rows = np.concatenate([members[code] for code in rng.integers(0, len(members), len(members))])
        if np.ptp(target_b[rows]) > 0:
            scores = [fold_score(split.trait.metric, target_b[rows], values[rows]) for values in (ours_b, baseline_b)]
            found.append(scores[0] - scores[1])
    return float(np.quantile(found, 0.05)), float(np.quantile(found, 0.95))


def compare_scores(folder: Path, fold: int, traits: list[str]) -> list[dict[str, Any]]:
    """Scores of the traits against those of the trained baseline."""
    simulated = simulate_embeddings(N_ANNOTATED)
    inputs_nr = kernel_inputs(simulated.features_nf, GaussianProcessConfig().n_inputs)
    rows, splits = [], one_fold(simulated, fold)
    for name in traits:
        split = splits[name]
        train, test = split.folds[0]
        ours_b, _ = fit(inputs_nr, split, train, split.rows_a[test])
        state = torch.load(folder / f"{name}.pt", weights_only=True)
        baseline_b = np.load(folder / f"{name}.npy")
        ours, baseline = (
            fold_score(split.trait.metric, split.target_a[test], values) for values in (ours_b, baseline_b)
        )
        lower, upper = difference_interval(split, ours_b, baseline_b)
        rows.append(
            {
                "case": f"{name}: {split.trait.metric}" + (f", fold {fold + 1}" if fold else ""),
                "ours": ours,
                "baseline": baseline,
                "unit": "score",
                "ratio": ours / baseline,
                "difference_lower_90": lower,
                "difference_upper_90": upper,
                "baseline_steps": state["step"],
                "baseline_inducing_points": len(state["model"]["variational_strategy.inducing_points"]),
                "n_train": len(train),
                "n_test": len(test),
            }
        )
        print(f"{rows[-1]['case']}: {ours:.4f}, {baseline:.4f} [{lower:+.4f}, {upper:+.4f}]", flush=True)
    return rows


def compare_times(n_steps: int) -> list[dict[str, Any]]:
    """Fitting and predicting one trait, against 20,001 steps; both in seconds of one thread."""
    check_lean_kernel()
    simulated = simulate_embeddings(N_ANNOTATED)
    inputs_nr = kernel_inputs(simulated.features_nf, GaussianProcessConfig().n_inputs)
    inputs_nf = torch.as_tensor(standardised(simulated.features_nf))
    splits = one_fold(simulated)
    rows = []
    for name in TIMED_TRAITS:
        split = splits[name]
        train, test = split.folds[0]
        ours = min(fit(inputs_nr, split, train, split.rows_a[test])[1] for _ in range(2))
        for n_inducing, kernel in ((25, published_svgp.LeanRBFKernel), *((n, StockRBFKernel) for n in (25, 100, 400))):
            step = step_seconds(inputs_nf, split, n_inducing, kernel, n_steps if n_inducing < 400 else n_steps // 3)
            kind = "lean kernel" if kernel is not StockRBFKernel else "gpytorch's kernel"
            rows.append(
                {
                    "case": f"{name}: time of one fold, SVGP of {n_inducing} inducing points, {kind}",
                    "ours": ours,
                    "baseline": N_STEPS * step,
                    "unit": "s of one thread",
                    "ratio": N_STEPS * step / ours,
                    "baseline_step_s": step,
                    "baseline_steps_measured": n_steps if n_inducing < 400 else n_steps // 3,
                }
            )
            print(f"{rows[-1]['case']}: {ours:.2f} s, {N_STEPS * step:.0f} s ({step:.4f} s a step)", flush=True)
    return rows


def impute_all() -> dict[str, Any]:
    """Every trait at 95,000 synapses with uncertainty, from all annotations: one model a trait."""
    simulated = simulate_embeddings(N_ALL)
    start = time.process_time()
    inputs_nr = kernel_inputs(simulated.features_nf, GaussianProcessConfig().n_inputs)
    seconds = {"kernel inputs": time.process_time() - start}
    annotated = simulated.annotations.copy()
    annotated.loc[N_ANNOTATED:, [trait.name for trait in TRAITS]] = np.nan
    for trait in TRAITS:
        split = split_trait(annotated, trait, N_FOLDS, 30, seed=0)
        predicted_n, seconds[trait.name] = fit(inputs_nr, split, np.arange(len(split.rows_a)), np.arange(N_ALL))
        assert predicted_n.shape == (N_ALL,)
        assert np.isfinite(predicted_n).all()
        print(f"{trait.name}: {seconds[trait.name]:.1f} s", flush=True)
    total = sum(seconds.values())
    return {
        "case": f"{N_ALL:,} synapses, nine traits with uncertainty; baseline: the limit asked for",
        "ours": total,
        "baseline": 120.0,
        "unit": "s of one thread",
        "ratio": 120.0 / total,
        "slowest_trait_s": max(seconds.values()),
    }


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="states of the baseline's training")
    parser.add_argument("--inducing", type=int, default=25)
    parser.add_argument("--train-baseline", action="store_true")
    parser.add_argument("--fold", type=int, default=0, help="0 to 9")
    parser.add_argument("--traits", nargs="+", default=[trait.name for trait in TRAITS])
    parser.add_argument("--steps", type=int, default=60, help="steps of the baseline that are timed")
    parser.add_argument("--only", choices=["scores", "times", "all_synapses"], help="the other rows stay as they are")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if arguments.train_baseline:
        train_baseline(arguments.folder, arguments.inducing, arguments.fold, arguments.traits)
        return
    document = json.loads(arguments.result.read_text()) if arguments.result.exists() else {"rows": []}
    parts: dict[str, list[dict[str, Any]]] = {}
    torch.set_num_threads(1)
    threadpool_limits(1)
    if arguments.folder and arguments.only in (None, "scores"):
        part = f"scores of fold {arguments.fold + 1}" if arguments.fold else "scores"
        parts[part] = compare_scores(arguments.folder, arguments.fold, arguments.traits)
    if arguments.only in (None, "times"):
        parts["times"] = compare_times(arguments.steps)
    if arguments.only in (None, "all_synapses"):
        parts["all_synapses"] = [impute_all()]
    kept = [row for row in document["rows"] if row["part"] not in parts]
    rows = [{**row, "part": part} for part, found in parts.items() for row in found] + kept
    document = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "gpytorch": gpytorch.__version__,
            "load_average": os.getloadavg()[0],
        },
        "rows": sorted(rows, key=lambda row: (row["part"] == "all_synapses", row["part"] == "times", row["part"])),
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
