import json
import logging
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from cave_server import TOKEN, LoopbackCave, Table, Version, root, serve, supervoxel, synapses
from kedro.io import DatasetError

from synapseclr.datasets import CaveTableDataset
from synapseclr.errors import ConfigurationError, OutputError
from synapseclr.volumes import cave_service

pytest.importorskip("caveclient", reason="the extra `cave` is not installed")

OLD, NEW = pd.Timestamp("2023-05-01 08:10:01.5"), pd.Timestamp("2024-01-22 08:10:01.25")
N, LIMIT = 1_200, 400
SIZE_NM = (4.0, 4.0, 40.0)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """No token or remembered server of the user's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def cave():
    table = Table(synapses(N))
    old = Table(synapses(200, seed=1))
    versions = {
        661: Version(OLD - pd.Timedelta(days=300), {"synapses": old}, is_expired=True),
        795: Version(OLD, {"synapses": old}),
        943: Version(NEW, {"synapses": table}),
    }
    info = {"scales": [{"resolution": [8, 8, 40], "voxel_offset": [0, 0, 0], "size": [2000, 1500, 500]}]}
    with serve(LoopbackCave(versions=versions, row_limit=LIMIT, graph_info=info)) as cave:
        yield cave


def dataset(cave, folder, **changes):
    options = {
        "filepath": str(folder),
        "datastack": cave.datastack,
        "table": "synapses",
        "materialization_version": 943,
        "server_address": cave.address,
        "row_limit": LIMIT,
        "credentials": {"token": TOKEN},
    }
    return CaveTableDataset(**(options | changes))


def expected(rows):
    """The rows of a served table in the standard form."""
    rows = rows.sort_values("id", ignore_index=True)
    table = pd.DataFrame({"id": rows["id"]})
    for side in ("pre", "post"):
        table[f"{side}_root_id"] = rows[f"{side}_pt_root_id"]
    for axis, size in zip("xyz", SIZE_NM, strict=True):
        table[f"ctr_pos_{axis}_nm"] = rows[f"ctr_pt_position_{axis}"] * size
    return table


def served(cave, version=943):
    return cave.versions[version].tables["synapses"].rows


def test_a_table_of_several_pages_equals_the_whole(cave, tmp_path):
    loaded = dataset(cave, tmp_path).load()
    wanted = expected(served(cave))
    pd.testing.assert_frame_equal(loaded[wanted.columns], wanted, check_dtype=False)
    assert loaded["id"].min() > 2**53
    assert loaded["pre_root_id"].dtype == np.int64
    assert loaded["size"].tolist() == served(cave).sort_values("id")["size"].tolist()
    asked = len(cave.queries)
    assert asked > N / LIMIT
    again = dataset(cave, tmp_path).load()
    pd.testing.assert_frame_equal(again, loaded)
    assert len(cave.queries) == asked, "what is whole is read from the folder"
    assert loaded.attrs["synapse_source"]["materialization_version"] == 943
    assert loaded.attrs["synapse_source"]["n_rows"] == N
    assert TOKEN not in "".join(path.read_text(errors="ignore") for path in tmp_path.rglob("*.json"))


def test_300_000_rows_equal_the_whole_table_after_an_interruption(tmp_path, caplog):
    rows = synapses(300_000, extent=(90_000, 70_000, 9_000))
    info = {"scales": [{"resolution": [4, 4, 40], "size": [90_000, 70_000, 9_000]}]}
    versions = {943: Version(NEW, {"synapses": Table(rows)})}
    with serve(LoopbackCave(versions=versions, graph_info=info)) as cave:
        cave.fail_after = 4
        with pytest.raises(DatasetError, match=r"does not answer \(status 503\).*it continues"):
            dataset(cave, tmp_path, row_limit=200_000).load()
        kept = len(list(tmp_path.rglob("tile_*.parquet")))
        assert kept == 1, "the whole, the box and one point were asked for, then the first half"
        cave.fail_after, before = None, len(cave.queries)
        loaded = dataset(cave, tmp_path, row_limit=200_000).load()
        assert len(cave.queries) - before == 2, "the column of positions, and the half that was missing"
    wanted = expected(rows)
    pd.testing.assert_frame_equal(loaded[wanted.columns], wanted, check_dtype=False)


def test_rows_on_the_border_of_two_tiles_come_once(cave, tmp_path):
    table = served(cave).copy()
    table["ctr_pt_position_x"] = 2000  # the middle of the extent
    cave.versions[943].tables["synapses"] = Table(table)
    loaded = dataset(cave, tmp_path).load()
    assert loaded["id"].is_unique
    assert len(loaded) == N


def test_a_box_in_nm_and_filters_choose_rows(cave, tmp_path):
    low, high = (4_000, 4_000, 0), (12_000, 10_000, 20_000)
    filters = {"greater": {"size": 500}}
    loaded = dataset(cave, tmp_path, bounding_box_nm=[low, high], filters=filters).load()
    wanted = expected(served(cave)[served(cave)["size"] > 500])
    inside = np.logical_and.reduce(
        [wanted[f"ctr_pos_{axis}_nm"].between(a, b) for axis, a, b in zip("xyz", low, high, strict=True)]
    )
    assert 0 < inside.sum() < len(wanted)
    assert loaded["id"].tolist() == wanted["id"][inside].tolist()
    folders = {path.parent for path in tmp_path.rglob("*.parquet")}
    dataset(cave, tmp_path, bounding_box_nm=[low, high]).load()
    assert {path.parent for path in tmp_path.rglob("*.parquet")} > folders, "a changed query has another folder"


def test_only_the_columns_that_are_named_are_fetched(cave, tmp_path):
    columns = ["pre_pt_root_id", "post_pt_root_id", "ctr_pt_position"]
    loaded = dataset(cave, tmp_path, columns=columns, materialization_version=795).load()
    wanted = expected(served(cave, 795))
    pd.testing.assert_frame_equal(loaded, wanted, check_dtype=False)
    assert all(query.get("select_columns") == ["id", *columns] for query in cave.queries)


def test_a_server_that_returns_less_than_it_was_asked_for_is_noticed(cave, tmp_path):
    cave.row_limit = LIMIT // 2
    loaded = dataset(cave, tmp_path).load()
    assert len(loaded) == N


def test_more_rows_at_one_point_than_the_server_returns_are_an_error(cave, tmp_path):
    table = served(cave).copy()
    for axis in "xyz":
        table[f"ctr_pt_position_{axis}"] = 7
    cave.versions[943].tables["synapses"] = Table(table)
    with pytest.raises(DatasetError, match=r"400 rows or more at the point .*Narrow the query with filters"):
        dataset(cave, tmp_path).load()


def test_without_a_version_the_newest_is_taken_once_and_kept(cave, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        first = dataset(cave, tmp_path, materialization_version=None).load()
    assert "the newest one, 943, is taken" in caplog.text
    cave.versions[1078] = Version(NEW + pd.Timedelta(days=9), {"synapses": Table(synapses(10))})
    caplog.clear()
    again = dataset(cave, tmp_path, materialization_version=None).load()
    pd.testing.assert_frame_equal(first, again)
    assert "the newest one" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"materialization_version": 661}, r"Version 661 .* has expired; available are 943 \(2024-01-22\), 795"),
        ({"materialization_version": 12}, r"Version 12 .* does not exist; available are 943"),
        ({"table": "synapse"}, r"Version 943 .* has no table synapse\. Did you mean synapses\?"),
        ({"datastack": "loopback_publik"}, r"has no datastack loopback_publik\. Did you mean loopback_public\?"),
        ({"credentials": None}, r"asks for a token .* conf/local/credentials\.yml .*\.cloudvolume/secrets"),
        ({"credentials": {"token": "f" * 32}}, r"does not accept the token of credentials\.yml"),
        ({"server_address": "http://127.0.0.1:9"}, r"http://127\.0\.0\.1:9 .* does not answer"),
        ({"filters": {"equal": {"no_column": 1}}}, r"does not take the query .*column not in model.*Check filters"),
        ({"bounding_box_nm": [[-9, -9, -9], [-8, -8, -8]]}, r"has no rows in the box .*bounding_box_nm is in nm"),
        ({"timestamp": "2020-01-01", "materialization_version": None}, r"has no version of 2020-01-01.* or earlier"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(cave, tmp_path, changes, sentence):
    with pytest.raises(DatasetError, match=sentence) as raised:
        dataset(cave, tmp_path, **changes).load()
    for token in (TOKEN, "f" * 32):
        assert token not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"filters": {"larger": {"size": 1}}}, "no filter 'larger'"),
        ({"bounding_box_nm": [[1, 2, 3], [1, 5, 6]]}, "lower and the upper corner in nm"),
        ({"timestamp": "yesterday"}, "'yesterday' is no moment in time"),
        ({"annotations": [{"table": "t", "by": "axon", "columns": {"a": "b"}}]}, "joined by 'axon'. Choose one of"),
        ({"annotations": [{"table": "t", "by": "synapse"}]}, "name no columns"),
        ({"annotations": [{"name": "t"}]}, "They need table, by and columns"),
        ({"as_annotations": True}, "names no labels: neither annotations to join nor"),
        ({"filepath": "gs://bucket/cave"}, "is not on this machine"),
    ],
)
def test_a_wrong_entry_is_refused_before_a_server_is_asked(tmp_path, changes, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        dataset(LoopbackCave(address="http://127.0.0.1:9"), tmp_path, **changes)


def test_a_file_that_was_damaged_is_not_read(cave, tmp_path):
    dataset(cave, tmp_path).load()
    (path,) = tmp_path.glob("*/table.*.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises((DatasetError, OutputError), match="is cut short"):
        dataset(cave, tmp_path).load()


@pytest.fixture
def labelled(cave):
    """Tables that label synapses, nuclei (by reference to their table) and neurites."""
    rows = served(cave)
    nuclei = pd.DataFrame({"id": [5, 6, 7, 8], "pt_root_id": root([1, 2, 3, 3]), "valid": True})
    types = pd.DataFrame({"id": [1, 2, 3, 4], "target_id": [5, 6, 7, 8], "cell_type": ["23P", "BC", "MC", "BC"]})
    first = rows["id"].nsmallest(40).to_numpy()
    targets = pd.DataFrame({"id": np.arange(40), "target_id": first, "tag": ["spine", "shaft"] * 20})
    status = pd.DataFrame({"id": [1, 2], "pt_root_id": root([1, 4]), "status": [2**53 + 3, 1], "done": [True, False]})
    cave.versions[943].tables |= {
        "nuclei": Table(nuclei),
        "cell_types": Table(types, reference_table="nuclei"),
        "targets": Table(targets, reference_table="synapses"),
        "proofreading": Table(status),
    }
    return cave


def test_labels_are_joined_by_synapse_neurite_and_nucleus(labelled, tmp_path, caplog):
    annotations = [
        {"table": "targets", "by": "synapse", "columns": {"tag": "target_structure"}},
        {"table": "cell_types", "by": "post_nucleus", "columns": {"cell_type": "post_cell_type_name"}},
        {"table": "cell_types", "by": "pre_root", "columns": {"cell_type": "pre_cell_type_name"}},
        {"table": "proofreading", "by": "pre_root", "columns": {"status": "status", "done": "is_done"}},
    ]
    with caplog.at_level(logging.WARNING):
        loaded = dataset(labelled, tmp_path, annotations=annotations).load()
    tags = labelled.versions[943].tables["targets"].rows.set_index("target_id")["tag"]
    known = loaded["target_structure"].notna()
    assert loaded["id"][known].tolist() == tags.index.tolist()
    assert loaded["target_structure"][known].tolist() == tags.tolist()
    for side in ("pre", "post"):
        # the third neurite has two nuclei of different types, hence no clear one
        type_of = {int(root(1)): "23P", int(root(2)): "BC"}
        wanted = loaded[f"{side}_root_id"].map(type_of)
        assert wanted.notna().any()
        pd.testing.assert_series_equal(
            loaded[f"{side}_cell_type_name"].astype(object), wanted.astype(object), check_names=False
        )
    assert "1 ids have several labels in cell_types" in caplog.text
    of_first = loaded[loaded["pre_root_id"] == root(1)]
    assert set(of_first["status"]) == {2**53 + 3}
    assert of_first["is_done"].all()


def test_an_annotation_table_has_the_labelled_synapses_alone(labelled, tmp_path):
    annotations = [{"table": "targets", "by": "synapse", "columns": {"tag": "target_structure"}}]
    loaded = dataset(labelled, tmp_path, annotations=annotations, as_annotations=True).load()
    assert list(loaded) == ["syn_id", "target_structure"]
    assert len(loaded) == 40
    measured = dataset(labelled, tmp_path, annotations=annotations, as_annotations={"size": "cleft_size_vx"}).load()
    assert list(measured) == ["syn_id", "cleft_size_vx", "target_structure"]
    assert measured["cleft_size_vx"].tolist() == served(labelled).sort_values("id")["size"].tolist()
    with pytest.raises(DatasetError, match="The table synapses has no column area"):
        dataset(labelled, tmp_path, as_annotations={"area": "cleft_size_vx"}).load()


def test_labels_of_a_table_larger_than_an_answer_are_asked_for_by_id(labelled, tmp_path):
    rows = served(labelled)
    large = pd.DataFrame({"id": np.arange(N), "target_id": rows["id"].to_numpy(), "tag": rows["size"].to_numpy()})
    labelled.versions[943].tables["targets"] = Table(large, reference_table="synapses")
    annotations = [{"table": "targets", "by": "synapse", "columns": {"tag": "tag"}}]
    loaded = dataset(labelled, tmp_path, annotations=annotations).load()
    assert loaded["tag"].tolist() == loaded["size"].tolist()


def test_labels_that_cannot_be_joined_are_said(labelled, tmp_path):
    by_synapse = {"table": "cell_types", "by": "synapse", "columns": {"cell_type": "t"}}
    with pytest.raises(DatasetError, match="cell_types labels rows of nuclei, not of synapses"):
        dataset(labelled, tmp_path, annotations=[by_synapse]).load()
    with pytest.raises(DatasetError, match="get the name size, which the synapse table has"):
        dataset(labelled, tmp_path, annotations=[by_synapse | {"columns": {"cell_type": "size"}}]).load()
    with pytest.raises(DatasetError, match="The table cell_types has no column kind"):
        dataset(labelled, tmp_path, annotations=[by_synapse | {"by": "pre_root", "columns": {"kind": "t"}}]).load()


def test_root_ids_are_looked_up_at_another_moment(cave, tmp_path, caplog):
    moment = NEW + pd.Timedelta(days=100)
    numbers = range(1, N)
    # afterwards neurites with even numbers have other ids, and the graph has lost the supervoxel 5
    later = {int(supervoxel(n)): int(root(n, n % 2 == 0)) for n in numbers if n != 5}
    cave.roots = [(0.0, {}), (moment.timestamp() - 1, later)]
    with caplog.at_level(logging.INFO):
        loaded = dataset(cave, tmp_path, timestamp=moment.isoformat()).load()
    rows = served(cave).sort_values("id")
    is_lost = (rows["pre_pt_root_id"] == root(5)) | (rows["post_pt_root_id"] == root(5))
    assert is_lost.any()
    assert loaded["id"].tolist() == rows["id"][~is_lost].tolist()
    number = rows["pre_pt_root_id"][~is_lost].to_numpy() - root(0)
    assert loaded["pre_root_id"].tolist() == [int(root(n, int(n % 2 == 0))) for n in number]
    (listed,) = tmp_path.rglob("unmapped_synapses.*.csv")
    unmapped = pd.read_csv(listed)
    assert set(unmapped["id"]) == set(rows["id"][is_lost])
    assert set(unmapped["supervoxel_id"]) == {int(supervoxel(5))}
    assert f"of {int(is_lost.sum())} synapses could not be looked up" in caplog.text
    source = loaded.attrs["synapse_source"]
    assert source["is_remapped"]
    assert source["n_unmapped_root_ids"] == len(unmapped)
    assert cave.root_timestamps == [pytest.approx(moment.timestamp())]


def test_the_newest_version_before_a_moment_is_taken(cave, tmp_path):
    moment = OLD + pd.Timedelta(days=1)
    cave.roots = [(0.0, {int(supervoxel(n)): int(root(n)) for n in range(1, N)})]
    loaded = dataset(cave, tmp_path, materialization_version=None, timestamp=moment.isoformat()).load()
    assert loaded["id"].tolist() == sorted(served(cave, 795)["id"])
    assert loaded.attrs["synapse_source"]["n_changed_root_ids"] == 0


def test_a_table_of_another_unit_is_read_in_its_own(cave, tmp_path):
    cave.versions[943].tables["synapses"].resolution_nm = (7.5, 7.5, 50.0)
    cave.graph_info["scales"][0]["resolution"] = [15, 15, 50]
    loaded = dataset(cave, tmp_path).load()
    rows = served(cave).sort_values("id")
    assert loaded["ctr_pos_x_nm"].tolist() == (rows["ctr_pt_position_x"] * 7.5).tolist()
    assert loaded["ctr_pos_z_nm"].tolist() == (rows["ctr_pt_position_z"] * 50.0).tolist()


def test_a_unit_that_the_server_does_not_tell_is_the_entry_s(cave, tmp_path):
    rows = served(cave).sort_values("id")
    box = [[0, 0, 0], [30_000, 30_000, 30_000]]
    wanted = rows[["ctr_pt_position_x", "ctr_pt_position_y"]].le(3000).all(axis=1) & (rows["ctr_pt_position_z"] <= 600)
    cave.versions[943].tables["synapses"].resolution_nm = (None, None, None)
    with pytest.raises(DatasetError, match=r"does not say in which unit its positions are\. Set unit_nm"):
        dataset(cave, tmp_path, bounding_box_nm=box).load()
    loaded = dataset(cave, tmp_path, bounding_box_nm=box, unit_nm=[10, 10, 50]).load()
    assert loaded["id"].tolist() == rows["id"][wanted].tolist()
    assert loaded["ctr_pos_x_nm"].tolist() == (rows["ctr_pt_position_x"][wanted] * 10).tolist()


def test_a_server_that_accepts_and_never_answers_is_not_waited_for(cave, tmp_path, monkeypatch):
    monkeypatch.setattr(cave_service, "TIMEOUT_S", (5.0, 0.1))
    cave.hangs = threading.Event()
    try:
        with pytest.raises(DatasetError, match=r"does not answer \(.*\)\. Check server_address and the connection"):
            dataset(cave, tmp_path).load()
    finally:
        cave.hangs.set()


def test_a_table_without_centres_is_tiled_by_its_presynaptic_points(cave, tmp_path):
    rows = served(cave).drop(columns=[f"ctr_pt_position_{axis}" for axis in "xyz"])
    cave.versions[943].tables["synapses"] = Table(rows, schema_type="fly_synapse")
    loaded = dataset(cave, tmp_path).load()
    rows = rows.sort_values("id")
    assert loaded["id"].tolist() == rows["id"].tolist()
    middle = (rows["pre_pt_position_x"] + rows["post_pt_position_x"]) / 2 * SIZE_NM[0]
    assert loaded["ctr_pos_x_nm"].tolist() == middle.tolist()


def test_without_the_client_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "caveclient", None)
    with pytest.raises(DatasetError, match=r"not installed\. Install it: pip install 'synapseclr\[cave\]'"):
        dataset(LoopbackCave(address="http://127.0.0.1:9"), tmp_path).load()


def test_provenance_lies_beside_the_table(cave, tmp_path):
    dataset(cave, tmp_path).load()
    (path,) = tmp_path.glob("*/table.*.json")
    source = json.loads(path.read_text())
    assert source["datastack"] == cave.datastack
    assert source["root_ids_at"] == "2024-01-22T08:10:01.250000+00:00"
