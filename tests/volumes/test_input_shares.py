"""Shares of synapses that do not fit their volumes, on a sample before cutting and of the whole set afterwards."""

import logging

import pandas as pd
import pytest

from synapseclr.errors import InputError
from synapseclr.pipelines.preprocessing.nodes import (
    check_before_cutting,
    describe_chunks,
    describe_data,
    measure_morphometry,
    plot_preprocessing,
)
from synapseclr.volumes import ChunkSource, ChunkStore, PreprocessingConfig, cut_chunks, write_chunk_store
from synapseclr.volumes.annotations import RAW_COLUMNS
from synapseclr.volumes.input_shares import Share, judge, judge_chunks, neurite_shares

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


NO_ANNOTATIONS = pd.DataFrame(columns=RAW_COLUMNS)
VOLUMES = ChunkSource("volumes", "", None, None, {})


def of_another_version(tiny, n):
    """A table n of whose two synapses have root ids that the segmentation does not hold."""
    pre, post = tiny.synapses["pre_root_id"].tolist(), tiny.synapses["post_root_id"].tolist()
    change = [1000 if row < n else 0 for row in range(2)]
    ids = {"pre_root_id": pre, "post_root_id": post}
    return tiny.synapses.assign(**{name: [i + c for i, c in zip(of, change, strict=True)] for name, of in ids.items()})


def described(tiny, table, tmp_path, **changes):
    config = tiny.config.model_copy(update=changes)
    write_chunk_store(cut_chunks(tiny.em, tiny.segmentation, tiny.cleft, table, config), str(tmp_path / "s.zarr"))
    store = ChunkStore(str(tmp_path / "s.zarr"))
    return describe_chunks(store, table, NO_ANNOTATIONS, measure_morphometry(store)[0], config)[-1]


def test_chunks_without_their_neurites_end_the_run(tiny_volume, tmp_path):
    with pytest.raises(
        InputError, match=r"2 of 2 \(100 %\) are synapses neither of whose root ids of the synapse table"
    ):
        described(tiny_volume, of_another_version(tiny_volume, 2), tmp_path)


def test_below_the_limit_they_are_a_warning_in_log_and_report(tiny_volume, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        report = described(tiny_volume, of_another_version(tiny_volume, 1), tmp_path)
    assert report["suspect"]["without_either"] == {"label": "without either neurite", "n": 1, "of": 2}
    assert any("1 of 2 (50 %) are synapses neither of whose root ids" in text for text in report["warnings"])
    assert "neither of whose root ids" in caplog.text
    section = describe_data(report, plot_preprocessing(report))
    assert any("neither of whose root ids" in text for text in section.text)
    assert any(["without either neurite", "1", "2"] in [list(row) for row in table.rows] for table in section.tables)


def test_the_limit_lets_them_pass(tiny_volume, tmp_path):
    report = described(tiny_volume, of_another_version(tiny_volume, 2), tmp_path, max_suspect_fraction=1.0)
    assert report["suspect"]["without_either"]["n"] == 2


@pytest.mark.parametrize("n", [0, 2])
def test_the_node_stops_before_anything_is_cut(tiny_volume, n):
    tiny = tiny_volume
    arguments = (tiny.em, tiny.segmentation, tiny.cleft, of_another_version(tiny, n), NO_ANNOTATIONS, tiny.config)
    if n:
        with pytest.raises(InputError, match="Nothing was cut"):
            check_before_cutting(*arguments, VOLUMES)
        return
    document, figure = check_before_cutting(*arguments, VOLUMES)
    assert document["errors"] == []
    assert len(document["layers"]) == 3
    assert figure.axes[0].get_title(loc="left") in ("synapse 3", "synapse 7")


def test_of_imported_chunks_only_the_tables_are_looked_at(tiny_volume):
    nowhere = ChunkSource("raw_chunks", "gs://nowhere", None, None, {})
    table = of_another_version(tiny_volume, 2)
    document, _ = check_before_cutting(None, None, None, table, NO_ANNOTATIONS, tiny_volume.config, nowhere)
    assert document["layers"] == document["errors"] == []
    assert document["n_synapses"] == 2
