"""Nodes of the outliers pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, STATISTIC_NAMES
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.outlier_blocks import detect_in_blocks
from synapseclr.analysis.outliers import (
    DETECTION_COLUMNS,
    OutliersConfig,
    detect,
    detection_metrics,
    evaluate_detection,
    excluded_table,
    known_defects,
    ranked_table,
    unsupervised_score,
    whiten,
    with_links,
)
from synapseclr.analysis.representations import (
    FeatureBlocks,
    Features,
    Statistics,
    is_lazy_features,
    layer_array,
    layer_features,
    recorded_layers,
    statistics_of,
)
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig, sample_rows
from synapseclr.pipelines import AnnData, ChunkStore, Drawing, Figure
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, embedding_digests, pipeline_section
from synapseclr.plotting.searches import detection_figure
from synapseclr.plotting.sections import contact_sheet, read_slabs
from synapseclr.plotting.theme import LAYER_LABELS, representation_labels
from synapseclr.storage.sharded_anndata import is_lazy
from synapseclr.volumes.synapse_table import aligned_rows, rows_of_ids

logger = logging.getLogger(__name__)

_METHODS = {
    "mahalanobis": "no examples, Mahalanobis distance",
    "knn": "no examples, distance to neighbours",
    "lof": "no examples, local outlier factor",
}


def rank_outliers(
    synapse_embeddings: AnnData,
    mask_statistics: Statistics,
    chunk_statistics: Statistics,
    accepted_defects: pd.DataFrame,
    config: OutliersConfig,
    neuroglancer: NeuroglancerConfig,
    row_blocks: RowBlocksConfig = HERE,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rank synapses by how likely they are defective.

    Args:
        synapse_embeddings: Synapses by features.
        mask_statistics: Statistics of the masks per synapse.
        chunk_statistics: Trivial statistics per synapse.
        accepted_defects: Synapses that people have listed as defective; may have neither rows nor columns.
        config: The parameters ``outliers``.
        neuroglancer: The parameters ``neuroglancer``: where links lead.
        row_blocks: The parameters ``row_blocks``, where features exceed memory.

    Returns:
        All synapses, ranked; the examples and the best candidates; and the synapses taken to be defective.
    """
    obs = synapse_embeddings.obs
    synapse_id = obs["synapse_id"].to_numpy()
    rows_e = rows_of_ids(config.examples, synapse_id, "outliers.examples")
    excluded = excluded_table(synapse_id, config, accepted_defects)
    features_nf = join_features(synapse_embeddings, mask_statistics, chunk_statistics, config)
    if is_lazy_features(features_nf):
        detection = detect_in_blocks(features_nf, rows_e, config, row_blocks)
    else:
        white_nf = whiten(features_nf, config.shrinkage)
        unsupervised_n = unsupervised_score(white_nf, config.unsupervised, config.n_neighbours)
        detection = detect(white_nf, unsupervised_n, rows_e, config.prior_examples)
    del features_nf  # statistics of ten million synapses are a gigabyte
    ranked = ranked_table(obs, detection, config.examples, excluded)
    candidates = with_links(ranked[ranked["rank"] <= config.n_candidates], obs, neuroglancer)
    return ranked, candidates, excluded


def join_features(
    synapse_embeddings: AnnData, mask_statistics: Statistics, chunk_statistics: Statistics, config: OutliersConfig
) -> Features:
    """Set the layer that is searched beside a block of the statistics that the parameters join to it."""
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    features_nf = layer_array(synapse_embeddings, config.layer)
    if not is_lazy(features_nf):
        features_nf = layer_features(synapse_embeddings, config.layer)
    joined = []
    if config.with_masks:
        joined.append(statistics_of(mask_statistics, MASK_STATISTIC_NAMES, synapse_id, "mask_statistics"))
    if config.with_statistics:
        joined.append(statistics_of(chunk_statistics, STATISTIC_NAMES, synapse_id, "chunk_statistics"))
    if not joined:
        return features_nf
    return FeatureBlocks((features_nf, np.hstack(joined) if len(joined) > 1 else joined[0]))


def measure_detection(
    synapse_embeddings: AnnData,
    random_embeddings: AnnData,
    mask_statistics: Statistics,
    chunk_statistics: Statistics,
    simulation_truth: pd.DataFrame,
    config: OutliersConfig,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Search the defects that the simulation made, in every representation.

    Args:
        synapse_embeddings: Embeddings of the trained encoder.
        random_embeddings: Embeddings of the randomly initialised encoder.
        mask_statistics: Statistics of the masks per synapse.
        chunk_statistics: Trivial statistics per synapse.
        simulation_truth: ``synapse_id`` and ``defect``; without rows for data that were not simulated. A column
            ``defect`` of the embeddings goes before it.
        config: The parameters ``outliers``.

    Returns:
        Scores over random draws of examples, and those over all kinds of defects as metrics; both empty without truth.
    """
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    # Embeddings that were simulated without a volume tell their defects themselves.
    truth = synapse_embeddings.obs if "defect" in synapse_embeddings.obs else simulation_truth
    defect_n = known_defects(truth, synapse_id)
    if defect_n is None:
        logger.info("No truth about defects of these synapses is known: the detection of outliers is not evaluated.")
        return pd.DataFrame(columns=list(DETECTION_COLUMNS)), {}
    rows_m = sample_rows(len(synapse_id), config.n_evaluated, config.seed)
    if is_lazy(synapse_embeddings.X) or len(rows_m) < len(synapse_id):
        logger.info("The detection of outliers is measured on %d of %d synapses.", len(rows_m), len(synapse_id))
        synapse_id, defect_n = synapse_id[rows_m], defect_n[rows_m]
        synapse_embeddings = synapse_embeddings[rows_m].to_memory()
        random_embeddings = _synapses_in_memory(random_embeddings, synapse_id)
    random_rows = aligned_rows(synapse_id, random_embeddings.obs["synapse_id"].to_numpy(), "random.synapse_embeddings")
    untrained = recorded_layers(random_embeddings)
    statistics_nk = statistics_of(chunk_statistics, STATISTIC_NAMES, synapse_id, "chunk_statistics")
    masks_nk = statistics_of(mask_statistics, MASK_STATISTIC_NAMES, synapse_id, "mask_statistics")
    features_nf = layer_features(synapse_embeddings, config.layer)
    representations: dict[str, dict[str, Features]] = {
        "synapseclr": {**recorded_layers(synapse_embeddings)},
        "random": {layer: untrained_nf[random_rows] for layer, untrained_nf in untrained.items()},
        "trivial_statistics": {"statistics": statistics_nk},
        "mask_statistics": {"statistics": masks_nk},
        "synapseclr_and_masks": {config.layer: FeatureBlocks((features_nf, masks_nk))},
    }
    detection = evaluate_detection(representations, defect_n, config)
    return detection, detection_metrics(detection)


def _synapses_in_memory(embeddings: AnnData, synapse_id: np.ndarray) -> AnnData:
    """Some synapses of embeddings that may be lazy, in the order of the rows that they have."""
    rows_m = aligned_rows(synapse_id, embeddings.obs["synapse_id"].to_numpy(), "random.synapse_embeddings")
    return embeddings[np.sort(rows_m)].to_memory()


def draw_candidates(outlier_candidates: pd.DataFrame, synapse_chunks: ChunkStore, config: OutliersConfig) -> Figure:
    """Draw the examples, then the likeliest defects, best first."""
    drawn = outlier_candidates.sort_values("rank", kind="stable").head(config.n_drawn)
    slabs = read_slabs(synapse_chunks, drawn["synapse_id"].to_numpy())
    titles = []
    for row in drawn.to_dict("records"):
        rank = "example" if row["is_example"] else f"{row['rank']}:  score {row['score']:.3f}"
        titles.append(f"{row['synapse_id']}\n{rank}{', accepted' if row['is_accepted'] else ''}")
    return contact_sheet(slabs, synapse_chunks.voxel_size_nm, titles, synapse_id_n=drawn["synapse_id"].tolist())


def draw_detection(outlier_detection: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> Figure:
    """Draw how well the known defects are found in each representation; provenance says what these are called."""
    return detection_figure(outlier_detection, representation_labels(provenance))


def describe_outliers(
    synapse_embeddings: AnnData,
    outlier_candidates: pd.DataFrame,
    outlier_sheet: Drawing,
    outlier_detection: pd.DataFrame,
    outlier_metrics: dict[str, float],
    outlier_detection_figure: Drawing,
    outliers: OutliersConfig,
    config: ReportingConfig,
) -> dict[str, Any]:
    """Write the report's section on the likeliest defects, and on how well known ones are found."""
    figures, provenance = (outlier_sheet, outlier_detection_figure), synapse_embeddings.uns.get("provenance", {})
    return pipeline_section(
        [
            describe_candidates(
                outlier_candidates, outlier_detection, *figures, outliers, provenance, synapse_embeddings.n_obs
            )
        ],
        config,
        made_from=embedding_digests(provenance),
        evaluation={"outliers": outlier_metrics} if len(outlier_detection) else {},
    )


def describe_candidates(
    outlier_candidates: pd.DataFrame,
    outlier_detection: pd.DataFrame,
    sheet: Drawing,
    detection: Drawing,
    config: OutliersConfig,
    provenance: Mapping[str, Any],
    n_synapses: int,
) -> Section:
    """Show the likeliest defects, and tell how well known ones, of all synapses or of drawn ones, are found."""
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
        sheet,
        "The likeliest first, one EM section each. Score: -log of the share of synapses at least as unusual, or as "
        "like the examples.",
    )
    if outlier_detection.empty:
        text.append("No defects are known in these data, so the detection is not evaluated.")
        return Section("Outliers", text, [candidates])
    n_defects = int(outlier_detection["n_defects"].max())
    if n_synapses > config.n_evaluated:
        judged = f"Of {config.n_evaluated:,} synapses, drawn from all {n_synapses:,} at random, the simulation made"
        judged += f" {n_defects} defective."
    else:
        judged = f"The simulation made {n_defects} of the synapses defective."
    text.append(
        f"{judged} They were searched with examples drawn from them at random, many times over; the examples "
        "themselves are not judged."
    )
    caption = "Mean and standard deviation over draws of the examples. Dashed: chance."
    return Section(
        "Outliers",
        text,
        [candidates, Picture(detection, caption)],
        [_detection_table(outlier_detection, representation_labels(provenance))],
    )


def _detection_table(detection: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """Methods and numbers of examples by representation, over all kinds of defects."""
    overall = detection[detection["kind"] == "all kinds"]
    columns = list(overall[["representation", "layer"]].drop_duplicates().itertuples(index=False, name=None))
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
    headings = [", ".join(filter(None, (names.get(name, name), LAYER_LABELS.get(layer)))) for name, layer in columns]
    caption = "Detection of known defects: mean ± standard deviation over draws of the examples."
    return Table(("method", "metric", *headings), rows, caption, is_folded=True, has_numbers=True)
