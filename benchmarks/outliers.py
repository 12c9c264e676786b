"""How well simulated defects are found, on volumes nothing was chosen on: ``python benchmarks/outliers.py [FOLDER]``.

Volumes are simulated with the demo's parameters and the given seeds, cut, and embedded by the encoder that
``--weights`` names (by default the demo's, trained on the volume of seed 0) and by its untrained twin. On each volume
defects are searched as ``kedro run --pipeline=outliers`` does it and evaluates it: examples drawn at random from all
kinds of defects, 50 draws a number of examples, scored on all synapses but the examples.

With ``--own``, an encoder is trained on each volume instead, as a laboratory would on its own data; labels are not used
in training, so the defects need not be held out.

The features joined, the shrinkage and the weight of the examples were chosen on the volumes of seeds 0 to 4; the seeds
evaluated by default were not looked at before. Volumes are kept in FOLDER, and used again by the same command.

Writes ``benchmarks/results/outliers.json`` (with ``--own``: ``outliers_own.json``): means over the volumes; intervals
are 90 % by bootstrap over the volumes. ``ours`` are learned features, with or without mask statistics; ``baseline`` is
what the case names: trivial image statistics, mask statistics alone, or the untrained encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
SCRATCH = Path(tempfile.gettempdir()) / "synapseclr_benchmarks"
RESULTS = Path(__file__).parent / "results"
SEEDS = (101, 102, 103, 104, 105, 106, 107, 108)
N_BOOTSTRAP = 10_000
OURS = {
    "learned features": ("synapseclr", "encoder.fc"),
    "learned features and mask statistics": ("synapseclr_and_masks", "encoder.fc"),
}
BASELINES = {
    "image statistics": ("trivial_statistics", "statistics"),
    "mask statistics": ("mask_statistics", "statistics"),
    "untrained encoder": ("random", "encoder.fc"),
}


def run_kedro(pipelines: str, folder: Path, seed: int) -> None:
    """Run pipelines with everything, MLflow included, below a folder."""
    tracking = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACT_ROOT": str(folder / "mlartifacts"),
    }
    parameters = f"data_root={folder},simulation.seed={seed}"
    command = [sys.executable, "-m", "kedro", "run", f"--pipelines={pipelines}", f"--params={parameters}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | tracking, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def open_store(folder: Path, seed: int, own: bool) -> Any:
    """The chunks of a volume, which is simulated if it is not there; with its own encoder if that is wanted."""
    from synapseclr.errors import VolumeError
    from synapseclr.volumes import ChunkStore

    folder.mkdir(parents=True, exist_ok=True)
    store = ChunkStore(str(folder / "02_intermediate/synapse_chunks.zarr"))
    try:
        len(store)
    except VolumeError:
        run_kedro("simulation,preprocessing", folder, seed)
        store = ChunkStore(store.url)
    if own and not (folder / "06_models/encoder_weights.safetensors").exists():
        run_kedro("pretraining", folder, seed)
    return store


def load_parameters() -> dict[str, Any]:
    """The demo's parameters."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS

    return dict(OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS)["parameters"])


def evaluate_volume(folder: Path, seed: int, weights: Any, parameters: dict[str, Any]) -> pd.DataFrame:
    """Search the defects of one volume in every representation."""
    from synapseclr.analysis.handcrafted import store_mask_statistics, store_statistics
    from synapseclr.analysis.outliers import OutliersConfig, evaluate_detection, known_defects
    from synapseclr.analysis.representations import FeatureBlocks
    from synapseclr.training import EmbeddingConfig, PretrainingConfig, embed_store, untrained_weights

    store = open_store(folder, seed, own=False)
    pretraining = PretrainingConfig.model_validate(parameters["pretraining"])
    embedding = EmbeddingConfig.model_validate(parameters["embedding"])
    trained = embed_store(weights.build(), store, pretraining.augmentation, embedding)
    trained.pop("rotation_spread", None)
    rival = untrained_weights(weights.model, store, pretraining)
    untrained = embed_store(rival.build(), store, pretraining.augmentation, embedding)
    masks_nk = store_mask_statistics(store, store.voxel_size_nm)
    representations = {
        "synapseclr": trained,
        "random": {"encoder.fc": untrained["encoder.fc"]},
        "trivial_statistics": {"statistics": store_statistics(store)},
        "mask_statistics": {"statistics": masks_nk},
        "synapseclr_and_masks": {"encoder.fc": FeatureBlocks((trained["encoder.fc"], masks_nk))},
    }
    truth = pd.read_csv(folder / "01_raw/simulated/truth.csv")
    defect_n = known_defects(truth, store.synapse_id)
    if defect_n is None:
        raise SystemExit(f"The volume of seed {seed} has no defects.")
    config = OutliersConfig.model_validate(parameters["outliers"])
    return evaluate_detection(representations, defect_n, config).assign(seed=seed, n_synapses=len(store))


def interval(values_v: np.ndarray) -> list[float]:
    """90 % interval of the mean, by bootstrap over volumes."""
    rng = np.random.default_rng(0)
    means_b = rng.choice(values_v, size=(N_BOOTSTRAP, len(values_v))).mean(axis=1)
    return [round(float(bound), 4) for bound in np.quantile(means_b, [0.05, 0.95])]


def make_rows(detection: pd.DataFrame) -> list[dict[str, Any]]:
    """Compare over the volumes: by method, number of examples and metric for all kinds, by kind for one example."""
    keys = ["representation", "layer", "method", "n_examples", "metric", "kind"]
    by_volume = detection.set_index([*keys, "seed"])["mean"].sort_index()
    rows = []
    overall = detection[(detection["kind"] == "all kinds") | (detection["n_examples"] == 1)]
    overall = overall[overall["method"].isin(["examples", "mahalanobis"])]
    cases = overall[["method", "n_examples", "metric", "kind"]].drop_duplicates().itertuples(index=False, name=None)
    for method, n_examples, metric, kind in cases:
        for ours_name, ours_key in OURS.items():
            ours_v = by_volume[(*ours_key, method, n_examples, metric, kind)].to_numpy()
            for baseline_name, baseline_key in BASELINES.items():
                baseline_v = by_volume[(*baseline_key, method, n_examples, metric, kind)].to_numpy()
                rows.append(
                    {
                        "case": f"{metric}, {n_examples or 'no'} example{'s' * (n_examples != 1)}, {kind}: {ours_name} "
                        f"against {baseline_name}",
                        "ours": float(ours_v.mean()),
                        "baseline": float(baseline_v.mean()),
                        "unit": metric,
                        "ratio": float(ours_v.mean() / max(baseline_v.mean(), 1e-9)),
                        "ours_interval_90": interval(ours_v),
                        "baseline_interval_90": interval(baseline_v),
                        "difference_interval_90": interval(ours_v - baseline_v),
                        "n_volumes": len(ours_v),
                    }
                )
    return rows


def main() -> None:
    """Run the benchmark and write its result."""
    from synapseclr.models.weights import load_weights

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SCRATCH / "outliers", help="for the volumes")
    parser.add_argument("--weights", default=str(ROOT / "data/06_models/encoder_weights.safetensors"))
    parser.add_argument("--own", action="store_true", help="train an encoder on each volume")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    parameters = load_parameters()
    parts = []
    for seed in arguments.seeds:
        folder = arguments.folder.resolve() / f"seed_{seed}"
        open_store(folder, seed, arguments.own)
        source = folder / "06_models/encoder_weights.safetensors" if arguments.own else arguments.weights
        parts.append(evaluate_volume(folder, seed, load_weights(source), parameters))
        overall = parts[-1].query("kind == 'all kinds' and metric == 'roc_auc' and n_examples == 5")
        print(seed, overall.set_index(["representation", "layer"])["mean"].round(3).to_dict(), flush=True)
    detection = pd.concat(parts, ignore_index=True)
    defects = detection.query("kind == 'all kinds'").groupby("seed")["n_defects"].max()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "seeds": arguments.seeds,
        "encoder": "trained on each volume" if arguments.own else "the demo's, trained on the volume of seed 0",
        "n_defects": {str(seed): int(number) for seed, number in defects.items()},
        "n_synapses": {str(s): int(n) for s, n in detection.groupby("seed")["n_synapses"].first().items()},
    }
    result = arguments.result or RESULTS / ("outliers_own.json" if arguments.own else "outliers.json")
    result.write_text(json.dumps({"machine": machine, "rows": make_rows(detection)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
