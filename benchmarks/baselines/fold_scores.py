"""The default Gaussian process against the trained published one, on the same features and folds."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baselines.published_svgp import N_STEPS, Training, standardised
from baselines.svgp_problems import training_problem

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
from synapseclr.analysis.gaussian_processes.models import class_probability, fit_classes, fit_regression
from synapseclr.analysis.traits import TRAITS
from synapseclr.analysis.traits.folds import TraitSplit, split_trait
from synapseclr.analysis.traits.probes import fold_score
from synapseclr.simulation.embeddings import SimulatedEmbeddings, simulate_embeddings

N_ANNOTATED, N_FOLDS, N_DRAWS = 5_623, 10, 1000


def one_fold(simulated: SimulatedEmbeddings, fold: int = 0) -> dict[str, TraitSplit]:
    """Splits by neurite into ten folds, as published nine tenths to train; one of the folds is used."""
    splits = [split_trait(simulated.annotations, trait, N_FOLDS, 30, seed=0) for trait in TRAITS]
    return {split.trait.name: replace(split, folds=[split.folds[fold]]) for split in splits}


def fold_folder(folder: Path, fold: int) -> Path:
    """Where the baseline's states of a fold lie, which is counted from 0 and named from 1."""
    return folder / f"fold_{fold + 1}"


def train_baseline(folder: Path, n_inducing: int, fold: int, traits: list[str], save_every: int = 250) -> None:
    """Train the published model on the traits of a fold, or go on with it, all traits abreast."""
    simulated = simulate_embeddings(N_ANNOTATED)
    inputs_nf = torch.as_tensor(standardised(simulated.features_nf))
    states = fold_folder(folder, fold)
    states.mkdir(parents=True, exist_ok=True)
    splits = one_fold(simulated, fold)
    trainings = {}
    for name in traits:
        split = splits[name]
        trainings[name] = Training(training_problem(inputs_nf, split), n_inducing)
        trainings[name].resume(states / f"{name}.pt")
    while min(training.step for training in trainings.values()) < N_STEPS:
        name = min(trainings, key=lambda name: trainings[name].step)
        training, split = trainings[name], splits[name]
        training.run(min(save_every, N_STEPS - training.step))
        training.save(states / f"{name}.pt")
        predicted_b = training.predict(inputs_nf[split.rows_a[split.folds[0][1]]])
        np.save(states / f"{name}.npy", predicted_b)
        score = fold_score(split.trait.metric, split.target_a[split.folds[0][1]], predicted_b)
        print(f"{name}: step {training.step} of {N_STEPS}, {training.seconds:.0f} s, {score:.4f}", flush=True)


def fit(inputs_nr: np.ndarray, split: TraitSplit, train: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """The default process: prediction at ``rows`` with its variance computed, and the processor's seconds."""
    start = time.process_time()
    fitted = fit_classes if split.trait.is_class else fit_regression
    posterior = fitted(
        inputs_nr[split.rows_a[train]], split.target_a[train], inputs_nr[rows], GaussianProcessConfig(), 0
    )
    predicted_b = class_probability(posterior)[0] if split.trait.is_class else posterior.mean_on[0]
    return predicted_b, time.process_time() - start


def compare_scores(folder: Path) -> list[dict[str, Any]]:
    """Scores on every fold and trait that the baseline was trained on; with several folds also of a trait's mean."""
    simulated = simulate_embeddings(N_ANNOTATED)
    inputs_nr = kernel_inputs(simulated.features_nf, GaussianProcessConfig().n_inputs)
    rows = []
    drawn: dict[str, list[np.ndarray]] = {}
    for fold in [fold for fold in range(N_FOLDS) if fold_folder(folder, fold).is_dir()]:
        for name, split in one_fold(simulated, fold).items():
            state_path = fold_folder(folder, fold) / f"{name}.pt"
            if not state_path.exists():
                continue
            train, test = split.folds[0]
            ours_b, _ = fit(inputs_nr, split, train, split.rows_a[test])
            state = torch.load(state_path, weights_only=True)
            baseline_b = np.load(state_path.with_suffix(".npy"))
            ours, baseline = (
                fold_score(split.trait.metric, split.target_a[test], values) for values in (ours_b, baseline_b)
            )
            drawn.setdefault(name, []).append(drawn_differences(split, ours_b, baseline_b))
            rows.append(
                {
                    **_row(name, split, f"fold {fold + 1}", ours, baseline, drawn[name][-1]),
                    "baseline_steps": state["step"],
                    "baseline_inducing_points": len(state["model"]["variational_strategy.inducing_points"]),
                    "n_train": len(train),
                    "n_test": len(test),
                }
            )
    return rows + _means(rows, drawn, one_fold(simulated))


def _means(
    rows: list[dict[str, Any]], drawn: dict[str, list[np.ndarray]], splits: dict[str, TraitSplit]
) -> list[dict[str, Any]]:
    means = []
    for name, differences in drawn.items():
        scores = [(row["ours"], row["baseline"]) for row in rows if row["trait"] == name]
        if len(scores) > 1:
            ours, baseline = np.mean(scores, axis=0).tolist()
            mean_draws = np.mean(differences, axis=0)
            means.append(_row(name, splits[name], f"mean of {len(scores)} folds", ours, baseline, mean_draws))
    return means


def _row(name: str, split: TraitSplit, where: str, ours: float, baseline: float, drawn: np.ndarray) -> dict[str, Any]:
    lower, upper = np.nanquantile(drawn, [0.05, 0.95]).tolist()
    case = f"{name}: {split.trait.metric}, {where}"
    print(f"{case}: {ours:.4f}, {baseline:.4f} [{lower:+.4f}, {upper:+.4f}]", flush=True)
    return {
        "case": case,
        "trait": name,
        "ours": ours,
        "baseline": baseline,
        "unit": "score",
        "ratio": ours / baseline,
        "difference_lower_90": lower,
        "difference_upper_90": upper,
    }


def drawn_differences(split: TraitSplit, ours_b: np.ndarray, baseline_b: np.ndarray) -> np.ndarray:
    """Our score less the baseline's for bootstrap samples of the neurites of the test fold; NaN where all are equal."""
    test = split.folds[0][1]
    target_b = split.target_a[test]
    _, codes_b = np.unique(split.groups_a[test], return_inverse=True)
    members = [np.flatnonzero(codes_b == code) for code in range(codes_b.max() + 1)]
    rng = np.random.default_rng(0)
    found = np.full(N_DRAWS, np.nan)
    for draw in range(N_DRAWS):
        rows = np.concatenate([members[code] for code in rng.integers(0, len(members), len(members))])
        if np.ptp(target_b[rows]) > 0:
            scores = [fold_score(split.trait.metric, target_b[rows], values[rows]) for values in (ours_b, baseline_b)]
            found[draw] = scores[0] - scores[1]
    return found
