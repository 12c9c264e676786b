"""Queries in feature space, one at a time: ``python benchmarks/similarity.py``.

Exact search in 100,000 x 512 against what the published code does, sorting all distances; and the index that ``auto``
chooses for a million, against exact search, with its recall. Features are simulated: 200 clusters on a nonlinear
surface of 24 dimensions, as embeddings have few effective dimensions. Latencies are medians over single queries, unless
the case speaks of a batch.
Writes ``benchmarks/results/similarity.json``. A million needs about 5 GB of memory.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from synapseclr.analysis.search import FeatureIndex, IndexKind, chosen_index

RESULT = Path(__file__).parent / "results/similarity.json"
N_FEATURES, N_LATENT, N_CLUSTERS, K = 512, 24, 200, 10
BLOCK = 50_000


def simulated_features(n_synapses: int, seed: int = 0) -> np.ndarray:
    """float32 (n, 512)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(N_CLUSTERS, N_LATENT)).astype(np.float32) * 1.5
    first = rng.normal(size=(N_LATENT, 128)).astype(np.float32) / N_LATENT**0.5
    second = rng.normal(size=(128, N_FEATURES)).astype(np.float32) / 128**0.5
    features_nf = np.empty((n_synapses, N_FEATURES), np.float32)
    for start in range(0, n_synapses, BLOCK):
        n = min(BLOCK, n_synapses - start)
        latent = centres[rng.integers(0, N_CLUSTERS, n)] + rng.normal(size=(n, N_LATENT)).astype(np.float32)
        noise = 0.02 * rng.normal(size=(n, N_FEATURES)).astype(np.float32)
        features_nf[start : start + n] = np.maximum(np.tanh(latent @ first) @ second, 0) + noise
    return features_nf


def sorted_distances(features_nf: np.ndarray, query_f: np.ndarray) -> np.ndarray:
    """The published way: all distances, sorted."""
    return np.argsort(np.linalg.norm(features_nf - query_f, axis=1))[:K]


def milliseconds(search: Callable[[np.ndarray], Any], query_qf: np.ndarray) -> float:
    """Median over single queries, after a warm-up."""
    search(query_qf[0])
    taken = []
    for query_f in query_qf[1:]:
        start = time.perf_counter()
        search(query_f)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def row(case: str, ours: float, baseline: float, **more: float) -> dict[str, Any]:
    """A row of the result."""
    return {"case": case, "ours": ours, "baseline": baseline, "unit": "ms", "ratio": baseline / ours, **more}


def compare_exact(n_synapses: int, n_queries: int) -> list[dict[str, Any]]:
    """Exact search against sorting: by a batch, and by single queries."""
    features_nf = simulated_features(n_synapses)
    index = FeatureIndex(features_nf, "flat")
    query_qf = features_nf[:: n_synapses // n_queries][:n_queries] + np.float32(0.01)
    start = time.perf_counter()
    index.search(query_qf, K)
    batched = 1e3 * (time.perf_counter() - start) / len(query_qf)
    for query_f in query_qf[:20]:
        assert set(index.search(query_f[None], K).indices_qk[0]) == set(sorted_distances(features_nf, query_f))
    ours = milliseconds(lambda query_f: index.search(query_f[None], K), query_qf)
    baseline = milliseconds(lambda query_f: sorted_distances(features_nf, query_f), query_qf[:6])
    case = f"exact, {n_synapses:,} x {N_FEATURES}, against sorting all distances"
    return [
        row(f"{case}, single queries", ours, baseline),
        row(f"{case}, a query of a batch of {len(query_qf)}", batched, baseline),
    ]


def exact_answers(features_nf: np.ndarray, query_qf: np.ndarray) -> tuple[np.ndarray, float]:
    """The true neighbours, and the milliseconds of an exact query."""
    index = FeatureIndex(features_nf, "flat")
    taken = milliseconds(lambda query_f: index.search(query_f[None], K), query_qf[:20])
    return index.search(query_qf, K).indices_qk, taken


def compare_approximate(n_synapses: int, n_queries: int, kind: IndexKind) -> dict[str, Any]:
    """An approximate index against exact search, with its recall."""
    features_nf = simulated_features(n_synapses)
    query_qf = features_nf[:: n_synapses // n_queries][:n_queries] + np.float32(0.01)
    truth_qk, baseline = exact_answers(features_nf, query_qf)  # its index is gone before the next one is built
    start = time.perf_counter()
    index = FeatureIndex(features_nf, kind)
    seconds = time.perf_counter() - start
    found_qk = index.search(query_qf, K).indices_qk
    recall = statistics.mean(len(set(a) & set(b)) / K for a, b in zip(truth_qk, found_qk, strict=True))
    ours = milliseconds(lambda query_f: index.search(query_f[None], K), query_qf)
    case = f"{kind}, {n_synapses:,} x {N_FEATURES}, against exact search"
    return row(case, ours, baseline, recall_at_10=recall, build_seconds=seconds)


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact", type=int, default=100_000, help="synapses searched exactly")
    parser.add_argument("--approximate", type=int, default=1_000_000, help="synapses searched approximately; 0: none")
    parser.add_argument("--index", choices=["auto", "hnsw", "ivf"], default="auto")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = compare_exact(arguments.exact, arguments.queries)
    keep(rows, arguments.result)
    if arguments.approximate:
        kind = chosen_index(arguments.approximate, arguments.index)
        keep([*rows, compare_approximate(arguments.approximate, arguments.queries, kind)], arguments.result)


def keep(rows: list[dict[str, Any]], result: Path) -> None:
    """Print the last row, and write all: the exact ones are kept where the others take too long."""
    recall = f", recall {rows[-1]['recall_at_10']:.4f}" if "recall_at_10" in rows[-1] else ""
    print(f"{rows[-1]['case']}: {rows[-1]['ours']:.2f} ms, {rows[-1]['baseline']:.2f} ms{recall}", flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": faiss.omp_get_max_threads(),
        "faiss": faiss.__version__,
        "load_average": os.getloadavg()[0],
    }
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
