"""Painted clefts beside the true ones: ``python benchmarks/painted_clefts.py``.

The demo's simulated volume is cut twice: with its cleft layer, and with clefts painted at the contact of the segments
nearest to the centres of the synapse table (``preprocessing.cleft: painted``), which is what tables of points allow.
Measured are the overlap of the two masks, and what traits lose: scores of the linear probe, on folds split by neurite,
off statistics of the masks and off an untrained ``region_resnet``, which pools over the regions of the masks. ``ours``
has the painted clefts, ``baseline`` the true ones; both have the same synapses.

One process. Needs the volume of ``kedro run --pipeline=simulation``. Writes ``benchmarks/results/painted_clefts.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.volumes import (
    ChunkStore,
    PrecomputedLayer,
    PreprocessingConfig,
    check_synapse_table,
    cut_chunks,
    transform_annotations,
    write_chunk_store,
)

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/painted_clefts.json"
CLEFT = 2
TRAITS = ("cleft_size_log1p_zscore", "pre_cell_type", "post_cell_type", "has_mito_pre", "has_mito_post")


def main(volume: Path, n_synapses: int) -> dict[str, Any]:
    """Cut, compare the masks and score the traits."""
    parameters = load_parameters()
    config = PreprocessingConfig(**parameters["preprocessing"] | {"max_rejected_fraction": 0.99})
    table = check_synapse_table(pd.read_csv(volume / "synapses.csv"), config.position_unit_nm)
    table = table.sample(min(n_synapses, len(table)), random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        labelled, painted = (
            cut(volume, table, config.model_copy(update={"cleft": source}), Path(folder, f"{source}.zarr"))
            for source in ("layer", "painted")
        )
        both = np.intersect1d(labelled.synapse_id, painted.synapse_id)
        masks = [chunks_of(store, both)[:, 1] == CLEFT for store in (labelled, painted)]
        rows = table.set_index("id").loc[both].reset_index()
        traits = transform_annotations(pd.read_csv(volume / "annotations.csv"), table["id"]).traits
        obs = rows.rename(columns={"id": "synapse_id"}).merge(traits, on="synapse_id", how="left")
        scores = [scores_of(store, both, obs, parameters) for store in (painted, labelled)]
    scored = [
        {"representation": name, "trait": trait, "ours": ours, "baseline": scores[1][name][trait]}
        for name, of_traits in scores[0].items()
        for trait, ours in of_traits.items()
        if trait in scores[1][name]
    ]
    return {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": 1},
        "data": {
            "n_synapses": len(table),
            "n_labelled": len(labelled),
            "n_painted": len(painted),
            "n_compared": len(both),
            "thickness_nm": config.cleft_thickness_nm,
            "radius_nm": config.cleft_radius_nm,
        },
        "overlap": overlap(*masks),
        "results": scored,
    }


def load_parameters() -> dict[str, Any]:
    """The demo's parameters."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS

    parameters: dict[str, Any] = OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS)["parameters"]
    return parameters


def cut(volume: Path, table: pd.DataFrame, config: PreprocessingConfig, path: Path) -> ChunkStore:
    """Cut the synapses of a table."""
    em, segmentation, cleft = (
        PrecomputedLayer(f"file://{volume / name}", name) for name in ("em", "segmentation", "clefts")
    )
    write_chunk_store(cut_chunks(em, segmentation, cleft, table, config), str(path))
    return ChunkStore(str(path))


def chunks_of(store: ChunkStore, synapse_ids: np.ndarray) -> np.ndarray:
    """Chunks (n, 2, x, y, z) in the order of ids."""
    place = pd.Series(np.arange(len(store)), index=store.synapse_id)
    return store.read(place.loc[synapse_ids].to_numpy())


def overlap(true_nxyz: np.ndarray, painted_nxyz: np.ndarray) -> dict[str, float]:
    """Dice coefficients of the masks, share of painted clefts that touch the true one, and ratio of their volumes."""
    axes = (1, 2, 3)
    n_both, n_true, n_painted = (mask.sum(axis=axes) for mask in (true_nxyz & painted_nxyz, true_nxyz, painted_nxyz))
    dice_n = 2 * n_both / (n_true + n_painted)
    correlation = pd.Series(n_true).corr(pd.Series(n_painted), method="spearman")
    return {
        "dice_mean": float(dice_n.mean()),
        "dice_median": float(np.median(dice_n)),
        "share_touching": float((n_both > 0).mean()),
        "volume_ratio_median": float(np.median(n_painted / n_true)),
        "volume_rank_correlation": float(correlation),
    }


def scores_of(
    store: ChunkStore, synapse_ids: np.ndarray, obs: pd.DataFrame, parameters: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Mean scores of the linear probe by representation and trait."""
    from synapseclr.analysis.config import ImputationConfig
    from synapseclr.analysis.handcrafted import store_mask_statistics
    from synapseclr.analysis.imputation.trait_scores import score_representations
    from synapseclr.analysis.representations import normal_scores
    from synapseclr.analysis.traits import TRAITS as ALL
    from synapseclr.training import EmbeddingConfig, PretrainingConfig, embed_store, untrained_weights

    pretraining = PretrainingConfig.model_validate(parameters["pretraining"])
    weights = untrained_weights(pretraining.model, store, pretraining)
    embedding = EmbeddingConfig(**parameters["embedding"] | {"n_rotations": 2})
    features_nf = embed_store(weights.build(), store, pretraining.augmentation, embedding)["encoder.fc"]
    place = pd.Series(np.arange(len(store)), index=store.synapse_id).loc[synapse_ids].to_numpy()
    statistics_nk = store_mask_statistics(store, store.voxel_size_nm)[place]
    representations = {
        "mask_statistics": {"all": normal_scores(statistics_nk)},
        "untrained region_resnet": {"all": features_nf[place]},
    }
    config = ImputationConfig(**parameters["imputation"]).model_copy(update={"compare_by_gaussian_process": False})
    scores, _ = score_representations(representations, obs, config, [trait for trait in ALL if trait.name in TRAITS])
    means = scores[scores["probe"] == "linear"].groupby(["representation", "trait"])["score"].mean()
    return {name: {str(trait): float(means[name, trait]) for trait in means[name].index} for name in representations}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, default=ROOT / "data/01_raw/simulated", help="folder of the layers")
    parser.add_argument("--synapses", type=int, default=600, help="how many are drawn")
    given = parser.parse_args()
    found = main(given.volume, given.synapses)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["overlap"], indent=2))
