"""How well known defects are found, from one example, a few, or none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from synapseclr.analysis.feature_blocks import Features
from synapseclr.analysis.layers import PROJECTOR_LAYERS
from synapseclr.analysis.outliers.config import OutliersConfig, UnsupervisedScore
from synapseclr.analysis.outliers.detection import detect, unsupervised_score
from synapseclr.analysis.outliers.whitening import whiten
from synapseclr.volumes.synapse_ids import table_rows

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
            for method, score_n in scores.items():
                for kind in (ALL_KINDS, *_kinds(defect_n)):
                    measured = [_measure(score_n, defect_n, kind, np.array([], dtype=int), config.precision_at)]
                    rows += _summary((name, layer, method, kind, 0), measured, defect_n, config)
            for (kind, n_examples), examples in draws.items():
                measured = []
                for rows_e in examples:
                    score_n = detect(white_nf, scores[config.unsupervised], rows_e, config.prior_examples).score_n
                    measured.append(_measure(score_n, defect_n, kind, rows_e, config.precision_at))
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
