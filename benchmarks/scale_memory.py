"""Memory of the nodes that hold tables of ten million synapses.

Features are read block by block, so that memory grows with the tables alone: ``obs``, statistics, imputed traits,
scores. Tables of the same columns and types with random contents are therefore enough, and 8 features instead of 512
(their blocks add a constant, see ``benchmarks/scale.py``). Each node loads its inputs from the catalog's datasets and
saves its outputs in a process of its own. Run ``python benchmarks/scale_memory.py --folder=/path``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from synapseclr.analysis.config import (
    ConsensusConfig,
    FeaturesConfig,
    GaussianProcessConfig,
    ImputationConfig,
    ManifoldConfig,
    OutliersConfig,
)
from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, STATISTIC_NAMES
from synapseclr.analysis.imputation.imputing import IMPUTED_TRAITS
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.outliers import OUTLIER_SCORES
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.analysis.traits import TRAITS
from synapseclr.datasets import AnnDataZarrDataset, ParquetDataset
from synapseclr.storage.sharded_anndata import MatrixShards, ShardedMatrix

RESULTS = Path(__file__).parent / "results" / "scale_memory.json"
NODES = ("rank_outliers", "impute_traits", "project_synapses", "describe_clusters", "type_neurites", "summarise_traits")
_FEATURES = 8
_ANNOTATED = 400


def make_inputs(folder: Path, n: int) -> None:
    """Write embeddings, statistics and an untrained encoder's likeness of the same form as a run's, random inside."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"synapse_id": np.arange(n, dtype=np.int64) + 2**60})
    for side, first in (("pre", 2**60), ("post", 2**61)):
        obs[f"{side}_root_id"] = rng.integers(0, n // 8, n) + first
    for axis in "xyz":
        obs[f"centre_{axis}_nm"] = rng.random(n, np.float32)
    is_annotated_n = rng.random(n) < _ANNOTATED / n
    for trait in TRAITS:
        values_n = (rng.random(n) < 0.4).astype(np.float32) if trait.is_class else rng.standard_normal(n, np.float32)
        if trait.level == "neurite":
            values_n = (obs[trait.root_column].to_numpy() % 3 == 0).astype(np.float32)
        obs[trait.name] = np.where(is_annotated_n, values_n, np.float32(np.nan))
    obs["defect"] = pd.Categorical(np.repeat("", n), categories=["", "blank"])
    obs.index = obs["synapse_id"].astype(str).to_numpy()
    dataset = AnnDataZarrDataset(filepath=str(folder / "synapse_embeddings.zarr"))
    shards = MatrixShards(dataset.work_address, n, {"X": _FEATURES}, "random")
    for shard in shards.begin():
        shards.write(shard, {"X": rng.standard_normal((len(shards.rows(shard)), _FEATURES), np.float32)})
    dataset.save(ShardedMatrix(shards, obs, {"layer_of_X": "encoder.fc", "provenance": {}}))
    for name, columns in (("mask_statistics", MASK_STATISTIC_NAMES), ("chunk_statistics", STATISTIC_NAMES)):
        table = pd.DataFrame({"synapse_id": obs["synapse_id"].to_numpy()})
        for column in columns:
            table[column] = rng.random(n, np.float32)
        ParquetDataset(filepath=str(folder / f"{name}.parquet")).save(table)


def run_node(folder: Path, node: str) -> None:
    """Load, call and save as a run does, with few annotations and a small sample."""
    from synapseclr.pipelines.consensus.nodes import type_neurites
    from synapseclr.pipelines.features.nodes import summarise_traits
    from synapseclr.pipelines.imputation.nodes import impute
    from synapseclr.pipelines.manifold.nodes import describe_clusters, project_synapses
    from synapseclr.pipelines.outliers.nodes import rank_outliers

    def parquet(name: str) -> ParquetDataset:
        in_memory = not name.endswith("_statistics")
        return ParquetDataset(filepath=str(folder / f"{name}.parquet"), in_memory=in_memory)

    def matrix(name: str) -> AnnDataZarrDataset:
        return AnnDataZarrDataset(filepath=str(folder / f"{name}.zarr"), in_memory=False)

    blocks = RowBlocksConfig(folder=str(folder / "row_blocks"), threads=1)
    manifold = ManifoldConfig(n_fitted=5_000, n_epochs=20)
    if node == "describe_clusters":
        tables = describe_clusters(matrix("synapse_manifold").load(), manifold, TRAITS)
        print([len(table) for table in tables])
        return
    embeddings = matrix("synapse_embeddings").load()
    if node == "rank_outliers":
        inputs = (parquet("mask_statistics").load(), parquet("chunk_statistics").load(), pd.DataFrame())
        ranked = rank_outliers(embeddings, *inputs, OutliersConfig(), NeuroglancerConfig(), blocks)[0]
        parquet("outlier_scores").save(OUTLIER_SCORES.validate(ranked))
    elif node == "impute_traits":
        process = GaussianProcessConfig(n_seeds=1, compare_synapse_folds=False)
        config = ImputationConfig(gaussian_processes=process)
        found = impute(embeddings, parquet("mask_statistics").load(), pd.DataFrame(), config, TRAITS, blocks)
        parquet("imputed_traits").save(IMPUTED_TRAITS.validate(found[0]))
    elif node == "project_synapses":
        matrix("synapse_manifold").save(project_synapses(embeddings, manifold, blocks))
    elif node == "type_neurites":
        neurites = type_neurites(parquet("imputed_traits").load(), embeddings, ConsensusConfig(), TRAITS)[0]
        parquet("neurite_cell_types").save(neurites)
    elif node == "summarise_traits":
        imputed = IMPUTED_TRAITS.validate(parquet("imputed_traits").load())
        print(len(summarise_traits(embeddings, imputed, FeaturesConfig(), TRAITS)))


def main() -> None:
    """Measure each node in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--node", choices=("inputs", *NODES), help="This alone, in this process.")
    options = parser.parse_args()
    if options.node:
        started = time.process_time()
        options.folder.mkdir(parents=True, exist_ok=True)
        if options.node == "inputs":
            make_inputs(options.folder, options.synapses)
        else:
            run_node(options.folder, options.node)
        status = Path("/proc/self/status").read_text()
        highest = 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
        seconds = round(time.process_time() - started, 1)
        print(json.dumps({"vmhwm_gb": round(highest / 1e9, 2), "cpu_seconds": seconds}))
        return
    found: dict[str, object] = {"n_synapses": options.synapses, "n_features": _FEATURES}
    for node in ("inputs", *NODES):
        command = [sys.executable, __file__, f"--synapses={options.synapses}", f"--folder={options.folder}"]
        printed = subprocess.run([*command, f"--node={node}"], check=True, stdout=subprocess.PIPE, text=True).stdout
        found[node] = json.loads(printed.strip().splitlines()[-1])
        print(node, found[node], flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
