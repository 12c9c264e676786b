import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import ConsensusConfig
from synapseclr.analysis.confusions import neurite_confusions
from synapseclr.analysis.neurite_classes import (
    HELD_OUT_NEURITE_CLASSES,
    NEURITE_CLASSES,
    best_classes,
    classified_properties,
    classify_neurites,
    typed_property,
)
from synapseclr.volumes import TRAITS, Traits

NAMES = ["ACh", "GABA", "Glu"]
SHARED = {"kind": "multiclass", "classes": NAMES, "level": "neurite"}
BOTH = Traits.model_validate([{"name": f"{side}_nt", "side": side, **SHARED} for side in ("pre", "post")])
CONFIG = ConsensusConfig(min_neurites=10)


def synapses(n=600, n_neurites=90, accuracy=0.6, n_annotated=60, seed=0):
    """Synapses whose imputed probabilities are right as often as they say."""
    rng = np.random.default_rng(seed)
    class_u = np.arange(n_neurites) % 3
    pre_n, post_n = rng.integers(0, n_neurites, (2, n))
    obs = pd.DataFrame({"synapse_id": np.arange(n) + 2**60})
    imputed = obs.copy()
    for side, neurite_n in (("pre", pre_n), ("post", post_n)):
        true_n = class_u[neurite_n]
        told_n = np.where(rng.random(n) < accuracy, true_n, (true_n + rng.integers(1, 3, n)) % 3)
        obs[f"{side}_root_id"] = neurite_n + 2**60
        obs[f"{side}_nt"] = np.where(neurite_n < n_annotated, true_n, np.nan)
        for code, name in enumerate(NAMES):
            imputed[f"{side}_nt_{name}_probability"] = np.where(told_n == code, accuracy, (1 - accuracy) / 2)
    return imputed, obs, class_u


def test_many_synapses_tell_what_single_ones_do_not():
    imputed, obs, class_u = synapses()
    found = classify_neurites(imputed, obs, BOTH, CONFIG)
    best = best_classes(found.neurites)
    true = np.array(NAMES, dtype=object)[class_u[best["root_id"] - 2**60]]
    assert (best["class_name"] == true).mean() > 0.9
    assert (best["n_pre"] + best["n_post"] == best["n_synapses"]).all()
    np.testing.assert_allclose(found.neurites.groupby("root_id")["probability"].sum(), 1.0)
    everyone = found.evaluation.set_index(["stratum", "method"]).loc[("all", "corrected")]
    assert everyone["n_neurites"] == 60
    assert everyone["accuracy"] > 0.9 > 0.7 > everyone["synapse_accuracy"]
    assert everyone["expected_calibration_error"] < everyone["calibration_error_by_chance"] + 0.1
    NEURITE_CLASSES.validate(found.neurites)
    HELD_OUT_NEURITE_CLASSES.validate(found.held_out)


def test_a_side_that_was_not_imputed_says_nothing():
    imputed, obs, _ = synapses()
    one_side = imputed.drop(columns=[name for name in imputed if name.startswith("post")])
    found = classify_neurites(one_side, obs, BOTH, CONFIG)
    assert (found.neurites["n_post"] == 0).all()
    assert found.neurites["root_id"].nunique() == obs["pre_root_id"].nunique()
    assert classify_neurites(obs[["synapse_id"]], obs, BOTH, CONFIG).neurites.empty


def test_folds_may_be_coarser_than_neurites():
    imputed, obs, _ = synapses()
    coarse = Traits.model_validate([{"name": "pre_nt", "side": "pre", "group": "hemilineage", **SHARED}])
    found = classify_neurites(imputed, obs.assign(hemilineage=obs["pre_root_id"] % 5), coarse, CONFIG)
    assert found.neurites["root_id"].nunique() == obs["pre_root_id"].nunique()


def test_a_class_that_was_left_out_is_no_answer():
    imputed, obs, _ = synapses()
    found = classify_neurites(imputed.drop(columns=["pre_nt_Glu_probability", "post_nt_Glu_probability"]), obs, BOTH)
    assert set(found.neurites["class_name"]) == {"ACh", "GABA"}
    assert found.held_out["root_id"].nunique() == 40  # of 60 annotated ones a third is of the other class


def test_contradicting_annotations_are_no_known_class():
    imputed, obs, _ = synapses()
    first = obs["pre_root_id"].iloc[0]
    obs.loc[obs.index[obs["pre_root_id"] == first][0], "pre_nt"] = (obs["pre_nt"].iloc[0] + 1) % 3
    found = classify_neurites(imputed, obs, BOTH, CONFIG)
    of_first = found.neurites[found.neurites["root_id"] == first]
    assert not of_first["is_annotated"].any()


def test_confusions_count_held_out_neurites():
    imputed, obs, _ = synapses()
    table = neurite_confusions(classify_neurites(imputed, obs, BOTH, CONFIG).held_out)
    assert table["n"].sum() == 60
    assert table.set_index(["true_class", "predicted_class"]).loc[("Glu", "Glu"), "share"] > 0.8


def test_the_first_property_with_two_classes_is_typed_and_all_others_are_classified():
    own = Traits.model_validate(["published", {"name": "is_local_pre", "side": "pre", **SHARED}])
    assert [trait.name for trait in typed_property(own)] == ["pre_cell_type", "post_cell_type"]
    assert list(classified_properties(own)) == ["is_local"]
    assert classified_properties(TRAITS) == {}
    assert typed_property(BOTH) == ()


def test_a_second_property_with_two_classes_is_classified():
    second = {"name": "pre_is_local", "kind": "binary", "classes": ["far", "local"], "side": "pre", "level": "neurite"}
    own = Traits.model_validate(["published", second])
    rng = np.random.default_rng(0)
    neurite_n = rng.integers(0, 40, 300)
    obs = pd.DataFrame({"synapse_id": np.arange(300), "pre_root_id": neurite_n, "pre_is_local": neurite_n % 2.0})
    imputed = pd.DataFrame({"synapse_id": np.arange(300), "pre_is_local_probability": 0.2 + 0.6 * (neurite_n % 2)})
    found = classify_neurites(imputed, obs, own, CONFIG)
    best = best_classes(found.neurites)
    assert (best["class_name"] == np.where(best["root_id"] % 2 == 1, "local", "far")).all()
    assert found.evaluation["accuracy"].iloc[0] == pytest.approx(1.0)


@pytest.mark.parametrize("dropped", [[], ["post_nt_Glu_probability"], [f"pre_nt_{name}_probability" for name in NAMES]])
def test_sums_by_parts_give_the_classes_of_all_synapses_at_once(dropped):
    imputed, obs, _ = synapses()
    imputed = imputed.drop(columns=dropped).sample(frac=1, random_state=0).iloc[5:]  # another order, some are missing
    obs.loc[3, "pre_nt"] = (obs.loc[3, "pre_nt"] + 1) % 3  # contradicts the other synapses of this neurite
    whole, by_parts = (classify_neurites(imputed, obs, BOTH, CONFIG, n) for n in (1_000_000, 37))
    for name in ("neurites", "held_out", "evaluation"):
        pd.testing.assert_frame_equal(getattr(by_parts, name), getattr(whole, name), rtol=1e-6)
