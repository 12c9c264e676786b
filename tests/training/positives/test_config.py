import pytest
from pydantic import ValidationError

from synapseclr.training import PretrainingConfig
from synapseclr.training.positives import (
    PositivesConfig,
)


def same_neurite(**parameters):
    return PositivesConfig(kind="same_neurite", **parameters)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("neighbour", "'augment' or 'same_neurite'"),
        ({"kind": "same_neurite", "probability": 0}, "greater than 0"),
        ({"kind": "same_neurite", "max_distance_um": -1}, "greater than 0"),
        ({"probability": 0.2}, r"probability is 0.2, but positives of kind 'augment' .* set kind: same_neurite"),
        (
            {"kind": "augment", "pair_annotated_neurites": True},
            "pair_annotated_neurites is True, but positives of kind",
        ),
        ({"kinds": "augment"}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        PretrainingConfig.model_validate({"positives": given})


def test_the_kind_alone_will_do_and_the_dump_holds_what_acts():
    assert PretrainingConfig().positives.model_dump() == {"kind": "augment"}
    config = PretrainingConfig.model_validate({"positives": "same_neurite"})
    assert config.positives == same_neurite()
    assert config.positives.model_dump()["pair_annotated_neurites"] is False
    assert PretrainingConfig.model_validate_json(config.model_dump_json()) == config
