"""Cell types of whole neurites: the evidence of their synapses added up, with shared errors accounted for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ConsensusConfig
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.analysis.traits.correction import logit
from synapseclr.volumes.synapse_ids import table_rows

CELL_TYPE_TRAITS: tuple[Trait, ...] = tuple(trait for trait in TRAITS if trait.name.endswith("_cell_type"))
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
    """How the log-odds of k synapses make that of their neurite: ``prior + slope * sum / (1 + (k - 1) * correlation)``.

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


def synapse_evidence(imputed_traits: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """What every synapse says of its two neurites.

    Args:
        imputed_traits: ``synapse_id`` and ``<trait>_probability`` of the cell types, calibrated.
        annotations: One row per synapse: ``synapse_id``, root ids, cell types (NaN where not annotated).

    Returns:
        ``synapse_id``, ``root_id``, ``side``, ``probability``, ``evidence`` (log-odds less those of the annotated
        frequency, so that the base rate is not counted once per synapse) and ``target`` (NaN where not annotated).
        Sides whose cell type was not imputed are left out.
    """
    probabilities = table_rows(imputed_traits, annotations["synapse_id"])
    parts = []
    for trait in CELL_TYPE_TRAITS:
        if f"{trait.name}_probability" not in probabilities:
            continue
        probability_n = probabilities[f"{trait.name}_probability"].to_numpy()
        target_n = annotations[trait.name].to_numpy(dtype=float)
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
    of_neurites = pd.Series(target_n).groupby(annotations[trait.group].to_numpy()).mean().dropna()
    base = np.log((of_neurites.sum() + 0.5) / (len(of_neurites) - of_neurites.sum() + 0.5))
    return pd.DataFrame(
        {
            "synapse_id": annotations["synapse_id"].to_numpy(),
            "root_id": annotations[trait.group].to_numpy(),
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
    config = config or ConsensusConfig()
    known = _per_neurite(evidence[np.isfinite(evidence["target"].to_numpy(dtype=float))])
    # A neurite whose annotations contradict each other has no known type.
    known = known[np.isin(known["target"], (0.0, 1.0))].reset_index(drop=True)
    fit = _fit(known, config)
    neurites = _per_neurite(evidence)
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


def _per_neurite(evidence: pd.DataFrame) -> pd.DataFrame:
    is_right = ((evidence["probability"] > 0.5) == (evidence["target"] == 1.0)).astype(float)
    rows = evidence.assign(
        is_right=is_right, n_pre=(evidence["side"] == "pre") * 1, n_post=(evidence["side"] == "post") * 1
    )
    return (
        rows.groupby("root_id", sort=True)
        .agg(
            n_synapses=("synapse_id", "size"),
            n_pre=("n_pre", "sum"),
            n_post=("n_post", "sum"),
            evidence=("evidence", "sum"),
            target=("target", "mean"),
            synapse_accuracy=("is_right", "mean"),
        )
        .reset_index()
    )


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
