"""Traits as they are declared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from synapseclr.errors import TableError
from synapseclr.volumes import TRAITS, Traits, transform_annotations
from synapseclr.volumes.traits import class_columns, class_texts, neurite_properties, trait_values, values_by_class

CONF = Path(__file__).parents[2] / "conf"
TRANSMITTER = {"name": "transmitter", "kind": "multiclass", "classes": ["acetylcholine", "GABA", "glutamate"]}
SPINE = {"name": "spine_volume", "kind": "continuous", "column": "spine_um3", "unit": "um3", "side": "post"}
ABOVE = 2**60 + 1


def declared(*entries):
    return Traits.model_validate(list(entries))


def table(**columns):
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"syn_id": np.arange(n) + ABOVE, **columns})


def annotated(raw, *entries):
    return transform_annotations(raw, raw["syn_id"], declared(*entries))


def test_the_base_file_declares_the_published_nine():
    configured = yaml.safe_load((CONF / "base" / "parameters_traits.yml").read_text())["traits"]
    assert tuple(declared(*configured)) == TRAITS


def test_published_traits_go_by_their_names():
    found = declared("pre_cell_type", TRANSMITTER)
    assert [trait.name for trait in found] == ["pre_cell_type", "transmitter"]
    assert found[0] == TRAITS[5]
    assert len(declared("published", TRANSMITTER)) == 10


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "tag"}], "the trait tag needs its kind"),
        ([{**SPINE, "kind": "size"}], "spine_volume is of kind 'size', which is none of binary, multiclass"),
        ([{**SPINE, "columns": "x"}], "spine_volume has no setting columns; settings are name"),
        ([SPINE, SPINE], "two traits have the name spine_volume"),
        ([SPINE, {**SPINE, "name": "s"}, {**SPINE, "name": "t", "label": "s"}], "two traits have the label s"),
        ([{**TRANSMITTER, "classes": ["a", "b"]}], "three classes or more, 2 are declared"),
        ([{**TRANSMITTER, "classes": ["a", "b", "a"]}], "a class is declared twice"),
        ([{**TRANSMITTER, "classes": ["a-b", "a b", "c"]}], "two classes differ in signs alone"),
        ([{**TRANSMITTER, "transform": "zscore"}], "classes have no transform zscore"),
        ([{**TRANSMITTER, "level": "neurite"}], "level neurite needs a side"),
        ([{**SPINE, "classes": ["a", "b"]}], "kind continuous has no classes"),
        (["pre_cell"], "Unknown trait 'pre_cell'"),
        (["mito_size_pre_vx_log1p_zscore_zi"], "conditioned on has_mito_pre, which is no declared binary trait"),
        (["pre_cell_type", {**TRANSMITTER, "level": "neurite", "side": "post", "property_name": "cell_type"}], "same"),
    ],
)
def test_a_wrong_declaration_ends_in_a_sentence(entries, message):
    with pytest.raises(ValidationError, match=message):
        declared(*entries)


def test_what_is_left_out_follows_from_the_rest():
    trait = declared({**TRANSMITTER, "name": "post_cell_type", "side": "post", "level": "neurite"})[0]
    assert (trait.label, trait.group, trait.property_name) == ("postsynaptic cell type", "post_root_id", "cell_type")
    assert (trait.metric, trait.transform) == ("macro_auc", "none")
    spine, count = declared(SPINE, {"name": "n_vesicles", "kind": "count"})
    assert (spine.transform, spine.group, spine.metric) == ("zscore", "post_root_id", "explained_variance")
    assert (count.transform, count.group, count.scale_label) == (
        "log1p_zscore",
        "pre_root_id",
        "z-score of the logarithm",
    )
    assert neurite_properties(TRAITS) == {"cell_type": (TRAITS[5], TRAITS[6])}


@pytest.mark.parametrize("kind", ["names", "codes", "text codes", "categories"])
def test_cells_hold_names_or_codes(kind):
    names = ["GABA", "acetylcholine ", None, "glutamate"]
    cells = {"names": names, "codes": [1, 0, np.nan, 2], "text codes": ["1", "0", "", "2"]}
    values = pd.Categorical(names) if kind == "categories" else cells[kind]
    found = annotated(table(transmitter=values), TRANSMITTER).traits["transmitter"]
    np.testing.assert_array_equal(found, [1.0, 0.0, np.nan, 2.0])
    assert class_texts(found.to_numpy(), declared(TRANSMITTER)[0], "?") == ["GABA", "acetylcholine", "?", "glutamate"]


def test_numbers_may_be_names_and_then_are_no_codes():
    layers = {"name": "layer", "kind": "multiclass", "classes": [1, 2, 3]}
    assert annotated(table(layer=[3.0, 1.0, np.nan]), layers).traits["layer"].tolist()[:2] == [2.0, 0.0]
    with pytest.raises(TableError, match=r"layer holds 0, as for synapse .* none of the classes .*\(1, 2, 3\)"):
        annotated(table(layer=[0, 1, 2]), layers)


def test_a_class_that_is_not_declared_is_named_with_its_synapse():
    raw = table(transmitter=["GABA", "serotonin", "unsure"])
    with pytest.raises(TableError, match=f"holds serotonin, unsure, as for synapse {ABOVE + 1}, which is none of the"):
        annotated(raw, TRANSMITTER)
    with pytest.raises(TableError, match="holds serotonin, as for"):
        annotated(raw, {**TRANSMITTER, "not_annotated": ["unsure"]})


def test_a_column_that_is_missing_is_named_with_what_is_like_it():
    raw = table(spine_um=[1.0], transmitter=["GABA"])
    with pytest.raises(TableError, match=r"lacks the column spine_um3 of the trait spine_volume.*`column` to spine_um"):
        annotated(raw, SPINE, TRANSMITTER)
    found = annotated(raw, {**SPINE, "optional": True}, TRANSMITTER)
    assert found.traits["spine_volume"].isna().all()


def test_numbers_are_transformed_as_declared():
    values = np.array([1.0, 4.0, 0.0, 7.0])
    kinds = {"a": ("continuous", None), "b": ("zero_inflated", None), "c": ("count", None), "d": ("continuous", "none")}
    entries = [{"name": name, "kind": kind, "column": "x", "transform": how} for name, (kind, how) in kinds.items()]
    found = annotated(table(x=values), *entries)
    logs = np.log1p(values)
    np.testing.assert_allclose(found.traits["a"], (values - 3) / values.std())
    np.testing.assert_allclose(found.traits["c"], (logs - logs.mean()) / logs.std())
    assert found.traits["b"][2] == -np.inf
    assert abs(found.traits["b"][[0, 1, 3]].mean()) < 1e-12
    np.testing.assert_array_equal(found.traits["d"], values)
    assert found.scales.set_index("trait")["transform"].to_dict() == {
        "a": "zscore",
        "b": "log1p_zscore_zi",
        "c": "log1p_zscore",
        "d": "none",
    }


def test_counts_and_sizes_are_not_negative():
    with pytest.raises(TableError, match="n_vesicles is below 0 for synapse"):
        annotated(table(n_vesicles=[-1.0]), {"name": "n_vesicles", "kind": "count"})


def test_every_class_against_the_others_is_a_trait_of_its_own():
    trait = declared(TRANSMITTER)[0]
    obs = pd.DataFrame({"transmitter": [0.0, 2.0, np.nan]})
    found = {of_class.name: values_n.tolist() for of_class, values_n in values_by_class(obs, [trait])}
    assert list(found) == list(class_columns(trait)) == [f"transmitter_{name}" for name in trait.classes]
    assert found["transmitter_glutamate"][:2] == [0.0, 1.0]
    assert np.isnan(found["transmitter_glutamate"][2])
    np.testing.assert_array_equal(trait_values(obs, trait), obs["transmitter"])
