"""The whole set is judged once it is stored: what the sample missed does not end in a quiet success."""

import logging

import pandas as pd
import pytest

from synapseclr.errors import InputError
from synapseclr.pipelines.preprocessing.nodes import (
    check_before_cutting,
    describe_chunks,
    describe_data,
    plot_preprocessing,
)
from synapseclr.volumes import ChunkSource, ChunkStore, cut_chunks, write_chunk_store
from synapseclr.volumes.annotations import RAW_COLUMNS

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
    return describe_chunks(ChunkStore(str(tmp_path / "s.zarr")), table, NO_ANNOTATIONS, config)[-1]


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
