"""The report's section on what the representations are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from synapseclr.analysis.imputation.evaluation_document import RIVALS
from synapseclr.analysis.layers import BACKBONE
from synapseclr.analysis.traits import TRAITS
from synapseclr.plotting.report import Picture, Section, Table
from synapseclr.plotting.traits.scores import score_comparison

_COLUMNS = (
    ("synapseclr", BACKBONE, "SynapseCLR"),
    *((name, layer, label) for name, (layer, label) in RIVALS.items()),
    ("synapseclr+statistics", BACKBONE, "SynapseCLR and mask statistics"),
)
_METRIC_LABELS = {"roc_auc": "ROC AUC", "explained_variance": "explained variance"}
_PROBE_LABELS = {"linear": "linear probe", "knn": "k-NN probe"}
_HEADLINE_TRAITS = ("pre_cell_type", "post_cell_type")


def describe_quality(summary: pd.DataFrame, unscored: pd.DataFrame, probe: str) -> Section:
    """Compare the representations.

    Args:
        summary: Scores condensed over folds.
        unscored: Traits that could not be scored: ``label``, ``n_annotated``, ``reason``.
        probe: Probe to lead with; the other one follows in a folded table.

    Returns:
        Figure, one table per probe, and the traits without a score.
    """
    labels = {trait.name: trait.label for trait in TRAITS}
    tables = []
    if len(unscored):
        rows = unscored[["label", "n_annotated", "reason"]].astype(str).to_numpy().tolist()
        tables.append(Table(("trait", "annotated synapses", "why it has no score"), rows, "Traits without a score."))
    if summary.empty:
        text = "No trait could be scored, so nothing is said here about the quality of the representation."
        return Section("Representation quality", [text], tables=tables)
    n_folds = int(summary["folds"].max())
    text = (
        f"How well annotated traits can be read off each representation, over {n_folds} folds split by neurite. "
        "ROC AUC: 0.5 is chance, 1 is perfect. Explained variance: 0 is the mean, 1 is perfect, below 0 is worse than "
        "the mean. What learning adds is the distance to the best of the columns that cost no training: the untrained "
        "encoder of the same architecture, averaged over the same poses; the mean over one untrained convolution; "
        "statistics of the image (mean, variance and histogram of intensity, volumes of the masks); and statistics of "
        "each mask and of what surrounds the cleft, both as normal scores of their ranks."
    )
    other = "knn" if probe == "linear" else "linear"
    picture = Picture(
        score_comparison(summary, labels, probe),
        f"Scores of the {_PROBE_LABELS[probe]}: mean and standard deviation over folds. Dashed: chance.",
    )
    tables.insert(0, _score_table(summary, probe, is_folded=False))
    tables.insert(1, _score_table(summary, other, is_folded=True))
    return Section("Representation quality", [text], [picture], tables)


def _score_table(summary: pd.DataFrame, probe: str, is_folded: bool) -> Table:
    """Traits by representations, the best mean of each row in bold."""
    chosen = summary[summary["probe"] == probe].to_dict("records")
    scores = {(row["representation"], row["layer"], row["trait"]): row for row in chosen}
    rows: list[list[str]] = []
    strong: set[tuple[int, int]] = set()
    for trait in TRAITS:
        cells = [scores.get((name, layer, trait.name)) for name, layer, _ in _COLUMNS]
        means = [float("-inf") if cell is None else float(cell["mean"]) for cell in cells]
        if not any(cells):
            continue
        strong.add((len(rows), 2 + means.index(max(means))))
        texts = ["" if cell is None else f"{_rounded(cell['mean'])} ± {_rounded(cell['std'])}" for cell in cells]
        rows.append([trait.label, _METRIC_LABELS[trait.metric], *texts, _gain(means)])
    columns = ("trait", "metric", *(label for _, _, label in _COLUMNS), "learning adds")
    caption = (
        f"Scores of the {_PROBE_LABELS[probe]}: mean ± standard deviation over folds; best mean in bold. Last: "
        "SynapseCLR less the best of what costs no training, which is named."
    )
    return Table(columns, rows, caption, frozenset(strong), is_folded, has_numbers=True)


def _gain(means: Sequence[float]) -> str:
    """Mean of the trained encoder, the first of ``_COLUMNS``, less that of the strongest rival, with its name."""
    trained, rivals = means[0], means[1 : 1 + len(RIVALS)]
    if not np.isfinite([trained, max(rivals)]).all():
        return ""
    label = list(RIVALS.values())[rivals.index(max(rivals))][1]
    return f"{round(trained - max(rivals), 3) + 0.0:+.3f} ({label})"


def _rounded(value: float) -> str:
    # Adding zero turns the -0.0 that rounding may leave into 0.0.
    return f"{round(float(value), 3) + 0.0:.3f}"


def headline(summary: pd.DataFrame, probe: str) -> dict[str, str]:
    """The scores that stand on top of the report: cell types from the backbone, against the random encoder."""
    chosen = summary[(summary["probe"] == probe) & (summary["layer"] == BACKBONE)]
    means = chosen.set_index(["trait", "representation"])["mean"]
    labels = {trait.name: trait.label for trait in TRAITS}
    facts = {}
    for trait in _HEADLINE_TRAITS:
        if (trait, "synapseclr") in means.index and (trait, "random") in means.index:
            trained, untrained = means[(trait, "synapseclr")], means[(trait, "random")]
            facts[f"{labels[trait]}, ROC AUC (untrained)"] = f"{trained:.3f} ({untrained:.3f})"
    return facts
