"""Bases of parameters: unknown names, parameters of another kind, and flattening."""

from typing import ClassVar, Literal

import pytest
from pydantic import ValidationError

from synapseclr.analysis.config import ImputationConfig
from synapseclr.parameters import ParametersOfKind, flatten_names


class Shape(ParametersOfKind):
    noun = "shape"
    own_parameters: ClassVar = {"ball": ("radius",), "cylinder": ("radius", "height")}

    name: Literal["point", "ball", "cylinder"] = "point"
    colour: str = "grey"
    radius: float = 1.0
    height: float = 2.0


def test_parameters_of_another_kind_are_refused_and_not_dumped():
    with pytest.raises(
        ValidationError, match=r"radius is 3.0, but the shape 'point' .* the shape 'ball' or 'cylinder'"
    ):
        Shape(radius=3)
    with pytest.raises(ValidationError, match=r"height is 1.0, but the shape 'ball' has no such .* 'cylinder'"):
        Shape(name="ball", height=1)
    assert Shape(radius=1.0).model_dump() == {"name": "point", "colour": "grey"}
    assert Shape(name="ball").model_dump() == {"name": "ball", "colour": "grey", "radius": 1.0}
    assert set(Shape(name="cylinder", height=1).model_dump()) == {"name", "colour", "radius", "height"}


def test_unknown_names_are_refused_and_values_stay():
    with pytest.raises(ValidationError, match="Extra inputs"):
        Shape(color="red")
    with pytest.raises(ValidationError, match="frozen"):
        Shape().colour = "red"


def test_nested_parameters_are_flattened():
    assert flatten_names({"b": 1, "c": {"d": [2]}, "e": {}}, "a") == {"a.b": 1, "a.c.d": [2], "a.e": {}}
    flat = flatten_names({"imputation": ImputationConfig(), "data_root": "data", "nested": {"deep": {"x": 1}}})
    assert flat["imputation.n_folds"] == 3
    assert (flat["data_root"], flat["nested.deep.x"]) == ("data", 1)
