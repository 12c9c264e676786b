"""Scores of how likely a synapse is defective, and tables of the likeliest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.outliers.config import UnsupervisedScore
from synapseclr.analysis.outliers.exclusion import EXAMPLE
from synapseclr.analysis.search.neighbours import nearest_neighbours
from synapseclr.analysis.search.neuroglancer import NeuroglancerConfig, synapse_links

_PLACES = ("centre_x_nm", "centre_y_nm", "centre_z_nm")


class Detection(NamedTuple):
    """Scores of all synapses, greater for those likelier defective.

    Attributes:
        score_n: What they are ranked by, in nats, 0 and up: -log of the share of synapses that are at least as unusual,
            and, weighted, of those at least as like an example.
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


def detect(white_nf: np.ndarray, unsupervised_n: np.ndarray, rows_e: np.ndarray, prior_examples: float) -> Detection:
    """Combine what is unusual with what is like the examples.

    Each score becomes an empirical tail probability, the share of synapses that score at least as high; their
    logarithms are added. So a synapse comes first that stands out in either respect. The likeness counts
    e / (e + prior): a few examples do not tell all kinds of defects.

    Args:
        white_nf: (n, p): whitened features.
        unsupervised_n: (n,): from :func:`unsupervised_score`.
        rows_e: int (e,): rows of the examples; may be empty.
        prior_examples: Number of examples at which their likeness weighs half as much as being unusual; 0: always as
            much.

    Returns:
        The scores.

    Source: Fisher's combination of tail probabilities; with weights, Good 1955, J. R. Stat. Soc. B 17, 264.
    """
    unusual_n = _surprise(unsupervised_n)
    if len(rows_e) == 0:
        return Detection(unusual_n, unsupervised_n, np.full(len(white_nf), np.nan))
    likeness_n = likeness(white_nf, rows_e)
    weight = len(rows_e) / (len(rows_e) + prior_examples)
    return Detection(unusual_n + weight * _surprise(likeness_n), unsupervised_n, likeness_n)


def _surprise(values_n: np.ndarray) -> np.ndarray:
    """-log of the share of values that are at least as great, a value itself counting half."""
    from scipy.stats import rankdata

    return np.asarray(-np.log1p((0.5 - rankdata(values_n)) / len(values_n)))


def ranked_table(
    obs: pd.DataFrame,
    detection: Detection,
    examples: tuple[int, ...],
    excluded: pd.DataFrame,
    neuroglancer: NeuroglancerConfig,
) -> pd.DataFrame:
    """Rank all synapses, likeliest defects first.

    Args:
        obs: One row per synapse.
        detection: Their scores.
        examples: Ids of the synapses that are marked; they come without a rank.
        excluded: From :func:`synapseclr.analysis.outliers.excluded_table`: the others in it are accepted.
        neuroglancer: Where links lead.

    Returns:
        ``rank`` (1 is the likeliest; 0 for examples, which come first), ``synapse_id``, ``score``, ``unsupervised``,
        ``likeness``, ``is_example``, ``is_accepted``, position in nm as far as ``obs`` has it, ``neuroglancer_url``.
    """
    synapse_id = obs["synapse_id"].to_numpy()
    table = pd.DataFrame({"synapse_id": synapse_id, "score": detection.score_n})
    table["unsupervised"] = detection.unsupervised_n
    table["likeness"] = detection.likeness_n
    table["is_example"] = np.isin(synapse_id, examples)
    table["is_accepted"] = np.isin(synapse_id, excluded.loc[excluded["reason"] != EXAMPLE, "synapse_id"])
    for column in _PLACES:
        if column in obs:
            table[column] = obs[column].to_numpy()
    table["neuroglancer_url"] = synapse_links(obs, neuroglancer)
    table = table.sort_values(["is_example", "score"], ascending=[False, False], kind="stable", ignore_index=True)
    table.insert(0, "rank", np.maximum(np.arange(len(table)) - int(table["is_example"].sum()) + 1, 0))
    return table
