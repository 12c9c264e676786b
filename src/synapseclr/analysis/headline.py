"""Headline figures of a run: what is compared between runs and told at the end, taken from the evaluation document."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from synapseclr.analysis.imputation.evaluation_document import strongest_rival
from synapseclr.analysis.representations import BACKBONE

PREFIX = "summary/"

_DEFECTS = (f"outliers/synapseclr_and_masks/{BACKBONE}", f"outliers/synapseclr/{BACKBONE}")
"""Searches for defects, the better equipped first."""


def headline_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Condense the evaluation document to about twenty figures.

    Args:
        evaluation: The evaluation document, ``evaluation.json``; parts that a run does not have are left out.

    Returns:
        By name below ``summary/``: ``n_synapses``, ``epochs``, ``minutes`` of all pipelines; ``<trait>/<metric>``, the
        linear probe on the backbone; ``gain_over_untrained`` and ``gain_over_best_untrained_rival``, means over the
        traits; ``imputed_<metric>``, means over the traits on neurites that no model saw, and
        ``imputed_coverage_90``; ``neurite_type_accuracy`` and ``synapse_type_accuracy``; ``defect_roc_auc``.
    """
    found: dict[str, float] = {name: evaluation[name] for name in ("n_synapses", "epochs") if evaluation.get(name)}
    if seconds := evaluation.get("seconds"):
        found["minutes"] = sum(seconds.values()) / 60
    found |= _representation(evaluation.get("representations", {}))
    found |= _imputation(evaluation.get("gaussian_processes", {}))
    if consensus := evaluation.get("consensus", {}).get("all", {}).get("corrected"):
        found["neurite_type_accuracy"] = consensus["accuracy"]
        found["synapse_type_accuracy"] = consensus["synapse_accuracy"]
    searches = evaluation.get("outliers", {})
    names = (f"{name}/mahalanobis/roc_auc" for name in _DEFECTS)
    if (detected := next((searches[name] for name in names if name in searches), None)) is not None:
        found["defect_roc_auc"] = detected
    return {f"{PREFIX}{name}": float(value) for name, value in found.items()}


def _representation(representations: Mapping[str, Any]) -> dict[str, float]:
    trained = representations.get("synapseclr", {}).get(BACKBONE, {})
    untrained = representations.get("random", {}).get(BACKBONE, {})
    found = {f"{trait}/{score['metric']}": score["mean"] for trait, score in trained.items()}
    gains = [trained[trait]["mean"] - untrained[trait]["mean"] for trait in trained if trait in untrained]
    rivals = {trait: strongest_rival(representations, trait) for trait in trained}
    gains_over_best = [trained[trait]["mean"] - rival[1]["mean"] for trait, rival in rivals.items() if rival]
    found |= {"gain_over_untrained": fmean(gains)} if gains else {}
    return found | ({"gain_over_best_untrained_rival": fmean(gains_over_best)} if gains_over_best else {})


def _imputation(imputed: Mapping[str, Any]) -> dict[str, float]:
    by_metric: dict[str, list[float]] = {}
    for trait in imputed.values():
        by_neurite = trait["by_neurite"]
        by_metric.setdefault(f"imputed_{trait['metric']}", []).append(by_neurite["mean"])
        if "coverage_90" in by_neurite:
            by_metric.setdefault("imputed_coverage_90", []).append(by_neurite["coverage_90"])
    return {name: fmean(values) for name, values in by_metric.items()}


def headline_sentence(metrics: Mapping[str, float]) -> str:
    """Tell the figures that there are in one line.

    Args:
        metrics: From :func:`headline_metrics`.
    """
    found = {name.removeprefix(PREFIX): value for name, value in metrics.items()}
    forms = {
        "n_synapses": "{:,.0f} synapses",
        "epochs": "{:,.0f} epochs",
        "gain_over_untrained": "scores {:+.3f} against the untrained encoder",
        "gain_over_best_untrained_rival": "{:+.3f} against the best that costs no training",
        "neurite_type_accuracy": "neurites typed {:.0%} right",
        "defect_roc_auc": "defects found with ROC AUC {:.3f}",
    }
    return ", ".join(form.format(found[name]) for name, form in forms.items() if name in found)


def headline_markdown(metrics: Mapping[str, float], picture: str | None = None) -> str:
    """Write the description of a run: the sentence, a picture, and the table of all figures.

    Args:
        metrics: From :func:`headline_metrics`.
        picture: Address of a picture.
    """
    rows = [f"| {name.removeprefix(PREFIX)} | {value:.4g} |" for name, value in metrics.items()]
    table = "\n".join(["| summary | value |", "|---|---|", *rows]) if rows else ""
    shown = f"![The synapses of this run]({picture})" if picture else ""
    sentence = headline_sentence(metrics)
    return "\n\n".join(part for part in (f"{sentence}." if sentence else "", shown, table) if part)
