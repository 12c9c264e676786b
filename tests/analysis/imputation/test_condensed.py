"""Condensed models give the means of the models, and their own error."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from curved_traits import curved_traits

from synapseclr.analysis.config import GaussianProcessConfig, ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
from synapseclr.analysis.imputation.condensed import CONDENSATION_ERRORS, condense
from synapseclr.analysis.imputation.ensemble import fit_member, mixture
from synapseclr.analysis.imputation.imputing import impute_traits
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.analysis.traits import Traits, split_trait, trait_named
from synapseclr.errors import SynapseCLRError

CLEFT, TYPE = trait_named("cleft_size_log1p_zscore"), trait_named("pre_cell_type")
TAG = Traits.model_validate([{"name": "tag", "kind": "multiclass", "classes": ["a", "b", "c", "d"]}])[0]


def _traits(n):
    """Curved traits, and three of four classes that features tell in part."""
    features_nf, table = curved_traits(n)
    told_n3 = 2.0 * features_nf[:, 2:5] + np.random.default_rng(1).gumbel(size=(n, 3))
    return features_nf, table.assign(tag=np.where(table["pre_cell_type"].isna(), np.nan, told_n3.argmax(axis=1)))


def _models(trait, config):
    features_nf, table = _traits(600)
    inputs_nr = kernel_inputs(features_nf, config.n_inputs)
    split = split_trait(table, trait, 3, 10, 0)
    models = [fit_member(inputs_nr, split, fold, config, seed) for seed, fold in enumerate(split.folds)]
    return models, np.random.default_rng(0).permutation(inputs_nr)


@pytest.mark.parametrize(
    ("trait", "dirichlet_up_to", "tolerance"),
    [(CLEFT, 500, 1e-4), (TYPE, 500, 0.1), (TYPE, 0, 0.1), (TAG, 500, 0.15)],
)
def test_means_are_those_of_the_models_and_deviations_nearly(trait, dirichlet_up_to, tolerance):
    models, inputs_nr = _models(trait, GaussianProcessConfig(dirichlet_up_to=dirichlet_up_to))
    found = condense(models, inputs_nr[:500])
    held_out_nr = inputs_nr[500:]
    full = mixture([model.predict(held_out_nr) for model in models], np.empty(0, int))
    short = found.models.predict(held_out_nr)
    assert short.mean_on.shape == full.mean_on.shape == ((3 if trait is TAG else 1), 100)
    shift_on = (short.mean_on - full.mean_on) / full.sd_on
    assert np.sqrt(np.square(shift_on).mean()) < tolerance
    error = np.sqrt(np.square(short.sd_on / full.sd_on - 1).mean())
    constant = np.sqrt(np.square(full.sd_on.mean() / full.sd_on - 1).mean())
    assert error < 0.6 * constant  # what one deviation for all would be wrong by
    assert 0.3 * error < found.errors["sd_error"] < 3 * error
    assert np.corrcoef(short.out_of_distribution_n, full.out_of_distribution_n)[0, 1] > 0.8


@pytest.mark.parametrize("config", [GaussianProcessConfig(kernel="rbf"), GaussianProcessConfig(method="variational")])
def test_what_cannot_be_condensed_is_left_as_it_is(config):
    config = config.model_copy(update={"n_steps": 1, "n_inducing": 10})
    models, inputs_nr = _models(CLEFT, config)
    assert condense(models, inputs_nr) is None


def test_many_synapses_are_imputed_by_condensed_models_in_one_pass(tmp_path):
    features_nf, table = _traits(600)
    lazy = da.from_array(features_nf, chunks=(200, features_nf.shape[1]))
    blocks, scales = RowBlocksConfig(rows=200, folder=str(tmp_path)), pd.DataFrame()
    process = GaussianProcessConfig(n_seeds=1, compare_synapse_folds=False)
    of_few, of_many = (
        impute_traits(lazy, table, scales, ImputationConfig(gaussian_processes=each), (CLEFT, TYPE, TAG), blocks)
        for each in (process, process.model_copy(update={"condense_from": 600, "n_condensed": 500}))
    )
    assert not len(of_few.condensation)
    assert CONDENSATION_ERRORS.validate(of_many.condensation)["trait"].tolist() == [CLEFT.name, TYPE.name, TAG.name]
    assert list(of_many.traits) == list(of_few.traits)
    pd.testing.assert_frame_equal(of_many.held_out, of_few.held_out)
    is_annotated_n = of_few.traits[f"{CLEFT.name}_is_annotated"]
    name = f"{CLEFT.name}_mean"
    np.testing.assert_array_equal(of_many.traits[name][is_annotated_n], of_few.traits[name][is_annotated_n])
    np.testing.assert_allclose(of_many.traits[name], of_few.traits[name], atol=1e-3)
    assert of_many.traits[name].dtype == np.float32
    chances = [f"tag_{letter}_probability" for letter in "abc"]
    np.testing.assert_allclose(of_many.traits[chances].sum(axis=1), 1.0, atol=1e-5)
    assert (of_many.traits["tag_class"] == of_few.traits["tag_class"]).mean() > 0.97


@pytest.mark.parametrize("kernel", ["rbf+linear", "rbf"])  # models of the second cannot be condensed
def test_many_synapses_in_memory_are_imputed_as_those_in_files(tmp_path, kernel):
    features_nf, table = _traits(600)
    process = GaussianProcessConfig(n_seeds=1, compare_synapse_folds=False, kernel=kernel, n_steps=5)
    config = ImputationConfig(gaussian_processes=process.model_copy(update={"condense_from": 600, "n_condensed": 500}))
    in_files, in_memory = (
        impute_traits(
            each, table, pd.DataFrame(), config, (CLEFT, TYPE), RowBlocksConfig(rows=200, folder=str(tmp_path))
        )
        for each in (da.from_array(features_nf, chunks=(200, features_nf.shape[1])), features_nf)
    )
    assert len(in_memory.condensation) == (2 if kernel == "rbf+linear" else 0)
    pd.testing.assert_frame_equal(in_memory.traits, in_files.traits, rtol=1e-5)
    pd.testing.assert_frame_equal(in_memory.condensation, in_files.condensation, rtol=1e-5)
    features_nf[3, 0] = np.nan
    with pytest.raises(SynapseCLRError, match="not finite for 1 of 600"):
        impute_traits(features_nf, table, pd.DataFrame(), config, (CLEFT, TYPE))
