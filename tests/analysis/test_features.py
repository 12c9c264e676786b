"""What features are made of: arrangements, spectra, components against traits, traits by cell types."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from synapseclr.analysis.features import (
    COMPONENT_TRAITS,
    FEATURE_CLUSTERS,
    TRAIT_SUMMARIES,
    FeaturesConfig,
    cluster_features,
    component_examples,
    component_traits,
    effective_dimensions,
    layer_spectra,
    trait_summaries,
)
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.errors import SynapseCLRError

N = 200
CONFIG = FeaturesConfig(n_draws=200)


def _obs(**columns):
    table = pd.DataFrame({"synapse_id": np.arange(N) + 2**60, "pre_root_id": np.arange(N) // 4, "post_root_id": 7})
    return table.assign(**columns)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_features_that_go_together_stand_together():
    two_n2 = _normal(N, 2)
    features_nf = np.repeat(two_n2, 3, axis=1)[:, [0, 3, 1, 4, 2, 5]] + 0.1 * _normal(N, 6, seed=1)
    found = cluster_features(features_nf, "l", n_clusters=2)
    clusters = found.table["cluster"].to_numpy()
    assert set(clusters[::2]) != set(clusters[1::2])
    assert len(set(clusters[::2])) == len(set(clusters[1::2])) == 1
    order = found.table.sort_values("place")["feature"].to_numpy()
    np.testing.assert_allclose(found.correlation_mm, np.corrcoef(features_nf[:, order], rowvar=False))
    assert found.correlation_mm[:3, :3].min() > 0.9
    FEATURE_CLUSTERS.validate(found.table)


@pytest.mark.parametrize("n_varying", [0, 1, 2])
def test_constant_features_are_marked_and_left_out(n_varying):
    features_nf = np.ones((20, 5), np.float32)
    features_nf[:, :n_varying] = _normal(20, n_varying)
    found = cluster_features(features_nf, "l")
    assert found.table["is_constant"].tolist() == [False] * n_varying + [True] * (5 - n_varying)
    assert found.correlation_mm.shape == (n_varying, n_varying)
    assert (found.table.loc[n_varying:, "place"] == -1).all()


def test_too_few_synapses_have_no_correlations():
    with pytest.raises(SynapseCLRError, match="at least 3 synapses"):
        cluster_features(np.ones((2, 4)), "l")


def test_spectra_are_eigenvalues_and_count_dimensions():
    features_nf = _normal(N, 6) * [5, 5, 5, 0, 0, 0]
    table = layer_spectra({"a": {"l": features_nf}})
    expected = np.linalg.eigvalsh(np.cov(features_nf, rowvar=False))[::-1]
    np.testing.assert_allclose(table["variance"], expected, atol=1e-9)
    dimensions = effective_dimensions(table["fraction"].to_numpy())
    assert dimensions["effective_rank"] == pytest.approx(3, abs=0.1)
    assert dimensions["participation_ratio"] == pytest.approx(3, abs=0.1)
    assert dimensions["components_90"] == 3
    assert effective_dimensions(np.full(4, 0.25)) == {
        "effective_rank": pytest.approx(4),
        "participation_ratio": pytest.approx(4),
        "components_90": 4.0,
    }
    assert set(effective_dimensions(np.zeros(3)).values()) == {0.0}


@pytest.mark.parametrize("is_constant", [False, True])
def test_lazy_features_have_the_spectra_and_the_tree_of_those_in_memory(tmp_path, is_constant):
    features_nf = np.ones((N, 6)) if is_constant else _normal(N, 6) @ _normal(6, 6, seed=1) + 5.0
    features_nf[:, 2] = 3.0
    lazy_nf, blocks = da.from_array(features_nf, chunks=(70, 6)), RowBlocksConfig(rows=70, folder=str(tmp_path))
    expected, found = layer_spectra({"a": {"l": features_nf}}), layer_spectra({"a": {"l": lazy_nf}}, blocks)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-9)
    expected, found = cluster_features(features_nf, "l", 3), cluster_features(lazy_nf, "l", 3, blocks)
    pd.testing.assert_frame_equal(found.table, expected.table, rtol=1e-6)
    np.testing.assert_allclose(found.linkage, expected.linkage, rtol=1e-6)
    np.testing.assert_allclose(found.correlation_mm, expected.correlation_mm, atol=1e-9)


def test_component_traits_match_scipy_and_are_corrected():
    components_np = _normal(N, 2)
    cleft_n = components_np[:, 0] + 0.5 * _normal(N, seed=3)
    cleft_n[:20] = np.nan
    obs = _obs(
        cleft_size_log1p_zscore=cleft_n,
        pre_cell_type=(_normal(N, seed=4) > 0).astype(float),
        post_cell_type=1.0,
        has_mito_pre=np.nan,
        has_mito_post=np.where(np.arange(N) < 5, 1.0, np.nan),
    )
    table = component_traits(components_np, obs, "l", CONFIG)
    COMPONENT_TRAITS.validate(table)
    indexed = table.set_index(["trait", "component"])
    row = indexed.loc[("cleft_size_log1p_zscore", 1)]
    rho, p_value = spearmanr(components_np[20:, 0], cleft_n[20:])
    assert (row["rho"], row["p_value"], row["n"]) == (pytest.approx(rho), pytest.approx(p_value), N - 20)
    assert row["p_bonferroni"] == pytest.approx(4 * p_value)
    assert row["p_benjamini_hochberg"] == pytest.approx(4 * p_value)
    assert row["lower_90"] < rho < row["upper_90"]
    assert row["upper_90"] - row["lower_90"] < 0.2
    assert indexed.loc[("pre_cell_type", 1), "p_bonferroni"] > 0.05
    reasons = indexed["reason"].xs(1, level="component")
    assert "all annotated values are equal" in reasons["post_cell_type"]
    assert reasons["has_mito_pre"] == "no synapse is annotated"
    assert "5 annotated synapses" in reasons["has_mito_post"]


def test_intervals_are_wider_where_neurites_share_their_trait():
    neurite_n = np.repeat(np.arange(20), 10)
    component = np.repeat(_normal(20), 10)[:, None]
    obs = _obs(cleft_size_log1p_zscore=np.repeat(_normal(20, seed=1), 10) + 0.1 * _normal(N, seed=2))
    widths = []
    for groups in (np.arange(N), neurite_n):
        row = component_traits(component, obs.assign(pre_root_id=groups), "l", CONFIG).iloc[0]
        widths.append(row["upper_90"] - row["lower_90"])
    assert widths[1] > 2 * widths[0]


def test_nothing_annotated_and_constant_components_have_reasons():
    assert component_traits(_normal(N, 2), _obs(), "l", CONFIG)["reason"].notna().all()
    table = component_traits(np.zeros((N, 1)), _obs(cleft_size_log1p_zscore=_normal(N)), "l", CONFIG)
    assert table.loc[table["trait"] == "cleft_size_log1p_zscore", "reason"].tolist() == ["the component is constant"]


def test_examples_are_the_outermost_synapses():
    table = component_examples(np.arange(10.0)[:, None], np.arange(10) + 100, "l", 3, 2)
    assert table["synapse_id"].tolist() == [100, 101, 109, 108]
    assert table["end"].tolist() == ["low", "low", "high", "high"]
    assert len(component_examples(np.arange(3.0)[:, None], np.arange(3), "l", 1, 4)) == 2


def test_summaries_use_annotations_first_and_imputed_values_otherwise():
    pre_n = np.where(np.arange(N) < 100, (np.arange(N) % 2).astype(float), np.nan)
    cleft_n = np.where(np.arange(N) < 100, 10.0 * pre_n, np.nan)
    obs = _obs(pre_cell_type=pre_n, post_cell_type=0.0, cleft_size_log1p_zscore=cleft_n, post_root_id=np.arange(N))
    imputed = pd.DataFrame(
        {
            "synapse_id": obs["synapse_id"][::-1].to_numpy(),
            "pre_cell_type_probability": 0.75,
            "cleft_size_log1p_zscore_mean": 4.0,
            "cleft_size_log1p_zscore_sd": 1.0,
        }
    )
    table = trait_summaries(obs, imputed, CONFIG)
    TRAIT_SUMMARIES.validate(table)
    indexed = table.set_index(["source", "combination", "trait"])
    cleft = "cleft_size_log1p_zscore"
    assert indexed.loc[("measured", "inhibitory to excitatory", cleft), ["n", "mean"]].tolist() == [50, 10.0]
    row = indexed.loc[("imputed", "inhibitory to excitatory", cleft)]
    assert (row["n"], row["mean"]) == (150, pytest.approx((50 * 10 + 100 * 4) / 150))
    assert row["type_probability"] == pytest.approx((50 + 100 * 0.75) / 150)
    assert row["lower_90"] < row["mean"] < row["upper_90"]
    assert indexed.loc[("imputed", "excitatory to excitatory", cleft), "mean"] == 0.0
    assert indexed.loc[("measured", "all", cleft), "n"] == 100


def test_summaries_without_annotations_or_imputation_are_empty():
    ids_alone = pd.DataFrame({"synapse_id": np.arange(N) + 2**60})
    assert trait_summaries(_obs(), ids_alone, CONFIG).empty
    one_class = trait_summaries(_obs(pre_cell_type=1.0, post_cell_type=1.0, has_mito_pre=1.0), ids_alone, CONFIG)
    assert one_class["combination"].tolist() == ["all", "inhibitory to inhibitory"]
