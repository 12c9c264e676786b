"""Retrieval without labels: how early a search finds what belongs to a query."""

from __future__ import annotations

import numpy as np


def reciprocal_ranks(query_qf: np.ndarray, gallery_nf: np.ndarray, is_match_qn: np.ndarray) -> np.ndarray:
    """Reciprocal rank of the nearest match of every query.

    Features are standardised by the gallery, so that no feature counts by its scale; distances are Euclidean.

    Args:
        query_qf: Features of the queries, (q, f).
        gallery_nf: Features that are searched, (n, f).
        is_match_qn: Boolean: which of the gallery belong to a query. Entries that a query must not find, such as
            itself, are left out of the search by NaN: give float then, 1 for a match, 0 for none, NaN for left out.

    Returns:
        float64 (q,): 1 where the nearest belongs to the query, 1/2 where the second is the first to do so, ...; NaN for
        a query without a match.

    Source: Voorhees 1999, The TREC-8 question answering track report.
    """
    mean_f, std_f = gallery_nf.mean(axis=0), gallery_nf.std(axis=0)
    varies_f = std_f > 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    scaled = [((each - mean_f) / np.where(varies_f, std_f, 1.0))[:, varies_f] for each in (query_qf, gallery_nf)]
    squared_qn = np.square(scaled[0][:, None] - scaled[1][None]).sum(axis=2)
    match_qn = np.asarray(is_match_qn, dtype=float)
    squared_qn = np.where(np.isnan(match_qn), np.inf, squared_qn)
    ranks = np.full(len(query_qf), np.nan)
    for q, (distance_n, match_n) in enumerate(zip(squared_qn, match_qn, strict=True)):
        matches = np.flatnonzero(match_n == 1)
        if len(matches):
            # Ties count against the query: everything at least as near as the match stands before it.
            nearest = distance_n[matches].min()
            ranks[q] = 1 / max(1, int(((distance_n <= nearest) & (match_n != 1)).sum()) + 1)
    return ranks


def interval_over_groups(
    value_q: np.ndarray, group_q: np.ndarray, n_draws: int, seed: int
) -> tuple[float, float, float]:
    """Mean, and its 90 % interval by a bootstrap of groups.

    Args:
        value_q: One value a query; NaN is left out.
        group_q: Group of each query, such as its neurite: queries of one group are not independent.
        n_draws: Bootstrap draws.
        seed: Of the draws.

    Returns:
        Mean, 5th and 95th percentile of the draws' means.
    """
    kept = ~np.isnan(value_q)
    value_q, code_q = value_q[kept], np.unique(group_q[kept], return_inverse=True)[1]
    sums, counts = np.bincount(code_q, value_q), np.bincount(code_q)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (n_draws, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.05, 0.95))
    return float(value_q.mean()), float(low), float(high)
