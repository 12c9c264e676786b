"""What encoders know of traits, on volumes that nothing was tuned on: ``python benchmarks/representation.py SCRATCH``.

Volumes are simulated from seeds of their own, cut and annotated by the project's pipelines. On each, every variant
trains an encoder by the project's engine from each training seed, or does not train at all; statistics need no seed.
All are scored as in ``evaluation.json``: by linear probes, over the folds of several draws, split by neurite. A variant
is a change of the demo's parameters; ``VARIANTS`` names them, those that turned out worse too. ``JOINED`` ones are
features beside the statistics of the masks. Statistics are normal scores of their ranks, as in the pipelines.

Results are kept in SCRATCH as they come: the same command goes on where it was interrupted. Writes
``benchmarks/results/representation.json``: a row for each variant, trait and signature of the cell types, with the mean
over volumes and seeds, the standard deviation between the means of volumes, that between seeds of a volume, and process
seconds (of all threads) of training and embedding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/representation.json"
LAYER = "encoder.fc"
TRAITS = ("pre_cell_type", "post_cell_type", "has_mito_pre", "has_mito_post", "cleft_size_log1p_zscore")

_RANGES = ("intercept_min", "intercept_max", "slope_min", "slope_max", "gamma_min", "gamma_max")
_PUBLISHED = dict(zip(_RANGES, (-0.05, 0.05, 0.9, 1.1, 0.9, 1.1), strict=True))
_TONES = {f"{scope}_intensity_{name}": value for scope in ("sectional", "global") for name, value in _PUBLISHED.items()}
_CUTS = ("section_cutout", "corner_cutout", "random_cutout", "random_periphery_cutout")
_FORMER_VIEW = {"final_crop_size": 64, "global_max_relative_displacement": 0.1}
_FORMER_ENCODER = {"encoder": "resnet18"}

VARIANTS: dict[str, dict[str, Any]] = {
    "demo": {},
    "random": {"epochs": 0},
    "random_convolution": {"epochs": 0, "model": {"encoder": "single_convolution"}},
    "published tones": {"augmentation": _TONES},
    "no cut-outs": {"augmentation": {f"enable_{name}": False for name in _CUTS}},
    "view of 1,024 nm": {"augmentation": _FORMER_VIEW},
    "temperature 0.2": {"objective": {"temperature": 0.2}},
    "dcl": {"objective": {"name": "decoupled", "temperature": 0.1}},
    "vicreg": {"objective": {"name": "vicreg"}},
    "former demo": {"epochs": 18, "model": _FORMER_ENCODER, "augmentation": _TONES | _FORMER_VIEW},
    "former demo, random": {"epochs": 0, "model": _FORMER_ENCODER, "augmentation": _TONES | _FORMER_VIEW},
}
STATISTICS = ("mask_statistics", "trivial_statistics")
JOINED = {
    "demo+statistics": "demo",
    "random+statistics": "random",
}  # a variant's features beside the statistics of the masks


def make_volume(folder: Path, seed: int, signature: str) -> None:
    """Simulate, cut and annotate a volume, unless it is there."""
    if (folder / "03_primary/annotations.parquet").exists():
        return
    parameters = f"data_root={folder},simulation.seed={seed},simulation.signature={signature}"
    command = [sys.executable, "-m", "kedro", "run", "--pipelines=simulation,preprocessing", f"--params={parameters}"]
    variables = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder.parent}/mlflow.db"}
    subprocess.run(command, cwd=ROOT, env=variables, check=True, stdout=subprocess.DEVNULL)


def load(folder: Path) -> tuple[Any, pd.DataFrame]:
    """The chunk store of a volume, and metadata with annotations in store order."""
    from synapseclr.volumes import ChunkStore

    tables = [pd.read_parquet(folder / f"03_primary/{name}.parquet") for name in ("synapse_metadata", "annotations")]
    metadata = tables[0].sort_values("chunk_index")
    store = ChunkStore(str(folder / "02_intermediate/synapse_chunks.zarr"))
    return store, metadata.merge(tables[1], on="synapse_id", how="left", validate="one_to_one")


def demo_parameters() -> dict[str, Any]:
    """The demo's parameters, as Kedro reads them."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS

    parameters: dict[str, Any] = OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS)["parameters"]
    return parameters


def pretraining_of(parameters: dict[str, Any], variant: str, seed: int) -> Any:
    """The pretraining of a variant from a seed; its changes are merged into the demo's sections."""
    from synapseclr.training import PretrainingConfig

    given: dict[str, Any] = {**parameters["pretraining"], "seed": seed}
    for name, change in VARIANTS[variant].items():
        is_part = isinstance(change, dict) and "name" not in change  # another objective has parameters of its own
        given[name] = {**given[name], **change} if is_part else change
    given["monitoring"] = {**given["monitoring"], "probe_every_n_epochs": given["epochs"] or 1}
    return PretrainingConfig.model_validate(given | {"epochs": given["epochs"] or 1})


def features_of(store: Any, parameters: dict[str, Any], variant: str, seed: int, scratch: Path) -> tuple[Any, dict]:
    """Features (n, f) or blocks of a variant, and the process seconds of training and embedding."""
    from synapseclr.analysis.handcrafted import store_mask_statistics, store_statistics
    from synapseclr.analysis.representations import FeatureBlocks, normal_scores
    from synapseclr.training import EmbeddingConfig, embed_store, fit, untrained_weights

    if variant in STATISTICS:
        masks = variant == "mask_statistics"
        statistics_nk = store_mask_statistics(store, store.voxel_size_nm) if masks else store_statistics(store)
        return normal_scores(statistics_nk), {}
    if variant in JOINED:
        learned_nf, seconds = features_of(store, parameters, JOINED[variant], seed, scratch)
        return FeatureBlocks((learned_nf, features_of(store, parameters, "mask_statistics", 0, scratch)[0])), seconds
    path = scratch / f"features/{key_of(store, parameters, variant, seed)}.npz"
    if path.exists():
        stored = np.load(path)
        return stored["features_nf"], {name: float(stored[name]) for name in ("training", "embedding")}
    config = pretraining_of(parameters, variant, seed)
    start = time.process_time()
    if VARIANTS[variant].get("epochs") == 0:
        weights = untrained_weights(config.model, store, config)
    else:
        weights = fit(store, config, str(scratch / "checkpoints")).weights
    trained = time.process_time()
    layers = embed_store(weights.build(), store, config.augmentation, EmbeddingConfig(**parameters["embedding"]))
    seconds = {"training": trained - start, "embedding": time.process_time() - trained}
    path.parent.mkdir(exist_ok=True)
    np.savez(path, features_nf=layers[LAYER], **seconds)
    return layers[LAYER], seconds


def scores_of(features: Any, table: pd.DataFrame, parameters: dict[str, Any]) -> dict[str, float]:
    """Mean over all folds of the linear probe, by trait."""
    from synapseclr.analysis.config import ImputationConfig
    from synapseclr.analysis.imputation.trait_scores import score_representations
    from synapseclr.analysis.traits import TRAITS as ALL

    config = ImputationConfig(**parameters["imputation"]).model_copy(update={"compare_by_gaussian_process": False})
    traits = [trait for trait in ALL if trait.name in TRAITS]
    scores, _ = score_representations({"one": {LAYER: features}}, table, config, traits)
    linear = scores[scores["probe"] == "linear"]
    return {str(trait): float(score) for trait, score in linear.groupby("trait")["score"].mean().items()}


def key_of(store: Any, parameters: dict[str, Any], variant: str, seed: int) -> str:
    """Digest of what decides a result."""
    if variant in STATISTICS:
        config = f"{variant} as normal scores"
    else:
        config = pretraining_of(parameters, JOINED.get(variant, variant), seed).model_dump_json()
        config += " beside mask statistics" * (variant in JOINED)
    parts = [config, str(VARIANTS.get(variant, {}).get("epochs")), store.sha256]
    parts += [json.dumps(parameters["imputation"]), json.dumps(parameters["embedding"])]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """Finished results by key."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def summarise(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each signature, variant and trait."""
    table = pd.DataFrame([{**row, "trait": trait, "score": s} for row in results for trait, s in row["scores"].items()])
    rows = []
    for (signature, variant, trait), group in table.groupby(["signature", "variant", "trait"], sort=False):
        by_volume = group.groupby("volume")["score"]
        seconds = pd.DataFrame([row["seconds"] for row in results if row["variant"] == variant])
        n_seeds = len(group["seed"].unique())
        rows.append(
            {
                "case": f"{variant}, {trait}, {signature}",
                "variant": variant,
                "trait": trait,
                "signature": signature,
                "mean": round(float(by_volume.mean().mean()), 4),
                "std_volumes": round(float(by_volume.mean().std()), 4) if by_volume.ngroups > 1 else None,
                "std_seeds": round(float(by_volume.std().mean()), 4) if n_seeds > 1 else None,
                "volumes": int(by_volume.ngroups),
                "seeds": n_seeds,
                "seconds": seconds.mean().round(1).to_dict(),
            }
        )
    return rows


def main() -> None:
    """Run what is missing, then write and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="folder for volumes, finished results and checkpoints")
    everything = [*STATISTICS, *VARIANTS, *JOINED]
    parser.add_argument("--variants", nargs="+", choices=everything, default=everything)
    parser.add_argument("--volumes", nargs="+", type=int, default=list(range(401, 407)), help="seeds of the simulation")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of the training")
    parser.add_argument("--signatures", nargs="+", choices=["darkness", "texture"], default=["darkness"])
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    import torch

    parameters, path = demo_parameters(), given.scratch / "results.jsonl"
    given.scratch.mkdir(parents=True, exist_ok=True)
    for signature in given.signatures:
        for volume in given.volumes:
            folder = given.scratch / f"{signature}_{volume}"
            make_volume(folder, volume, signature)
            store, table = load(folder)
            for seed in given.seeds:
                for variant in given.variants:
                    key = key_of(store, parameters, variant, seed)
                    if key in kept(path) or (variant in STATISTICS and seed != given.seeds[0]):
                        continue
                    features, seconds = features_of(store, parameters, variant, seed, given.scratch)
                    row = {"key": key, "signature": signature, "variant": variant, "volume": volume, "seed": seed}
                    row |= {"scores": scores_of(features, table, parameters), "seconds": seconds}
                    with path.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(
                        {name: round(score, 3) for name, score in row["scores"].items()},
                        variant,
                        volume,
                        seed,
                        flush=True,
                    )
    results = [row for row in kept(path).values() if row["signature"] in given.signatures]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    rows = summarise(results)
    given.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    means = pd.DataFrame(rows).pivot_table("mean", ["signature", "variant"], "trait", sort=False)
    print(means[list(TRAITS)].round(3).to_string())


if __name__ == "__main__":
    main()
