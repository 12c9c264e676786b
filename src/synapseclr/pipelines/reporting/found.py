"""The report's sections on what was searched for: similar synapses, and defective ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from synapseclr.analysis.outliers import OutliersConfig
from synapseclr.pipelines.outliers.nodes import draw_candidates, draw_detection
from synapseclr.pipelines.similarity.nodes import draw_distances, draw_neighbours
from synapseclr.plotting.report import Picture, Section, Table

if TYPE_CHECKING:
    from synapseclr.volumes import ChunkStore

_METHODS = {
    "mahalanobis": "no examples, Mahalanobis distance",
    "knn": "no examples, distance to neighbours",
    "lof": "no examples, local outlier factor",
}
_REPRESENTATIONS = {
    "synapseclr": "SynapseCLR",
    "random": "untrained encoder",
    "trivial_statistics": "image statistics",
    "mask_statistics": "mask statistics",
    "synapseclr_and_masks": "SynapseCLR and masks",
}
_LAYERS = {
    "encoder.fc": "backbone",
    "projector.mlp.0": "projector, middle",
    "projector.mlp.3": "projector, end",
    "statistics": "",
}


def describe_similarity(
    similarity_results: pd.DataFrame,
    distance_histograms: pd.DataFrame,
    index_recall: pd.DataFrame,
    synapse_chunks: ChunkStore,
) -> Section:
    """Queries with their nearest neighbours, the distances of all others, and what approximate indices would miss."""
    text = (
        "Each row begins with a query synapse (framed); its nearest neighbours in feature space follow, nearest first."
    )
    used = index_recall.loc[index_recall["is_used"], "index"].iloc[0]
    pictures = [
        Picture(
            draw_neighbours(similarity_results, synapse_chunks),
            "One EM section each, through the widest part of the cleft; d is the Euclidean distance of the features.",
        ),
        Picture(
            draw_distances(distance_histograms, similarity_results),
            "Distance of every synapse from each query. Red: those listed as its neighbours.",
        ),
    ]
    rows = [
        [str(row["index"]), f"{row['n_neighbours']}", f"{row['n_queries']}", f"{row['recall']:.4f}"]
        for row in index_recall.to_dict("records")
    ]
    caption = f"Share of the true nearest neighbours that each index finds; in use: {used}."
    table = Table(("index", "neighbours", "queries", "recall"), rows, caption, is_folded=True, has_numbers=True)
    return Section("Similar synapses", [text], pictures, [table])


def describe_outliers(
    outlier_candidates: pd.DataFrame,
    outlier_detection: pd.DataFrame,
    synapse_chunks: ChunkStore,
    config: OutliersConfig,
) -> Section:
    """The likeliest defects, and how well known ones are found."""
    n_examples = int(outlier_candidates["is_example"].sum())
    source = f"likeness to {n_examples} marked examples and " if n_examples else ""
    searched = " and ".join(
        ["features"] + ["mask statistics"] * config.with_masks + ["image statistics"] * config.with_statistics
    )
    text = [
        f"Synapses that may be defective, ranked by {source}how unusual their {searched} are ({config.unsupervised}). "
        f"Nobody has looked at them: {int(outlier_candidates['is_accepted'].sum())} of these are accepted as defective."
    ]
    candidates = Picture(
        draw_candidates(outlier_candidates, synapse_chunks, config),
        "The likeliest first, one EM section each. Score: -log of the share of synapses at least as unusual, or as "
        "like the examples.",
    )
    if outlier_detection.empty:
        text.append("No defects are known in these data, so the detection is not evaluated.")
        return Section("Outliers", text, [candidates])
    n_defects = int(outlier_detection["n_defects"].max())
    text.append(
        f"The simulation made {n_defects} of these synapses defective. They were searched with examples drawn from "
        "them at random, many times over; the examples themselves are not judged."
    )
    caption = "Mean and standard deviation over draws of the examples. Dashed: chance."
    return Section(
        "Outliers",
        text,
        [candidates, Picture(draw_detection(outlier_detection), caption)],
        [_detection_table(outlier_detection)],
    )


def _detection_table(detection: pd.DataFrame) -> Table:
    """Methods and numbers of examples by representation, over all kinds of defects."""
    overall = detection[detection["kind"] == "all kinds"]
    names = overall[["representation", "layer"]].drop_duplicates().itertuples(index=False, name=None)
    columns = list(names)
    cells = {
        (row["representation"], row["layer"], row["method"], row["n_examples"], row["metric"]): row
        for row in overall.to_dict("records")
    }
    rows = []
    methods = overall[["method", "n_examples", "metric"]].drop_duplicates().itertuples(index=False, name=None)
    for method, n_examples, metric in methods:
        found = [cells[name, layer, method, n_examples, metric] for name, layer in columns]
        plural = "" if n_examples == 1 else "s"
        label = _METHODS.get(method, f"{n_examples} example{plural}")
        texts = [f"{row['mean']:.3f}" + (f" ± {row['std']:.3f}" if n_examples else "") for row in found]
        rows.append([label, "ROC AUC" if metric == "roc_auc" else metric.replace("_", " "), *texts])
    headings = [", ".join(filter(None, (_REPRESENTATIONS.get(name, name), _LAYERS[layer]))) for name, layer in columns]
    caption = "Detection of known defects: mean ± standard deviation over draws of the examples."
    return Table(("method", "metric", *headings), rows, caption, is_folded=True, has_numbers=True)
