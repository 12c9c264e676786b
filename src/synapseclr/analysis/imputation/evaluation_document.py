"""The evaluation of a run: scores condensed over folds, as the document that others rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from synapseclr.analysis.imputation.imputing import imputation_metrics

_TAIL = 0.05


def summarise_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over folds.

    Args:
        scores: Tidy scores from :func:`synapseclr.analysis.imputation.trait_scores.score_representations`.

    Returns:
        One row per representation, layer, trait and probe, in order of first appearance: ``metric``, ``mean``, ``std``
        (sample standard deviation over folds; 0 for a single fold), ``folds``, and ``low``, ``high``: the 5th and 95th
        percentile over folds. Folds are those of all draws.
    """
    keys = ["representation", "layer", "trait", "probe", "metric"]
    grouped = scores.groupby(keys, sort=False)["score"]
    summary = grouped.agg(
        mean="mean",
        std="std",
        folds="count",
        low=lambda scores: scores.quantile(_TAIL),
        high=lambda scores: scores.quantile(1 - _TAIL),
    ).reset_index()
    return summary.assign(std=summary["std"].fillna(0.0))


def comparison_table(summary: pd.DataFrame, traits: Mapping[str, str]) -> pd.DataFrame:
    """The comparison as the paper prints it: a row per representation, layer and probe, a column per trait.

    Args:
        summary: From :func:`summarise_scores`.
        traits: Trait name to its name for people, in the order of the columns.

    Returns:
        ``representation, layer, probe`` and, per trait that was scored, ``<label>`` as ``mean ± std``.
    """
    keys = ["representation", "layer", "probe"]
    cells = summary.assign(
        cell=[f"{mean + 0.0:.3f} ± {std:.3f}" for mean, std in zip(summary["mean"], summary["std"], strict=True)]
    )
    if cells.empty:
        return pd.DataFrame(columns=keys)
    wide = cells.pivot_table(index=keys, columns="trait", values="cell", aggfunc="first")
    order = pd.MultiIndex.from_frame(summary[keys].drop_duplicates())
    scored = {name: label for name, label in traits.items() if name in wide.columns}
    table: pd.DataFrame = wide.reindex(order)[list(scored)].rename(columns=scored).rename_axis(None, axis=1)
    return table.reset_index().fillna("")


def probe_comparison(scores: pd.DataFrame) -> dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]:
    """All scores as ``{probe: {representation: {layer: {trait: {"metric", "mean", "std", "folds", "low", "high"}}}}}``.

    ``low`` and ``high`` bound 90 % of the folds of all draws.
    """
    probes = scores["probe"].unique()
    return {str(probe): _by_representation(scores[scores["probe"] == probe], True) for probe in probes}


def _by_representation(
    scores: pd.DataFrame, with_interval: bool = False
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    representations: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for row in summarise_scores(scores).to_dict("records"):
        traits = representations.setdefault(str(row["representation"]), {}).setdefault(str(row["layer"]), {})
        traits[str(row["trait"])] = {
            "metric": str(row["metric"]),
            "mean": float(row["mean"]),
            "std": float(row["std"]),
            "folds": int(row["folds"]),
        }
        if with_interval:
            traits[str(row["trait"])] |= {"low": float(row["low"]), "high": float(row["high"])}
    return representations


def score_document(scores: pd.DataFrame, probe: str = "linear") -> dict[str, Any]:
    """Condense scores to their part of the evaluation document, with nothing but JSON's own types.

    Args:
        scores: Tidy scores of every representation.
        probe: Probe whose scores count.

    Returns:
        ``{"representations": {name: {layer: {trait: {"metric", "mean", "std", "folds"}}}}, "comparison": {probe: <the
        same, with intervals>}}``.
    """
    return {
        "representations": _by_representation(scores[scores["probe"] == probe]),
        "comparison": probe_comparison(scores),
    }


def evaluation_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Flatten an evaluation to metrics with stable names, for experiment trackers.

    Args:
        evaluation: The evaluation document: :func:`score_document` and, as ``gaussian_processes``, the imputation.

    Returns:
        ``representation/layer/trait/metric`` to mean over folds, and the same with ``_std`` to the spread; then the
        imputation's, ``gaussian_processes/trait/by_neurite/measure``. A plus in a name is written as ``_and_``, since
        trackers refuse it.
    """
    metrics: dict[str, float] = {}
    for representation, layers in evaluation["representations"].items():
        for layer, traits in layers.items():
            for trait, score in traits.items():
                name = f"{representation.replace('+', '_and_')}/{layer}/{trait}/{score['metric']}"
                metrics[name] = score["mean"]
                metrics[f"{name}_std"] = score["std"]
    return metrics | imputation_metrics(evaluation.get("gaussian_processes", {}))


RIVALS: dict[str, tuple[str, str]] = {
    "random": ("encoder.fc", "untrained encoder"),
    "random_convolution": ("encoder.fc", "one untrained convolution"),
    "trivial_statistics": ("statistics", "image statistics"),
    "mask_statistics": ("statistics", "mask statistics"),
}
"""Representations that need no training: name to layer and displayed name."""


def strongest_rival(representations: Mapping[str, Any], trait: str) -> tuple[str, Mapping[str, Any]] | None:
    """The rival without training that scores best on a trait.

    Args:
        representations: Of an evaluation document.
        trait: Name of the trait.

    Returns:
        Its name for people and its score; None if no rival was scored.
    """
    found = {
        label: representations[name][layer][trait]
        for name, (layer, label) in RIVALS.items()
        if trait in representations.get(name, {}).get(layer, {})
    }
    return max(found.items(), key=lambda each: each[1]["mean"]) if found else None
