"""Probes and scores on data whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.imputation.trait_scores import score_representations
from synapseclr.analysis.representations import FeatureBlocks
from synapseclr.analysis.traits import TRAITS, Traits, fold_score, trait_named, trait_values
from synapseclr.analysis.traits.folds import UnscorableTraitError, split_trait
from synapseclr.analysis.traits.probes import fold_coordinates, knn_probe, linear_probe
from synapseclr.errors import SynapseCLRError, TableError

N_SYNAPSES, N_NEURITES, N_FEATURES = 240, 40, 32
CELL_TYPE, CLEFT = trait_named("pre_cell_type"), trait_named("cleft_size_log1p_zscore")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def annotations(rng):
    neurite_n = rng.permutation(np.arange(N_SYNAPSES) % N_NEURITES)
    return pd.DataFrame(
        {
            # Neighbouring ids beyond 2^53: float would merge them.
            "pre_root_id": 648518346349540000 + neurite_n,
            "post_root_id": 648518346349550000 + rng.integers(0, N_NEURITES, N_SYNAPSES),
            "pre_cell_type": (neurite_n % 3 == 0).astype(float),
            "cleft_size_log1p_zscore": rng.normal(size=N_SYNAPSES),
        }
    )


def _mean(scores, trait, probe):
    return scores.query("trait == @trait and probe == @probe")["score"].mean()


def _score(features_nf, annotations, **options):
    return score_representations({"r": {"l": features_nf.astype(np.float32)}}, annotations, ImputationConfig(**options))


def test_both_probes_read_a_separable_trait_perfectly(annotations, rng):
    features_nf = 0.1 * rng.normal(size=(N_SYNAPSES, N_FEATURES))
    features_nf[:, 0] += 10 * annotations["pre_cell_type"]
    features_nf[:, 1] += 10 * annotations["cleft_size_log1p_zscore"]
    scores, _ = _score(features_nf[:, :2], annotations)
    assert _mean(scores, "pre_cell_type", "linear") == pytest.approx(1.0)
    assert _mean(scores, "pre_cell_type", "knn") > 0.99
    assert _mean(scores, "cleft_size_log1p_zscore", "linear") > 0.99
    assert _mean(scores, "cleft_size_log1p_zscore", "knn") > 0.8


def test_features_without_the_trait_score_at_chance(annotations, rng):
    scores, _ = _score(rng.normal(size=(N_SYNAPSES, N_FEATURES)), annotations)
    for probe in ("linear", "knn"):
        assert _mean(scores, "pre_cell_type", probe) == pytest.approx(0.5, abs=0.12)
        assert _mean(scores, "cleft_size_log1p_zscore", probe) < 0.1


def test_features_that_only_tell_the_neurite_do_not_tell_its_type(rng):
    # Every neurite has a code of its own, types are drawn by lot: folds that split neurites would score 1.
    neurite_n = np.repeat(np.arange(N_NEURITES), N_SYNAPSES // N_NEURITES)
    code_nf = rng.normal(size=(N_NEURITES, 64))[neurite_n]
    types = rng.permutation(np.arange(N_NEURITES) % 2).astype(float)
    annotations = pd.DataFrame({"pre_root_id": neurite_n, "pre_cell_type": types[neurite_n]})
    grouped, _ = _score(code_nf, annotations, n_neighbours=3)
    leaking, _ = _score(code_nf, annotations.assign(pre_root_id=np.arange(N_SYNAPSES)), n_neighbours=3)
    for probe in ("linear", "knn"):
        assert _mean(leaking, "pre_cell_type", probe) > 0.95
        assert _mean(grouped, "pre_cell_type", probe) < 0.75


@pytest.mark.parametrize("trait", [CELL_TYPE, CLEFT])
def test_no_neurite_is_on_both_sides_of_a_fold(annotations, trait):
    split = split_trait(annotations, trait, n_folds=3, min_annotated=30, seed=0)
    tested = np.concatenate([test for _, test in split.folds])
    assert sorted(tested) == list(range(len(split.rows_a)))
    for train, test in split.folds:
        assert not set(split.groups_a[train]) & set(split.groups_a[test])


def test_folds_follow_the_seed(annotations):
    first, same, other = (split_trait(annotations, CELL_TYPE, 3, 30, seed).folds[0][1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert len(first) != len(other) or (first != other).any()


def test_fold_coordinates_keep_distances_of_standardised_features(rng):
    train_af, test_bf = rng.normal(2, 3, (20, 50)).astype(np.float32), rng.normal(2, 3, (7, 50)).astype(np.float32)
    train_ar, _ = fold_coordinates(train_af, test_bf)
    standard_af = (train_af - train_af.mean(0)) / train_af.std(0) / np.sqrt(50)
    expected_aa = np.linalg.norm(standard_af[:, None] - standard_af[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(train_ar[:, None] - train_ar[None], axis=-1), expected_aa, atol=1e-5)
    assert train_ar.shape[1] <= 20


def test_linear_probe_is_ridge_regression_in_the_full_space(rng):
    from sklearn.linear_model import Ridge

    train_af, test_bf, target_a = rng.normal(size=(30, 80)), rng.normal(size=(9, 80)), rng.normal(size=30)
    train_ar, test_br = fold_coordinates(train_af, test_bf)
    predicted_b = linear_probe(train_ar, target_a, test_br, False, np.arange(30), [0.5])
    mean_f, scale_f = train_af.mean(0), train_af.std(0) * np.sqrt(80)
    ridge = Ridge(alpha=0.5).fit((train_af - mean_f) / scale_f, target_a)
    np.testing.assert_allclose(predicted_b, ridge.predict((test_bf - mean_f) / scale_f), atol=1e-8)


def test_knn_probe_matches_sklearn(rng):
    from sklearn.neighbors import KNeighborsRegressor

    train_ar, test_br, target_a = rng.normal(size=(40, 5)), rng.normal(size=(11, 5)), rng.normal(size=40)
    expected_b = KNeighborsRegressor(4).fit(train_ar, target_a).predict(test_br)
    np.testing.assert_allclose(knn_probe(train_ar, target_a, test_br, 4), expected_b)


def test_constant_features_score_at_chance_instead_of_failing(annotations):
    scores, _ = _score(np.full((N_SYNAPSES, N_FEATURES), 0.1), annotations)
    assert _mean(scores, "pre_cell_type", "linear") == pytest.approx(0.5)
    assert _mean(scores, "cleft_size_log1p_zscore", "linear") == pytest.approx(0.0, abs=1e-6)


def test_every_trait_is_scored_or_listed_with_its_reason(annotations, rng):
    annotations["post_cell_type"] = 0.0
    annotations["has_mito_post"] = np.nan
    annotations["has_mito_pre"] = [1.0] * 5 + [np.nan] * (N_SYNAPSES - 5)
    scores, unscored = _score(rng.normal(size=(N_SYNAPSES, 8)), annotations)
    reasons = unscored.set_index("trait")["reason"]
    assert set(scores["trait"]) | set(reasons.index) == {trait.name for trait in TRAITS}
    assert not set(scores["trait"]) & set(reasons.index)
    assert reasons["post_cell_type"] == "only one class: no synapse is annotated 'inhibitory'"
    assert reasons["has_mito_post"] == "no synapse is annotated"
    assert reasons["has_mito_pre"].startswith("5 annotated synapses, at least 30")
    assert reasons["presyn_soma_dist_log1p_zscore"] == "no such column in the annotations"


def test_a_class_on_too_few_neurites_is_not_scored(annotations):
    annotations["pre_cell_type"] = (annotations["pre_root_id"] == annotations["pre_root_id"].iloc[0]).astype(float)
    with pytest.raises(UnscorableTraitError, match="'inhibitory' occurs on 1 neurites, 3 folds need 3"):
        split_trait(annotations, CELL_TYPE, 3, 30, 0)


def test_sizes_count_only_where_there_is_a_mitochondrion():
    table = pd.DataFrame(
        {
            "mito_size_pre_vx_log1p_zscore_zi": [0.5, -np.inf, 1.0, np.nan],
            "has_mito_pre": [1.0, 0.0, np.nan, np.nan],
        }
    )
    values_n = trait_values(table, trait_named("mito_size_pre_vx_log1p_zscore_zi"))
    np.testing.assert_array_equal(values_n, [0.5, np.nan, np.nan, np.nan])


def test_unequal_row_counts_are_refused(annotations):
    with pytest.raises(TableError, match="has 3 rows, the annotations have 240"):
        _score(np.zeros((3, 4)), annotations)


def test_diverged_features_are_refused(annotations):
    features_nf = np.ones((N_SYNAPSES, 4))
    features_nf[7, 1] = np.nan
    with pytest.raises(SynapseCLRError, match="'r/l' are not finite for 1 of 240"):
        _score(features_nf, annotations)


def test_every_draw_of_the_folds_is_scored_on_other_folds(annotations, rng):
    features_nf = rng.normal(size=(N_SYNAPSES, 4))
    one, _ = _score(features_nf, annotations, n_fold_draws=1, compare_by_gaussian_process=False)
    three, _ = _score(features_nf, annotations, n_fold_draws=3, compare_by_gaussian_process=False)
    linear = three.query("probe == 'linear' and trait == 'pre_cell_type'")
    assert linear["fold"].tolist() == list(range(9))
    assert linear["score"].nunique() > 6
    first = one.query("probe == 'linear' and trait == 'pre_cell_type'")["score"].tolist()
    assert linear["score"].tolist()[:3] == first


def test_a_block_of_noise_does_not_hide_a_block_that_knows_the_trait(annotations, rng):
    """Whichever of the two comes first: 400 columns of noise beside two that carry the trait weakly."""
    noise_nf, known_nf = rng.normal(size=(N_SYNAPSES, 400)), rng.normal(size=(N_SYNAPSES, 2))
    known_nf[:, 0] += 1.5 * annotations["pre_cell_type"]
    known_nf[:, 1] += annotations["cleft_size_log1p_zscore"]
    options = {"n_fold_draws": 2, "compare_by_gaussian_process": False}
    alone, _ = _score(known_nf, annotations, **options)
    for parts in ((noise_nf, known_nf), (known_nf, noise_nf)):
        joined, _ = score_representations({"r": {"l": FeatureBlocks(parts)}}, annotations, ImputationConfig(**options))
        for trait in ("pre_cell_type", "cleft_size_log1p_zscore"):
            assert _mean(joined, trait, "linear") > _mean(alone, trait, "linear") - 0.04
    drowned, _ = _score(np.hstack([noise_nf, known_nf]), annotations, **options)
    assert _mean(drowned, "pre_cell_type", "linear") < _mean(alone, "pre_cell_type", "linear") - 0.1


def several_classes(n_neurites=60, seed=0):
    """Synapses of four classes; the last class lies on one neurite only."""
    rng = np.random.default_rng(seed)
    neurite_n = np.repeat(np.arange(n_neurites), 4)
    class_u = np.arange(n_neurites) % 3
    class_u[-1] = 3
    centres = rng.normal(size=(4, 12))
    features_nf = centres[class_u[neurite_n]] + 0.7 * rng.normal(size=(len(neurite_n), 12))
    table = pd.DataFrame({"pre_root_id": neurite_n + 2**60, "tag": class_u[neurite_n].astype(float)})
    return features_nf, table


TAG = Traits.model_validate([{"name": "tag", "kind": "multiclass", "classes": ["a", "b", "c", "d"]}])[0]


def test_folds_of_several_classes_leave_out_the_rare_one_and_split_no_neurite():
    _, table = several_classes()
    split = split_trait(table, TAG, 3, 30, seed=0)
    assert split.class_names == ("a", "b", "c")
    assert split.unscored_rows() == [
        ("tag: d", "tag: d", 4, "class 'd' occurs on 1 neurites, 3 folds need 3; it is left out")
    ]
    for train, test in split.folds:
        assert not set(split.groups_a[train]) & set(split.groups_a[test])
        assert set(split.target_a[train]) == {0.0, 1.0, 2.0}
    with pytest.raises(UnscorableTraitError, match="1 of 4 classes occur on 3 neurites or more, two are needed"):
        split_trait(table.assign(tag=0.0), TAG, 3, 30, seed=0)


def test_probes_tell_several_classes():
    features_nf, table = several_classes()
    scores, unscored = score_representations({"x": {"l": features_nf}}, table, ImputationConfig(n_fold_draws=1), [TAG])
    means = scores.groupby("probe")[["score", "balanced_accuracy"]].mean()
    assert set(scores["metric"]) == {"macro_auc"}
    assert (means["score"] > 0.95).all()
    assert (means["balanced_accuracy"] > 0.75).all()
    assert unscored["trait"].tolist() == ["tag: d"]


def test_shuffled_neurites_give_a_macro_auc_by_chance():
    features_nf, table = several_classes()
    shuffled = np.random.default_rng(1).permutation(60)[np.repeat(np.arange(60), 4)] % 3
    config = ImputationConfig(n_fold_draws=1, compare_by_gaussian_process=False, penalties=(1.0,))
    scores, _ = score_representations(
        {"x": {"l": features_nf}}, table.assign(tag=shuffled.astype(float)), config, [TAG]
    )
    assert 0.35 < scores["score"].mean() < 0.65


def test_macro_auc_is_the_mean_over_classes_of_the_test():
    target_b = np.array([0, 0, 2, 2])
    predicted_kb = np.array([[0.9, 0.2, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0], [0.1, 0.8, 0.7, 0.9]])
    assert fold_score("macro_auc", target_b, predicted_kb) == pytest.approx(0.75)
