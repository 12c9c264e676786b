"""Nodes of the imputation pipeline."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import scale_unit
from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.confusions import class_confusions
from synapseclr.analysis.gaussian_processes.kernels import process_features
from synapseclr.analysis.handcrafted import (
    MASK_STATISTIC_NAMES,
    STATISTIC_NAMES,
    store_mask_statistics,
    store_statistics,
)
from synapseclr.analysis.imputation.evaluation_document import (
    RIVALS,
    comparison_table,
    score_document,
    summarise_scores,
)
from synapseclr.analysis.imputation.imputing import imputation_document, impute_traits
from synapseclr.analysis.imputation.learning_curves import (
    learning_curve_metrics,
    learning_curves,
    summarise_learning_curves,
)
from synapseclr.analysis.imputation.trait_scores import score_representations
from synapseclr.analysis.representations import (
    BACKBONE,
    FeatureBlocks,
    Features,
    Statistics,
    is_simulated,
    layer_features,
    recorded_layers,
    statistic_scores,
)
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig
from synapseclr.analysis.traits import TRAITS, Trait, Traits
from synapseclr.analysis.traits.calibration import reliability_table
from synapseclr.analysis.traits.folds import annotated_rows
from synapseclr.analysis.traits.passed_over import ANNOTATE, passed_over
from synapseclr.pipelines import AnnData, ChunkStore, Drawing, Figure
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, embedding_digests, pipeline_section
from synapseclr.plotting.theme import METRIC_LABELS, representation_labels
from synapseclr.plotting.traits import (
    confusion_panels,
    learning_curve_figure,
    predicted_against_measured,
    reliability_diagram,
    score_comparison,
)
from synapseclr.storage.sharded_anndata import is_lazy
from synapseclr.volumes.synapse_table import aligned_rows

logger = logging.getLogger(__name__)

_REPRESENTATION_COLUMNS = (
    ("synapseclr", BACKBONE),
    *((name, layer) for name, (layer, _) in RIVALS.items()),
    ("synapseclr+statistics", BACKBONE),
)
_LEARNED = (
    "What learning adds is the distance to the best of the columns that cost no training: the untrained "
    "encoder of the same architecture, averaged over the same poses; the mean over one untrained convolution; "
    "statistics of the image (mean, variance and histogram of intensity, volumes of the masks); and statistics of "
    "each mask and of what surrounds the cleft, both as normal scores of their ranks."
)
_SIMULATED = (
    "All columns are simulated: no encoder was trained, and no image was measured. Their distances say how the "
    "simulation was set, not what learning adds."
)
_PROBE_LABELS = {"linear": "linear probe", "knn": "k-NN probe"}
_IMPUTATION_COLUMNS = (
    "trait",
    "metric",
    "Gaussian process, by neurite",
    "linear probe, by neurite",
    "k-NN probe, by neurite",
    "Gaussian process, by synapse",
    "calibration",
)


def measure_image_statistics(synapse_chunks: ChunkStore, config: ImputationConfig) -> pd.DataFrame:
    """Take the statistics of every chunk's image: ``synapse_id``, then one column per statistic."""
    statistics_nk = store_statistics(synapse_chunks, batch_size=config.statistics_batch_size)
    return _statistics_table(synapse_chunks, statistics_nk, STATISTIC_NAMES)


def measure_mask_statistics(synapse_chunks: ChunkStore, config: ImputationConfig) -> pd.DataFrame:
    """Take the statistics of every chunk's masks: ``synapse_id``, then one column per statistic."""
    statistics_nk = store_mask_statistics(synapse_chunks, synapse_chunks.voxel_size_nm, config.statistics_batch_size)
    return _statistics_table(synapse_chunks, statistics_nk, MASK_STATISTIC_NAMES)


def _statistics_table(store: ChunkStore, statistics_nk: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(statistics_nk, columns=list(names))
    table.insert(0, "synapse_id", np.asarray(store.synapse_id, dtype=np.int64))
    return table


def score_traits(
    synapse_embeddings: AnnData,
    random_embeddings: AnnData,
    convolution_embeddings: AnnData,
    other_representations: dict[str, AnnData],
    chunk_statistics: Statistics,
    mask_statistics: Statistics,
    config: ImputationConfig,
    traits: Traits,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the trained encoder and its rivals on every annotated trait.

    ``random`` is the same architecture, readout and averaging, untrained; ``random_convolution`` the mean over one
    untrained convolution; ``trivial_statistics`` those of the image, ``mask_statistics`` those of the masks, both as
    normal scores; and ``synapseclr+statistics`` the trained encoder's features beside the statistics of the masks.

    Args:
        synapse_embeddings: Embeddings of the trained encoder, with annotations in ``obs``.
        random_embeddings: Embeddings of the untrained encoder.
        convolution_embeddings: Embeddings of the untrained convolution.
        other_representations: Embeddings by other weights, such as imported ones, by name.
        chunk_statistics: Statistics of the image per synapse.
        mask_statistics: Statistics of the masks per synapse.
        config: The parameters ``imputation``.
        traits: The parameter ``traits``.

    Returns:
        Tidy scores, and the traits that could not be scored with the reason.
    """
    obs = synapse_embeddings.obs
    # Of features that exceed memory only the annotated synapses are scored; ranks stay those among all.
    rows_s = annotated_rows(obs, traits) if is_lazy(synapse_embeddings.X) else None
    synapse_id = obs["synapse_id"].to_numpy()
    image_nk = statistic_scores(chunk_statistics, STATISTIC_NAMES, synapse_id, "chunk_statistics", rows_s)
    masks_nk = statistic_scores(mask_statistics, MASK_STATISTIC_NAMES, synapse_id, "mask_statistics", rows_s)
    if rows_s is not None:
        synapse_embeddings = synapse_embeddings[rows_s].to_memory()
        obs = synapse_embeddings.obs
    joined = FeatureBlocks((layer_features(synapse_embeddings), masks_nk))
    others = {
        name: _layers_of(embeddings, obs["synapse_id"], name)
        for name, embeddings in {
            "random": random_embeddings,
            "random_convolution": convolution_embeddings,
            **other_representations,
        }.items()
    }
    others["random_convolution"] = {BACKBONE: others["random_convolution"][BACKBONE]}  # its projector says nothing
    representations: dict[str, Mapping[str, Features]] = {
        "synapseclr": recorded_layers(synapse_embeddings),
        **others,
        "trivial_statistics": {"statistics": image_nk},
        "mask_statistics": {"statistics": masks_nk},
        "synapseclr+statistics": {BACKBONE: joined},
    }
    scores, unscored = score_representations(representations, obs, config, traits)
    _warn(unscored, "not scored")
    return scores, unscored


def _warn(without: pd.DataFrame, outcome: str) -> None:
    """Log the traits that something was not done for, and why."""
    rows = without[["trait", "reason"]].itertuples(index=False, name=None)
    for sentence in passed_over(rows, outcome, ANNOTATE):
        logger.warning(sentence)


def _layers_of(embeddings: AnnData, wanted_id: pd.Series, name: str) -> dict[str, np.ndarray]:
    """Recorded layers of other embeddings, in the order of the wanted synapses."""
    present_id = embeddings.obs["synapse_id"].to_numpy()
    rows_n = aligned_rows(wanted_id.to_numpy(), present_id, f"{name}.synapse_embeddings")
    if is_lazy(embeddings.X):  # only what is wanted is read, in the order in which it is stored
        embeddings, rows_n = embeddings[np.sort(rows_n)].to_memory(), np.argsort(np.argsort(rows_n))
    return {layer: features_nf[rows_n] for layer, features_nf in recorded_layers(embeddings).items()}


def draw_comparison(trait_scores: pd.DataFrame, traits: Traits, provenance: Mapping[str, Any] | None = None) -> Figure:
    """Compare the representations trait by trait; the provenance of the features says what these are called."""
    labels = {trait.name: trait.label for trait in traits}
    return score_comparison(summarise_scores(trait_scores), labels, names=representation_labels(provenance))


def tabulate_comparison(trait_scores: pd.DataFrame, traits: Traits) -> pd.DataFrame:
    """The comparison as one table: representations, layers and probes by traits."""
    return comparison_table(summarise_scores(trait_scores), {trait.name: trait.label for trait in traits})


def impute(
    synapse_embeddings: AnnData,
    mask_statistics: Statistics,
    annotation_scales: pd.DataFrame,
    config: ImputationConfig,
    traits: Traits,
    row_blocks: RowBlocksConfig = HERE,
) -> tuple[pd.DataFrame, ...]:
    """Impute every trait at every synapse with Gaussian processes.

    Returns:
        Imputed traits, held-out predictions, scores per fold, calibration, the traits that could not be imputed, and
        what condensing the models of many synapses changes.
    """
    features_nf = process_features(synapse_embeddings, mask_statistics, config.gaussian_processes)
    found = impute_traits(features_nf, synapse_embeddings.obs, annotation_scales, config, traits, row_blocks)
    if len(found.scores) and not len(annotation_scales.columns):
        logger.warning(
            "There is no annotation_scales.csv, which preprocessing writes: imputed traits are given as annotated, "
            "without measured units."
        )
    _warn(found.unimputed, "not imputed")
    if len(found.condensation):
        worst = found.condensation[["mean_error_in_sd", "sd_error"]].max()
        logger.info(
            "Models of %d traits were condensed: a trait's means change by %.4f standard deviations at most, and these "
            "by %.1f %% (root mean square; condensation_errors.csv).",
            *(len(found.condensation), worst["mean_error_in_sd"], 100 * worst["sd_error"]),
        )
    return (*(found.traits, found.held_out, found.scores, found.calibration, found.unimputed, found.condensation),)


def draw_reliability(
    held_out_predictions: pd.DataFrame,
    imputation_calibration: pd.DataFrame,
    config: ImputationConfig,
    traits: Traits,
) -> Figure:
    """Reliability of the class traits, held out by neurite."""
    n_bins = config.gaussian_processes.n_bins
    tables = _by_label(held_out_predictions, [trait for trait in traits if trait.is_class])
    given_out = {label: _reliability(table, "mean", n_bins) for label, table in tables.items()}
    stated = {label: _reliability(table, "stated_mean", n_bins) for label, table in tables.items()}
    notes = {}
    for label, row in _calibration_by_label(imputation_calibration, traits).items():
        error, chance = row["expected_calibration_error"], row["calibration_error_by_chance"]
        debiased = row["debiased_calibration_error"]
        notes[label] = f"calibration error {error:.3f}\n({chance:.3f} by chance alone)\ndebiased {debiased:.3f}"
    return reliability_diagram(given_out, stated, notes)


def draw_predictions(
    held_out_predictions: pd.DataFrame,
    imputation_scores: pd.DataFrame,
    imputation_calibration: pd.DataFrame,
    traits: Traits,
) -> Figure:
    """Prediction against measurement of the continuous traits, held out by neurite."""
    tables = _by_label(held_out_predictions, [trait for trait in traits if not trait.is_class])
    document = imputation_document(imputation_scores, imputation_calibration)
    notes = {}
    for trait in traits:
        if trait.label in tables:
            of_neurites = document[trait.name]["by_neurite"]
            notes[trait.label] = (
                f"explained variance {of_neurites['mean']:.2f} ± {of_neurites['std']:.2f}\n"
                f"90 % interval holds {100 * of_neurites['coverage_90']:.0f} %"
            )
    return predicted_against_measured(tables, notes, units={trait.label: scale_unit(trait) for trait in traits})


def count_confusions(held_out_predictions: pd.DataFrame) -> pd.DataFrame:
    """Count which class is taken for which, of traits with several classes."""
    return class_confusions(held_out_predictions)


def draw_confusions(confusions: pd.DataFrame, traits: Traits) -> Figure:
    """Draw the confusion matrices of the traits with several classes."""
    return confusion_panels(confusions, {trait.name: trait.label for trait in traits})


def measure_learning_curves(
    synapse_embeddings: AnnData,
    mask_statistics: Statistics,
    config: ImputationConfig,
    traits: Traits,
    row_blocks: RowBlocksConfig = HERE,
) -> pd.DataFrame:
    """Score the imputation with growing numbers of labels."""
    features_nf = process_features(synapse_embeddings, mask_statistics, config.gaussian_processes)
    curves = learning_curves(features_nf, synapse_embeddings.obs, config, traits, row_blocks)
    _warn(curves[curves["n_train"] == 0], "without a learning curve")
    return curves


def draw_learning_curves(curves: pd.DataFrame, traits: Traits) -> Figure:
    """Scores against labels."""
    return learning_curve_figure(summarise_learning_curves(curves), {trait.name: trait.label for trait in traits})


def _by_label(held_out: pd.DataFrame, traits: Sequence[Trait]) -> dict[str, pd.DataFrame]:
    """Predictions held out by neurite, per trait, by the trait's label."""
    by_neurite = held_out[held_out["split"] == "neurite"]
    tables = {trait.label: by_neurite[by_neurite["trait"] == trait.name] for trait in traits}
    return {label: table for label, table in tables.items() if len(table)}


def _calibration_by_label(calibration: pd.DataFrame, traits: Traits) -> dict[str, dict[Hashable, Any]]:
    given_out = calibration[(calibration["split"] == "neurite") & calibration["is_corrected"].astype(bool)]
    rows = {row["trait"]: row for row in given_out.to_dict("records")}
    return {trait.label: rows[trait.name] for trait in traits if trait.is_class and trait.name in rows}


def _reliability(table: pd.DataFrame, column: str, n_bins: int) -> pd.DataFrame:
    return reliability_table(table[column].to_numpy(), table["target"].to_numpy(), n_bins)


def describe_imputation(
    synapse_embeddings: AnnData,
    trait_scores: pd.DataFrame,
    unscored_traits: pd.DataFrame,
    trait_score_comparison: Drawing,
    imputation_scores: pd.DataFrame,
    imputation_calibration: pd.DataFrame,
    unimputed_traits: pd.DataFrame,
    condensation_errors: pd.DataFrame,
    learning_curves: pd.DataFrame,
    imputation_predictions: Drawing,
    imputation_reliability: Drawing,
    learning_curve_figure: Drawing,
    class_confusions: pd.DataFrame,
    class_confusion_figure: Drawing,
    imputation: ImputationConfig,
    config: ReportingConfig,
    traits: Traits,
) -> dict[str, Any]:
    """Write the report's sections on what the representations are worth, and on imputed traits."""
    summary = summarise_scores(trait_scores)
    figures = (imputation_predictions, imputation_reliability, learning_curve_figure)
    confusions = None if class_confusions.empty else class_confusion_figure
    imputed = (imputation.gaussian_processes.layer, traits, confusions, condensation_errors)
    tables = (imputation_scores, imputation_calibration, unimputed_traits, learning_curves, summary)
    provenance = synapse_embeddings.uns.get("provenance", {})
    return pipeline_section(
        [
            describe_quality(summary, unscored_traits, trait_score_comparison, config.probe, traits, provenance),
            describe_imputed(*tables, figures, *imputed),
        ],
        config,
        made_from=embedding_digests(provenance),
        evaluation={
            "n_synapses": int(synapse_embeddings.n_obs),
            **score_document(trait_scores, config.probe),
            "gaussian_processes": imputation_document(imputation_scores, imputation_calibration),
            "learning_curves": learning_curve_metrics(learning_curves),
        },
    )


def describe_quality(
    summary: pd.DataFrame,
    unscored: pd.DataFrame,
    comparison: Drawing,
    probe: str,
    traits: Sequence[Trait] = TRAITS,
    provenance: Mapping[str, Any] | None = None,
) -> Section:
    """Compare the representations.

    Args:
        summary: Scores condensed over folds.
        unscored: Traits that could not be scored: ``label``, ``n_annotated``, ``reason``.
        comparison: Figure of the linear probe's scores.
        probe: Probe to lead with; the other one follows in a folded table.
        traits: The parameter ``traits``.
        provenance: Of the embeddings.

    Returns:
        Figure, one table per probe, and the traits without a score.
    """
    tables = []
    if len(unscored):
        rows = unscored[["label", "n_annotated", "reason"]].astype(str).to_numpy().tolist()
        tables.append(Table(("trait", "annotated synapses", "why it has no score"), rows, "Traits without a score."))
    if summary.empty:
        text = "No trait could be scored, so nothing is said here about the quality of the representation."
        return Section("Representation quality", [text], tables=tables, part="comparison")
    n_folds = int(summary["folds"].max())
    text = (
        f"How well annotated traits can be read off each representation, over {n_folds} folds split by neurite. "
        "ROC AUC: 0.5 is chance, 1 is perfect; of several classes it is the mean of each against the others. "
        "Explained variance: 0 is the mean, 1 is perfect, below 0 is worse than "
        f"the mean. {_SIMULATED if is_simulated(provenance) else _LEARNED}"
    )
    names = representation_labels(provenance)
    other = "knn" if probe == "linear" else "linear"
    caption = "Scores of the linear probe: mean and standard deviation over folds. Dashed: chance."
    tables.insert(0, _score_table(summary, probe, traits, names, is_folded=False))
    tables.insert(1, _score_table(summary, other, traits, names, is_folded=True))
    return Section("Representation quality", [text], [Picture(comparison, caption)], tables, part="comparison")


def _score_table(
    summary: pd.DataFrame, probe: str, traits: Sequence[Trait], names: Mapping[str, str], is_folded: bool
) -> Table:
    """Traits by representations, the best mean of each row in bold."""
    chosen = summary[summary["probe"] == probe].to_dict("records")
    scores = {(row["representation"], row["layer"], row["trait"]): row for row in chosen}
    rows: list[list[str]] = []
    strong: set[tuple[int, int]] = set()
    for trait in traits:
        cells = [scores.get((name, layer, trait.name)) for name, layer in _REPRESENTATION_COLUMNS]
        means = [float("-inf") if cell is None else float(cell["mean"]) for cell in cells]
        if not any(cells):
            continue
        strong.add((len(rows), 2 + means.index(max(means))))
        texts = [_score_text(cell) for cell in cells]
        rows.append([trait.label, METRIC_LABELS[trait.metric], *texts, _gain(means, names)])
    columns = ("trait", "metric", *(names[name] for name, _ in _REPRESENTATION_COLUMNS), "learning adds")
    caption = (
        f"Scores of the {_PROBE_LABELS[probe]}: mean ± standard deviation over folds; best mean in bold. Last: "
        f"{names['synapseclr']} less the best of what costs no training, which is named."
    )
    return Table(columns, rows, caption, frozenset(strong), is_folded, has_numbers=True)


def _gain(means: Sequence[float], names: Mapping[str, str]) -> str:
    """Subtract the mean of the strongest rival, and name it; the first mean is that of the trained encoder."""
    trained, rivals = means[0], means[1 : 1 + len(RIVALS)]
    if not np.isfinite([trained, max(rivals)]).all():
        return ""
    label = names[list(RIVALS)[rivals.index(max(rivals))]]
    return f"{round(trained - max(rivals), 3) + 0.0:+.3f} ({label})"


def _rounded(value: float) -> str:
    # Adding zero turns the -0.0 that rounding may leave into 0.0.
    return f"{round(float(value), 3) + 0.0:.3f}"


def describe_imputed(
    scores: pd.DataFrame,
    calibration: pd.DataFrame,
    unimputed: pd.DataFrame,
    curves: pd.DataFrame,
    probes: pd.DataFrame,
    figures: tuple[Drawing, Drawing, Drawing],
    layer: str,
    traits: Traits,
    confusions: Drawing | None = None,
    condensation: pd.DataFrame | None = None,
) -> Section:
    """Tabulate scores and calibration of the imputation.

    Args:
        scores: Scores of the Gaussian processes per fold.
        calibration: Their calibration.
        unimputed: Traits that could not be imputed: ``label``, ``n_annotated``, ``reason``.
        curves: Learning curves.
        probes: Scores of the probes condensed over folds.
        figures: Predictions against measurements, reliability, learning curves.
        layer: Layer whose features impute.
        traits: The parameter ``traits``.
        confusions: Confusion matrices; None: there is no trait of several classes.
        condensation: What condensing the models changes; None or without rows: they were not.
    """
    predictions, reliability, learning = figures
    tables = []
    if len(unimputed):
        rows = unimputed[["label", "n_annotated", "reason"]].astype(str).to_numpy().tolist()
        tables.append(
            Table(("trait", "annotated synapses", "why"), rows, "Traits that were not imputed.", is_folded=True)
        )
    if scores.empty:
        return Section("Imputed traits", ["No trait could be imputed."], tables=tables)
    document = imputation_document(scores, calibration)
    means = probes[(probes["representation"] == "synapseclr") & (probes["layer"] == layer)]
    probe_scores = {(row["trait"], row["probe"]): row for row in means.to_dict("records")}
    rows = [_trait_row(trait, document[trait.name], probe_scores) for trait in traits if trait.name in document]
    caption = (
        "Mean ± standard deviation over folds. Folds by synapse leave synapses of a test neurite in training, and so "
        "promise more than a new neurite will get. Calibration: expected calibration error (in brackets what chance "
        "alone would make of it; then the root mean squared error without that part), or the share of measurements "
        "inside the 90 % interval."
    )
    tables.insert(0, Table(_IMPUTATION_COLUMNS, rows, caption, has_numbers=True))
    if condensation is not None and len(condensation):
        tables.append(_condensation_table(condensation, traits))
    name = "the backbone" if layer == BACKBONE else layer
    text = (
        f"Gaussian processes on features of {name} impute every trait at every synapse, with a standard deviation or a "
        "probability. An annotated synapse is predicted from other neurites alone. Probabilities and standard "
        "deviations are corrected by what was held out in other folds."
    )
    pictures = [
        Picture(
            predictions,
            "Held-out predictions with 90 % intervals against measurements; 150 synapses drawn per panel at most.",
        ),
        Picture(
            reliability,
            "Observed frequency against stated probability in equally full bins, with 90 % intervals.",
        ),
    ]
    if confusions is not None:
        pictures.append(
            Picture(
                confusions,
                "Share of each true class (with its synapses) that is taken for each class, held out by neurite.",
            )
        )
    if curves["score"].notna().any():
        n_draws = int(curves["repetition"].max()) + 1
        pictures.append(
            Picture(
                learning,
                f"Scores with fewer labels, {n_draws} draw{'s' * (n_draws > 1)} each, tested on a tenth of the "
                "neurites; bands are one standard deviation.",
            )
        )
    return Section("Imputed traits", [text], pictures, tables)


def _condensation_table(errors: pd.DataFrame, traits: Sequence[Trait]) -> Table:
    labels = {trait.name: trait.label for trait in traits}
    rows = [
        [labels[str(row["trait"])], str(row["n_tested"]), f"{row['mean_error_in_sd']:.4f}", f"{row['sd_error']:.3f}"]
        for row in errors.to_dict("records")
    ]
    caption = (
        "For so many synapses the models of a trait were condensed. What that changes at drawn synapses (root "
        "mean square): the mean, in standard deviations of the prediction, and the share of the standard deviation."
    )
    columns = ("trait", "synapses measured", "change of the mean", "relative change of the standard deviation")
    return Table(columns, rows, caption, is_folded=True, has_numbers=True)


def _trait_row(
    trait: Trait, entry: dict[str, Any], probe_scores: dict[tuple[str, str], dict[Hashable, Any]]
) -> list[str]:
    by_neurite = entry["by_neurite"]
    if trait.is_class:
        error, chance = by_neurite["expected_calibration_error"], by_neurite["calibration_error_by_chance"]
        calibration = f"{error:.3f} ({chance:.3f}); debiased {by_neurite['debiased_calibration_error']:.3f}"
        if trait.kind == "multiclass":
            calibration += f"; balanced accuracy {by_neurite['balanced_accuracy']:.3f}"
    else:
        calibration = f"{100 * by_neurite['coverage_90']:.0f} % of 90 %"
    probes = [probe_scores.get((trait.name, probe)) for probe in ("linear", "knn")]
    scores = [_score_text(score) for score in (by_neurite, *probes, entry.get("by_synapse"))]
    return [trait.label, METRIC_LABELS[trait.metric], *scores, calibration]


def _score_text(entry: Mapping[Any, Any] | None) -> str:
    return "" if entry is None else f"{_rounded(entry['mean'])} ± {_rounded(entry['std'])}"
