"""What principal components have to do with traits, and the synapses at their ends."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synapseclr.analysis.features.config import FeaturesConfig
from synapseclr.analysis.manifold.profiles import neurite_codes
from synapseclr.analysis.traits import TRAITS, Trait, trait_values

COMPONENT_TRAIT_COLUMNS = (
    "layer",
    "component",
    "trait",
    "label",
    "n",
    "n_neurites",
    "rho",
    "lower_90",
    "upper_90",
    "p_value",
    "p_bonferroni",
    "p_benjamini_hochberg",
    "reason",
)
EXAMPLE_COLUMNS = ("layer", "component", "end", "rank", "synapse_id", "value")
_CORRECTED = ("p_bonferroni", "p_benjamini_hochberg")


def component_traits(
    components_np: np.ndarray, obs: pd.DataFrame, layer: str, config: FeaturesConfig | None = None
) -> pd.DataFrame:
    """Spearman correlation of every component with every annotated trait, corrected for the number of tests.

    Args:
        components_np: float (n, p): coordinates along principal components.
        obs: One row per synapse: annotations and root ids.
        layer: Name of the layer, for the table.
        config: Fewest annotated synapses, bootstrap.

    Returns:
        One row per component and trait. ``rho`` with its 90 % interval by the bootstrap over neurites; ``p_value`` as
        scipy gives it for independent synapses; corrected by Bonferroni, as published, and by Benjamini and Hochberg,
        over all tests of the table. Traits that cannot be tested have NaN and a ``reason``. Synapses of a neurite are
        not independent: where the interval and the p-value disagree, trust the interval.
    """
    config = config or FeaturesConfig()
    tables = [_test_trait(components_np, obs, trait, layer, config) for trait in TRAITS]
    table = pd.concat(tables, ignore_index=True)
    table[list(_CORRECTED)] = np.nan
    tested = np.flatnonzero(np.isfinite(table["p_value"]))
    if len(tested):
        from scipy.stats import false_discovery_control

        p_value_t = table["p_value"].to_numpy()[tested]
        table.loc[tested, "p_bonferroni"] = np.minimum(1.0, p_value_t * len(tested))
        table.loc[tested, "p_benjamini_hochberg"] = false_discovery_control(p_value_t)
    return table[list(COMPONENT_TRAIT_COLUMNS)].sort_values("component", kind="stable", ignore_index=True)


def _test_trait(
    components_np: np.ndarray, obs: pd.DataFrame, trait: Trait, layer: str, config: FeaturesConfig
) -> pd.DataFrame:
    from scipy.stats import spearmanr

    values_n = trait_values(obs, trait)
    rows_a = np.flatnonzero(np.isfinite(values_n))
    neurite_a = neurite_codes(obs.iloc[rows_a], trait.group)
    n_components = components_np.shape[1]
    table = pd.DataFrame(
        {
            "layer": layer,
            "component": np.arange(1, n_components + 1),
            "trait": trait.name,
            "label": trait.label,
            "n": len(rows_a),
            "n_neurites": len(np.unique(neurite_a)),
            **dict.fromkeys(("rho", "lower_90", "upper_90", "p_value"), np.nan),
            "reason": None,
        }
    )
    if len(rows_a) < config.min_annotated:
        return table.assign(reason=f"{len(rows_a)} annotated synapses, at least {config.min_annotated} needed")
    if np.ptp(values_n[rows_a]) == 0:
        return table.assign(reason="all annotated values are equal")
    codes_a = np.unique(neurite_a, return_inverse=True)[1]
    n_neurites = int(codes_a.max()) + 1
    # How often each neurite is drawn is multinomial: one product gives the moments of all samples.
    counts_sg = np.random.default_rng(config.seed).multinomial(
        n_neurites, np.full(n_neurites, 1 / n_neurites), size=config.n_draws
    )
    for component in range(n_components):
        coordinate_a = components_np[rows_a, component]
        if np.ptp(coordinate_a) == 0:
            table.loc[component, "reason"] = "the component is constant"
            continue
        found = spearmanr(coordinate_a, values_n[rows_a])
        interval = _rank_correlation_interval(coordinate_a, values_n[rows_a], codes_a, counts_sg)
        table.loc[component, ["rho", "lower_90", "upper_90", "p_value"]] = [found[0], *interval, found[1]]
    return table


def _rank_correlation_interval(
    first_a: np.ndarray, second_a: np.ndarray, codes_a: np.ndarray, counts_sg: np.ndarray
) -> tuple[float, float]:
    """90 % interval by the bootstrap over neurites (how often each is in each sample), with ranks of all."""
    from scipy.stats import rankdata

    x_a, y_a = rankdata(first_a), rankdata(second_a)
    x_a, y_a = (x_a - x_a.mean()) / x_a.std(), (y_a - y_a.mean()) / y_a.std()
    moments = np.stack([np.ones_like(x_a), x_a, y_a, x_a * x_a, y_a * y_a, x_a * y_a], axis=1)
    sums_g6 = np.zeros((counts_sg.shape[1], 6))
    np.add.at(sums_g6, codes_a, moments)
    n, x, y, xx, yy, xy = (counts_sg @ sums_g6).T
    variance = (xx / n - (x / n) ** 2) * (yy / n - (y / n) ** 2)
    rho_s = (xy / n - x * y / n**2) / np.sqrt(np.maximum(variance, 1e-300))
    varies_s = variance > 1e-12
    if not varies_s.any():
        return np.nan, np.nan
    lower, upper = np.quantile(np.clip(rho_s[varies_s], -1, 1), [0.05, 0.95])
    return float(lower), float(upper)


def component_examples(
    components_np: np.ndarray, synapse_id: np.ndarray, layer: str, n_components: int, n_examples: int
) -> pd.DataFrame:
    """Synapses at the low and high end of every component.

    Args:
        components_np: float (n, p).
        synapse_id: int64 (n,).
        layer: Name of the layer, for the table.
        n_components: Components wanted, at most p.
        n_examples: Synapses per end; at most half of all.

    Returns:
        ``layer``, ``component``, ``end`` (``low``, ``high``), ``rank`` (1 is the outermost), ``synapse_id``, ``value``
        in standard deviations.
    """
    n_examples = max(1, min(n_examples, len(synapse_id) // 2))
    rows = []
    for component in range(min(n_components, components_np.shape[1])):
        value_n = components_np[:, component] / max(float(components_np[:, component].std()), 1e-30)
        order_n = np.argsort(value_n, kind="stable")
        for end, chosen in (("low", order_n[:n_examples]), ("high", order_n[::-1][:n_examples])):
            for rank, row in enumerate(chosen, start=1):
                rows.append((layer, component + 1, end, rank, int(synapse_id[row]), float(value_n[row])))
    return pd.DataFrame(rows, columns=list(EXAMPLE_COLUMNS))
