"""Defective synapses: scores of how likely a synapse is defective, exclusion, and detection of known defects."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.config import OutliersConfig as OutliersConfig
from synapseclr.analysis.config import UnsupervisedScore
from synapseclr.analysis.neuroglancer import NeuroglancerConfig, synapse_links
from synapseclr.analysis.representations import PROJECTOR_LAYERS, FeatureBlocks, Features
from synapseclr.analysis.search import nearest_neighbours
from synapseclr.errors import SynapseCLRError, TableError
from synapseclr.volumes.synapse_table import match_ids, rows_of_ids, table_rows
from synapseclr.volumes.table_schema import (
    COUNT,
    KEY,
    NEUROGLANCER_URL,
    NOT_NEGATIVE,
    PLACES,
    POSITIVE_COUNT,
    SHARE,
    TEXT,
    Column,
    TableSchema,
)

if TYPE_CHECKING:
    from anndata import AnnData

_SCORES = {
    "rank": COUNT,
    "synapse_id": Column("id", unique=True),
    "score": NOT_NEGATIVE,
    "unsupervised": Column(),
    "likeness": Column(nullable=True, rule=("in_range", {"min_value": -1.000001, "max_value": 1.000001})),
    "is_example": Column("flag"),
    "is_accepted": Column("flag"),
    **PLACES,
}

OUTLIER_SCORES = TableSchema("The table of outlier scores", _SCORES, key="synapse_id", may_be_empty=False)

OUTLIER_CANDIDATES = TableSchema(
    "The table of outlier candidates", {**_SCORES, "neuroglancer_url": NEUROGLANCER_URL}, key="synapse_id"
)

EXCLUDED_SYNAPSES = TableSchema(
    "The table of excluded synapses",
    {
        "synapse_id": Column("id", unique=True),
        "reason": Column("text", rule=("isin", {"allowed_values": ["example", "accepted", "listed"]})),
    },
    key="synapse_id",
)

ACCEPTED_DEFECTS = TableSchema("The table accepted_defects", {"synapse_id": KEY}, key="synapse_id")

OUTLIER_DETECTION = TableSchema(
    "The table of outlier detection",
    {
        **dict.fromkeys(("representation", "layer", "method", "kind", "metric"), TEXT),
        "n_examples": COUNT,
        "mean": SHARE,
        "std": NOT_NEGATIVE,
        "n_draws": POSITIVE_COUNT,
        "n_defects": POSITIVE_COUNT,
    },
)


def check_accepted_defects(table: pd.DataFrame) -> pd.DataFrame:
    """Check the user's list of defects; a table without columns stands for a file that is not there."""
    return ACCEPTED_DEFECTS.validate(table) if len(table.columns) else table


EXAMPLE, ACCEPTED, LISTED = "example", "accepted", "listed"
logger = logging.getLogger(__name__)


def excluded_table(synapse_id: np.ndarray, config: OutliersConfig, listed: pd.DataFrame | None = None) -> pd.DataFrame:
    """List the synapses that are taken to be defective.

    Args:
        synapse_id: int64 (n,): ids of all embedded synapses.
        config: ``examples``, which somebody has marked, and ``accept``.
        listed: ``synapse_id`` of defects accepted earlier, in a table of the user's; those without embedding, which may
            belong to other data, are counted in the log and left out. None or a table without columns: no such table.

    Returns:
        ``synapse_id``, each once, and ``reason``: ``example``, ``accepted`` or ``listed``.

    Raises:
        TableError: If a parameter names an unknown id, or no synapse would be left.
    """
    rows_of_ids(config.accept, synapse_id, "outliers.accept")
    rows_of_ids(config.examples, synapse_id, "outliers.examples")
    from_table = np.array([], dtype=np.int64) if listed is None or listed.empty else listed["synapse_id"].to_numpy()
    is_known = np.isin(from_table, synapse_id)
    if not is_known.all():
        logger.warning(
            "accepted_defects lists %d of %d synapses without embedding, such as %s: they are passed over.",
            int((~is_known).sum()),
            len(from_table),
            from_table[~is_known][:3].tolist(),
        )
    reasons: dict[int, str] = {}
    for ids, reason in ((config.examples, EXAMPLE), (config.accept, ACCEPTED), (from_table[is_known], LISTED)):
        for identifier in ids:
            reasons.setdefault(int(identifier), reason)
    if len(synapse_id) and len(reasons) == len(np.unique(synapse_id)):
        raise TableError(
            f"All {len(reasons)} synapses would be left out as defective. Shorten outliers.examples, outliers.accept "
            "or the table accepted_defects, or set outliers.exclude to false."
        )
    return pd.DataFrame(
        {
            "synapse_id": np.array(list(reasons), dtype=np.int64),
            "reason": pd.Series(list(reasons.values()), dtype=object),
        }
    )


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


def whiten(features_nf: Features, shrinkage: float) -> np.ndarray:
    """Standardise features, rotate them to principal components, and divide these by their shrunk standard deviation.

    Blocks of features are whitened each on its own and scaled to the same mean squared norm: whitened together, 25
    statistics are drowned by the components of 900 learned features.

    Args:
        features_nf: (n, f), n at least 2, or blocks. Constant features are dropped.
        shrinkage: 0 gives every component unit variance, 1 leaves the standardised features as they are; in between,
            a component of variance v is divided by sqrt((1 - s) v + s v_mean), so that components of little variance,
            which hold noise, are not blown up.

    Returns:
        float64 (n, p), centred; p is at most f and, for a single block, at most n.

    Raises:
        SynapseCLRError: If all features are constant or there are fewer than two synapses.

    Source: shrinkage towards a multiple of the identity, Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4.
    """
    if isinstance(features_nf, FeatureBlocks):
        white = [whiten(part_nf, shrinkage) for part_nf in features_nf.parts]
        return np.hstack([white_np / np.sqrt(np.square(white_np).sum(axis=1).mean()) for white_np in white])
    raw_nf = np.asarray(features_nf, dtype=np.float64)
    spread_f = raw_nf.std(axis=0) if len(raw_nf) > 1 else np.zeros(raw_nf.shape[1])
    # Rounding leaves a constant feature with a spread of its own precision.
    varies_f = spread_f > 1e-6 * np.maximum(np.abs(raw_nf).max(axis=0, initial=0.0), 1e-30)
    if not varies_f.any():
        raise SynapseCLRError(
            f"Outliers cannot be searched: all {raw_nf.shape[1]} features of the {len(raw_nf)} synapses are constant. "
            "The encoder has collapsed, or there is a single synapse."
        )
    scaled_nf = raw_nf[:, varies_f]  # a copy
    del raw_nf
    scaled_nf -= scaled_nf.mean(axis=0)
    scaled_nf /= spread_f[varies_f]
    # The f x f covariance and not the n x f matrix is decomposed: n may be a million.
    variance_p, axes_fp = np.linalg.eigh(scaled_nf.T @ scaled_nf / len(scaled_nf))
    kept_p = variance_p > 1e-9 * variance_p.max()
    variance_p, axes_fp = variance_p[kept_p], axes_fp[:, kept_p]
    scale_p = np.sqrt((1 - shrinkage) * variance_p + shrinkage * variance_p.mean())
    white_np = scaled_nf @ axes_fp
    white_np /= scale_p
    return np.asarray(white_np)


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
    """Score how unusual each synapse is, without examples.

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
    unit_nf = unit_rows(white_nf)
    return greatest_cosine(unit_nf, unit_nf[rows_e])


def unit_rows(white_nf: np.ndarray) -> np.ndarray:
    """Scale rows (n, p) to unit length; rows of zeros stay as they are."""
    return np.asarray(white_nf / np.maximum(np.linalg.norm(white_nf, axis=1, keepdims=True), 1e-12))


def greatest_cosine(unit_np: np.ndarray, unit_ep: np.ndarray) -> np.ndarray:
    """Greatest cosine (n,) of each row of unit length (n, p) with any of others (e, p)."""
    return np.asarray((unit_np @ unit_ep.T).max(axis=1))


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
    likeness_n = likeness(white_nf, rows_e) if len(rows_e) else None
    return combined(unsupervised_n, likeness_n, len(rows_e), prior_examples)


def combined(
    unsupervised_n: np.ndarray, likeness_n: np.ndarray | None, n_examples: int, prior_examples: float
) -> Detection:
    """Combine scores as :func:`detect` does, from the likeness to a number of examples; None: there are no examples."""
    unusual_n = _surprise(unsupervised_n)
    if likeness_n is None:
        return Detection(unusual_n, unsupervised_n, np.full(len(unsupervised_n), np.nan))
    weight = n_examples / (n_examples + prior_examples)
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
) -> pd.DataFrame:
    """Rank all synapses, likeliest defects first.

    Args:
        obs: One row per synapse.
        detection: Their scores.
        examples: Ids of the synapses that are marked; they come without a rank.
        excluded: From :func:`synapseclr.analysis.outliers.excluded_table`: the others in it are accepted.

    Returns:
        ``rank`` (1 is the likeliest; 0 for examples, which come first), ``synapse_id``, ``score``, ``unsupervised``,
        ``likeness``, ``is_example``, ``is_accepted``, position in nm as far as ``obs`` has it.
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
    order_n = np.lexsort((-detection.score_n, ~table["is_example"].to_numpy()))
    table = table.iloc[order_n].reset_index(drop=True)
    table.insert(0, "rank", np.maximum(np.arange(len(table)) - int(table["is_example"].sum()) + 1, 0))
    return table


def with_links(ranked: pd.DataFrame, obs: pd.DataFrame, neuroglancer: NeuroglancerConfig) -> pd.DataFrame:
    """Add ``neuroglancer_url`` to some rows of :func:`ranked_table`.

    Args:
        ranked: The rows.
        obs: All synapses.
        neuroglancer: Where links lead.
    """
    rows_r = match_ids(ranked["synapse_id"], obs["synapse_id"].to_numpy(), lambda missing: f"No synapses {missing}.")
    return ranked.assign(
        neuroglancer_url=pd.Series(synapse_links(obs.iloc[rows_r], neuroglancer), ranked.index, object)
    )


ALL_KINDS = "all kinds"

DETECTION_COLUMNS = (
    "representation",
    "layer",
    "method",
    "kind",
    "n_examples",
    "metric",
    "mean",
    "std",
    "n_draws",
    "n_defects",
)

_UNSUPERVISED: tuple[UnsupervisedScore, ...] = ("mahalanobis", "knn", "lof")


def known_defects(truth: pd.DataFrame, synapse_id: np.ndarray) -> np.ndarray | None:
    """Kinds of the known defects.

    Args:
        truth: ``synapse_id``, ``defect`` (missing or empty: sound); may be empty.
        synapse_id: int64 (n,): the synapses wanted.

    Returns:
        Text (n,), empty for sound synapses; None if the truth is not about these synapses, which holds for all data
        that were not simulated, or if it knows no defect or no sound synapse among them.
    """
    if not {"synapse_id", "defect"} <= set(truth) or not np.isin(synapse_id, truth["synapse_id"]).all():
        return None
    defect_n = table_rows(truth, synapse_id)["defect"].fillna("").astype(str).to_numpy()
    return defect_n if 0 < (defect_n != "").sum() < len(defect_n) else None


def evaluate_detection(
    representations: Mapping[str, Mapping[str, Features]], defect_n: np.ndarray, config: OutliersConfig
) -> pd.DataFrame:
    """Search known defects by examples drawn from them, over and over.

    Args:
        representations: Name to layer to features (n, f) or blocks, all of the same synapses.
        defect_n: Text (n,): kind of defect, empty for sound synapses.
        config: Numbers of examples, draws, and the rank at which precision is taken.

    Returns:
        Columns ``DETECTION_COLUMNS``. Method ``examples`` at 1, 5, 20 examples, drawn from all kinds and searched among
        all but the examples themselves; with one example also per kind, where the other kinds are left out; and the
        unsupervised scores, at 0 examples. ``metric`` is ``roc_auc`` or ``precision_at_<k>``; ``std`` is the standard
        deviation over draws. The same examples are drawn for every representation. Numbers that would leave no defect
        to find are left out.
    """
    draws = _draw_examples(defect_n, config)
    rows = []
    for name, layers in representations.items():
        for layer, features_nf in layers.items():
            white_nf = whiten(features_nf, config.shrinkage)
            scores = {kind: unsupervised_score(white_nf, kind, config.n_neighbours) for kind in _UNSUPERVISED}
            unit_nf = unit_rows(white_nf)
            del white_nf
            for method, score_n in scores.items():
                for kind in (ALL_KINDS, *_kinds(defect_n)):
                    measured = [_measure(score_n, defect_n, kind, np.array([], dtype=int), config.precision_at)]
                    rows += _summary((name, layer, method, kind, 0), measured, defect_n, config)
            for (kind, n_examples), examples in draws.items():
                measured = []
                for rows_e in examples:
                    likeness_n = greatest_cosine(unit_nf, unit_nf[rows_e])
                    found = combined(scores[config.unsupervised], likeness_n, len(rows_e), config.prior_examples)
                    measured.append(_measure(found.score_n, defect_n, kind, rows_e, config.precision_at))
                rows += _summary((name, layer, "examples", kind, n_examples), measured, defect_n, config)
    return pd.DataFrame(rows, columns=list(DETECTION_COLUMNS))


def _kinds(defect_n: np.ndarray) -> list[str]:
    return sorted(set(defect_n.tolist()) - {""})


def _draw_examples(defect_n: np.ndarray, config: OutliersConfig) -> dict[tuple[str, int], list[np.ndarray]]:
    """Rows of the examples by kind and number; single examples are taken one after the other, others at random."""
    rng = np.random.default_rng(config.seed)
    defective = np.flatnonzero(defect_n != "")
    draws: dict[tuple[str, int], list[np.ndarray]] = {}
    for n_examples in sorted(set(config.evaluated_examples)):
        if not 1 <= n_examples < len(defective):
            continue
        if n_examples == 1:
            draws[ALL_KINDS, 1] = [np.array([row]) for row in rng.permutation(defective)[: config.n_draws]]
        else:
            draws[ALL_KINDS, n_examples] = [
                rng.choice(defective, size=n_examples, replace=False) for _ in range(config.n_draws)
            ]
    for kind in _kinds(defect_n):
        of_kind = np.flatnonzero(defect_n == kind)
        if len(of_kind) > 1:
            draws[kind, 1] = [np.array([row]) for row in rng.permutation(of_kind)[: config.n_draws]]
    return draws


def _measure(score_n: np.ndarray, defect_n: np.ndarray, kind: str, rows_e: np.ndarray, k: int) -> tuple[float, float]:
    """ROC AUC and precision at k over all synapses but the examples, and the defects of other kinds."""
    from sklearn.metrics import roc_auc_score

    is_target_n = defect_n != "" if kind == ALL_KINDS else defect_n == kind
    is_judged_n = is_target_n | (defect_n == "")
    is_judged_n[rows_e] = False
    score_j, is_target_j = score_n[is_judged_n], is_target_n[is_judged_n]
    best_k = np.argsort(-score_j, kind="stable")[:k]
    return float(roc_auc_score(is_target_j, score_j)), float(is_target_j[best_k].mean())


def _summary(
    keys: tuple[str, str, str, str, int],
    measured: list[tuple[float, float]],
    defect_n: np.ndarray,
    config: OutliersConfig,
) -> list[tuple[object, ...]]:
    n_defects = int((defect_n != "").sum() if keys[3] == ALL_KINDS else (defect_n == keys[3]).sum())
    mean, std = np.mean(measured, axis=0), np.std(measured, axis=0, ddof=1) if len(measured) > 1 else np.zeros(2)
    metrics = ("roc_auc", f"precision_at_{config.precision_at}")
    return [
        (*keys, metric, float(mean[column]), float(std[column]), len(measured), n_defects)
        for column, metric in enumerate(metrics)
    ]


def detection_metrics(detection: pd.DataFrame) -> dict[str, float]:
    """Flatten an evaluation over all kinds, of backbones and statistics, to metrics with stable names.

    Args:
        detection: From :func:`evaluate_detection`.

    Returns:
        ``outliers/representation/layer/method_<n examples>/metric`` to the mean, and the same with ``_std``.
    """
    metrics: dict[str, float] = {}
    chosen = detection[(detection["kind"] == ALL_KINDS) & ~detection["layer"].isin(PROJECTOR_LAYERS)]
    for row in chosen.to_dict("records"):
        method = f"{row['method']}_{row['n_examples']}" if row["n_examples"] else str(row["method"])
        name = f"outliers/{row['representation']}/{row['layer']}/{method}/{row['metric']}"
        metrics[name] = float(row["mean"])
        if row["n_examples"]:
            metrics[f"{name}_std"] = float(row["std"])
    return metrics
