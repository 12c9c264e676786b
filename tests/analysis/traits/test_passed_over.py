"""Warnings about what is passed over: one a reason, with names and numbers in it."""

import pytest

from synapseclr.analysis.traits.passed_over import passed_over

FEW = "{} annotated synapses, at least 30 needed"
RARE = "class '{}' occurs on {} neurites, 3 folds need 3; it is left out"


@pytest.mark.parametrize(
    ("reasons", "sentences"),
    [
        ([], []),
        ([("size", "all equal")], ["Trait size is not imputed: all equal. Annotate."]),
        (
            [("a", "all equal"), ("b", FEW.format(9)), ("c", "all equal"), ("d", FEW.format(12))],
            [
                "2 traits are not imputed (a, c): all equal. Annotate.",
                "2 traits are not imputed (b, d): 9 to 12 annotated synapses, at least 30 needed. Annotate.",
            ],
        ),
        (
            [(name, "all equal") for name in "abcdefgh"],
            ["8 traits are not imputed (a, b, c, d, e, f and 2 more): all equal. Annotate."],
        ),
        (
            [("tag: x", RARE.format("x", 1)), ("tag: y", RARE.format("y", 1)), ("tag: y", RARE.format("y", 1))],
            [
                "2 traits are not imputed (tag: x, tag: y): class 'x', 'y' occurs on 1 neurites, 3 folds need 3; it is "
                "left out. Annotate."
            ],
        ),
    ],
)
def test_a_reason_is_one_sentence_with_all_names(reasons, sentences):
    assert passed_over(reasons, "not imputed", "Annotate.") == sentences


def test_several_reasons_of_one_name_are_one_sentence():
    reasons = [("20 %", "only one class among 3 labels"), ("20 %", "only one class among 5 labels")]
    assert passed_over(reasons, "not tested", "Annotate.", "fraction", "fractions") == [
        "Fraction 20 % is not tested: only one class among 3 to 5 labels. Annotate."
    ]
