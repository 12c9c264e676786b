"""Views, selections and lists of a run that is too large for the page, on a small one, against its columns."""

import io

import numpy as np
import pytest
from explorer_runs import FIRST_ID, N_SMALL, make_outputs
from PIL import Image

from synapseclr.explorer.map_tiles import TILE_PX
from synapseclr.explorer.web_server import create_app

PAINT = {"unknown": "#808080", "classes": ["#ff0000", "#0000ff", "#00ff00"], "ramp": ["#000000", "#ffffff"]}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return make_outputs(tmp_path_factory.mktemp("views"))


@pytest.fixture(scope="module")
def client(outputs):
    return create_app(outputs, tiles_above=0).test_client()


def posted(client, address, status=200, **body):
    answer = client.post(address, json=body)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json()


def rows_listed(client, **body):
    found = posted(client, "/api/list", count=100, **body)["synapses"]
    return [int(synapse["id"]) - FIRST_ID for synapse in found]


def test_a_view_counts_what_passes_its_filters(client, outputs):
    size, cluster = (outputs.columns[name].values_n for name in ("cleft_size_log1p_zscore", "leiden_cluster"))
    filters = [
        {"name": "cleft_size_log1p_zscore", "low": 0.5, "high": None, "missing": True},
        {"name": "leiden_cluster", "classes": [0, 2]},
    ]
    is_passing = (np.isnan(size) | (size >= 0.5)) & np.isin(cluster, [0, 2])
    found = posted(client, "/api/view", colour="pre_cell_type", filters=filters, paint=PAINT)
    types = outputs.columns["pre_cell_type"].values_n[is_passing]
    assert found["n"] == is_passing.sum()
    expected = {code: int((types == code).sum()) for code in (0, 1)} | {-1: int(np.isnan(types).sum())}
    assert dict(found["counts"]) == {code: n for code, n in expected.items() if n}
    fewer = posted(client, "/api/view", colour="pre_cell_type", filters=filters, hidden=[-1], paint=PAINT)
    assert fewer["n"] == np.isfinite(types).sum()
    assert fewer["counts"] == found["counts"]  # the legend still offers what it hides
    assert (
        rows_listed(client, view=fewer["view"])
        == np.flatnonzero(is_passing & np.isfinite(outputs.columns["pre_cell_type"].values_n)).tolist()
    )


def test_the_colours_of_numbers_end_at_percentiles_or_where_the_page_says(client, outputs):
    scores = outputs.columns["outlier_score"].values_n
    found = posted(client, "/api/view", colour="outlier_score", paint=PAINT)
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(scores, [0.02, 0.98], method="lower"))
    typed = posted(client, "/api/view", colour="outlier_score", paint=PAINT, low=0.25, high=0.5)
    assert (typed["low"], typed["high"]) == (0.25, 0.5)
    assert typed["view"] != found["view"]
    bars = client.get("/api/histogram/outlier_score.json?bars=24").get_json()
    assert sum(bars["counts"]) == N_SMALL
    assert bars["nMissing"] == 0


def test_tiles_show_every_synapse_and_a_selection(client):
    view = posted(client, "/api/view", colour="leiden_cluster", paint=PAINT)["view"]

    def picture(selection="none", level=0):
        tiles = [
            client.get(f"/api/tile/{view}/{selection}/0/{level}/{x}/{y}.png")
            for x in range(2**level)
            for y in range(2**level)
        ]
        assert {tile.mimetype for tile in tiles} == {"image/png"}
        return np.concatenate([np.asarray(Image.open(io.BytesIO(tile.data))).reshape(-1, 4) for tile in tiles])

    whole = picture()
    assert whole.shape == (TILE_PX**2, 4)
    assert 50 < (whole[:, 3] > 0).sum() <= N_SMALL
    assert (picture(level=3)[:, 3] > 0).sum() == N_SMALL
    colours = whole[whole[:, 3] > 0][:, :3]
    assert {tuple(colour) for colour in colours.tolist()} >= {(255, 0, 0), (0, 0, 255), (0, 255, 0)}
    chosen = posted(client, "/api/selections", ids=[str(FIRST_ID + row) for row in range(0, N_SMALL, 3)])
    assert chosen["n"] == 20
    pale = picture(chosen["selection"])
    assert (pale[:, 3] > 60).sum() <= 20
    assert (pale[:, 3] > 0).sum() == (whole[:, 3] > 0).sum()
    assert client.get(f"/api/tile/{view}/none/0/1/2/0.png").status_code == 400
    assert client.get("/api/tile/other/none/0/0/0/0.png").status_code == 400


def points_of(answer, n_axes=2):
    n = int(np.frombuffer(answer.data, "<u4", 1)[0])
    ids = np.frombuffer(answer.data, "<i8", n, 8)
    places = np.frombuffer(answer.data, "<f4", n_axes * n, 8 + 8 * n).reshape(n_axes, n).T
    values = np.frombuffer(answer.data, "<f4", n, 8 + (8 + 4 * n_axes) * n)
    chosen = np.frombuffer(answer.data, np.uint8, n, 8 + (12 + 4 * n_axes) * n)
    return ids - FIRST_ID, places, values, chosen


def test_points_of_a_window_have_places_values_and_selection(client, outputs, monkeypatch):
    plane = outputs.planes["UMAP"]
    view = posted(client, "/api/view", colour="outlier_score", paint=PAINT)["view"]
    chosen = posted(client, "/api/selections", ids=[str(FIRST_ID + 1), str(FIRST_ID + 4)])["selection"]
    address = f"/api/points/{view}/{chosen}/0.bin?left=7&right=13&bottom=-3&top=3"
    rows, places, values, is_chosen = points_of(client.get(address))
    inside = np.flatnonzero((np.abs(plane - [10, 0]) <= 3).all(axis=1))
    assert sorted(rows) == inside.tolist()
    assert (places == plane[rows]).all()
    assert values.tolist() == outputs.columns["outlier_score"].values_n[rows].tolist()
    assert set(rows[is_chosen == 1]) == {1, 4} & set(inside)
    solid = list(outputs.planes).index("Volume in 3D")
    rows, places, _, _ = points_of(client.get(f"/api/points/{view}/none/{solid}.bin"), 3)
    assert rows.tolist() == list(range(N_SMALL))
    assert (places == outputs.planes["Volume in 3D"]).all()
    monkeypatch.setattr("synapseclr.explorer.map_views.MAX_POINTS", 5)
    assert np.frombuffer(client.get(address).data, "<u4", 1)[0] == 2**32 - 1
    assert len(points_of(client.get(f"/api/points/{view}/none/{solid}.bin"), 3)[0]) == 5


def test_the_nearest_synapse_and_the_place_of_one(client, outputs):
    view = posted(client, "/api/view", colour="", filters=[], paint=PAINT)["view"]
    x, y = outputs.planes["UMAP"][7].tolist()
    near = client.get(f"/api/nearest/{view}/0.json?x={x}&y={y}&reach=0.1").get_json()
    assert near["id"] == str(FIRST_ID + 7)
    assert client.get(f"/api/nearest/{view}/0.json?x=99&y=99&reach=1").get_json()["id"] is None
    assert client.get(f"/api/synapse/{FIRST_ID + 7}/place/0.json").get_json()["place"] == [x, y]
    assert client.get("/api/synapse/1/place/0.json").get_json()["place"] is None
    assert client.get(f"/api/synapse/{FIRST_ID}/place/99.json").status_code == 404


def test_an_outline_selects_what_is_shown_and_sets_are_combined(client, outputs):
    plane, cluster = outputs.planes["UMAP"], outputs.columns["leiden_cluster"].values_n
    view = posted(client, "/api/view", filters=[{"name": "leiden_cluster", "classes": [1]}], paint=PAINT)["view"]
    box = {"x": [-50, 10, 10, -50], "y": [-50, -50, 50, 50]}
    drawn = posted(client, "/api/selections", view=view, plane="UMAP", outline=box)
    expected = np.flatnonzero((cluster == 1) & (plane[:, 0] < 10))
    assert rows_listed(client, selection=drawn["selection"]) == expected.tolist()
    everything = posted(client, "/api/selections", view=view)
    assert everything["n"] == 20
    rest = posted(
        client,
        "/api/selections",
        view=view,
        plane="UMAP",
        outline=box,
        base=everything["selection"],
        operation="subtract",
    )
    assert rest["n"] == 20 - len(expected)
    both = posted(client, "/api/selections", ids=[str(FIRST_ID)], base=rest["selection"], operation="add")
    assert both["n"] == rest["n"] + 1
    again = posted(client, "/api/selections", view=view)
    assert again["selection"] == everything["selection"]  # the same set has the same id
    summary = posted(client, "/api/summary", selection=everything["selection"])["summary"]
    assert (
        summary
        == posted(client, "/api/summary", ids=[str(FIRST_ID + row) for row in np.flatnonzero(cluster == 1)])["summary"]
    )
    none = posted(client, "/api/selections", view=view, plane="UMAP", outline={"x": [90, 91, 90], "y": [0, 0, 1]})
    assert none == {"n": 0, "selection": "none"}
    for wrong in (
        {"outline": {"x": [1], "y": [2]}},
        {"outline": {"x": [1, 2, "a"], "y": [1, 2, 3]}},
        {"plane": "no such"},
    ):
        posted(client, "/api/selections", 400, **{"view": view, "plane": "UMAP", "outline": box} | wrong)
    posted(client, "/api/summary", 400, selection="unknown")


def test_lists_are_sorted_part_by_part_and_saved_as_csv(client, outputs):
    sizes = outputs.columns["cleft_size_log1p_zscore"].values_n
    chosen = posted(client, "/api/selections", ids=[str(FIRST_ID + row) for row in range(30)])["selection"]
    body = {"selection": chosen, "column": "cleft_size_log1p_zscore", "descending": True}
    parts = [posted(client, "/api/list", **body, start=start, count=12) for start in (0, 12, 24, 36)]
    assert [len(part["synapses"]) for part in parts] == [12, 12, 6, 0]
    assert {part["n"] for part in parts} == {30}
    values = [synapse["value"] for part in parts for synapse in part["synapses"]]
    known = [value for value in values if value is not None]
    assert known == sorted(sizes[:30][np.isfinite(sizes[:30])].tolist(), reverse=True)
    assert values[len(known) :] == [None] * 6
    assert posted(client, "/api/list", **body, known=True)["n"] == 24
    answer = client.get(
        f"/api/selections/{chosen}.csv?column=pre_root_id&column=leiden_cluster&column=cleft_size_log1p_zscore"
    )
    lines = answer.get_data(as_text=True).splitlines()
    assert lines[0] == "synapse_id,pre_root_id,leiden_cluster,cleft_size_log1p_zscore"
    assert lines[1] == f"{FIRST_ID},{2**63},<img src=x onerror=alert(1)>,"  # every fifth has no size
    assert len(lines) == 31
    posted(client, "/api/list", 400, selection=chosen, start=-1)
    assert client.get(f"/api/selections/{chosen}.csv?column=absent").status_code == 400


def test_neurites_and_saved_labels_are_columns_and_sets(client, outputs):
    root = 2**63 + 10  # of synapses 20 and 21
    found = client.get(f"/api/neurite/{root}.json").get_json()
    assert (found["outputs"], found["inputs"], found["n"]) == (2, 0, 2)
    assert found["targets"] == [["6", 1], ["7", 1]]
    chosen = posted(client, "/api/selections", neurite=str(root), side="outputs")
    assert rows_listed(client, selection=chosen["selection"]) == [20, 21]
    view = posted(client, "/api/view", colour="neurite", neuron=str(root), paint=PAINT)
    assert dict(view["counts"]) == {0: 2, -1: N_SMALL - 2}
    saved = posted(client, "/api/labels", selection=chosen["selection"], label="odd", chosen_by="")
    assert saved["n"] == 2
    labels = client.get("/api/label-counts.json").get_json()
    assert (labels["classes"], labels["counts"]) == (["odd"], [2])
    assert rows_listed(client, selection=posted(client, "/api/selections", label="odd")["selection"]) == [20, 21]
    assert dict(posted(client, "/api/view", colour="saved_label", paint=PAINT)["counts"])[0] == 2
    posted(client, "/api/labels/withdraw", table=saved["table"])
    assert posted(client, "/api/view", colour="saved_label", paint=PAINT | {"classes": []})["counts"] == [[-1, N_SMALL]]
    posted(client, "/api/selections", 400, label="odd")


def test_a_view_of_what_is_not_there_is_refused(client):
    for wrong in (
        {"filters": [{"name": "absent", "low": 0}]},
        {"filters": "all"},
        {"colour": "leiden_cluster", "paint": {"classes": ["red"]}},
        {"colour": "leiden_cluster", "paint": {"classes": ["#ff0000"]}},
    ):
        posted(client, "/api/view", 400, **wrong)
