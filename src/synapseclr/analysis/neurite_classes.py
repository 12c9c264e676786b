"""Classes of whole neurites where there are several: the evidence of their synapses added up, class by class.

What :mod:`synapseclr.analysis.consensus` does for the two cell types, for any property of neurites that the traits
declare, such as a transmitter or a cell type with twenty classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ConsensusConfig
from synapseclr.analysis.consensus import (
    CONSENSUS_EVALUATION,
    EVALUATION_COLUMNS,
    ROWS_AT_A_TIME,
    PartialSums,
    strata_of,
)
from synapseclr.analysis.traits import Trait, class_columns, neurite_properties, trait_values
from synapseclr.analysis.traits.calibration import (
    calibration_error_by_chance,
    debiased_calibration_error,
    expected_calibration_error,
    grouped_interval,
)
from synapseclr.volumes.synapse_table import table_rows
from synapseclr.volumes.table_schema import COUNT, POSITIVE_COUNT, SHARE, TEXT, Column, TableSchema

_FLAG = Column("flag")

NEURITE_CLASSES = TableSchema(
    "The table of classes of neurites",
    {
        "property": TEXT,
        "root_id": Column("root_id"),
        "n_synapses": POSITIVE_COUNT,
        "n_pre": COUNT,
        "n_post": COUNT,
        "class_name": TEXT,
        "probability": SHARE,
        "independent_probability": SHARE,
        "is_called": _FLAG,
        "is_annotated": _FLAG,
    },
)

HELD_OUT_NEURITE_CLASSES = TableSchema(
    "The table of held-out classes of neurites",
    {
        "property": TEXT,
        "root_id": Column("root_id"),
        "n_synapses": POSITIVE_COUNT,
        "class_name": TEXT,
        "probability": SHARE,
        "independent_probability": SHARE,
        "is_annotated": _FLAG,
        "synapse_accuracy": SHARE,
    },
)

NEURITE_CLASS_EVALUATION = TableSchema(
    "The evaluation of the classes of neurites", {"property": TEXT, **CONSENSUS_EVALUATION.columns}
)

_METHODS = (("corrected", "probability"), ("independent", "independent_probability"))
_LEAST = 1e-6


def typed_property(traits: Sequence[Trait]) -> tuple[Trait, ...]:
    """Traits of the first property of neurites with two classes, which :mod:`~synapseclr.analysis.consensus` types."""
    properties = neurite_properties(traits).values()
    return next((members for members in properties if members[0].kind == "binary"), ())


def classified_properties(traits: Sequence[Trait]) -> dict[str, tuple[Trait, ...]]:
    """All other properties of neurites, with the traits that tell them."""
    typed = typed_property(traits)
    return {name: members for name, members in neurite_properties(traits).items() if members != typed}


@dataclass(frozen=True)
class ClassifiedNeurites:
    """Classes of neurites, of one property or of several.

    Attributes:
        neurites: One row a property, neurite and class, as :data:`NEURITE_CLASSES` has it.
        held_out: The same of annotated neurites, from fits without them; :data:`HELD_OUT_NEURITE_CLASSES`.
        evaluation: Accuracy and calibration on these, by synapses per neurite; :data:`NEURITE_CLASS_EVALUATION`.
    """

    neurites: pd.DataFrame
    held_out: pd.DataFrame
    evaluation: pd.DataFrame


def classify_neurites(
    imputed_traits: pd.DataFrame,
    annotations: pd.DataFrame,
    traits: Sequence[Trait],
    config: ConsensusConfig | None = None,
    rows_at_a_time: int = ROWS_AT_A_TIME,
) -> ClassifiedNeurites:
    """Give every neurite a probability for each class of every property that is not typed as one of two cell types.

    The log-odds of a class, beyond its share among annotated neurites, are added over the synapses of a neurite, on
    both sides if both tell the property, and divided by the design effect of synapses that share errors. Slope and
    correlation are fitted on annotated neurites, whose probabilities come from models that did not see the neurite. A
    class that was left out of the imputation is not among the answers.

    Args:
        imputed_traits: ``synapse_id`` and the probabilities of classes, calibrated.
        annotations: One row per synapse: ``synapse_id``, root ids, codes of classes (NaN where not annotated).
        traits: Traits of the run.
        config: Folds, threshold, strata.
        rows_at_a_time: Synapses whose evidence is held at a time.

    Returns:
        The classes. Properties that were imputed on no side are missing.
    """
    config = config or ConsensusConfig()
    found = []
    for name, members in classified_properties(traits).items():
        names, sums = _evidence(imputed_traits, annotations, members, rows_at_a_time)
        if sums is not None:
            found.append(_classified(name, names, sums, config))
    empty = [pd.DataFrame(columns=list(schema.columns)) for schema in _SCHEMAS]
    tables = [
        pd.concat(parts, ignore_index=True) if parts else none
        for parts, none in zip(zip(*found, strict=True) if found else [()] * 3, empty, strict=True)
    ]
    return ClassifiedNeurites(*tables)


_SCHEMAS = (NEURITE_CLASSES, HELD_OUT_NEURITE_CLASSES, NEURITE_CLASS_EVALUATION)


def _imputed_classes(imputed_traits: pd.DataFrame, trait: Trait) -> dict[str, str]:
    """Columns of the probabilities by name of the class, without the classes that were left out.

    Empty if nothing was imputed. Of two classes both have the one column, which is that of the second.
    """
    starts = [trait.name] * 2 if trait.kind == "binary" else class_columns(trait)
    columns = {name: f"{start}_probability" for name, start in zip(trait.classes, starts, strict=True)}
    return {name: column for name, column in columns.items() if column in imputed_traits}


def _evidence(
    imputed_traits: pd.DataFrame, annotations: pd.DataFrame, members: Sequence[Trait], rows_at_a_time: int
) -> tuple[list[str], pd.DataFrame | None]:
    """Classes, and one row per neurite: numbers of synapses, summed evidence by position, known class, accuracy."""
    columns = {trait: _imputed_classes(imputed_traits, trait) for trait in members}
    names = [name for name in members[0].classes if any(name in found for found in columns.values())]
    if len(names) < 2:
        return names, None
    wanted = sorted({column for found in columns.values() for column in found.values()})
    aligned = table_rows(imputed_traits[["synapse_id", *wanted]], annotations["synapse_id"])
    sums = PartialSums(lowest="min", highest="max")
    for trait, found in columns.items():
        if not found:
            continue
        target_n, base_k = _targets(annotations, trait, names)
        root_n = annotations[trait.root_column].to_numpy()
        for first in range(0, len(annotations), rows_at_a_time):
            rows = slice(first, first + rows_at_a_time)
            part = aligned.iloc[rows]
            probability_nk = np.full((len(part), len(names)), np.nan)
            for name, column in found.items():
                probability_n = part[column].to_numpy(dtype=float)
                is_other = trait.kind == "binary" and name == trait.classes[0]
                probability_nk[:, names.index(name)] = 1.0 - probability_n if is_other else probability_n
            sums.add(_summands(root_n[rows], target_n[rows], probability_nk, base_k, trait))
    table = sums.table
    if table is None:
        return names, None
    # A neurite whose annotations contradict each other has no known class.
    table["target"] = table["lowest"].where(table["lowest"] == table["highest"])
    table["synapse_accuracy"] = table["n_right"] / table["n_known"].where(table["n_known"] > 0)
    return names, table.rename(columns={str(position): position for position in range(len(names))})


def _targets(annotations: pd.DataFrame, trait: Trait, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Position of the known class of every synapse, float64 (n,), NaN for none; log share of each among neurites."""
    codes = {trait.classes.index(name): position for position, name in enumerate(names)}
    target_n = pd.Series(trait_values(annotations, trait)).map(codes).to_numpy(dtype=float)
    of_neurites = pd.Series(target_n).groupby(annotations[trait.root_column].to_numpy()).min().dropna()
    counts_k = np.bincount(of_neurites.astype(int), minlength=len(names)) + 0.5
    return target_n, np.log(counts_k / counts_k.sum())


def _summands(
    root_n: np.ndarray, target_n: np.ndarray, probability_nk: np.ndarray, base_k: np.ndarray, trait: Trait
) -> pd.DataFrame:
    """Evidence of synapses for the neurites on one side; 0 for a class of which this side knows nothing.

    ``known_<position>`` is that of annotated synapses alone: only these are predicted by models without their
    neurite, which the fit and the test need.
    """
    evidence_nk = np.nan_to_num(np.log(np.clip(probability_nk, _LEAST, 1.0)) - base_k)
    is_known_n = np.isfinite(target_n)
    is_right_n = is_known_n & (np.nan_to_num(probability_nk, nan=-1).argmax(axis=1) == target_n)
    table = pd.DataFrame({"root_id": root_n, "n_synapses": 1, "n_known": is_known_n * 1, "n_right": is_right_n * 1})
    table["n_pre"], table["n_post"] = int(trait.side == "pre"), int(trait.side == "post")
    for position, evidence_n in enumerate(evidence_nk.T):
        table[str(position)], table[f"known_{position}"] = evidence_n, np.where(is_known_n, evidence_n, 0.0)
    return table.assign(lowest=target_n, highest=target_n)


@dataclass(frozen=True)
class _SharedErrors:
    """Log-probabilities of a neurite's classes: ``prior + slope * sum / (1 + (k - 1) * correlation)``, normalised."""

    slope: float
    correlation: float
    prior_k: np.ndarray

    def log_probability(self, evidence_uk: np.ndarray, n_synapses_u: np.ndarray) -> np.ndarray:
        """Shape (u, k)."""
        effect_u = 1.0 + (n_synapses_u - 1) * self.correlation
        logits_uk = self.prior_k + self.slope * evidence_uk / effect_u[:, None]
        shifted_uk = logits_uk - logits_uk.max(axis=1, keepdims=True)
        log_uk: np.ndarray = shifted_uk - np.log(np.exp(shifted_uk).sum(axis=1, keepdims=True))
        return log_uk


def _fit(evidence_uk: np.ndarray, n_u: np.ndarray, target_u: np.ndarray, config: ConsensusConfig) -> _SharedErrors:
    """Fit slope and correlation, with the penalty of :func:`synapseclr.analysis.consensus.fit_shared_errors`."""
    from scipy.optimize import minimize

    counts_k = np.bincount(target_u, minlength=evidence_uk.shape[1]) + 0.5
    prior_k = np.log(counts_k / counts_k.sum())
    if len(target_u) < config.min_neurites or np.ptp(target_u) == 0:
        return _SharedErrors(1.0, config.default_correlation, prior_k)

    def loss(parameters: np.ndarray) -> float:
        log_uk = _SharedErrors(parameters[0], parameters[1], prior_k).log_probability(evidence_uk, n_u)
        penalty = 4.0 * (parameters[0] - 1.0) ** 2 + 16.0 * (parameters[1] - config.default_correlation) ** 2
        return float(penalty - log_uk[np.arange(len(target_u)), target_u].sum())

    starts = [np.array([1.0, correlation]) for correlation in (0.05, 0.5)]
    fits = [minimize(loss, start, bounds=[(0.0, 10.0), (0.0, 1.0)], method="L-BFGS-B") for start in starts]
    best = min(fits, key=lambda fit: fit.fun)
    return _SharedErrors(float(best.x[0]), float(best.x[1]), prior_k)


def _classified(
    name: str, names: list[str], sums: pd.DataFrame, config: ConsensusConfig
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    positions = list(range(len(names)))
    known = sums[sums["target"].notna()].reset_index(drop=True)
    evidence_uk = known[[f"known_{position}" for position in positions]].to_numpy(float)
    n_u, target_u = known["n_known"].to_numpy(float), known["target"].to_numpy(int)
    fit = _fit(evidence_uk, n_u, target_u, config)
    all_uk, n_all_u = sums[positions].to_numpy(float), sums["n_synapses"].to_numpy(float)
    probability_uk = np.exp(fit.log_probability(all_uk, n_all_u))
    independent_uk = np.exp(_SharedErrors(1.0, 0.0, fit.prior_k).log_probability(all_uk, n_all_u))
    is_best_uk = probability_uk.argmax(axis=1)[:, None] == np.array(positions)
    neurites = _long(sums, names, ["root_id", "n_synapses", "n_pre", "n_post"]).assign(
        probability=probability_uk.ravel(),
        independent_probability=independent_uk.ravel(),
        is_called=(is_best_uk & (probability_uk >= config.min_probability)).ravel(),
        is_annotated=(sums["target"].to_numpy()[:, None] == np.array(positions)).ravel(),
    )
    held_out = pd.DataFrame(columns=list(HELD_OUT_NEURITE_CLASSES.columns))
    if len(known) >= config.n_folds:
        tested = _held_out(evidence_uk, n_u, target_u, config)
        columns = known.drop(columns="n_synapses").rename(columns={"n_known": "n_synapses"})
        held_out = _long(columns.astype({"n_synapses": "int64"}), names, ["root_id", "n_synapses"]).assign(
            probability=np.exp(tested[0]).ravel(),
            independent_probability=np.exp(tested[1]).ravel(),
            is_annotated=(target_u[:, None] == np.array(positions)).ravel(),
            synapse_accuracy=np.repeat(known["synapse_accuracy"].to_numpy(float), len(names)),
        )
    neurites = neurites.assign(property=name)[list(NEURITE_CLASSES.columns)]
    held_out = held_out.assign(property=name)[list(HELD_OUT_NEURITE_CLASSES.columns)]
    return neurites, held_out, evaluate_classes(held_out, config)


def _long(table: pd.DataFrame, names: Sequence[str], columns: list[str]) -> pd.DataFrame:
    """One row per neurite and class, in this order."""
    repeated = table.loc[table.index.repeat(len(names)), columns].reset_index(drop=True)
    return repeated.assign(class_name=np.tile(np.array(names, dtype=object), len(table)))


def _held_out(
    evidence_uk: np.ndarray, n_u: np.ndarray, target_u: np.ndarray, config: ConsensusConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of annotated neurites, corrected and independent, from fits that did not see them."""
    fold_u = np.random.default_rng(config.seed).permutation(np.arange(len(target_u)) % config.n_folds)
    corrected_uk, independent_uk = np.empty_like(evidence_uk), np.empty_like(evidence_uk)
    for fold in range(config.n_folds):
        test = fold_u == fold
        fit = _fit(evidence_uk[~test], n_u[~test], target_u[~test], config)
        corrected_uk[test] = fit.log_probability(evidence_uk[test], n_u[test])
        independent_uk[test] = _SharedErrors(1.0, 0.0, fit.prior_k).log_probability(evidence_uk[test], n_u[test])
    return corrected_uk, independent_uk


def evaluate_classes(held_out: pd.DataFrame, config: ConsensusConfig | None = None) -> pd.DataFrame:
    """Accuracy and calibration on held-out neurites, measured, by synapses per neurite.

    Args:
        held_out: As :data:`HELD_OUT_NEURITE_CLASSES` has it.
        config: Strata, threshold, bins.

    Returns:
        One row per property, stratum (``all`` first) and method, with the measures of
        :func:`synapseclr.analysis.consensus.evaluate_consensus`. Calibration is that of the most probable class.
    """
    config = config or ConsensusConfig()
    rows = []
    for name, of_property in held_out.groupby("property", sort=False):
        for stratum, table in strata_of(of_property, config.strata):
            for method, column in _METHODS:
                rows.append((name, stratum, method, *_measures(table, column, config)))
    return pd.DataFrame(rows, columns=list(NEURITE_CLASS_EVALUATION.columns))


def _measures(table: pd.DataFrame, column: str, config: ConsensusConfig) -> Iterator[float]:
    best = best_classes(table, column)
    is_right_u, root_u = best["is_annotated"].to_numpy(float), best["root_id"].to_numpy()
    confidence_u = best[column].to_numpy(float)
    is_called_u = confidence_u >= config.min_probability
    own_u = table.loc[table["is_annotated"].astype(bool), column].to_numpy(float)
    measures = {
        "n_neurites": best["root_id"].nunique(),
        "accuracy": float(is_right_u.mean()),
        **dict(zip(("lower_90", "upper_90"), grouped_interval(is_right_u, root_u), strict=True)),
        "synapse_accuracy": float(best["synapse_accuracy"].mean()),
        "called": float(is_called_u.mean()),
        "accuracy_called": float(is_right_u[is_called_u].mean()) if is_called_u.any() else np.nan,
        "expected_calibration_error": expected_calibration_error(confidence_u, is_right_u, config.n_bins),
        "debiased_calibration_error": debiased_calibration_error(confidence_u, is_right_u, config.n_bins),
        "calibration_error_by_chance": calibration_error_by_chance(confidence_u, config.n_bins),
        "log_loss": float(-np.log(np.clip(own_u, _LEAST, 1.0)).mean()),
    }
    return (measures[name] for name in EVALUATION_COLUMNS[2:])


def best_classes(table: pd.DataFrame, column: str = "probability") -> pd.DataFrame:
    """The row of the most probable class of each neurite, in the order of the neurites."""
    ranked = table.sort_values(column, ascending=False, kind="stable")
    return ranked.drop_duplicates(["property", "root_id"]).sort_index()


def property_metrics(evaluation: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``consensus/<property>/<stratum>/<method>/<measure>``."""
    return {
        f"consensus/{row['property']}/{row['stratum']}/{row['method']}/{name}": float(row[name])
        for row in evaluation.to_dict("records")
        for name in EVALUATION_COLUMNS[2:]
        if np.isfinite(row[name])
    }
