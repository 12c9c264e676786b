"""Manifold and features at the published size, step by step: ``python benchmarks/analyses.py``.

100,000 simulated synapses with 512 features and all traits annotated (``synapseclr.simulation.embeddings``), which is
more than any step will meet: annotations are few in practice. ``ours`` is a step's time, ``baseline`` ten times its
time at a tenth of the synapses, so that a ratio below one shows what grows faster than the data. The plane has 15
neighbours and 200 epochs; the published 500 neighbours and 5,000 epochs take several hundred times the work.
Writes ``benchmarks/results/analyses.json``.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ManifoldConfig
from synapseclr.analysis.features import (
    FeaturesConfig,
    cluster_features,
    component_examples,
    component_traits,
    layer_spectra,
    trait_summaries,
)
from synapseclr.analysis.leakage_scores import measure_leakage
from synapseclr.analysis.manifold import (
    axis_position_table,
    axis_profiles,
    cluster_axes,
    cluster_profiles,
    find_clusters,
    fit_manifold,
    principal_components,
)
from synapseclr.analysis.traits import TRAITS
from synapseclr.simulation.embeddings import simulate_embeddings

RESULT = Path(__file__).parent / "results/analyses.json"
LAYER = "encoder.fc"


class Stopwatch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, run: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Run a step and keep its time."""
        start = time.perf_counter()
        found = run(*arguments, **named)
        self.seconds[step] = time.perf_counter() - start
        print(f"{step}: {self.seconds[step]:.1f} s", flush=True)
        return found


def imputed_values(obs: pd.DataFrame) -> pd.DataFrame:
    """What imputation gives at every synapse, made up: the summaries need values, not good ones."""
    rng = np.random.default_rng(0)
    table = {"synapse_id": obs["synapse_id"]}
    for trait in TRAITS:
        if trait.is_class:
            table[f"{trait.name}_probability"] = rng.random(len(obs))
        else:
            table |= {f"{trait.name}_mean": rng.normal(size=len(obs)), f"{trait.name}_sd": np.full(len(obs), 0.5)}
    return pd.DataFrame(table)


def orientations(obs: pd.DataFrame, n_measured: int) -> pd.DataFrame:
    """Random cleft normals of the synapses whose orientation is measured."""
    rng = np.random.default_rng(1)
    normal_md = rng.normal(size=(n_measured, 3))
    normal_md /= np.linalg.norm(normal_md, axis=1, keepdims=True)
    chosen = np.sort(rng.choice(len(obs), n_measured, replace=False))
    columns = dict(zip(("normal_x", "normal_y", "normal_z"), normal_md.T, strict=True))
    return pd.DataFrame({"synapse_id": obs["synapse_id"].to_numpy()[chosen], **columns, "n_cleft_voxels": 200})


def run_steps(n_synapses: int, stopwatch: Stopwatch) -> None:
    """Every step of both pipelines that computes."""
    simulated = simulate_embeddings(n_synapses)
    features_nf, obs = simulated.features_nf, simulated.annotations
    centres = np.random.default_rng(2).uniform(0, 1e5, (n_synapses, 3))
    obs = obs.assign(**dict(zip(("centre_x_nm", "centre_y_nm", "centre_z_nm"), centres.T, strict=True)))
    manifold_config = ManifoldConfig(n_neighbours=15, n_epochs=200, three_dimensions=False)
    config = FeaturesConfig()
    manifold = stopwatch("manifold: principal components and the plane", fit_manifold, features_nf, manifold_config)
    plane_n2 = manifold.umap_n2
    clusters = stopwatch("manifold: clusters", find_clusters, plane_n2, manifold_config.clusters)
    axes = stopwatch("manifold: axes", cluster_axes, plane_n2, clusters, manifold_config.axes.n_clusters)
    stopwatch("manifold: trait profiles of clusters", cluster_profiles, obs, clusters, manifold_config.axes)
    stopwatch("manifold: places on axes", axis_position_table, axes, obs["synapse_id"].to_numpy(), 8)
    stopwatch("manifold: trait profiles along axes", axis_profiles, axes, obs, manifold_config.axes)
    leakage = manifold_config.leakage
    measured = orientations(obs, min(n_synapses, leakage.max_synapses))
    stopwatch(
        f"manifold: leakage of {len(measured):,} synapses",
        measure_leakage,
        {"synapseclr": {LAYER: features_nf}},
        obs,
        measured,
        leakage,
    )
    stopwatch("features: correlations and tree", cluster_features, features_nf, LAYER, config.n_feature_clusters)
    stopwatch("features: spectrum of a layer", layer_spectra, {"synapseclr": {LAYER: features_nf}})
    components_np, _ = stopwatch("features: components", principal_components, features_nf, config.n_components)
    stopwatch("features: components against traits", component_traits, components_np, obs, LAYER, config)
    stopwatch("features: ends", component_examples, components_np, obs["synapse_id"].to_numpy(), LAYER, 4, 4)
    stopwatch("features: traits by cell types", trait_summaries, obs, imputed_values(obs), config)


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=100_000)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    run_steps(5_000, Stopwatch())  # numba compiles
    tenth, whole = Stopwatch(), Stopwatch()
    run_steps(arguments.synapses // 10, tenth)
    run_steps(arguments.synapses, whole)
    rows = []
    for (step, ours), baseline in zip(whole.seconds.items(), tenth.seconds.values(), strict=True):
        ratio = 10 * baseline / max(ours, 1e-9)
        case = f"{arguments.synapses:,} x 512, {step}"
        rows.append({"case": case, "ours": ours, "baseline": 10 * baseline, "unit": "s", "ratio": ratio})
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "load_average": os.getloadavg()[0],
    }
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
