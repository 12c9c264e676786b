"""How much of the cleft's orientation features give away, by augmentation: ``python benchmarks/leakage.py SCRATCH``.

On the chunks and tables of the demo (``make demo``) and with its parameters, an encoder is trained from each seed with
the augmentations ``so3`` (random rotations) and ``dihedral`` (the same without the rotation, as published to show what
too little augmentation does). A random encoder is made from the same seeds. All are scored as the manifold pipeline
scores them (``synapseclr.analysis.leakage_scores``): how well the orientation of the cleft's plane and the
position in the volume can be read off the features, and the cell types as in ``evaluation.json``, to show what that
costs.

Features are kept in SCRATCH as they come: the same command goes on where it was interrupted. Writes
``benchmarks/results/leakage.json`` (mean and sample standard deviation over the seeds) and, with ``--figure``, the
published picture: the cleft plane's angle over the UMAP of both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/leakage.json"
CASES = ("so3", "dihedral", "random")
LABELS = {"so3": "SO(3)", "dihedral": "dihedral", "random": "untrained"}
LAYER = "encoder.fc"


def load(data_root: Path) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    """Read the demo's chunks, its metadata with annotations in store order, and the parameters."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS
    from synapseclr.volumes import ChunkStore

    chunks = data_root / "02_intermediate/synapse_chunks.zarr"
    tables = [data_root / f"03_primary/{name}.parquet" for name in ("synapse_metadata", "annotations")]
    for path in (chunks, *tables):
        if not path.exists():
            raise SystemExit(f"{path} is not there. Run `make demo` first.")
    metadata, annotations = map(pd.read_parquet, tables)
    table = metadata.sort_values("chunk_index").merge(annotations, on="synapse_id", how="left", validate="one_to_one")
    parameters = OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS)["parameters"]
    return ChunkStore(str(chunks)), table, parameters


def features(store: Any, parameters: dict[str, Any], case: str, seed: int, scratch: Path) -> dict[str, np.ndarray]:
    """Features of every recorded layer, trained and embedded unless they are in SCRATCH already."""
    from synapseclr.training import EmbeddingConfig, PretrainingConfig, embed_store, fit

    augmentation = parameters["augmentations"]["so3" if case == "random" else case]
    given = {**parameters["pretraining"], "augmentation": augmentation, "seed": seed}
    config = PretrainingConfig.model_validate(given)
    key = hashlib.sha256((case + store.sha256 + config.model_dump_json()).encode()).hexdigest()[:16]
    path = scratch / f"features-{key}.npz"
    if not path.exists():
        print(f"{case}, seed {seed}", flush=True)
        if case == "random":
            model = config.model.build(seed)
        else:
            model = fit(store, config, str(scratch / "checkpoints")).weights.build()
        layers = embed_store(model, store, config.augmentation, EmbeddingConfig(**parameters["embedding"]))
        np.savez(scratch / "unfinished.npz", **layers)
        os.replace(scratch / "unfinished.npz", path)
    with np.load(path) as kept:
        return {layer: kept[layer] for layer in kept.files}


def score(table: pd.DataFrame, orientations: pd.DataFrame, layers: dict[str, np.ndarray], parameters: Any) -> Any:
    """Technical effects, and cell types by the linear probe: one row per layer and effect or trait."""
    from synapseclr.analysis.config import ImputationConfig, LeakageConfig
    from synapseclr.analysis.imputation.trait_scores import score_representations
    from synapseclr.analysis.leakage_scores import measure_leakage
    from synapseclr.analysis.traits import trait_named

    config = LeakageConfig(**parameters["manifold"]["leakage"])
    leakage = measure_leakage({"-": layers}, table, orientations, config).rename(columns={"effect": "what"})
    cell_types = tuple(trait_named(name) for name in ("pre_cell_type", "post_cell_type"))
    scores, _ = score_representations(
        {"-": layers}, table, ImputationConfig(**parameters["imputation"]), traits=cell_types
    )
    means = scores[scores["probe"] == "linear"].groupby(["layer", "trait"], sort=False)["score"].mean().reset_index()
    means = means.rename(columns={"trait": "what"}).assign(probe="linear, ROC AUC")
    columns = ["layer", "what", "probe", "score", "null_upper_95"]
    return pd.concat([leakage.reindex(columns=columns), means.reindex(columns=columns)])


def draw(planes: dict[str, np.ndarray], orientations: pd.DataFrame, titles: dict[str, str], path: Path) -> None:
    """The cleft plane's angle over the UMAP of every case."""
    from synapseclr.plotting import Overlay
    from synapseclr.plotting.manifold import draw_panel
    from synapseclr.plotting.theme import panel_grid

    tilt_n = orientations["tilt_deg"].to_numpy(dtype=float)
    figure, grid = panel_grid(len(planes), len(planes), (3.4, 3.4), right_in=0.6)
    for axes, (case, plane_n2) in zip(grid, planes.items(), strict=True):
        draw_panel(axes, plane_n2, Overlay(titles[case], tilt_n, limits=(0.0, 90.0)))
        axes.set_title(titles[case], loc="left", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train what is missing, score, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="folder for features and checkpoints")
    parser.add_argument("--data-root", type=Path, default=ROOT / "data", help="where the demo's outputs are")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--figure", type=Path, help="picture to draw, from the first seed")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("synapseclr").setLevel(logging.INFO)

    import torch

    from synapseclr.analysis.config import ManifoldConfig
    from synapseclr.analysis.handcrafted import cleft_orientations
    from synapseclr.analysis.manifold import fit_manifold

    given.scratch.mkdir(parents=True, exist_ok=True)
    store, table, parameters = load(given.data_root)
    orientations = cleft_orientations(store, table["synapse_id"].to_numpy())
    scores, planes, backbones = [], {}, {}
    for seed in range(given.seeds):
        for case in CASES:
            layers = features(store, parameters, case, seed, given.scratch)
            scores.append(score(table, orientations, layers, parameters).assign(case=case, seed=seed))
            backbones.setdefault(case, layers[LAYER])
    grouped = pd.concat(scores).groupby(["case", "layer", "what", "probe"], sort=False)
    rows = grouped.agg(
        mean=("score", "mean"), std=("score", "std"), seeds=("score", "count"), null_upper_95=("null_upper_95", "mean")
    ).reset_index()
    shown = rows[rows["layer"] == LAYER].assign(
        text=[f"{m:.3f} ± {s:.3f}" for m, s in rows.loc[rows["layer"] == LAYER, ["mean", "std"]].to_numpy()]
    )
    print(shown.pivot_table("text", ["what", "probe"], "case", aggfunc="first", sort=False).to_string())
    if given.figure is not None:
        headline = rows[(rows["layer"] == LAYER) & (rows["what"] == "cleft_tilt") & (rows["probe"] == "linear")]
        said = {
            row["case"]: f"{LABELS[row['case']]}: {row['mean']:.2f} of the variance"
            for row in headline.to_dict("records")
        }
        config = ManifoldConfig(**{**parameters["manifold"], "three_dimensions": False})
        planes = {case: fit_manifold(backbones[case], config).umap_n2 for case in ("dihedral", "so3")}
        draw(planes, orientations, said, given.figure)
    document = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
        "data": {
            "n_synapses": len(store),
            "chunks_sha256": store.sha256,
            "epochs": parameters["pretraining"]["epochs"],
        },
        "rows": json.loads(rows.to_json(orient="records")),
    }
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
