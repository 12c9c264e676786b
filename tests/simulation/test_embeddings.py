"""Simulated embeddings have the traits, neurites and signal that they promise."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from synapseclr.analysis.config import OutliersConfig
from synapseclr.analysis.handcrafted import CHUNK_STATISTICS, MASK_STATISTIC_NAMES, MASK_STATISTICS, STATISTIC_NAMES
from synapseclr.analysis.outliers import unsupervised_score, whiten
from synapseclr.analysis.traits import TRAITS, trait_values
from synapseclr.simulation.embeddings import (
    DEFECTS,
    EmbeddingSimulation,
    EmbeddingSimulationConfig,
    simulate_embeddings,
)


@pytest.fixture(scope="module")
def simulated():
    return simulate_embeddings(2000, n_features=16)


def test_every_trait_is_there_with_its_published_kind(simulated):
    table = simulated.annotations
    for trait in TRAITS:
        values_n = trait_values(table, trait)
        known_n = values_n[np.isfinite(values_n)]
        if trait.is_class:
            assert set(known_n) == {0.0, 1.0}
        elif trait.conditioned_on is None:
            assert len(known_n) == 2000
        else:
            assert len(known_n) == (table[trait.conditioned_on] == 1).sum() < 2000
            assert np.isneginf(table.loc[table[trait.conditioned_on] == 0, trait.name]).all()


def test_a_neurite_has_one_type_and_ids_of_the_sides_differ(simulated):
    table = simulated.annotations
    for side in ("pre", "post"):
        assert table.groupby(f"{side}_root_id")[f"{side}_cell_type"].nunique().max() == 1
    assert not set(table["pre_root_id"]) & set(table["post_root_id"])
    assert table["synapse_id"].dtype == np.int64


@pytest.mark.parametrize(("shared", "is_alike"), [((0.5, 0.0), True), ((0.0, 0.0), False)])
def test_synapses_of_a_neurite_look_alike_as_far_as_they_share(shared, is_alike):
    simulated = simulate_embeddings(2000, n_features=16, shared=shared, type_effects=(0.0, 0.0))
    neurite_n = simulated.annotations["pre_root_id"].to_numpy()
    shuffled_n = np.random.default_rng(0).permutation(neurite_n)
    spread, by_chance = (
        pd.DataFrame(simulated.features_nf).groupby(groups_n).transform("mean").var().mean()
        for groups_n in (neurite_n, shuffled_n)
    )
    assert (spread > 1.5 * by_chance) == is_alike


def test_the_same_seed_gives_the_same(simulated):
    again = simulate_embeddings(2000, n_features=16)
    np.testing.assert_array_equal(again.features_nf, simulated.features_nf)
    assert not np.array_equal(simulate_embeddings(2000, n_features=16, seed=1).features_nf, simulated.features_nf)


SETTINGS = EmbeddingSimulationConfig(n_synapses=25_000, n_features=8, n_annotated=2_000, defect_fraction=0.01)


@pytest.fixture(scope="module")
def simulation():
    return EmbeddingSimulation(SETTINGS)


def test_rows_do_not_depend_on_which_rows_are_asked_for(simulation):
    across = range(20_470, 20_500)  # of two units that are drawn on their own
    whole_nf, table = simulation.features(range(25_000)), simulation.table(range(25_000))
    np.testing.assert_array_equal(simulation.features(across), whole_nf[20_470:20_500])
    backwards = EmbeddingSimulation(SETTINGS)  # the last shard first, as a run that goes on after a kill may have it
    for rows in (range(20_480, 25_000), range(20_480)):
        np.testing.assert_array_equal(backwards.features(rows), whole_nf[rows.start : rows.stop])
    pd.testing.assert_frame_equal(simulation.table(across), table[20_470:20_500].reset_index(drop=True))


def test_synapses_drawn_by_rows_are_like_those_drawn_at_once(simulation):
    table = simulation.table(range(25_000))
    annotated = table.dropna(subset="cleft_size_log1p_zscore")
    assert 1_700 < len(annotated) < 2_300
    assert table["synapse_id"].is_unique
    assert not set(table["pre_root_id"]) & set(table["post_root_id"])
    for side, share in (("pre", 0.3), ("post", 0.25)):
        assert annotated.groupby(f"{side}_root_id")[f"{side}_cell_type"].nunique().max() == 1
        assert abs(annotated[f"{side}_cell_type"].mean() - share) < 0.1
    at_once = simulate_embeddings(25_000, n_features=8)
    np.testing.assert_allclose(
        simulation.features(range(25_000)).mean(axis=0), at_once.features_nf.mean(axis=0), atol=0.03
    )
    for name in ("cleft_size_log1p_zscore", "presyn_soma_dist_log1p_zscore"):
        assert abs(annotated[name].mean()) < 0.15
        assert abs(annotated[name].std() - 1) < 0.1


def test_defects_are_known_and_rare(simulation):
    counts = simulation.table(range(25_000))["defect"].value_counts()
    assert 150 < counts.drop("").sum() < 350
    assert counts.drop("").min() > 40


def _areas(settings):
    """ROC AUC of the distance from the mean in search of defects, by representation and kind."""
    simulation, rows = EmbeddingSimulation(settings), range(settings.n_synapses)
    kind_n = simulation.table(rows)["defect"].astype(str).to_numpy()
    representations = {
        "features": simulation.features(rows),
        "untrained": simulation.untrained_features(rows),
        "masks": simulation.mask_statistics(rows, MASK_STATISTIC_NAMES)[list(MASK_STATISTIC_NAMES)].to_numpy(),
    }
    areas = {}
    for name, features_nf in representations.items():
        distance_n = unsupervised_score(whiten(features_nf, OutliersConfig().shrinkage), "mahalanobis")
        for kind in ("", *DEFECTS):
            is_searched_n = kind_n == kind if kind else kind_n != ""
            is_judged_n = is_searched_n | (kind_n == "")
            areas[name, kind] = roc_auc_score(is_searched_n[is_judged_n], distance_n[is_judged_n])
    return areas


def test_defects_are_as_unusual_as_in_a_trained_encoder():
    settings = EmbeddingSimulationConfig(n_synapses=5_000, n_features=256, defect_fraction=0.02)
    areas = _areas(settings)
    assert 0.8 < areas["features", ""] < 0.97
    assert areas["features", "mixed"] < areas["features", "blank"]
    assert min(areas["features", kind] for kind in DEFECTS) > 0.7
    assert 0.5 < areas["untrained", ""] < areas["features", ""] - 0.15
    assert min(areas["masks", kind] for kind in DEFECTS) > 0.8
    without = _areas(settings.model_copy(update={"defect_strength": 0.0}))
    assert without["features", "blank"] < 0.5


def test_statistics_and_untrained_features_belong_to_the_same_synapses(simulation):
    across, everyone = range(20_470, 20_500), range(15_000, 25_000)
    table = simulation.table(everyone)
    masks = simulation.mask_statistics(everyone, MASK_STATISTIC_NAMES)
    image = simulation.image_statistics(everyone, STATISTIC_NAMES)
    MASK_STATISTICS.validate(masks)
    CHUNK_STATISTICS.validate(image)
    np.testing.assert_allclose(image.filter(like="histogram").sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(masks["synapse_id"], table["synapse_id"])
    pd.testing.assert_frame_equal(
        simulation.mask_statistics(across, MASK_STATISTIC_NAMES), masks[5_470:5_500].reset_index(drop=True)
    )
    untrained_nf = simulation.untrained_features(everyone)
    assert untrained_nf.shape == (10_000, SETTINGS.n_untrained_features)
    np.testing.assert_array_equal(simulation.untrained_features(across), untrained_nf[5_470:5_500])
    known_n = np.isfinite(table["cleft_size_log1p_zscore"].to_numpy())
    target_a = table["cleft_size_log1p_zscore"].to_numpy()[known_n]
    explained = {
        name: np.corrcoef(LinearRegression().fit(each[known_n], target_a).predict(each[known_n]), target_a)[0, 1] ** 2
        for name, each in (("masks", masks[list(MASK_STATISTIC_NAMES)].to_numpy()), ("untrained", untrained_nf))
    }
    assert explained["masks"] > 0.2
    assert explained["untrained"] < explained["masks"]
    blank_n = (table["defect"] == "blank").to_numpy()
    spread = masks["cleft_contrast"].std()
    assert masks["cleft_contrast"][blank_n].std() > 2 * spread
    synapse_id, normals_k3 = simulation.normals()
    assert len(set(synapse_id)) == 5_000
    assert set(table["synapse_id"]) & set(synapse_id) < set(table["synapse_id"])
    np.testing.assert_allclose(np.linalg.norm(normals_k3, axis=1), 1)
