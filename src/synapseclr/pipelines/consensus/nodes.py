"""Nodes of the consensus pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.confusions import neurite_confusions
from synapseclr.analysis.consensus import (
    censored_metrics,
    consensus_document,
    evaluate_censored,
    evaluate_consensus,
    posteriors_of_sums,
    summed_evidence,
)
from synapseclr.analysis.gaussian_processes.kernels import process_features
from synapseclr.analysis.neurite_classes import (
    best_classes,
    classified_properties,
    classify_neurites,
    property_metrics,
    typed_property,
)
from synapseclr.analysis.representations import Statistics
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig
from synapseclr.analysis.traits import Traits
from synapseclr.analysis.traits.calibration import reliability_table
from synapseclr.pipelines import AnnData, Drawing, Figure
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, embedding_digests, pipeline_section
from synapseclr.plotting.traits import METHOD_LABELS, censored_figure, confusion_panels, consensus_figure

logger = logging.getLogger(__name__)

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


def type_neurites(
    imputed_traits: pd.DataFrame, synapse_embeddings: AnnData, config: ConsensusConfig, traits: Traits
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Give every neurite a cell type, or say that the evidence does not do.

    Returns:
        The neurites, the held-out ones, their evaluation, and the fitted slope, correlation and prior.
    """
    members = typed_property(traits)
    evidence = summed_evidence(imputed_traits, synapse_embeddings.obs, members)
    if evidence.neurites.empty and members:
        logger.warning("No neurite is typed: the cell type of no side was imputed.")
    neurites, held_out, fit = posteriors_of_sums(evidence, config)
    return neurites, held_out, evaluate_consensus(held_out, config), asdict(fit)


def draw_consensus(
    held_out_neurites: pd.DataFrame, consensus_evaluation: pd.DataFrame, config: ConsensusConfig
) -> Figure:
    """Reliability of the posterior, corrected and independent, and accuracy by synapses per neurite."""
    tables = {}
    if len(held_out_neurites):
        target_u = held_out_neurites["target"].to_numpy(dtype=float)
        for method, column in (("corrected", "probability"), ("independent", "independent_probability")):
            probability_u = held_out_neurites[column].to_numpy(dtype=float)
            tables[method] = reliability_table(probability_u, target_u, config.n_bins)
    return consensus_figure(tables, consensus_evaluation)


def classify(
    imputed_traits: pd.DataFrame, synapse_embeddings: AnnData, config: ConsensusConfig, traits: Traits
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tell the further properties of neurites, and those with several classes.

    Returns:
        The classes of the neurites, those of the held-out ones, and their evaluation.
    """
    found = classify_neurites(imputed_traits, synapse_embeddings.obs, traits, config)
    for name in sorted(set(classified_properties(traits)) - set(found.neurites["property"])):
        logger.warning("The %s of no neurite is told: it was imputed on no side.", name)
    return found.neurites, found.held_out, found.evaluation


def draw_classes(held_out_neurite_classes: pd.DataFrame) -> Figure:
    """Draw which class of held-out neurites is taken for which."""
    return confusion_panels(neurite_confusions(held_out_neurite_classes), {})


def type_with_few_labels(
    synapse_embeddings: AnnData,
    mask_statistics: Statistics,
    config: ConsensusConfig,
    imputation: ImputationConfig,
    traits: Traits,
    row_blocks: RowBlocksConfig = HERE,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test the typing of neurites with all but a few annotations hidden.

    Returns:
        The evaluation by label fraction, and the draws that could not be evaluated with the reason.
    """
    features_nf = process_features(synapse_embeddings, mask_statistics, imputation.gaussian_processes)
    members = typed_property(traits)
    if not members:
        config = config.model_copy(update={"label_fractions": ()})
    found = evaluate_censored(features_nf, synapse_embeddings.obs, config, imputation, None, members, row_blocks)
    # One line for all fractions that fail for the same reason, as without annotations all do.
    by_fraction = found.failed.groupby("fraction", sort=False)["reason"].agg(["first", "size"])
    for reason, failed in by_fraction.groupby("first", sort=False):
        logger.warning(
            "Typing with %s %% labels: %d of %d draws are not evaluated: %s.",
            *(", ".join(f"{100 * fraction:g}" for fraction in failed.index), failed["size"].sum()),
            *(len(failed) * config.n_label_seeds, reason),
        )
    return found.evaluation, found.failed


def draw_censored(censored_consensus: pd.DataFrame) -> Figure:
    """Accuracy of neurites and of single synapses against the fraction of labels, by synapses per neurite."""
    return censored_figure(censored_consensus)


def describe_consensus(
    synapse_embeddings: AnnData,
    neurite_cell_types: pd.DataFrame,
    consensus_evaluation: pd.DataFrame,
    consensus_fit: dict[str, float],
    consensus_calibration: Drawing,
    censored_consensus: pd.DataFrame,
    censored_failures: pd.DataFrame,
    censored_consensus_figure: Drawing,
    neurite_classes: pd.DataFrame,
    neurite_class_evaluation: pd.DataFrame,
    neurite_class_figure: Drawing,
    consensus: ConsensusConfig,
    config: ReportingConfig,
    traits: Traits,
) -> dict[str, Any]:
    """Write the report's sections on the cell types of neurites, from all labels and from few, and on other classes."""
    typed = typed_property(traits)
    sections = []
    if typed or not classified_properties(traits):
        names = typed[0].classes if typed else ("excitatory", "inhibitory")
        tables = (neurite_cell_types, consensus_evaluation)
        sections = [
            describe_cell_types(*tables, consensus_fit, consensus_calibration, consensus, names),
            describe_few_labels(censored_consensus, censored_failures, censored_consensus_figure),
        ]
    for name in classified_properties(traits):
        is_first = name == next(iter(classified_properties(traits)))
        found = neurite_classes[neurite_classes["property"] == name]
        measured = neurite_class_evaluation[neurite_class_evaluation["property"] == name]
        confusions = neurite_class_figure if is_first else None
        sections.append(describe_classes(name, found, measured, confusions, consensus))
    return pipeline_section(
        sections,
        config,
        made_from=embedding_digests(synapse_embeddings.uns.get("provenance", {})),
        evaluation={
            "consensus": consensus_document(consensus_evaluation),
            "consensus_with_few_labels": censored_metrics(censored_consensus),
            **({"consensus_of_properties": further} if (further := property_metrics(neurite_class_evaluation)) else {}),
        },
    )


def describe_cell_types(
    neurites: pd.DataFrame,
    evaluation: pd.DataFrame,
    fit: Mapping[str, float],
    calibration: Drawing,
    config: ConsensusConfig,
    names: Sequence[str] = ("excitatory", "inhibitory"),
) -> Section:
    """Tell what the synapses of a neurite say together.

    Args:
        neurites: One row per neurite.
        evaluation: Accuracy and calibration on annotated neurites.
        fit: Slope, correlation and prior.
        calibration: Figure of the evaluation.
        config: The parameters ``consensus``.
        names: The two classes.
    """
    if neurites.empty:
        return Section(_TITLE, ["No neurite was typed, because the cell type of no side could be imputed."])
    n_typed = int(neurites["cell_type"].notna().sum())
    text = (
        f"{n_typed} of {len(neurites)} neurites are {names[0]} or {names[1]} with a posterior probability of "
        f"{config.min_probability:g} at least; the others are left without a type. The log-odds of a neurite's "
        "synapses, presynaptic and postsynaptic, are added up, and divided by 1 + (k - 1) r for k synapses, because "
        f"synapses of a neurite share errors: r = {fit['correlation']:.2f} here (0: independent; 1: all say the same)."
    )
    if evaluation.empty:
        return Section(_TITLE, [text, "There were too few annotated neurites to test this on."])
    caption = (
        "Measured on annotated neurites, from their annotated synapses, which were imputed from other neurites alone; "
        "slope and r were fitted without the neurites tested."
    )
    picture = Picture(
        calibration,
        "Left: observed frequency against posterior probability. Right: accuracy by synapses per neurite.",
    )
    return Section(
        _TITLE, [text], [picture], [Table(_COLUMNS, _evaluation_rows(evaluation), caption, has_numbers=True)]
    )


def _evaluation_rows(evaluation: pd.DataFrame) -> list[list[str]]:
    return [
        [
            str(row["stratum"]),
            METHOD_LABELS[str(row["method"])],
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


def describe_classes(
    name: str, neurites: pd.DataFrame, evaluation: pd.DataFrame, confusions: Drawing | None, config: ConsensusConfig
) -> Section:
    """Tell what the synapses of a neurite say together on a property with several classes.

    Args:
        name: The property.
        neurites: One row per neurite and class.
        evaluation: Accuracy and calibration on annotated neurites.
        confusions: Figure of the classes that are taken for each other, of all properties; None: drawn already.
        config: The parameters ``consensus``.
    """
    title = f"Neurites: {name.replace('_', ' ')}"
    if neurites.empty:
        return Section(title, ["No neurite is told, because the trait could be imputed on no side."])
    best = best_classes(neurites)
    called = best[best["is_called"].astype(bool)]
    counts = ", ".join(f"{n} {of_class}" for of_class, n in called["class_name"].value_counts().items())
    text = (
        f"{len(called)} of {len(best)} neurites have a class with a posterior probability of "
        f"{config.min_probability:g} at least{f': {counts}' if counts else ''}. Log-odds of the synapses are added "
        "class by class and shrunk for the errors that synapses of a neurite share."
    )
    if evaluation.empty:
        return Section(title, [text, "There were too few annotated neurites to test this on."])
    caption = (
        "Measured on annotated neurites, from their annotated synapses, which were imputed from other neurites alone. "
        "Calibration is that of the most probable class."
    )
    pictures = []
    if confusions is not None:
        told = "Share of held-out neurites of each true class (with their number) that is taken for each class."
        pictures.append(Picture(confusions, told))
    return Section(title, [text], pictures, [Table(_COLUMNS, _evaluation_rows(evaluation), caption, has_numbers=True)])


def describe_few_labels(censored: pd.DataFrame, failures: pd.DataFrame, figure: Drawing) -> Section:
    """Tell how well neurites are typed after all but a few annotations were hidden.

    Args:
        censored: Evaluation by label fraction.
        failures: Draws of labels that could not be evaluated: ``fraction``, ``seed``, ``n_labels``, ``reason``.
        figure: Of the evaluation.
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
    picture = Picture(figure, "Accuracy of neurites and of their single synapses, by labelled share.")
    return Section(title, [text], [picture], tables)
