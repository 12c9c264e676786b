"""Traits by the cell types on the two sides of the synapse, as measured and as imputed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from synapseclr.analysis.features.config import FeaturesConfig
from synapseclr.analysis.manifold.profiles import neurite_codes
from synapseclr.analysis.traits import TRAITS, Trait, trait_named, trait_values
from synapseclr.analysis.traits.calibration import grouped_interval
from synapseclr.volumes.synapse_ids import table_rows

SUMMARY_COLUMNS = (
    "source",
    "combination",
    "trait",
    "label",
    "n",
    "n_neurites",
    "mean",
    "lower_90",
    "upper_90",
    "standard_deviation",
    "type_probability",
)
_SIDES = ("pre_cell_type", "post_cell_type")
_ALL = "all"


def trait_summaries(obs: pd.DataFrame, imputed: pd.DataFrame, config: FeaturesConfig | None = None) -> pd.DataFrame:
    """Mean of every trait in every combination of presynaptic and postsynaptic cell type.

    Args:
        obs: One row per synapse: ``synapse_id``, annotations, root ids.
        imputed: ``imputed_traits`` of the imputation pipeline; may lack traits, or hold ``synapse_id`` alone.
        config: Bootstrap samples.

    Returns:
        One row per source, combination and trait that has values. ``measured``: synapses whose trait and both cell
        types are annotated. ``imputed``: every synapse, with its annotations where there are any, otherwise the more
        probable type and the posterior mean (for classes the probability). ``type_probability`` is the mean probability
        of the combinations so assigned, 1 for annotated ones. ``all`` counts synapses of every type. The interval is
        90 %, by the bootstrap over the neurites that the trait belongs to; what is uncertain about imputed values
        themselves, taken as independent between synapses, is added in quadrature. A size of mitochondria counts where
        there are any.
    """
    config = config or FeaturesConfig()
    aligned = table_rows(imputed, obs["synapse_id"])
    rows = []
    for source in ("measured", "imputed"):
        is_imputed = source == "imputed"
        if is_imputed and not any(str(name).endswith(("_mean", "_probability")) for name in aligned):
            continue
        types = {side: _values(obs, aligned, trait_named(side), is_imputed) for side in _SIDES}
        for combination, inside_n, probability_n in _combinations(types):
            for trait in TRAITS:
                if trait.name in _SIDES:
                    continue
                mean_n, sd_n = _values(obs, aligned, trait, is_imputed)
                chosen = np.flatnonzero(inside_n & np.isfinite(mean_n))
                if not len(chosen):
                    continue
                neurite = neurite_codes(obs.iloc[chosen], trait.group)
                measures = _summarise(mean_n[chosen], sd_n[chosen], neurite, config)
                share = float(probability_n[chosen].mean())
                rows.append((source, combination, trait.name, trait.label, *measures, share))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _values(obs: pd.DataFrame, aligned: pd.DataFrame, trait: Trait, is_imputed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values float64 (n,) with their standard deviation (0 if measured); NaN where unknown.

    For classes the value is the probability of class 1, and the deviation that of a draw.
    """
    measured_n = trait_values(obs, trait)
    if not is_imputed:
        return measured_n, np.zeros(len(measured_n))
    name = f"{trait.name}_probability" if trait.kind == "class" else f"{trait.name}_mean"
    if name not in aligned:
        return measured_n, np.zeros(len(measured_n))
    mean_n = aligned[name].to_numpy(dtype=float)
    if trait.kind == "class":
        sd_n = np.sqrt(np.clip(mean_n * (1 - mean_n), 0, None))
    else:
        sd_n = aligned[f"{trait.name}_sd"].to_numpy(dtype=float)
    if trait.conditioned_on is not None:
        exists_n = _values(obs, aligned, trait_named(trait.conditioned_on), is_imputed)[0]
        mean_n = np.where(exists_n > 0.5, mean_n, np.nan)
    is_measured_n = np.isfinite(measured_n)
    return np.where(is_measured_n, measured_n, mean_n), np.where(is_measured_n, 0.0, sd_n)


def _combinations(
    types: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, members bool (n,), and probability float (n,) of every combination of types, and of all synapses."""
    (pre_n, _), (post_n, _) = (types[side] for side in _SIDES)
    yield _ALL, np.ones(len(pre_n), dtype=bool), np.ones(len(pre_n))
    names = trait_named("pre_cell_type").class_names
    for pre, post in ((0, 0), (0, 1), (1, 0), (1, 1)):
        inside_n = np.isfinite(pre_n) & np.isfinite(post_n) & ((pre_n > 0.5) == pre) & ((post_n > 0.5) == post)
        probability_n = np.where(pre, pre_n, 1 - pre_n) * np.where(post, post_n, 1 - post_n)
        yield f"{names[pre]} to {names[post]}", inside_n, probability_n


def _summarise(
    mean_m: np.ndarray, sd_m: np.ndarray, neurite_m: np.ndarray, config: FeaturesConfig
) -> tuple[int, int, float, float, float, float]:
    """Number, neurites, mean, interval and spread of values that may be uncertain themselves."""
    mean = float(mean_m.mean())
    lower, upper = grouped_interval(mean_m, neurite_m, n_draws=config.n_draws, seed=config.seed)
    # The mean of independent posteriors: its deviation adds to the bootstrap's in quadrature.
    extra = 1.6448536269514722 * float(np.sqrt(np.square(sd_m).sum())) / len(mean_m)
    lower, upper = mean - np.hypot(mean - lower, extra), mean + np.hypot(upper - mean, extra)
    spread = float(np.sqrt(mean_m.var() + np.square(sd_m).mean()))
    return len(mean_m), len(np.unique(neurite_m)), mean, float(lower), float(upper), spread
