"""The report's section on the cell types of neurites."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from synapseclr.analysis.config import ConsensusConfig
from synapseclr.pipelines.consensus.nodes import draw_censored, draw_consensus
from synapseclr.plotting.report import Picture, Section, Table

_TITLE = "Cell types of neurites"
_COLUMNS = (
    "annotated synapses per neurite",
    "evidence",
    "neurites",
    "accuracy [90 % interval]",
    "of single synapses",
    "typed",
    "accuracy of these",
    "calibration error (by chance)",
    "log loss",
)
_METHODS = {"corrected": "shared errors accounted for", "independent": "as if independent"}


def describe_consensus(
    neurites: pd.DataFrame,
    held_out: pd.DataFrame,
    evaluation: pd.DataFrame,
    fit: Mapping[str, float],
    config: ConsensusConfig,
) -> Section:
    """What the synapses of a neurite say together.

    Args:
        neurites: One row per neurite.
        held_out: The annotated neurites on which the posterior was tested.
        evaluation: Accuracy and calibration on these.
        fit: Slope, correlation and prior.
        config: The parameters ``consensus``.
    """
    if neurites.empty:
        return Section(_TITLE, ["No neurite was typed, because the cell type of no side could be imputed."])
    n_typed = int(neurites["cell_type"].notna().sum())
    text = (
        f"{n_typed} of {len(neurites)} neurites are excitatory or inhibitory with a posterior probability of "
        f"{config.min_probability:g} at least; the others are left without a type. The log-odds of a neurite's "
        "synapses, presynaptic and postsynaptic, are added up, and divided by 1 + (k - 1) r for k synapses, because "
        f"synapses of a neurite share errors: r = {fit['correlation']:.2f} here (0: independent; 1: all say the same)."
    )
    if evaluation.empty:
        return Section(_TITLE, [text, "There were too few annotated neurites to test this on."])
    rows = [
        [
            str(row["stratum"]),
            _METHODS[str(row["method"])],
            str(row["n_neurites"]),
            f"{row['accuracy']:.3f} [{row['lower_90']:.3f}, {row['upper_90']:.3f}]",
            f"{row['synapse_accuracy']:.3f}",
            f"{100 * row['called']:.0f} %",
            "" if pd.isna(row["accuracy_called"]) else f"{row['accuracy_called']:.3f}",
            f"{row['expected_calibration_error']:.3f} ({row['calibration_error_by_chance']:.3f})",
            f"{row['log_loss']:.3f}",
        ]
        for row in evaluation.to_dict("records")
    ]
    caption = (
        "Measured on annotated neurites, from their annotated synapses, which were imputed from other neurites alone; "
        "slope and r were fitted without the neurites tested."
    )
    picture = Picture(
        draw_consensus(held_out, evaluation, config),
        "Left: observed frequency against posterior probability. Right: accuracy by synapses per neurite.",
    )
    return Section(_TITLE, [text], [picture], [Table(_COLUMNS, rows, caption, has_numbers=True)])


def describe_few_labels(censored: pd.DataFrame, failures: pd.DataFrame) -> Section:
    """Typing neurites after all but a few annotations were hidden.

    Args:
        censored: Evaluation by label fraction.
        failures: Draws of labels that could not be evaluated: ``fraction``, ``seed``, ``n_labels``, ``reason``.
    """
    title = "Cell types of neurites from few labels"
    tables = []
    if len(failures):
        rows = [
            [f"{100 * row['fraction']:g} %", str(row["seed"]), str(row["n_labels"]), str(row["reason"])]
            for row in failures.to_dict("records")
        ]
        headings = ("labelled", "draw", "labels", "why it was not evaluated")
        tables.append(Table(headings, rows, "Draws without an evaluation.", is_folded=True))
    if censored.empty:
        return Section(title, ["No fraction of labels was enough to type neurites."], tables=tables)
    text = (
        "Synapses labelled at random, all other annotations hidden; tested on neurites without any label, from all of "
        "their synapses. Intervals are over neurites, with all draws of a neurite together."
    )
    rows = [
        [
            f"{100 * row['fraction']:g} % ({row['n_labels']})",
            str(row["stratum"]),
            str(row["n_neurites"]),
            f"{row['accuracy']:.3f} [{row['lower_90']:.3f}, {row['upper_90']:.3f}]",
            f"{row['synapse_accuracy']:.3f}",
            f"{100 * row['called']:.0f} %",
            "" if pd.isna(row["accuracy_called"]) else f"{row['accuracy_called']:.3f}",
        ]
        for row in censored[censored["method"] == "corrected"].to_dict("records")
    ]
    columns = (
        "labelled (synapses)",
        "synapses per neurite",
        "neurites",
        "accuracy [90 % interval]",
        "of single synapses",
        "typed",
        "accuracy of these",
    )
    tables.insert(0, Table(columns, rows, "Measured, not extrapolated.", has_numbers=True, is_folded=True))
    picture = Picture(draw_censored(censored), "Accuracy of neurites and of their single synapses, by labelled share.")
    return Section(title, [text], [picture], tables)
