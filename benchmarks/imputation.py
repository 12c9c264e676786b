"""Gaussian processes at the size of the published annotation: ``python benchmarks/imputation.py``.

5,623 simulated synapses with 512 features and the nine traits with their published kinds
(``synapseclr.simulation.embeddings``), 95,000 to impute. Compared on the same features and the same folds (each tests
a tenth of the neurites) are the default Gaussian process and the published one in gpytorch,
``baselines/published_svgp.py``: RBF, inducing points from k-means, Adam at 1e-3 on the whole batch, 20,001 steps.

The baseline takes about an hour of one core for all traits of a fold; train it first, in the background, with
``python benchmarks/imputation.py --train-baseline --folder FOLDER --inducing 25``. It can be stopped, and goes on from
its last state; ``--fold`` and ``--traits`` choose another fold and a part of the traits. Without it only times are
measured. Its time is that of single steps times 20,001, with gpytorch's own
RBF kernel at 25, 100 and 400 inducing points, and with a leaner one of the same values, which is what trained it.
All times are seconds of the processor with one thread, on both sides: other programs disturb these least.
Writes ``benchmarks/results/imputation.json``: ``ours`` and ``baseline`` are scores, one row a trait and fold and one
for the mean of a trait's folds if there are several, then seconds. Score rows carry the 90 % interval of the difference
(bootstrap over neurites of the test folds).
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import gpytorch
import numpy as np
import torch
from baselines import published_svgp
from baselines.fold_scores import N_ANNOTATED, N_FOLDS, compare_scores, fit, one_fold, train_baseline
from baselines.published_svgp import N_STEPS, standardised
from baselines.svgp_problems import StockRBFKernel, check_lean_kernel, step_seconds
from threadpoolctl import threadpool_limits

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
from synapseclr.analysis.traits import TRAITS
from synapseclr.analysis.traits.folds import split_trait
from synapseclr.simulation.embeddings import simulate_embeddings

RESULT = Path(__file__).parent / "results/imputation.json"
N_ALL = 95_000
TIMED_TRAITS = ("cleft_size_log1p_zscore", "pre_cell_type")


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
    parser.add_argument("--fold", type=int, default=0, help="0 to 9: the one to train")
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
        parts["scores"] = compare_scores(arguments.folder)
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
