"""Limits of the shares, for samples and for whole sets."""

import pandas as pd
import pytest

from synapseclr.volumes import PreprocessingConfig
from synapseclr.volumes.preflight.shares import Share, judge, judge_chunks, neurite_shares

CONFIG = PreprocessingConfig()


@pytest.mark.parametrize(
    ("n", "severity"), [(0, None), (2, None), (3, "warning"), (10, "warning"), (11, "error"), (20, "error")]
)
def test_more_than_half_of_the_sections_is_an_error_and_more_than_a_tenth_a_warning(n, severity):
    assert judge({"constant_sections": Share(n, 20)}, CONFIG).get("constant_sections") == severity


@pytest.mark.parametrize(("n", "severity"), [(2, "warning"), (6, "warning"), (7, "error")])
def test_a_sample_must_be_clearly_above_what_cutting_rejects(n, severity):
    """20 synapses at a limit of 0.1: three standard deviations above it are 6.02."""
    assert judge({"cleft_far": Share(n, 20, is_sample=True)}, CONFIG)["cleft_far"] == severity


def test_a_whole_set_is_held_to_the_limit_itself():
    assert judge({"outside": Share(3, 20)}, CONFIG) == {"outside": "error"}
    assert judge({"outside": Share(20, 20)}, PreprocessingConfig(max_rejected_fraction=1)) == {"outside": "warning"}


def test_in_a_small_volume_many_chunks_hang_over_the_border():
    assert judge({"at_border": Share(80, 100, expected=0.8)}, CONFIG) == {}
    assert judge({"at_border": Share(95, 100, expected=0.8)}, CONFIG) == {"at_border": "error"}


@pytest.mark.parametrize(
    ("n", "of", "told"),
    [
        (0, 568, "0 of 568 (0 %)"),
        (2, 568, "2 of 568 (0.4 %)"),
        (1, 100_000, "1 of 100,000 (< 0.1 %)"),
        (5, 20, "5 of 20 (25 %)"),
        (0, 0, "0 of 0 (0 %)"),
    ],
)
def test_a_share_below_one_per_cent_is_not_told_as_none(n, of, told):
    assert str(Share(n, of)) == told


def flags(pre, post, pre_ids, post_ids):
    return neurite_shares(
        *(
            pd.Series(values, dtype=kind)
            for values, kind in ((pre, bool), (post, bool), (pre_ids, "int64"), (post_ids, "int64"))
        )
    )


def test_only_neurites_that_the_table_names_can_be_missing():
    shares = flags([0, 0, 1, 1], [0, 1, 0, 1], [5, 0, 5, 5], [6, 6, 0, 6])
    assert {kind: (share.n, share.of) for kind, share in shares.items()} == {
        "without_pre": (1, 3),
        "without_post": (1, 3),
        "without_either": (1, 2),
    }


def test_what_lacks_both_sides_is_not_counted_for_each_side_again():
    assert judge(flags([0] * 4, [0] * 4, [5] * 4, [6] * 4), CONFIG) == {"without_either": "error"}
    assert judge(flags([0] * 4, [1] * 4, [5] * 4, [6] * 4), CONFIG) == {"without_pre": "error"}


def chunks(n, **columns):
    given = {
        "is_pre_missing": False,
        "is_post_missing": False,
        "is_autapse": False,
        "pre_root_id": 1,
        "post_root_id": 2,
    }
    return pd.DataFrame(given | columns, index=range(n))


def test_the_whole_set_is_judged_after_cutting():
    metadata = chunks(10, is_pre_missing=True, is_post_missing=True)
    shares, findings = judge_chunks(metadata, {}, Share(0, 100), CONFIG)
    assert shares["without_either"] == Share(10, 10)
    (finding,) = findings
    assert finding.severity == "error"
    assert "10 of 10 (100 %) are synapses neither of whose root ids of the synapse table occurs" in finding.text
    assert "different versions, or the segmentation holds supervoxels" in finding.text


def test_rejected_synapses_and_autapses_are_warnings_after_cutting():
    rejected = {99: "no labelled cleft lies within 400 nm of its centre; there is none in its chunk", 98: "outside"}
    _, findings = judge_chunks(chunks(2, is_autapse=True), rejected, Share(0, 100), CONFIG)
    assert [(finding.severity, finding.kind) for finding in findings] == [
        ("warning", "cleft_far"),
        ("warning", "autapses"),
    ]
