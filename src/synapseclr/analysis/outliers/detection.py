"""Scores of how likely a synapse is defective, and tables of the likeliest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.neighbours import nearest_neighbours
from synapseclr.analysis.neuroglancer import NeuroglancerConfig, synapse_links
from synapseclr.analysis.outliers.config import OutliersConfig, UnsupervisedScore
from synapseclr.analysis.synapse_ids import rows_of_ids

if TYPE_CHECKING:
    from anndata import AnnData

_PLACES = ("centre_x_nm", "centre_y_nm", "centre_z_nm")


class Detection(NamedTuple):
    """Scores of all synapses, greater for those likelier defective.

    Attributes:
        score_n: What they are ranked by: the mean of the others' percentiles, 0 to 1; without examples the percentile
            of the unsupervised score alone.
        unsupervised_n: In the unit of the chosen score.
        likeness_n: Greatest cosine to an example, -1 to 1, in whitened features; NaN without examples.
    """

    score_n: np.ndarray
    unsupervised_n: np.ndarray
    likeness_n: np.ndarray


def unsupervised_score(white_nf: np.ndarray, kind: UnsupervisedScore, n_neighbours: int = 10) -> np.ndarray:
    """How unusual each synapse is, without examples.

    Args:
        white_nf: (n, p): whitened features.
        kind: ``mahalanobis``: distance from the mean; ``knn``: mean distance to the nearest neighbours; ``lof``: local
            outlier factor, the neighbours' density over one's own.
        n_neighbours: Neighbours of ``knn`` and ``lof``; at most n - 1.

    Returns:
        float64 (n,).

    Source: ``lof``, Breunig et al. 2000, doi:10.1145/335191.335388, equations 5 to 7.
    """
    if kind == "mahalanobis":
        return np.asarray(np.linalg.norm(white_nf, axis=1))
    k = min(n_neighbours, len(white_nf) - 1)
    indices_nk, distances_nk = nearest_neighbours(white_nf.astype(np.float32), np.arange(len(white_nf)), k, "auto")
    distances_nk = distances_nk.astype(np.float64)
    if kind == "knn":
        return np.asarray(distances_nk.mean(axis=1))
    reach_nk = np.maximum(distances_nk, distances_nk[:, -1][indices_nk])
    # Duplicates reach each other at distance zero: their density is finite here, and great.
    density_n = 1.0 / np.maximum(reach_nk.mean(axis=1), 1e-12)
    return np.asarray(density_n[indices_nk].mean(axis=1) / density_n)


def likeness(white_nf: np.ndarray, rows_e: np.ndarray) -> np.ndarray:
    """Cosine of each synapse's whitened features with those of the example it is most like.

    The cosine of whitened features is an exemplar's linear discriminant against all synapses, at unit length. The
    greatest and not the mean is taken because defects are of several kinds.

    Args:
        white_nf: (n, p): whitened features, centred.
        rows_e: int (e,): rows of the examples, at least one.

    Returns:
        float64 (n,).

    Source: Hariharan, Malik & Ramanan 2012, doi:10.1007/978-3-642-33765-9_33, section 2.
    """
    length_n = np.maximum(np.linalg.norm(white_nf, axis=1, keepdims=True), 1e-12)
    unit_nf = white_nf / length_n
    return np.asarray((unit_nf @ unit_nf[rows_e].T).max(axis=1))


def detect(white_nf: np.ndarray, unsupervised_n: np.ndarray, rows_e: np.ndarray) -> Detection:
    """Combine what is unusual with what is like the examples.

    Args:
        white_nf: (n, p): whitened features.
        unsupervised_n: (n,): from :func:`unsupervised_score`.
        rows_e: int (e,): rows of the examples; may be empty.

    Returns:
        The scores.
    """
    unusual_n = _percentile(unsupervised_n)
    if len(rows_e) == 0:
        return Detection(unusual_n, unsupervised_n, np.full(len(white_nf), np.nan))
    likeness_n = likeness(white_nf, rows_e)
    return Detection((unusual_n + _percentile(likeness_n)) / 2, unsupervised_n, likeness_n)


def _percentile(values_n: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values_n) / len(values_n))


def ranked_table(
    obs: pd.DataFrame, detection: Detection, config: OutliersConfig, neuroglancer: NeuroglancerConfig
) -> pd.DataFrame:
    """Rank all synapses, likeliest defects first.

    Args:
        obs: One row per synapse.
        detection: Their scores.
        config: ``examples``, which are marked and come without a rank.
        neuroglancer: Where links lead.

    Returns:
        ``rank`` (1 is the likeliest; 0 for examples, which come first), ``synapse_id``, ``score``, ``unsupervised``,
        ``likeness``, ``is_example``, ``is_accepted``, position in nm as far as ``obs`` has it, ``neuroglancer_url``.
    """
    synapse_id = obs["synapse_id"].to_numpy()
    table = pd.DataFrame({"synapse_id": synapse_id, "score": detection.score_n})
    table["unsupervised"] = detection.unsupervised_n
    table["likeness"] = detection.likeness_n
    table["is_example"] = np.isin(synapse_id, config.examples)
    table["is_accepted"] = np.isin(synapse_id, config.accept)
    for column in _PLACES:
        if column in obs:
            table[column] = obs[column].to_numpy()
    table["neuroglancer_url"] = synapse_links(obs, neuroglancer)
    table = table.sort_values(["is_example", "score"], ascending=[False, False], kind="stable", ignore_index=True)
    table.insert(0, "rank", np.maximum(np.arange(len(table)) - int(table["is_example"].sum()) + 1, 0))
    return table


def excluded_table(synapse_id: np.ndarray, config: OutliersConfig) -> pd.DataFrame:
    """List the synapses that are accepted as defective.

    Args:
        synapse_id: int64 (n,): ids of all embedded synapses.
        config: ``accept``, and ``examples``, which somebody has marked.

    Returns:
        ``synapse_id``, ``reason``: ``example`` or ``accepted``.

    Raises:
        TableError: If an id is unknown.
    """
    rows_of_ids(config.accept, synapse_id, "outliers.accept")
    rows_of_ids(config.examples, synapse_id, "outliers.examples")
    examples = list(dict.fromkeys(config.examples))
    accepted = [identifier for identifier in dict.fromkeys(config.accept) if identifier not in examples]
    reasons = ["example"] * len(examples) + ["accepted"] * len(accepted)
    return pd.DataFrame({"synapse_id": np.array([*examples, *accepted], dtype=np.int64), "reason": reasons})


def without_excluded(embeddings: AnnData, excluded: pd.DataFrame) -> AnnData:
    """Leave out the synapses of a table.

    Args:
        embeddings: Synapses with ``obs["synapse_id"]``.
        excluded: ``synapse_id``; ids without embedding are passed over.

    Returns:
        The others, as a copy; the embeddings themselves if there is nothing to leave out.
    """
    is_kept_n = ~embeddings.obs["synapse_id"].isin(excluded["synapse_id"]).to_numpy()
    return embeddings if is_kept_n.all() else embeddings[is_kept_n].copy()
