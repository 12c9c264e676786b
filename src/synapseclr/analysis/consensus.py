"""Cell types of whole neurites: the evidence of their synapses added up, with shared errors accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import inputs_of_rows
from synapseclr.analysis.gaussian_processes.models import class_probability, fit_classes
from synapseclr.analysis.representations import Features
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig
from synapseclr.analysis.traits import TRAITS, Trait, trait_values
from synapseclr.analysis.traits.calibration import (
    calibration_error_by_chance,
    debiased_calibration_error,
    expected_calibration_error,
    fit_beta_calibration,
    grouped_interval,
    logit,
)
from synapseclr.analysis.traits.folds import UnscorableTraitError, grouped_folds
from synapseclr.volumes.synapse_table import table_rows
from synapseclr.volumes.table_schema import COUNT, NOT_NEGATIVE, SHARE, SHARE_RULE, TEXT, Column, TableSchema

_MAYBE_SHARE = Column(nullable=True, rule=SHARE_RULE)
_TYPE = Column(nullable=True, rule=("isin", {"allowed_values": [0.0, 1.0]}))

NEURITE_CELL_TYPES = TableSchema(
    "The table of neurites",
    {
        "root_id": Column("root_id", unique=True),
        "n_synapses": COUNT,
        "n_pre": COUNT,
        "n_post": COUNT,
        "probability": SHARE,
        "independent_probability": SHARE,
        "cell_type": _TYPE,
        "annotated_type": _TYPE,
    },
)

HELD_OUT_NEURITES = TableSchema(
    "The table of held-out neurites",
    {
        "root_id": Column("root_id", unique=True),
        "n_synapses": COUNT,
        "target": Column(rule=("isin", {"allowed_values": [0.0, 1.0]})),
        "probability": SHARE,
        "independent_probability": SHARE,
        "synapse_accuracy": SHARE,
    },
)

_EVALUATION = {
    "stratum": TEXT,
    "method": Column("text", rule=("isin", {"allowed_values": ["corrected", "independent"]})),
    "n_neurites": COUNT,
    "accuracy": SHARE,
    "lower_90": SHARE,
    "upper_90": SHARE,
    "synapse_accuracy": SHARE,
    "called": SHARE,
    "accuracy_called": _MAYBE_SHARE,
    "expected_calibration_error": SHARE,
    "debiased_calibration_error": _MAYBE_SHARE,
    "calibration_error_by_chance": SHARE,
    "log_loss": NOT_NEGATIVE,
}

CONSENSUS_EVALUATION = TableSchema("The evaluation of the consensus", _EVALUATION)

CENSORED_CONSENSUS = TableSchema(
    "The evaluation of the consensus with few labels",
    {"fraction": SHARE, "n_labels": COUNT, "n_seeds": COUNT, **_EVALUATION},
)

CENSORED_FAILURES = TableSchema(
    "The table of draws of labels that could not be evaluated",
    {"fraction": SHARE, "seed": COUNT, "n_labels": COUNT, "reason": TEXT},
)

ROWS_AT_A_TIME = 1_000_000
_ALL_LABELLED = "every neurite of known type is labelled"

CELL_TYPE_TRAITS: tuple[Trait, ...] = tuple(trait for trait in TRAITS if trait.level == "neurite")
"""The published property of neurites: two cell types, told by traits of both sides."""

NEURITE_COLUMNS = (
    "root_id",
    "n_synapses",
    "n_pre",
    "n_post",
    "probability",
    "independent_probability",
    "cell_type",
    "annotated_type",
)

HELD_OUT_COLUMNS = ("root_id", "n_synapses", "target", "probability", "independent_probability", "synapse_accuracy")


@dataclass(frozen=True)
class SharedErrors:
    """Log-odds of a neurite from those of its k synapses: ``prior + slope * sum / (1 + (k - 1) * correlation)``.

    The denominator is the design effect of k equally correlated measurements (Kish 1965): with ``correlation`` 0
    the synapses are independent and their evidence adds up; with 1 they all say the same, and k are worth one.

    Attributes:
        slope: Worth of one synapse's evidence; 1 if its probability is calibrated.
        correlation: In [0, 1].
        prior: Log-odds of class 1 among neurites, before any synapse is seen.
    """

    slope: float
    correlation: float
    prior: float

    def log_odds(self, evidence_u: np.ndarray, n_synapses_u: np.ndarray) -> np.ndarray:
        """Posterior log-odds of neurites, float64 (u,), from their summed evidence and numbers of synapses."""
        log_odds_u: np.ndarray = self.prior + self.slope * evidence_u / (1.0 + (n_synapses_u - 1) * self.correlation)
        return log_odds_u


class NeuriteEvidence(NamedTuple):
    """Evidence of the synapses of neurites, joined.

    Attributes:
        neurites: One row per neurite: ``root_id``, ``n_synapses``, ``n_pre``, ``n_post``, summed ``evidence``, mean
            ``target`` (NaN where not annotated), ``synapse_accuracy``.
        known: The same of annotated neurites, from their annotated synapses alone.
    """

    neurites: pd.DataFrame
    known: pd.DataFrame


class PartialSums:
    """Sums over the synapses of each neurite, some synapses at a time: memory holds each neurite a few times.

    Args:
        **others: Columns of which not the sum is wanted, with the aggregation instead: ``min`` or ``max``.
    """

    def __init__(self, **others: str) -> None:
        self._others = others
        self._parts: list[pd.DataFrame] = []

    def add(self, rows: pd.DataFrame) -> PartialSums:
        """Add synapses: ``root_id`` and columns of numbers."""
        self._parts.append(self._summed(rows))
        if sum(map(len, self._parts[1:])) > len(self._parts[0]):  # seldom enough to cost little
            self._merge()
        return self

    @property
    def table(self) -> pd.DataFrame | None:
        """One row per neurite, ascending; None if nothing was added."""
        if len(self._parts) > 1:
            self._merge()
        return self._parts[0] if self._parts else None

    def _merge(self) -> None:
        self._parts = [self._summed(pd.concat(self._parts, ignore_index=True))]

    def _summed(self, rows: pd.DataFrame) -> pd.DataFrame:
        how = {name: self._others.get(str(name), "sum") for name in rows if name != "root_id"}
        return rows.groupby("root_id", sort=True, as_index=False).agg(how)


def fit_shared_errors(
    evidence_u: np.ndarray,
    n_synapses_u: np.ndarray,
    target_u: np.ndarray,
    min_neurites: int = 20,
    default_correlation: float = 0.2,
) -> SharedErrors:
    """Fit slope and correlation on annotated neurites by penalised maximum likelihood.

    The penalty ``4 (slope - 1)^2 + 16 (correlation - default)^2`` is worth some ten neurites, so that a few dozen do
    not talk the evidence away. With fewer neurites than ``min_neurites``, or one class only, nothing is fitted: slope 1
    and ``default_correlation``.

    Args:
        evidence_u: Summed log-odds of the synapses, each less that of the synapses' base rate.
        n_synapses_u: Synapses per neurite.
        target_u: 0.0 or 1.0.
        min_neurites: Fewest neurites that are worth a fit.
        default_correlation: Correlation where there are fewer.
    """
    from scipy.optimize import minimize

    n_ones = float(target_u.sum())
    prior = float(np.log((n_ones + 0.5) / (len(target_u) - n_ones + 0.5)))
    if len(target_u) < min_neurites or np.ptp(target_u) == 0:
        return SharedErrors(1.0, default_correlation, prior)
    sign_u = np.where(target_u == 1.0, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> float:
        log_odds_u = SharedErrors(parameters[0], parameters[1], prior).log_odds(evidence_u, n_synapses_u)
        penalty = 4.0 * (parameters[0] - 1.0) ** 2 + 16.0 * (parameters[1] - default_correlation) ** 2
        return float(np.logaddexp(0.0, -sign_u * log_odds_u).sum() + penalty)

    starts = [np.array([1.0, correlation]) for correlation in (0.05, 0.5)]
    fits = [minimize(loss, start, bounds=[(0.0, 10.0), (0.0, 1.0)], method="L-BFGS-B") for start in starts]
    best = min(fits, key=lambda fit: fit.fun)
    return SharedErrors(float(best.x[0]), float(best.x[1]), prior)


def summed_evidence(
    imputed_traits: pd.DataFrame,
    annotations: pd.DataFrame,
    traits: Sequence[Trait] = CELL_TYPE_TRAITS,
    rows_at_a_time: int = ROWS_AT_A_TIME,
) -> NeuriteEvidence:
    """Sum the evidence of synapses by neurite, some rows at a time: memory holds the neurites, not their synapses.

    Args:
        imputed_traits: As of :func:`synapse_evidence`.
        annotations: As of :func:`synapse_evidence`.
        traits: As of :func:`synapse_evidence`.
        rows_at_a_time: Synapses whose evidence is held at a time.
    """
    wanted = [f"{trait.name}_probability" for trait in traits if f"{trait.name}_probability" in imputed_traits]
    probabilities = table_rows(imputed_traits[["synapse_id", *wanted]], annotations["synapse_id"])
    base = {trait: _base_log_odds(annotations, trait) for trait in traits if f"{trait.name}_probability" in wanted}
    sums, of_known = PartialSums(), PartialSums()
    for first in range(0, len(annotations), rows_at_a_time):
        rows = slice(first, first + rows_at_a_time)
        part = annotations.iloc[rows]
        for trait, base_log_odds in base.items():
            probability_n = probabilities[f"{trait.name}_probability"].to_numpy(float)[rows]
            evidence = _trait_evidence(part, trait, probability_n, trait_values(part, trait), base_log_odds)
            evidence = evidence[np.isfinite(probability_n)]
            sums.add(_summands(evidence))
            of_known.add(_summands(evidence[np.isfinite(evidence["target"].to_numpy(dtype=float))]))
    return NeuriteEvidence(_with_means(sums), _with_means(of_known))


def synapse_evidence(
    imputed_traits: pd.DataFrame, annotations: pd.DataFrame, traits: Sequence[Trait] = CELL_TYPE_TRAITS
) -> pd.DataFrame:
    """Evidence of every synapse for the types of its two neurites.

    Args:
        imputed_traits: ``synapse_id`` and ``<trait>_probability`` of the cell types, calibrated.
        annotations: One row per synapse: ``synapse_id``, root ids, cell types (NaN where not annotated).
        traits: The cell types, one trait a side.

    Returns:
        ``synapse_id``, ``root_id``, ``side``, ``probability``, ``evidence`` (log-odds less those of the annotated
        frequency, so that the base rate is not counted once per synapse) and ``target`` (NaN where not annotated).
        Sides whose cell type was not imputed are left out.
    """
    probabilities = table_rows(imputed_traits, annotations["synapse_id"])
    parts = []
    for trait in traits:
        if f"{trait.name}_probability" not in probabilities:
            continue
        probability_n = probabilities[f"{trait.name}_probability"].to_numpy()
        target_n = trait_values(annotations, trait)
        parts.append(trait_evidence(annotations, trait, probability_n, target_n))
    columns = ["synapse_id", "root_id", "side", "probability", "evidence", "target"]
    evidence = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return evidence[np.isfinite(evidence["probability"].to_numpy(dtype=float))]


def trait_evidence(
    annotations: pd.DataFrame, trait: Trait, probability_n: np.ndarray, target_n: np.ndarray
) -> pd.DataFrame:
    """Evidence of every synapse for the type of its neurite on one side.

    Args:
        annotations: One row per synapse.
        trait: The cell type of the side.
        probability_n: Probability of class 1.
        target_n: Known types of the synapses, NaN where not annotated.

    Returns:
        One row per synapse: ``synapse_id``, ``root_id``, ``side``, ``probability``, ``evidence`` (log-odds beyond those
        of the share of class 1 among annotated neurites, which the probabilities were calibrated on), ``target``.
    """
    base = _base_log_odds(annotations, trait, target_n)
    return _trait_evidence(annotations, trait, probability_n, target_n, base)


def _base_log_odds(annotations: pd.DataFrame, trait: Trait, target_n: np.ndarray | None = None) -> float:
    """Log-odds of class 1 among annotated neurites."""
    target_n = trait_values(annotations, trait) if target_n is None else target_n
    of_neurites = pd.Series(target_n).groupby(annotations[trait.root_column].to_numpy()).mean().dropna()
    return float(np.log((of_neurites.sum() + 0.5) / (len(of_neurites) - of_neurites.sum() + 0.5)))


def _trait_evidence(
    annotations: pd.DataFrame, trait: Trait, probability_n: np.ndarray, target_n: np.ndarray, base: float
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "synapse_id": annotations["synapse_id"].to_numpy(),
            "root_id": annotations[trait.root_column].to_numpy(),
            "side": trait.side,
            "probability": probability_n,
            "evidence": logit(probability_n) - base,
            "target": target_n,
        }
    )


def neurite_posteriors(
    evidence: pd.DataFrame, config: ConsensusConfig | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, SharedErrors]:
    """Type every neurite, and test the posterior on neurites that were held out.

    Slope and correlation are fitted on the annotated synapses of annotated neurites, whose probabilities come from
    models that did not see the neurite. The test repeats the fit without the neurites of a fold.

    Args:
        evidence: From :func:`synapse_evidence`.
        config: Folds, threshold.

    Returns:
        One row per neurite (``probability`` of class 1; ``independent_probability`` as if errors were not shared;
        ``cell_type`` 0.0 or 1.0, NaN below the threshold; ``annotated_type``), one row per held-out annotated neurite,
        and the fit on all annotated neurites.
    """
    of_known = evidence[np.isfinite(evidence["target"].to_numpy(dtype=float))]
    sums, sums_of_known = (_with_means(PartialSums().add(_summands(rows))) for rows in (evidence, of_known))
    return posteriors_of_sums(NeuriteEvidence(sums, sums_of_known), config)


def posteriors_of_sums(
    evidence: NeuriteEvidence, config: ConsensusConfig | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, SharedErrors]:
    """Type every neurite as :func:`neurite_posteriors` does, from what its synapses say together."""
    config = config or ConsensusConfig()
    known, neurites = evidence.known, evidence.neurites
    # A neurite whose annotations contradict each other has no known type.
    known = known[np.isin(known["target"], (0.0, 1.0))].reset_index(drop=True)
    fit = _fit(known, config)
    probability_u = _sigmoid(fit.log_odds(neurites["evidence"].to_numpy(), neurites["n_synapses"].to_numpy()))
    independent = SharedErrors(1.0, 0.0, fit.prior)
    table = neurites.assign(
        probability=probability_u,
        independent_probability=_sigmoid(
            independent.log_odds(neurites["evidence"].to_numpy(), neurites["n_synapses"].to_numpy())
        ),
        cell_type=called_types(probability_u, config.min_probability),
        annotated_type=neurites["target"].where(neurites["target"].isin((0.0, 1.0))),
    )
    return table[list(NEURITE_COLUMNS)], _held_out(known, config), fit


def _summands(evidence: pd.DataFrame) -> pd.DataFrame:
    """Columns of synapses that are added up by neurite."""
    target_n = evidence["target"].to_numpy(dtype=float)
    is_right_n = (evidence["probability"].to_numpy(dtype=float) > 0.5) == (target_n == 1.0)
    side_n = evidence["side"].to_numpy()
    return pd.DataFrame(
        {
            "root_id": evidence["root_id"].to_numpy(),
            "n_synapses": 1,
            "n_pre": (side_n == "pre") * 1,
            "n_post": (side_n == "post") * 1,
            "evidence": evidence["evidence"].to_numpy(),
            "target": np.nan_to_num(target_n),
            "n_targets": np.isfinite(target_n) * 1,
            "n_right": is_right_n * 1.0,
        }
    )


def _with_means(sums: PartialSums) -> pd.DataFrame:
    """Sums by neurite with the means that they make."""
    table = sums.table
    if table is None:
        nothing = pd.DataFrame(columns=["root_id", "side", "probability", "evidence", "target"])
        table = _summands(nothing)
    counts_u, targets_u = table["n_targets"].to_numpy(dtype=float), table["target"].to_numpy(dtype=float)
    mean_u = np.full(len(table), np.nan)
    np.divide(targets_u, counts_u, out=mean_u, where=counts_u > 0)
    accuracy_u = table["n_right"].to_numpy(dtype=float) / table["n_synapses"].to_numpy(dtype=float)
    return table.assign(target=mean_u, synapse_accuracy=accuracy_u).drop(columns=["n_targets", "n_right"])


def _fit(known: pd.DataFrame, config: ConsensusConfig) -> SharedErrors:
    evidence_u, n_synapses_u, target_u = (known[name].to_numpy(float) for name in ("evidence", "n_synapses", "target"))
    return fit_shared_errors(evidence_u, n_synapses_u, target_u, config.min_neurites, config.default_correlation)


def _held_out(known: pd.DataFrame, config: ConsensusConfig) -> pd.DataFrame:
    """Posteriors of annotated neurites from fits that did not see them."""
    if len(known) < config.n_folds:
        return pd.DataFrame(columns=list(HELD_OUT_COLUMNS))
    fold_u = np.random.default_rng(config.seed).permutation(np.arange(len(known)) % config.n_folds)
    corrected_u, independent_u = np.empty(len(known)), np.empty(len(known))
    for fold in range(config.n_folds):
        test = fold_u == fold
        fit = _fit(known[~test], config)
        evidence_t, n_t = known["evidence"].to_numpy()[test], known["n_synapses"].to_numpy()[test]
        corrected_u[test] = _sigmoid(fit.log_odds(evidence_t, n_t))
        independent_u[test] = _sigmoid(SharedErrors(1.0, 0.0, fit.prior).log_odds(evidence_t, n_t))
    return known.assign(probability=corrected_u, independent_probability=independent_u)[list(HELD_OUT_COLUMNS)]


def called_types(probability_u: np.ndarray, min_probability: float) -> np.ndarray:
    """Types 0.0 and 1.0 by probability of class 1, float64 (u,); NaN where neither is probable enough."""
    called_u = (probability_u > 0.5).astype(float)
    return np.where(np.maximum(probability_u, 1 - probability_u) >= min_probability, called_u, np.nan)


def _sigmoid(log_odds_u: np.ndarray) -> np.ndarray:
    sigmoid_u: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * log_odds_u))
    return sigmoid_u


EVALUATION_COLUMNS = (
    "stratum",
    "method",
    "n_neurites",
    "accuracy",
    "lower_90",
    "upper_90",
    "synapse_accuracy",
    "called",
    "accuracy_called",
    "expected_calibration_error",
    "debiased_calibration_error",
    "calibration_error_by_chance",
    "log_loss",
)


def evaluate_consensus(held_out: pd.DataFrame, config: ConsensusConfig | None = None) -> pd.DataFrame:
    """Accuracy and calibration on held-out neurites, measured, by synapses per neurite.

    Args:
        held_out: Held-out neurites from :func:`neurite_posteriors`; a neurite may occur several times, with
            predictions from several draws of labels.
        config: Strata, threshold, bins.

    Returns:
        One row per stratum (``all`` first) and method (``corrected``, ``independent``): ``accuracy`` with its 90 %
        interval (bootstrap over neurites), mean accuracy of the neurites' single synapses, share ``called`` at the
        threshold and accuracy among those, calibration error with chance's part, log loss.
    """
    config = config or ConsensusConfig()
    rows = []
    for stratum, table in strata_of(held_out, config.strata):
        target_u = table["target"].to_numpy(dtype=float)
        for method, column in (("corrected", "probability"), ("independent", "independent_probability")):
            probability_u = table[column].to_numpy(dtype=float)
            is_right_u = ((probability_u > 0.5) == (target_u == 1.0)).astype(float)
            is_called_u = np.isfinite(called_types(probability_u, config.min_probability))
            lower, upper = grouped_interval(is_right_u, table["root_id"].to_numpy())
            loss_u = np.logaddexp(0.0, -np.where(target_u == 1.0, 1.0, -1.0) * logit(probability_u))
            values = (
                *(stratum, method, table["root_id"].nunique(), float(is_right_u.mean()), lower, upper),
                float(table["synapse_accuracy"].mean()),
                float(is_called_u.mean()),
                float(is_right_u[is_called_u].mean()) if is_called_u.any() else np.nan,
                expected_calibration_error(probability_u, target_u, config.n_bins),
                debiased_calibration_error(probability_u, target_u, config.n_bins),
                calibration_error_by_chance(probability_u, config.n_bins),
                float(loss_u.mean()),
            )
            rows.append(values)
    return pd.DataFrame(rows, columns=list(EVALUATION_COLUMNS))


def strata_of(held_out: pd.DataFrame, ends: tuple[int, ...]) -> list[tuple[str, pd.DataFrame]]:
    """All neurites, then those of each class of synapses per neurite that has any."""
    parts = [("all", held_out)]
    start = 1
    for end in sorted(ends):
        parts.append(
            (f"{start} to {end}" if end > start else f"{end}", held_out[held_out["n_synapses"].between(start, end)])
        )
        start = end + 1
    parts.append((f"{start} and more", held_out[held_out["n_synapses"] >= start]))
    return [(name, table) for name, table in parts if len(table)]


def consensus_document(evaluation: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Condense to ``{stratum: {method: {measure: value}}}`` with JSON's own types; what is not known is left out."""
    document: dict[str, dict[str, dict[str, float]]] = {}
    for row in evaluation.to_dict("records"):
        measures = {str(name): float(row[name]) for name in EVALUATION_COLUMNS[2:] if np.isfinite(row[name])}
        document.setdefault(str(row["stratum"]), {})[str(row["method"])] = measures
    return document


def censored_metrics(censored: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``consensus/labels_<percent>/<stratum>/<method>/<measure>``."""
    metrics: dict[str, float] = {}
    for fraction, of_one in censored.groupby("fraction", sort=False):
        for name, value in consensus_metrics(consensus_document(of_one)).items():
            metrics[name.replace("consensus/", f"consensus/labels_{100 * float(str(fraction)):g}_percent/")] = value
    return metrics


def consensus_metrics(document: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Flatten to ``consensus/<stratum>/<method>/<measure>``."""
    return {
        f"consensus/{stratum}/{method}/{name}": value
        for stratum, methods in document.items()
        for method, measures in methods.items()
        for name, value in measures.items()
    }


CENSORED_COLUMNS = ("fraction", "n_labels", "n_seeds", *EVALUATION_COLUMNS)
FAILED_COLUMNS = ("fraction", "seed", "n_labels", "reason")
_MIN_FITTED = 20


@dataclass(frozen=True)
class CensoredConsensus:
    """Results of consensus typing with few labels.

    Attributes:
        evaluation: One row per label fraction, stratum and method, as in
            :func:`~synapseclr.analysis.consensus.evaluate_consensus`, over the neurites of all seeds; the
            intervals draw neurites, with all of their seeds.
        neurites: One row per fraction, seed and neurite that was tested.
        failed: Draws that could not be evaluated, with the reason.
    """

    evaluation: pd.DataFrame
    neurites: pd.DataFrame
    failed: pd.DataFrame


def evaluate_censored(
    features_nf: Features,
    annotations: pd.DataFrame,
    consensus: ConsensusConfig | None = None,
    imputation: ImputationConfig | None = None,
    truth: pd.DataFrame | None = None,
    traits: Sequence[Trait] = CELL_TYPE_TRAITS,
    row_blocks: RowBlocksConfig = HERE,
) -> CensoredConsensus:
    """Hide all but a fraction of the annotations, type neurites from what is left, and compare.

    A synapse is labelled on both of its sides or on none. Models are fitted on labelled synapses in folds by neurite:
    a labelled neurite is predicted by the models that saw no label of it, for the recalibration and for the
    correction of shared errors; all others, those that are tested, by the mean of the models.

    Args:
        features_nf: Shape (n, f), finite; or blocks.
        annotations: One row per synapse: ``synapse_id``, root ids, cell types.
        consensus: Label fractions (of the ``n`` synapses), seeds, strata.
        imputation: Folds and the Gaussian processes.
        truth: Cell types to test against, rows as in ``annotations``, where they are known for more synapses; by
            default the annotations themselves.
        traits: The cell types, one trait a side.
        row_blocks: Blocks of lazy features, of which the rows of tested neurites are read.

    Returns:
        The evaluation.
    """
    from rich.progress import track

    consensus, imputation = consensus or ConsensusConfig(), imputation or ImputationConfig()
    truth = annotations if truth is None else truth
    process = imputation.gaussian_processes
    n_synapses = len(annotations)
    # No neurite is tested but those of known type: the others' synapses are neither drawn nor predicted.
    rows_s = _rows_of_known_neurites(annotations, truth, traits)
    inputs_nr = inputs_of_rows(features_nf, rows_s, process, imputation.seed, row_blocks)
    annotations, truth = annotations.iloc[rows_s], truth.iloc[rows_s]
    tested, failed = [], []
    n_labels: dict[float, int] = {}
    draws = [(fraction, seed) for fraction in consensus.label_fractions for seed in range(consensus.n_label_seeds)]
    for fraction, seed in track(draws, description="Typing with few labels"):
        labelled_n = _draw(annotations, round(fraction * n_synapses), seed, traits)
        n_labels[fraction] = int(labelled_n.sum())
        try:
            _check_unlabelled(annotations, truth, labelled_n, traits)
            evidence = _evidence(inputs_nr, annotations, labelled_n, imputation, seed, traits)
            tested.append(_test(evidence, truth, consensus, traits).assign(fraction=fraction, seed=seed))
        except UnscorableTraitError as reason:
            failed.append((fraction, seed, n_labels[fraction], str(reason)))
    columns = ["fraction", "seed", "root_id", "n_synapses", "target", "probability", "independent_probability"]
    neurites = pd.concat(tested, ignore_index=True) if tested else pd.DataFrame(columns=[*columns, "synapse_accuracy"])
    rows = []
    for fraction in consensus.label_fractions:
        of_one = neurites[neurites["fraction"] == fraction]
        if len(of_one):
            counts = {"n_labels": n_labels[fraction], "n_seeds": of_one["seed"].nunique()}
            rows.append(evaluate_consensus(of_one, consensus).assign(fraction=fraction, **counts))
    evaluation = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(CENSORED_COLUMNS))
    return CensoredConsensus(
        evaluation[list(CENSORED_COLUMNS)], neurites, pd.DataFrame(failed, columns=list(FAILED_COLUMNS))
    )


def _rows_of_known_neurites(annotations: pd.DataFrame, truth: pd.DataFrame, traits: Sequence[Trait]) -> np.ndarray:
    """Rows of synapses one of whose neurites has a known type or a label."""
    known = []
    for trait in traits:
        is_known_n = np.isfinite(trait_values(truth, trait)) | np.isfinite(trait_values(annotations, trait))
        known.append(annotations.loc[is_known_n, trait.root_column].unique())
    is_wanted_n = np.zeros(len(annotations), dtype=bool)
    for trait in traits:
        for roots in known:
            is_wanted_n |= annotations[trait.root_column].isin(roots).to_numpy()
    return np.flatnonzero(is_wanted_n)


def _draw(annotations: pd.DataFrame, n_labels: int, seed: int, traits: Sequence[Trait]) -> np.ndarray:
    """Labelled synapses, bool (n,): so many, at least one, drawn from those with a cell type on any side."""
    known_n = np.zeros(len(annotations), dtype=bool)
    for trait in traits:
        known_n |= np.isfinite(trait_values(annotations, trait))
    rows = np.flatnonzero(known_n)
    n_drawn = min(len(rows), max(1, n_labels))
    labelled_n = np.zeros(len(annotations), dtype=bool)
    labelled_n[np.random.default_rng([seed, len(rows)]).permutation(rows)[:n_drawn]] = True
    return labelled_n


def _evidence(
    inputs_nr: np.ndarray,
    annotations: pd.DataFrame,
    labelled_n: np.ndarray,
    config: ImputationConfig,
    seed: int,
    traits: Sequence[Trait],
) -> pd.DataFrame:
    """Evidence of every synapse for both of its neurites; ``target`` on all synapses of labelled neurites."""
    parts, reasons = [], []
    for trait in traits:
        target_n = np.where(labelled_n, trait_values(annotations, trait), np.nan)
        neurite_n = pd.factorize(annotations[trait.root_column].to_numpy())[0]
        try:
            probability_n = _censored_probability(inputs_nr, target_n, neurite_n, trait, config, seed)
        except UnscorableTraitError as reason:
            reasons.append(f"{trait.label}: {reason}")
            continue
        evidence = trait_evidence(annotations, trait, probability_n, target_n)
        parts.append(evidence.assign(target=_neurite_targets(target_n, neurite_n)))
    if not parts:
        raise UnscorableTraitError("; ".join(reasons))
    return pd.concat(parts, ignore_index=True)


def _neurite_targets(target_n: np.ndarray, neurite_n: np.ndarray) -> np.ndarray:
    """The label of a neurite's labelled synapses at all of its synapses; NaN where there is none."""
    means_u = pd.Series(target_n).groupby(neurite_n).mean()
    targets_n: np.ndarray = means_u.reindex(neurite_n).to_numpy()
    return targets_n


def _censored_probability(
    inputs_nr: np.ndarray,
    target_n: np.ndarray,
    neurite_n: np.ndarray,
    trait: Trait,
    config: ImputationConfig,
    seed: int,
) -> np.ndarray:
    """Recalibrated probability of class 1 at every synapse, from models that saw no label of its neurite."""
    rows_a = np.flatnonzero(np.isfinite(target_n))
    target_a, groups_a = target_n[rows_a], neurite_n[rows_a]
    if np.ptp(target_a) == 0 if len(target_a) else True:
        raise UnscorableTraitError(f"only one class among {len(target_a)} labels")
    folds = (
        grouped_folds(target_a, groups_a, True, config.n_folds, seed)
        if _has_folds(target_a, groups_a, config)
        else None
    )
    if folds is None:
        raise UnscorableTraitError(f"{len(target_a)} labels cannot be split into {config.n_folds} folds by neurite")
    probability_kn, is_labelled_kn = [], []
    for train, test in folds:
        posterior = fit_classes(
            inputs_nr[rows_a[train]], target_a[train], inputs_nr, config.gaussian_processes, config.seed + seed
        )
        probability_kn.append(class_probability(posterior)[0])
        is_labelled_kn.append(np.isin(neurite_n, groups_a[test]))
    stated_kn, test_kn = np.stack(probability_kn), np.stack(is_labelled_kn)
    # Every labelled neurite is in the test part of one fold.
    stated_n = np.where(test_kn.any(axis=0), (stated_kn * test_kn).sum(axis=0), stated_kn.mean(axis=0))
    if len(rows_a) < _MIN_FITTED:
        return stated_n
    corrected_n = fit_beta_calibration(stated_n[rows_a], target_a, groups_a).apply(stated_n)
    for train, test in folds:
        chosen_n = np.isin(neurite_n, groups_a[test])
        correction = fit_beta_calibration(stated_n[rows_a[train]], target_a[train], groups_a[train])
        corrected_n[chosen_n] = correction.apply(stated_n[chosen_n])
    return corrected_n


def _check_unlabelled(
    annotations: pd.DataFrame, truth: pd.DataFrame, labelled_n: np.ndarray, traits: Sequence[Trait]
) -> None:
    """Refuse, before models are fitted, labels that leave no neurite of known type to be tested."""
    labelled = [
        annotations.loc[labelled_n & np.isfinite(trait_values(annotations, trait)), trait.root_column].to_numpy()
        for trait in traits
    ]
    known = _known_types(truth, traits)
    if known.empty:
        raise UnscorableTraitError("the type of no neurite is known")
    if known.index.isin(np.concatenate(labelled)).all():
        raise UnscorableTraitError(_ALL_LABELLED)


def _has_folds(target_a: np.ndarray, groups_a: np.ndarray, config: ImputationConfig) -> bool:
    return all(len(np.unique(groups_a[target_a == value])) >= config.n_folds for value in (0.0, 1.0))


def _test(
    evidence: pd.DataFrame, truth: pd.DataFrame, config: ConsensusConfig, traits: Sequence[Trait]
) -> pd.DataFrame:
    """Posteriors of the neurites without a label whose type is known, beside the truth and their single synapses."""
    posteriors, _, _ = neurite_posteriors(evidence, config)
    known = _known_types(truth, traits)
    unlabelled = posteriors["annotated_type"].isna() & posteriors["root_id"].isin(known.index)
    tested = posteriors[unlabelled].assign(target=lambda table: known.reindex(table["root_id"]).to_numpy())
    if tested.empty:
        raise UnscorableTraitError(_ALL_LABELLED)
    says_one = (evidence["probability"] > 0.5).astype(float)
    is_right = (says_one == known.reindex(evidence["root_id"]).to_numpy()).astype(float)
    accuracy = is_right.groupby(evidence["root_id"].to_numpy()).mean()
    return tested[list(HELD_OUT_COLUMNS[:-1])].assign(synapse_accuracy=accuracy.reindex(tested["root_id"]).to_numpy())


def _known_types(truth: pd.DataFrame, traits: Sequence[Trait]) -> pd.Series:
    """Cell type by root id, of neurites whose annotated synapses agree."""
    parts = [pd.Series(trait_values(truth, trait), index=truth[trait.root_column].to_numpy()) for trait in traits]
    together = pd.concat(parts).dropna()
    means = together.groupby(level=0).mean()
    return means[means.isin((0.0, 1.0))]
