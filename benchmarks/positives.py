"""Objectives and positives compared by what their encoders know: ``python benchmarks/positives.py SCRATCH``.

On the chunks and tables of the demo (``make demo``) and with its parameters, every method trains an encoder from each
seed (of weights, held-out synapses, order and augmentation); a random encoder is made from the same seeds. All are
scored as in ``evaluation.json``: linear probes, folds that no neurite crosses.

``same_neurite`` may only pair neurites without annotations, and the demo annotates nearly all. So half of the
presynaptic and half of the postsynaptic neurites are declared not annotated, by a seeded draw, and may form pairs.
Every method is scored on the other half only: traits of the presynaptic neurite, and of the cleft, on synapses whose
presynaptic neurite is in that half, traits of the postsynaptic neurite likewise.

Nothing was tuned on these scores. NT-Xent has the demo's parameters, DCL the same temperature, VICReg its published
weights (25, 25, 1), same_neurite its defaults with the demo's NT-Xent.

Results are kept in SCRATCH as they come: the same command goes on where it was interrupted. Writes
``benchmarks/results/positives.json``: mean and sample standard deviation over the seeds of the score, itself the
mean over folds. The traits "mean of classes" and "mean of continuous" average the scores of a seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/positives.json"
METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "nt_xent": {},
    "decoupled": {"objective": {"name": "decoupled", "temperature": 0.1}},
    "vicreg": {"objective": {"name": "vicreg", "invariance": 25, "variance": 25, "covariance": 1}},
    "nt_xent, same_neurite": {"positives": {"kind": "same_neurite"}},
}
LAYER = "encoder.fc"
AVERAGES = {"roc_auc": "mean of classes", "explained_variance": "mean of continuous"}


@dataclass(frozen=True)
class Data:
    """The demo's synapses, split in two by neurite.

    Attributes:
        store: Their chunks.
        annotations: One row a synapse, in store order; NaN where the trait's neurite is not in the scored half.
        neurites: For pairing; the scored half counts as annotated.
        parameters: The demo's parameters.
    """

    store: Any
    annotations: pd.DataFrame
    neurites: Any
    parameters: dict[str, Any]


def load(split_seed: int) -> Data:
    """Read what the demo made, and split the neurites."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.analysis.traits import TRAITS
    from synapseclr.settings import CONFIG_LOADER_ARGS
    from synapseclr.training.positives import NeuriteTable
    from synapseclr.volumes import ChunkStore

    chunks = ROOT / "data/02_intermediate/synapse_chunks.zarr"
    tables = [ROOT / f"data/03_primary/{name}.parquet" for name in ("synapse_metadata", "annotations")]
    for path in (chunks, *tables):
        if not path.exists():
            raise SystemExit(f"{path} is not there. Run `make demo` first.")
    metadata, annotations = map(pd.read_parquet, tables)
    rng = np.random.default_rng(split_seed)
    scored = {}
    for column in ("pre_root_id", "post_root_id"):
        roots = np.unique(metadata[column])
        scored[column] = rng.choice(roots, size=len(roots) // 2, replace=False)
    everything = NeuriteTable.from_tables(metadata, annotations)
    neurites = NeuriteTable(
        everything.pre_root_id,
        everything.post_root_id,
        everything.centre_nd_nm,
        np.unique(np.concatenate(list(scored.values()))).astype(np.uint64),
    )
    table = metadata.sort_values("chunk_index").merge(annotations, on="synapse_id", how="left", validate="one_to_one")
    for trait in TRAITS:
        table[trait.name] = table[trait.name].where(table[trait.group].isin(scored[trait.group]))
    parameters = OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS)["parameters"]
    return Data(ChunkStore(str(chunks)), table, neurites, parameters)


def configure(data: Data, method: str, seed: int, epochs: int | None) -> Any:
    """The pretraining of a method from a seed."""
    from synapseclr.training import PretrainingConfig

    given = {**data.parameters["pretraining"], **METHODS[method], "seed": seed}
    return PretrainingConfig.model_validate(given | ({} if epochs is None else {"epochs": epochs}))


def score(data: Data, method: str, config: Any, scratch: Path) -> dict[str, Any]:
    """Train, embed and score: mean over folds by layer and trait, and the provenance of the weights."""
    from synapseclr.analysis.config import ImputationConfig
    from synapseclr.analysis.imputation.evaluation_document import score_document
    from synapseclr.analysis.imputation.trait_scores import score_representations
    from synapseclr.training import EmbeddingConfig, embed_store, fit

    provenance = {}
    if method == "random":
        model = config.model.build(config.seed)
    else:
        weights = fit(data.store, config, str(scratch / "checkpoints"), neurites=data.neurites).weights
        model, provenance = weights.build(), weights.provenance
    layers = embed_store(model, data.store, config.augmentation, EmbeddingConfig(**data.parameters["embedding"]))
    imputation = ImputationConfig(**data.parameters["imputation"])
    scores, unscored = score_representations({method: layers}, data.annotations, imputation)
    for row in unscored.to_dict("records"):
        print(f"{row['trait']} is not scored: {row['reason']}")
    document = score_document(scores)
    return {"scores": document["representations"][method], "provenance": provenance}


def run_key(data: Data, config: Any, method: str) -> str:
    """Digest of what decides a result; the random encoder's does not depend on the epochs."""
    parts = [method, data.store.sha256, data.neurites.sha256, json.dumps(data.parameters["imputation"])]
    parts.append(config.model_dump_json(exclude={"epochs"} if method == "random" else set()))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """Results by key; a last line that was cut off is left out."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["key"]] = row
    return found


def keep(path: Path, row: dict[str, Any]) -> None:
    """Append a result, on the disk before the next run begins."""
    with path.open("a") as file:
        file.write("\n" * (path.stat().st_size > 0 and not path.read_text().endswith("\n")) + json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def summarise(results: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per method, layer and trait, in order: ``metric``, ``mean`` and ``std`` over seeds, ``seeds``."""
    table = pd.DataFrame(
        [
            {"case": row["method"], "seed": row["seed"], "layer": layer, "trait": trait, **score}
            for row in results
            for layer, traits in row["scores"].items()
            for trait, score in traits.items()
        ]
    ).drop(columns=["std", "folds"])
    means = table.groupby(["case", "seed", "layer", "metric"], sort=False)["mean"].mean().reset_index()
    table = pd.concat([table, means.assign(trait=means["metric"].map(AVERAGES))])
    grouped = table.groupby(["case", "layer", "trait", "metric"], sort=False)["mean"]
    return grouped.agg(mean="mean", std="std", seeds="count").reset_index()


def show(summary: pd.DataFrame) -> None:
    """Print mean and spread of the backbone's scores: traits down, methods across."""
    backbone = summary[summary["layer"] == LAYER]
    text = backbone.assign(shown=[f"{m:.3f} ± {s:.3f}" for m, s in backbone[["mean", "std"]].to_numpy()])
    order = {"index": text["trait"].unique(), "columns": text["case"].unique()}
    print(text.pivot_table("shown", "trait", "case", aggfunc="first").reindex(**order).to_string())


def main() -> None:
    """Run what is missing, then write and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="folder for finished results and checkpoints")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--epochs", type=int, help="instead of the demo's")
    parser.add_argument("--split-seed", type=int, default=0, help="of the two halves of the neurites")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("synapseclr").setLevel(logging.INFO)

    import torch

    from synapseclr.analysis.traits import TRAITS

    data = load(given.split_seed)
    given.scratch.mkdir(parents=True, exist_ok=True)
    path = given.scratch / "results.jsonl"
    results = []
    for seed in range(given.seeds):
        for method in given.methods:
            config = configure(data, method, seed, given.epochs)
            key = run_key(data, config, method)
            if key not in (known := kept(path)):
                print(f"{method}, seed {seed}", flush=True)
                keep(path, {"key": key, "method": method, "seed": seed, **score(data, method, config, given.scratch)})
                known = kept(path)
            results.append(known[key])
    summary = summarise(results)
    show(summary)
    pretraining = configure(data, "nt_xent", 0, given.epochs)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    document = {
        "machine": machine,
        "data": {
            "n_synapses": len(data.store),
            "chunks_sha256": data.store.sha256,
            "split_seed": given.split_seed,
            "n_scored_neurites": len(data.neurites.annotated_root_ids),
            "n_scored_synapses": {trait.name: int(data.annotations[trait.name].notna().sum()) for trait in TRAITS},
            "epochs": pretraining.epochs,
            "batch_size": pretraining.batch_size,
        },
        "pairs": [
            {"seed": row["seed"]} | {k: v for k, v in row["provenance"].items() if k.startswith("positives")}
            for row in results
            if "positives" in row["provenance"]
        ],
        "rows": json.loads(summary.to_json(orient="records")),
    }
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
