"""Gaussian processes at the size of the published annotation: ``python benchmarks/imputation.py``."""

import argparse
from pathlib import Path

import numpy as np
import torch
from baselines.published_svgp import N_STEPS, Problem, Training, class_weights, standardised

from synapseclr.analysis.folds import TraitSplit, split_trait
from synapseclr.analysis.probes import fold_score
from synapseclr.analysis.traits import TRAITS
from synapseclr.simulation.embeddings import SimulatedEmbeddings, simulate_embeddings

N_ANNOTATED, N_ALL, N_FOLDS = 5_623, 95_000, 10
CONTINUOUS = [trait for trait in TRAITS if trait.kind == "continuous"]
CLASSES = [trait for trait in TRAITS if trait.kind == "class"]


def first_fold(simulated: SimulatedEmbeddings) -> dict[str, TraitSplit]:
    """Splits by neurite into ten folds, as published nine tenths to train; the first is used."""
    return {trait.name: split_trait(simulated.annotations, trait, N_FOLDS, 30, seed=0) for trait in TRAITS}


def training_problem(inputs_nf: torch.Tensor, split: TraitSplit) -> Problem:
    """Training synapses of the first fold."""
    train = split.folds[0][0]
    target_a = split.target_a[train]
    is_class = split.trait.kind == "class"
    weight_a = class_weights(target_a) if is_class else np.ones(len(train))
    if not is_class:
        target_a = (target_a - target_a.mean()) / target_a.std()
    target, weight = (torch.as_tensor(values, dtype=torch.float32) for values in (target_a, weight_a))
    return Problem(inputs_nf[split.rows_a[train]], target, weight, is_class)


def train_baseline(folder: Path, n_inducing: int, save_every: int = 250) -> None:
    """Train the published model on every trait, or go on with it, all traits abreast."""
    simulated = simulate_embeddings(N_ANNOTATED)
    inputs_nf = torch.as_tensor(standardised(simulated.features_nf))
    folder.mkdir(parents=True, exist_ok=True)
    splits = first_fold(simulated)
    trainings = {}
    for name, split in splits.items():
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--inducing", type=int)
    a = parser.parse_args()
    train_baseline(a.folder, a.inducing)
