"""Imputed traits: held out by neurite, their uncertainty against simulated truth, in the original units."""

import cloudpickle
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from curved_traits import curved_traits
from pydantic import ValidationError

from synapseclr.analysis.config import GaussianProcessConfig, ImputationConfig
from synapseclr.analysis.imputation.ensemble import Member, fit_member, mixture
from synapseclr.analysis.imputation.imputing import impute_traits, original_units
from synapseclr.analysis.representations import FeatureBlocks
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.analysis.traits import Traits, split_trait, trait_named
from synapseclr.errors import SynapseCLRError, TableError

SCALES = pd.DataFrame(
    {
        "trait": ["cleft_size_log1p_zscore"],
        "raw_column": ["cleft_size_vx"],
        "transform": ["log1p_zscore"],
        "location": [5.0],
        "scale": [0.5],
    }
)
ONE_SEED = ImputationConfig(gaussian_processes=GaussianProcessConfig(n_seeds=1))
CLEFT, TYPE = trait_named("cleft_size_log1p_zscore"), trait_named("pre_cell_type")
MITO = trait_named("mito_size_pre_vx_log1p_zscore_zi")


@pytest.fixture(scope="module")
def imputation():
    features_nf, table = curved_traits()
    return impute_traits(features_nf, table, SCALES, ONE_SEED, (CLEFT, TYPE, MITO))


def test_scores_and_coverage_on_simulated_truth(imputation):
    scores = imputation.scores[imputation.scores["split"] == "neurite"].groupby("trait")["score"].mean()
    assert scores["cleft_size_log1p_zscore"] > 0.6  # 0.84 is the part that is not noise
    assert scores["pre_cell_type"] > 0.8
    rows = imputation.calibration.set_index(["trait", "split", "is_corrected"])
    assert 0.8 < rows.loc[("cleft_size_log1p_zscore", "neurite", True), "coverage_90"] < 0.97
    row = rows.loc[("pre_cell_type", "neurite", True)]
    assert row["expected_calibration_error"] < row["calibration_error_by_chance"] + 0.05


def test_every_synapse_is_imputed_and_annotated_ones_are_held_out(imputation):
    traits = imputation.traits
    assert len(traits) == 240
    assert traits["synapse_id"].dtype == np.int64
    assert traits["pre_cell_type_is_annotated"].sum() == 180
    assert np.isfinite(traits.drop(columns="synapse_id").to_numpy(dtype=float)).all()
    held_out = imputation.held_out.query("trait == 'pre_cell_type' and split == 'neurite'")
    assert held_out.groupby("neurite")["fold"].nunique().max() == 1
    given_out = traits.set_index("synapse_id").loc[held_out["synapse_id"], "pre_cell_type_probability"]
    np.testing.assert_array_equal(given_out, held_out["mean"])


def test_a_trait_without_annotations_is_listed_and_the_others_are_imputed(imputation):
    assert imputation.unimputed["trait"].tolist() == [MITO.name]
    assert "no such column" in imputation.unimputed["reason"][0]


def test_labels_of_a_neurite_do_not_change_what_is_predicted_for_it(imputation):
    """Turn the labels of the first fold's neurites: its stated predictions must stay as they are."""
    features_nf, table = curved_traits()
    fold = imputation.held_out.query("trait == 'cleft_size_log1p_zscore' and split == 'neurite' and fold == 0")
    chosen = table["synapse_id"].isin(fold["synapse_id"])
    table.loc[chosen, "cleft_size_log1p_zscore"] *= -1
    config = ImputationConfig(gaussian_processes=GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1))
    again = impute_traits(features_nf, table, SCALES, config, (CLEFT,)).held_out.query("fold == 0")
    np.testing.assert_allclose(again["stated_mean"], fold["stated_mean"], rtol=1e-6)
    assert np.abs(again["target"].to_numpy() - fold["target"].to_numpy()).max() > 1


def test_mixture_leaves_out_models_that_saw_the_synapse():
    ones = np.ones((1, 3))
    members = [Member(0 * ones, ones, ones[0], np.array([0])), Member(2 * ones, ones, ones[0], np.array([1]))]
    found = mixture(members, np.array([0, 1]))
    np.testing.assert_allclose(found.mean_on, [[0.0, 2.0, 1.0]])
    np.testing.assert_allclose(found.sd_on, [[1.0, 1.0, np.sqrt(2.0)]])  # mean of second moments: (1 + 5) / 2 - 1


def test_labels_of_a_neurite_do_not_change_the_classes_predicted_for_it():
    rng = np.random.default_rng(0)
    neurite_n = np.repeat(np.arange(36), 3)
    class_n = (neurite_n % 3).astype(float)
    features_nf = rng.normal(size=(3, 6))[class_n.astype(int)] + 0.8 * rng.normal(size=(len(class_n), 6))
    ids = np.arange(len(class_n)) + 2**60
    table = pd.DataFrame({"synapse_id": ids, "pre_root_id": neurite_n + 2**60, "tag": class_n})
    tag = Traits.model_validate([{"name": "tag", "kind": "multiclass", "classes": ["a", "b", "c"]}])
    process = GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1, n_iterations=5)
    config = ImputationConfig(gaussian_processes=process)
    first = impute_traits(features_nf, table, SCALES, config, tag).held_out
    fold = first[first["fold"] == 0]
    # The classes of two neurites of the fold are exchanged, such that the folds stay as they are.
    codes = {neurite: float((neurite - 2**60) % 3) for neurite in dict.fromkeys(fold["neurite"])}
    of_table = split_trait(table, tag[0], 3, 30, 0).folds

    def exchanged(one, other):
        is_one, is_other = table["pre_root_id"] == one, table["pre_root_id"] == other
        return table.assign(tag=np.select([is_one, is_other], [codes[other], codes[one]], table["tag"]))

    pairs = (exchanged(one, other) for one in codes for other in codes if codes[one] < codes[other])
    swapped = next(
        pair
        for pair in pairs
        if all(
            np.array_equal(old[1], new[1])
            for old, new in zip(of_table, split_trait(pair, tag[0], 3, 30, 0).folds, strict=True)
        )
    )
    again = impute_traits(features_nf, swapped, SCALES, config, tag).held_out
    again = again[again["fold"] == 0]
    np.testing.assert_allclose(again["stated_mean"], fold["stated_mean"], rtol=1e-6)
    assert (again["target"].to_numpy() != fold["target"].to_numpy()).any()


def test_z_scores_return_to_their_units():
    scales = pd.DataFrame([["v", "v", "zscore", 10.0, 2.0, 9]], columns=[*SCALES.columns[:5], "n"])
    found = original_units(np.array([0.5]), np.array([1.0]), "v", scales)
    assert found["v_measured_mean"][0] == 11.0
    assert found["v_measured_sd"][0] == 2.0
    np.testing.assert_allclose(found["v_measured_upper_90"], 11.0 + 2 * 1.6448536)


def test_original_units_agree_with_sampling():
    rng = np.random.default_rng(3)
    found = original_units(np.array([0.4]), np.array([0.8]), "cleft_size_log1p_zscore", SCALES)
    values = np.expm1(5.0 + 0.5 * (0.4 + 0.8 * rng.normal(size=400_000)))
    np.testing.assert_allclose(found["cleft_size_vx_mean"], values.mean(), rtol=5e-3)
    np.testing.assert_allclose(found["cleft_size_vx_sd"], values.std(), rtol=2e-2)
    np.testing.assert_allclose(found["cleft_size_vx_lower_90"], np.quantile(values, 0.05), rtol=1e-2)


def test_unknown_scales_leave_the_measured_units_out():
    scales = SCALES.assign(location=np.nan)
    assert original_units(np.zeros(2), np.ones(2), "cleft_size_log1p_zscore", scales) == {}
    with pytest.raises(TableError, match="lacks the columns"):
        original_units(np.zeros(2), np.ones(2), "cleft_size_log1p_zscore", SCALES.drop(columns="scale"))
    assert original_units(np.zeros(2), np.ones(2), "cleft_size_log1p_zscore", pd.DataFrame()) == {}  # no file


def test_constant_features_predict_the_mean():
    _, table = curved_traits(120, 120)
    config = ImputationConfig(gaussian_processes=GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1))
    found = impute_traits(np.ones((120, 4), np.float32), table, SCALES, config, (CLEFT,))
    assert np.ptp(found.held_out.query("fold == 0")["mean"]) < 1e-6
    assert abs(found.scores["score"].mean()) < 1e-6


def test_traits_that_cannot_be_imputed_take_no_other_down():
    """All NaN, one class only, too few annotations, equal values: each is listed with its reason."""
    features_nf, table = curved_traits(90, 90)
    table["pre_cell_type"] = 1.0
    table["has_mito_pre"] = np.nan
    table["post_root_id"] = table["pre_root_id"]
    table["post_cell_type"] = np.where(np.arange(90) < 10, np.arange(90) % 2, np.nan)
    table["postsyn_soma_dist_log1p_zscore"] = 0.5
    names = ("pre_cell_type", "has_mito_pre", "post_cell_type", "postsyn_soma_dist_log1p_zscore")
    config = ImputationConfig(gaussian_processes=GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1))
    found = impute_traits(features_nf, table, SCALES, config, (*map(trait_named, names), CLEFT))
    reasons = found.unimputed.set_index("trait")["reason"]
    assert list(reasons.index) == list(names)
    assert "only one class" in reasons["pre_cell_type"]
    assert reasons["has_mito_pre"] == "no synapse is annotated"
    assert reasons["post_cell_type"] == "10 annotated synapses, at least 30 needed"
    assert reasons["postsyn_soma_dist_log1p_zscore"] == "all annotated values are equal"
    assert np.isfinite(found.traits["cleft_size_log1p_zscore_mean"]).all()


def test_several_seeds_widen_the_ensemble():
    features_nf, table = curved_traits(120, 90)
    process = GaussianProcessConfig(n_seeds=2, compare_synapse_folds=False, kernel="linear")
    found = impute_traits(features_nf, table, SCALES, ImputationConfig(gaussian_processes=process), (TYPE,))
    assert found.scores.groupby("repetition").size().tolist() == [3, 3]


def test_bad_input_is_refused():
    features_nf, table = curved_traits(60, 60)
    with pytest.raises(TableError, match="59 rows of features and 60 of annotations"):
        impute_traits(features_nf[:59], table, SCALES)
    features_nf[3, 0] = np.nan
    with pytest.raises(SynapseCLRError, match="not finite for 1 of 60"):
        impute_traits(features_nf, table, SCALES)
    with pytest.raises(ValidationError):
        GaussianProcessConfig(kernel="cubic")
    with pytest.raises(ValidationError):
        GaussianProcessConfig(layer="encoder.layer4")


@pytest.mark.parametrize("has_statistics", [False, True])
def test_blocks_of_lazy_features_are_imputed_as_features_in_memory(tmp_path, has_statistics):
    """Inputs agree to 1e-14; the search for hyper-parameters enlarges what rounding leaves."""
    features_nf, table = curved_traits()
    table["tag"] = np.where(np.isnan(table["pre_cell_type"]), np.nan, np.arange(len(table)) % 3)
    tag = Traits.model_validate([{"name": "tag", "kind": "multiclass", "classes": ["a", "b", "c"]}])
    chosen = (CLEFT, TYPE, MITO, *tag)
    statistics_nk = np.random.default_rng(0).normal(size=(len(table), 3)).astype(np.float32)
    lazy = da.from_array(features_nf, chunks=(50, features_nf.shape[1]))
    inputs = [FeatureBlocks((each, statistics_nk)) if has_statistics else each for each in (features_nf, lazy)]
    expected = impute_traits(inputs[0], table, SCALES, ONE_SEED, chosen)
    found = impute_traits(inputs[1], table, SCALES, ONE_SEED, chosen, RowBlocksConfig(rows=50, folder=str(tmp_path)))
    assert list(found.traits) == list(expected.traits)
    for name in expected.traits.columns:
        one, other = found.traits[name], expected.traits[name]
        if other.dtype == np.float64:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            assert one.tolist() == other.tolist(), name
    np.testing.assert_allclose(found.scores["score"], expected.scores["score"], rtol=1e-5)
    assert found.held_out["synapse_id"].tolist() == expected.held_out["synapse_id"].tolist()


def test_fitted_models_can_be_sent_to_workers():
    features_nf, table = curved_traits()
    split = split_trait(table, TYPE, 3, 10, 0)
    inputs_nr = features_nf / np.linalg.norm(features_nf, axis=1).mean()
    model = fit_member(inputs_nr, split, split.folds[0], GaussianProcessConfig(), 0)
    again = cloudpickle.loads(cloudpickle.dumps(model))
    np.testing.assert_array_equal(again.predict(inputs_nr).mean_on, model.predict(inputs_nr).mean_on)
