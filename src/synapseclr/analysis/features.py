"""Features of each layer: correlations, spectra, components against traits, traits by cell types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import FeaturesConfig as FeaturesConfig
from synapseclr.analysis.representations import check_finite
from synapseclr.analysis.row_blocks import HERE, Moments, RowBlocks, RowBlocksConfig
from synapseclr.analysis.traits import (
    TRAITS,
    Trait,
    class_columns,
    neurite_properties,
    trait_named,
    trait_values,
    values_by_class,
)
from synapseclr.analysis.traits.calibration import grouped_interval
from synapseclr.analysis.traits.folds import neurite_codes
from synapseclr.errors import SynapseCLRError
from synapseclr.storage.sharded_anndata import is_lazy
from synapseclr.volumes.synapse_table import table_rows
from synapseclr.volumes.table_schema import (
    COUNT,
    FROM_ZERO_RULE,
    GROUPED_MEANS,
    KEY,
    NOT_NEGATIVE,
    POSITIVE_COUNT,
    SHARE_RULE,
    TEXT,
    Column,
    TableSchema,
)

FEATURE_CLUSTERS = TableSchema(
    "The table of feature clusters",
    {
        "layer": TEXT,
        "feature": Column("integer", unique=True, rule=FROM_ZERO_RULE),
        "place": Column("integer", rule=("ge", {"min_value": -1})),
        "cluster": Column("integer", rule=("ge", {"min_value": -1})),
        "standard_deviation": NOT_NEGATIVE,
        "is_constant": Column("flag"),
    },
)

FEATURE_TREE = TableSchema(
    "The tree of features",
    dict.fromkeys(("left", "right", "height", "n_features"), NOT_NEGATIVE),
)

LAYER_SPECTRA = TableSchema(
    "The table of spectra",
    {
        **dict.fromkeys(("representation", "layer"), TEXT),
        "component": POSITIVE_COUNT,
        "variance": NOT_NEGATIVE,
        "fraction": Column(rule=("in_range", {"min_value": 0, "max_value": 1.000001})),
        "cumulative": Column(rule=("in_range", {"min_value": 0, "max_value": 1.000001})),
    },
    may_be_empty=False,
)

COMPONENT_TRAITS = TableSchema(
    "The table of components against traits",
    {
        **dict.fromkeys(("layer", "trait", "label"), TEXT),
        "component": POSITIVE_COUNT,
        "n": COUNT,
        "n_neurites": COUNT,
        **{
            name: Column(nullable=True, rule=("in_range", {"min_value": -1, "max_value": 1}))
            for name in ("rho", "lower_90", "upper_90")
        },
        **{
            name: Column(nullable=True, rule=SHARE_RULE) for name in ("p_value", "p_bonferroni", "p_benjamini_hochberg")
        },
        "reason": Column("text", nullable=True),
    },
)

COMPONENT_EXAMPLES = TableSchema(
    "The table of synapses at the ends of components",
    {
        "layer": TEXT,
        "component": POSITIVE_COUNT,
        "end": Column("text", rule=("isin", {"allowed_values": ["low", "high"]})),
        "rank": POSITIVE_COUNT,
        "synapse_id": KEY,
        "value": Column(),
    },
    key="synapse_id",
)

TRAIT_SUMMARIES = TableSchema(
    "The table of traits by cell types",
    {
        "source": Column("text", rule=("isin", {"allowed_values": ["measured", "imputed"]})),
        **dict.fromkeys(("combination", "trait", "label"), TEXT),
        **GROUPED_MEANS,
        "standard_deviation": NOT_NEGATIVE,
        "type_probability": Column(rule=SHARE_RULE),
    },
)

FEATURE_CLUSTER_COLUMNS = ("layer", "feature", "place", "cluster", "standard_deviation", "is_constant")
_NO_PLACE = -1


@dataclass(frozen=True)
class FeatureClusters:
    """Correlations of features in the order of their tree.

    Attributes:
        correlation_mm: float64 (m, m): Pearson correlations of the m features that vary, in the order of the tree.
        linkage: float64 (m - 1, 4): the tree, as scipy writes it, over the varying features in their own order; without
            rows if fewer than two vary.
        table: One row per feature: ``layer``, ``feature`` (its number), ``place`` in the order of the tree, ``cluster``
            (from 1 on, along that order), ``standard_deviation``, ``is_constant`` (then place and cluster are -1).
    """

    correlation_mm: np.ndarray
    linkage: np.ndarray
    table: pd.DataFrame


def layer_moments(features_nf: Any, layer: str, row_blocks: RowBlocksConfig = HERE) -> Moments:
    """Moments of lazy features (n, f) by merged blocks; values that are not finite are an error."""
    with RowBlocks(layer, (features_nf,), row_blocks) as blocks:
        return blocks.moments()


def feature_correlations(features_nf: Any, chosen_m: np.ndarray, layer: str, row_blocks: RowBlocksConfig) -> np.ndarray:
    """Pearson correlations of features that vary, float64 (m, m), in the order given.

    Args:
        features_nf: float (n, f), in memory or lazy.
        chosen_m: int (m,): numbers of the features.
        layer: Name of the layer.
        row_blocks: Blocks of lazy features.
    """
    if not len(chosen_m):
        return np.empty((0, 0))
    if not is_lazy(features_nf):
        return np.atleast_2d(np.corrcoef(features_nf[:, chosen_m], rowvar=False))
    moments = layer_moments(features_nf, layer, row_blocks)
    spread_m = moments.std_f[chosen_m]
    return np.clip(moments.covariance_ff[np.ix_(chosen_m, chosen_m)] / np.outer(spread_m, spread_m), -1.0, 1.0)


def cluster_features(
    features_nf: Any, layer: str, n_clusters: int = 8, row_blocks: RowBlocksConfig = HERE
) -> FeatureClusters:
    """Arrange features so that those which go together stand together.

    Average linkage over 1 - r, with leaves in the optimal order (Bar-Joseph et al. 2001,
    doi:10.1093/bioinformatics/17.suppl_1.S22): features with opposite signs are far apart.

    Args:
        features_nf: float (n, f), n at least 3; in memory or lazy.
        layer: Name of the layer, for the table and for messages.
        n_clusters: Clusters that the tree is cut into, at most.
        row_blocks: Blocks of lazy features.

    Returns:
        The arrangement. Constant features have no correlation; they are left out and marked.

    Raises:
        SynapseCLRError: If there are fewer than three synapses, or values are not finite.
    """
    from scipy.cluster.hierarchy import cut_tree, leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(features_nf) < 3:
        raise SynapseCLRError(
            f"Correlations of features need at least 3 synapses, the embeddings hold {len(features_nf)}."
        )
    if is_lazy(features_nf):
        moments = layer_moments(features_nf, layer, row_blocks)
        spread_f = moments.std_f
        largest_f = np.maximum(np.abs(moments.lowest_f), np.abs(moments.highest_f))
    else:
        check_finite(features_nf, layer)
        spread_f, largest_f = features_nf.std(axis=0, dtype=np.float64), np.abs(features_nf).max(axis=0)
    varying = np.flatnonzero(spread_f > 1e-7 * np.maximum(largest_f, 1e-30))
    table = pd.DataFrame(
        {
            "layer": layer,
            "feature": np.arange(features_nf.shape[1]),
            "place": _NO_PLACE,
            "cluster": _NO_PLACE,
            "standard_deviation": spread_f,
            "is_constant": True,
        }
    )
    if not len(varying):
        return FeatureClusters(np.empty((0, 0)), np.empty((0, 4)), table)
    correlation_mm = feature_correlations(features_nf, varying, layer, row_blocks)
    tree, order, cut = np.empty((0, 4)), np.array([0]), np.array([0])
    if len(varying) > 1:
        distance_mm = np.clip(1.0 - correlation_mm, 0.0, 2.0)
        np.fill_diagonal(distance_mm, 0.0)
        tree = linkage(squareform(distance_mm, checks=False), method="average", optimal_ordering=True)
        order = leaves_list(tree)
        cut = cut_tree(tree, n_clusters=min(n_clusters, len(varying))).ravel()
    renumbered = dict.fromkeys(cut[order].tolist())
    number_of = {old: new for new, old in enumerate(renumbered, start=1)}
    table.loc[varying[order], "place"] = np.arange(len(varying))
    table.loc[varying, "cluster"] = [number_of[int(label)] for label in cut]
    table.loc[varying, "is_constant"] = False
    return FeatureClusters(correlation_mm[np.ix_(order, order)], tree, table)


SPECTRUM_COLUMNS = ("representation", "layer", "component", "variance", "fraction", "cumulative")


def layer_spectra(representations: Mapping[str, Mapping[str, Any]], row_blocks: RowBlocksConfig = HERE) -> pd.DataFrame:
    """Principal component spectra of every layer.

    Args:
        representations: Name to layer to features (n, f), in memory or lazy.
        row_blocks: Blocks of lazy features.

    Returns:
        One row per representation, layer and component, largest first: ``variance`` (eigenvalue of the covariance),
        its ``fraction`` of all, and the ``cumulative`` fraction. Features that are all constant have zeros.
    """
    tables = []
    for name, layers in representations.items():
        for layer, features_nf in layers.items():
            if is_lazy(features_nf):
                scatter_ff = layer_moments(features_nf, layer, row_blocks).scatter_ff
            else:
                check_finite(features_nf, layer)
                centred_nf = features_nf.astype(np.float64) - features_nf.mean(axis=0, dtype=np.float64)
                scatter_ff = centred_nf.T @ centred_nf
            covariance_ff = scatter_ff / max(len(features_nf) - 1, 1)
            variance_p = np.maximum(np.linalg.eigvalsh(covariance_ff)[::-1], 0.0)
            variance_p = variance_p[: max(1, min(len(features_nf) - 1, len(variance_p)))]
            total = variance_p.sum()
            fraction_p = variance_p / total if total > 0 else np.zeros_like(variance_p)
            columns = (name, layer, np.arange(1, len(variance_p) + 1), variance_p, fraction_p, np.cumsum(fraction_p))
            tables.append(pd.DataFrame(dict(zip(SPECTRUM_COLUMNS, columns, strict=True))))
    return pd.concat(tables, ignore_index=True)


def effective_dimensions(fraction_p: np.ndarray) -> dict[str, float]:
    """Numbers that say how many directions a spectrum spreads over.

    Args:
        fraction_p: Fractions of the variance, largest first.

    Returns:
        ``effective_rank``, the exponential of the entropy of the variances (that of a training, RankMe, is of singular
        values, of single views, and therefore larger); ``participation_ratio``,
        one over the sum of squared fractions; ``components_90``, components that hold 90 % of the variance. All are 0
        for constant features.
    """
    positive = fraction_p[fraction_p > 0]
    if not len(positive):
        return {"effective_rank": 0.0, "participation_ratio": 0.0, "components_90": 0.0}
    return {
        "effective_rank": float(np.exp(-(positive * np.log(positive)).sum())),
        "participation_ratio": float(1.0 / np.square(positive).sum()),
        "components_90": float(np.searchsorted(np.cumsum(positive), 0.9 - 1e-12) + 1),
    }


def spectrum_metrics(spectra: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``features/<representation>/<layer>/<measure>``."""
    return {
        f"features/{name}/{layer}/{measure}": value
        for (name, layer), rows in spectra.groupby(["representation", "layer"], sort=False)
        for measure, value in effective_dimensions(rows["fraction"].to_numpy()).items()
    }


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
    components_np: np.ndarray,
    obs: pd.DataFrame,
    layer: str,
    config: FeaturesConfig | None = None,
    traits: Sequence[Trait] = TRAITS,
) -> pd.DataFrame:
    """Spearman correlation of every component with every annotated trait, corrected for the number of tests.

    Args:
        components_np: float (n, p): coordinates along principal components.
        obs: One row per synapse: annotations and root ids.
        layer: Name of the layer, for the table.
        config: Fewest annotated synapses, bootstrap.
        traits: Traits to compare with.

    Returns:
        One row per component and trait; of a multi-class trait one for each class against the others. ``rho`` with its
        90 % interval by the bootstrap over neurites; ``p_value`` as scipy gives it for independent synapses; corrected
        by Bonferroni, as published, and by Benjamini and Hochberg, over all tests of the table. Traits that cannot be
        tested have NaN and a ``reason``. Synapses of a neurite are not independent: where the interval and the p-value
        disagree, trust the interval.
    """
    config = config or FeaturesConfig()
    tables = [
        _test_trait(components_np, obs, trait, values_n, layer, config)
        for trait, values_n in values_by_class(obs, traits)
    ]
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
    components_np: np.ndarray,
    obs: pd.DataFrame,
    trait: Trait,
    values_n: np.ndarray,
    layer: str,
    config: FeaturesConfig,
) -> pd.DataFrame:
    from scipy.stats import spearmanr

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
    if not len(rows_a):
        return table.assign(reason="no synapse is annotated")
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

_ALL = "all"
_MOST_COMBINED = 3
"""Classes of a property of neurites whose combinations on both sides are told apart."""


def trait_summaries(
    obs: pd.DataFrame,
    imputed: pd.DataFrame,
    config: FeaturesConfig | None = None,
    traits: Sequence[Trait] = TRAITS,
) -> pd.DataFrame:
    """Mean of every trait in every combination of presynaptic and postsynaptic cell type.

    Args:
        obs: One row per synapse: ``synapse_id``, annotations, root ids.
        imputed: ``imputed_traits`` of the imputation pipeline; may lack traits, or hold ``synapse_id`` alone.
        config: Bootstrap samples.
        traits: Traits to summarise; of a multi-class one the share of every class. Types are those of the first
            property of neurites that both sides have, if it has three classes at most.

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
    sides = _typed_sides(traits)
    rows = []
    for source in ("measured", "imputed"):
        is_imputed = source == "imputed"
        if is_imputed and not any(str(name).endswith(("_mean", "_probability")) for name in aligned):
            continue
        for combination, inside_n, probability_n in _combinations(obs, aligned, sides, is_imputed):
            for trait, measured_n in values_by_class(obs, [trait for trait in traits if trait not in sides]):
                mean_n, sd_n = _values(obs, aligned, trait, measured_n, is_imputed, traits)
                chosen = np.flatnonzero(inside_n & np.isfinite(mean_n))
                if not len(chosen):
                    continue
                groups = obs[[trait.group]] if trait.group in obs else obs[[]]
                neurite = neurite_codes(groups.iloc[chosen], trait.group)
                measures = _summarise(mean_n[chosen], sd_n[chosen], neurite, config)
                share = float(probability_n[chosen].mean())
                rows.append((source, combination, trait.name, trait.label, *measures, share))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _typed_sides(traits: Sequence[Trait]) -> tuple[Trait, ...]:
    """Presynaptic and postsynaptic trait of the property whose combinations are told apart; () for none."""
    for members in neurite_properties(traits).values():
        if len(members) == 2 and len(members[0].classes) <= _MOST_COMBINED:
            return tuple(sorted(members, key=lambda trait: trait.side != "pre"))
    return ()


def _values(
    obs: pd.DataFrame,
    aligned: pd.DataFrame,
    trait: Trait,
    measured_n: np.ndarray,
    is_imputed: bool,
    traits: Sequence[Trait],
) -> tuple[np.ndarray, np.ndarray]:
    """Values float64 (n,) with their standard deviation (0 if measured); NaN where unknown.

    For classes the value is the probability of class 1, and the deviation that of a draw.
    """
    name = f"{trait.name}_probability" if trait.is_class else f"{trait.name}_mean"
    if not is_imputed or name not in aligned:
        return measured_n, np.zeros(len(measured_n))
    mean_n = aligned[name].to_numpy(dtype=float)
    if trait.is_class:
        sd_n = np.sqrt(np.clip(mean_n * (1 - mean_n), 0, None))
    else:
        sd_n = aligned[f"{trait.name}_sd"].to_numpy(dtype=float)
    if trait.conditioned_on is not None:
        condition = trait_named(trait.conditioned_on, traits)
        exists_n = _values(obs, aligned, condition, trait_values(obs, condition), is_imputed, traits)[0]
        mean_n = np.where(exists_n > 0.5, mean_n, np.nan)
    is_measured_n = np.isfinite(measured_n)
    return np.where(is_measured_n, measured_n, mean_n), np.where(is_measured_n, 0.0, sd_n)


def _combinations(
    obs: pd.DataFrame, aligned: pd.DataFrame, sides: tuple[Trait, ...], is_imputed: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, members bool (n,), and probability float (n,) of every combination of types, and of all synapses."""
    yield _ALL, np.ones(len(obs), dtype=bool), np.ones(len(obs))
    if not sides:
        return
    pre_nk, post_nk = (_class_probabilities(obs, aligned, trait, is_imputed) for trait in sides)
    is_known_n = np.isfinite(pre_nk).all(axis=1) & np.isfinite(post_nk).all(axis=1)
    pre_n, post_n = (_most_probable(known_nk) for known_nk in (pre_nk, post_nk))
    names = sides[0].classes
    for pre in range(len(names)):
        for post in range(len(names)):
            inside_n = is_known_n & (pre_n == pre) & (post_n == post)
            yield f"{names[pre]} to {names[post]}", inside_n, pre_nk[:, pre] * post_nk[:, post]


def _most_probable(probability_nk: np.ndarray) -> np.ndarray:
    """Most probable class, int (n,); of equally probable ones the first, and the first where nothing is known."""
    classes_n: np.ndarray = np.nan_to_num(probability_nk).argmax(axis=1)
    return classes_n


def _class_probabilities(obs: pd.DataFrame, aligned: pd.DataFrame, trait: Trait, is_imputed: bool) -> np.ndarray:
    """Probability of every class, float64 (n, k): 0 and 1 where annotated, NaN where unknown."""
    measured_n = trait_values(obs, trait)
    codes_k = np.arange(len(trait.classes))
    probability_nk = np.where(np.isnan(measured_n)[:, None], np.nan, measured_n[:, None] == codes_k)
    if trait.kind == "binary" and f"{trait.name}_probability" in aligned:
        of_one_n = aligned[f"{trait.name}_probability"].to_numpy(dtype=float)
        imputed_nk = np.column_stack([1 - of_one_n, of_one_n])
    else:
        columns = [f"{name}_probability" for name in class_columns(trait)]
        if not any(column in aligned for column in columns):
            return probability_nk
        imputed_nk = np.column_stack(
            [aligned[column].to_numpy(float) if column in aligned else np.zeros(len(obs)) for column in columns]
        )
    if not is_imputed:
        return probability_nk
    return np.where(np.isnan(measured_n)[:, None], imputed_nk, probability_nk)


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
