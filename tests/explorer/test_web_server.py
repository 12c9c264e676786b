"""What the explorer's server answers, also to requests that it should not get."""

import io
import json
import socket
import threading
import urllib.parse

import numpy as np
import pytest
from explorer_runs import FIRST_ID, HOSTILE, N_SMALL
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synapseclr.explorer.web_server import create_app, make_explorer_server


@pytest.fixture(scope="module")
def client(explorer):
    return create_app(explorer.outputs).test_client()


def test_ids_columns_and_planes_arrive_as_they_are(client, explorer):
    about = client.get("/api/overview.json").json
    assert about["n"] == N_SMALL
    volume = ["Volume, x and y", "Volume, x and z", "Volume, z and y", "Volume in 3D"]
    assert about["planes"] == ["UMAP", "PCA", "PCA in 3D", *volume]
    np.testing.assert_array_equal(
        np.frombuffer(client.get("/api/ids.bin").data, "<i8"), explorer.outputs.synapses.obs["synapse_id"]
    )
    plane = np.frombuffer(client.get("/api/plane/0.bin").data, "<f4").reshape(2, -1).T
    np.testing.assert_array_equal(plane, explorer.outputs.synapses.obsm["X_umap"])
    names = [column["name"] for column in about["columns"]]
    values = np.frombuffer(client.get(f"/api/column/{names.index('outlier_score')}.bin").data, "<f4")
    np.testing.assert_allclose(values, np.linspace(1, 0, N_SMALL), atol=1e-6)  # the table lists them backwards
    assert about["columns"][names.index("leiden_cluster")]["classes"] == [HOSTILE, "../../etc", "third"]


def test_details_have_neighbours_intervals_and_a_link(client, explorer):
    details = client.get(f"/api/synapse/{FIRST_ID}/details.json").json
    assert details["id"] == str(FIRST_ID)
    features = explorer.outputs.features_nf
    distance = np.linalg.norm(features - features[0], axis=1)
    assert [other["row"] for other in details["neighbours"]] == np.argsort(distance)[1:13].tolist()
    cleft = details["traits"][0]
    assert cleft["imputed"] == "250 voxels"
    assert cleft["interval"] == "90 %: 100 to 480"
    assert details["traits"][1]["imputed"] == "25% inhibitory"
    assert details["occlusion"] == [
        {"label": "presynaptic cell type", "score": "-1.25", "presynaptic": "+0.50", "cleft": "+0.50"}
        | {"postsynaptic": "+0.50"}
    ]
    assert client.get(f"/api/synapse/{FIRST_ID + 1}/details.json").json["occlusion"] == []
    assert details["roots"]["pre_root_id"] == str(2**63)
    assert details["neuroglancer"].startswith("https://neuroglancer-demo.appspot.com/#!")


def test_pictures_show_the_chunk(client, explorer):
    width, height, depth = explorer.outputs.chunks.chunk_size_vx
    chunk = explorer.outputs.chunks.read([0])[0]
    em = np.asarray(Image.open(io.BytesIO(client.get(f"/api/synapse/{FIRST_ID}/em.jpg").data)))
    assert em.shape == (depth * height, width)
    assert np.abs(em[5 * height : 6 * height].astype(int) - chunk[0, :, :, 5].T).mean() < 6
    masks = Image.open(io.BytesIO(client.get(f"/api/synapse/{FIRST_ID}/masks.png").data)).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(masks)[5 * height : 6 * height, :, 3] > 0, chunk[1, :, :, 5].T > 0)
    assert np.asarray(masks)[5 * height + 20, 24, :3].tolist() == [255, 128, 0]
    scene = json.loads(client.get(f"/api/synapse/{FIRST_ID}/scene.json").data)
    assert [trace["name"] for trace in scene["data"]] == ["presynaptic", "cleft", "postsynaptic", "dark in EM"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/synapse/12/details.json", 404),
        ("/api/synapse/-1/details.json", 404),
        ("/api/synapse/99999999999999999999999/details.json", 404),
        ("/api/synapse/..%2f..%2fetc/details.json", 404),
        ("/api/synapse/1e3/thumbnail.jpg", 404),
        (f"/api/synapse/{FIRST_ID + N_SMALL - 1}/thumbnail.jpg", 404),  # has no chunk
        (f"/api/synapse/{FIRST_ID}/_read", 404),
        ("/api/column/999.bin", 404),
        ("/api/plane/7.bin", 404),
        ("/assets/..%2fserver.py", 404),
        ("/assets/server.py", 404),
        ("/elsewhere", 404),
        ("/api/synapse/²/details.json", 404),
        ("/api/synapse/٣/thumbnail.jpg", 404),
        (f"/api/synapse/{'9' * 5000}/details.json", 404),
        (f"/api/synapse/{'9' * 5000}/em.jpg", 404),
        (f"/api/column/{'9' * 5000}.bin", 404),
        ("/api/plane/-1.bin", 404),
    ],
)
def test_what_does_not_exist_is_said_in_json(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("summary", {"ids": [str(FIRST_ID), "12"]}, "no synapse 12"),
        ("summary", {"ids": [FIRST_ID]}, "written as text"),
        ("summary", {"ids": "1"}, "written as text"),
        ("summary", [], "lacks 'ids'"),
        ("search", {"ids": [], "kind": "similar"}, "1 to 500 examples"),
        ("search", {"ids": [str(FIRST_ID)], "kind": "drop table"}, "'similar' or for 'defective'"),
        ("labels", {"ids": [], "label": "x"}, "No synapse is selected"),
        ("labels", {"ids": [str(FIRST_ID)], "label": ""}, "1 to 64"),
        ("labels", {"ids": [str(FIRST_ID)]}, "lacks 'label'"),
        ("summary", {"ids": ["²"]}, "written as text"),
        ("summary", {"ids": ["9" * 5000]}, "written as text"),
        ("summary", {"ids": [str(FIRST_ID), str(FIRST_ID), "12", "13"]}, "no synapse 12"),
        *(
            ("search", {"ids": [str(FIRST_ID)], "kind": "similar", "k": k}, "not a whole number above 0")
            for k in ([], {}, "8", 1.5, True, -3, 0, float("nan"), float("inf"))
        ),
        ("search", {"ids": [str(FIRST_ID)], "kind": ["similar"]}, "'similar' or for 'defective'"),
    ],
)
def test_a_request_that_cannot_be_met_gets_a_sentence(client, path, body, said):
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code == 400
    assert said in answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b"{", b"", b"\xff", b'{"ids": [' + b"9" * 5000 + b"]}", b"null"],
    ids=["deep list", "deep object", "unfinished", "empty", "no UTF-8", "long number", "null"],
)
@pytest.mark.parametrize("path", ["summary", "search", "labels", "labels/withdraw", "learn", "neuroglancer", "defects"])
def test_json_that_is_none_gets_a_sentence(client, path, body):
    answer = client.post(f"/api/{path}", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json["error"]


_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(str(FIRST_ID)))
_JSON = st.recursive(_SCALARS, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3))
_ADDRESSES = ["/api/synapse/{}/details.json", "/api/synapse/{}/em.jpg", "/api/column/{}.bin", "/assets/{}", "/{}"]


@given(
    path=st.sampled_from(["summary", "search", "labels", "labels/withdraw", "learn", "neuroglancer"]),
    body=st.fixed_dictionaries(
        {"ids": st.lists(_SCALARS, max_size=3) | _JSON},
        optional={"kind": st.sampled_from(["similar", "defective"]) | _JSON, "k": _JSON, "chosen_by": _JSON},
    )
    | _JSON,
)
def test_no_request_makes_the_server_fail(client, path, body):
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code < 500, answer.json


@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), address=st.sampled_from(_ADDRESSES))
def test_no_address_makes_the_server_fail(client, text, address):
    assert client.get(address.format(urllib.parse.quote(text, safe=""))).status_code < 500


def test_a_label_of_half_a_character_is_kept_readable(explorer):
    outputs = explorer.outputs
    body = {"ids": [str(FIRST_ID)], "label": "odd \ud83d shape", "chosen_by": "\ud83d"}
    answer = create_app(outputs).test_client().post("/api/labels", json=body)
    assert answer.status_code == 200
    labels, damaged = outputs.labels.read()
    assert "odd shape" in set(labels["label"])
    assert not damaged


@pytest.mark.parametrize("host", ["evil.example:80", "[", "[::1", "127.0.0.1@evil.example", ""])
def test_no_other_host_name_is_answered(client, host):
    assert client.get("/", headers={"Host": host}).status_code in (400, 403)


def test_other_sites_cannot_show_the_pictures(client):
    for name in ("em.jpg", "masks.png", "thumbnail.jpg", "scene.json"):
        answer = client.get(f"/api/synapse/{FIRST_ID}/{name}")
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_an_unfinished_request_does_not_hold_a_thread(explorer, monkeypatch):
    monkeypatch.setattr("synapseclr.explorer.web_server.UNFINISHED_REQUEST_S", 0.05)
    server = make_explorer_server(create_app(explorer.outputs), 0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    before = threading.active_count()
    head = f"POST /api/summary HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    try:
        for sent in ("PO", head, f"{head}Content-Length: 50\r\n\r\n", f'{head}Content-Length: 50\r\n\r\n{{"ids":'):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(sent.encode())
                answer = b"".join(iter(lambda: connection.recv(4096), b""))  # until the server closes it
                assert answer.startswith(b"HTTP/1.1 400 ") or not answer
        for thread in set(threading.enumerate()) - {threading.current_thread(), serving}:
            if "process_request_thread" in thread.name:
                thread.join(60)
        assert threading.active_count() <= before
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_only_this_machine_and_its_own_pages_are_served(client):
    assert client.get("/", headers={"Host": "evil.example:80"}).status_code == 403
    post = {"json": {"ids": [str(FIRST_ID)], "label": "x"}}
    assert client.post("/api/labels", headers={"Origin": "https://evil.example"}, **post).status_code == 403
    assert client.post("/api/labels", data="{}", headers={"Content-Type": "text/plain"}).status_code == 403
    assert "default-src 'self'" in client.get("/").headers["Content-Security-Policy"]


def test_searches_find_the_examples_kind(client, explorer):
    cluster = explorer.outputs.synapses.obs["leiden_cluster"].cat.codes.to_numpy()
    examples = np.flatnonzero(cluster == 2)[:3]
    body = {"ids": [str(FIRST_ID + row) for row in examples], "k": 8}
    similar = client.post("/api/search", json={**body, "kind": "similar"}).json
    assert {cluster[item["row"]] for item in similar["found"]} == {2}
    assert not {item["row"] for item in similar["found"]} & set(examples.tolist())
    defective = client.post("/api/search", json={**body, "kind": "defective"}).json
    assert len(defective["found"]) == 8
    values = [item["value"] for item in defective["found"]]
    assert values == sorted(values, reverse=True)


def test_a_summary_compares_the_set_with_all(client, explorer):
    rows = np.flatnonzero(explorer.outputs.synapses.obs["leiden_cluster"].cat.codes == 2)
    summary = client.post("/api/summary", json={"ids": [str(FIRST_ID + row) for row in rows]}).json["summary"]
    cluster = next(row for row in summary if row["label"] == "leiden cluster")
    assert cluster["set"] == "100% third"
    assert cluster["rest"] == "0% third"
    assert cluster["effect"] == 1.0
    effects = [abs(row["effect"]) for row in summary]
    assert effects == sorted(effects, reverse=True)


def test_a_neighbour_is_explained_by_what_few_others_share(client, explorer):
    cluster = explorer.outputs.synapses.obs["leiden_cluster"].cat.codes.to_numpy()
    found = client.get(f"/api/synapse/{FIRST_ID}/similar/{FIRST_ID + 3}.json").json
    distance = np.linalg.norm(explorer.outputs.features_nf - explorer.outputs.features_nf[0], axis=1)
    assert found["distance"] == pytest.approx(distance[3], abs=1e-3)
    assert found["nearer_than"] == pytest.approx((distance > distance[3]).mean(), abs=1e-3)
    shared = {row["label"]: row["between"] for row in found["shared"]}
    assert shared["leiden cluster"] == pytest.approx((cluster == cluster[0]).mean(), abs=1e-3)
    assert client.get(f"/api/synapse/{FIRST_ID}/similar/12.json").status_code == 404


def test_ticks_teach_the_kind(client, explorer):
    cluster = explorer.outputs.synapses.obs["leiden_cluster"].cat.codes.to_numpy()
    ids = [str(FIRST_ID + row) for row in range(N_SMALL)]
    yes, no = ([ids[row] for row in np.flatnonzero(is_kind)[:3]] for is_kind in (cluster == 2, cluster != 2))
    learnt = np.frombuffer(client.post("/api/learn", json={"ids": yes, "without": no}).data, "<f4")
    assert ((learnt > 0.5) == (cluster == 2)).mean() > 0.95
    alone = np.frombuffer(client.post("/api/learn", json={"ids": yes}).data, "<f4")
    assert set(np.argsort(-alone)[:15]) <= set(np.flatnonzero(cluster == 2))
    assert "Tick 1 to" in client.post("/api/learn", json={"ids": [], "without": no}).json["error"]


def test_a_set_is_opened_in_neuroglancer_by_a_trait(client, explorer):
    ids = [str(FIRST_ID + row) for row in (0, 4, 5)]
    answer = client.post("/api/neuroglancer", json={"ids": ids, "column": "pre_cell_type"}).json
    layer = json.loads(urllib.parse.unquote(answer["url"].partition("#!")[2]))["layers"][-1]
    assert [point["id"] for point in layer["annotations"]] == ids
    centres = explorer.outputs.synapses.obs[[f"centre_{axis}_nm" for axis in "xyz"]].to_numpy()
    np.testing.assert_allclose([point["point"] for point in layer["annotations"]], centres[[0, 4, 5]], atol=0.06)
    assert [point["props"] for point in layer["annotations"]] == [[255], [255], [0]]  # two are not annotated
    assert layer["annotationProperties"][0]["enum_labels"] == ["excitatory", "inhibitory", "not known"]
    number = client.post("/api/neuroglancer", json={"ids": ids, "column": "outlier_score"}).json
    assert number["n"] == 3
    assert client.post("/api/neuroglancer", json={"ids": ids, "column": "absent"}).status_code == 400


def test_root_ids_arrive_in_full(client, explorer):
    roots = np.frombuffer(client.get("/api/roots/pre_root_id.bin").data, "<u8")
    np.testing.assert_array_equal(roots, explorer.outputs.synapses.obs["pre_root_id"])
    assert client.get("/api/roots/synapse_id.bin").status_code == 404


def test_pictures_asked_for_at_once_are_each_their_own(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from synapseclr.explorer.images import SynapseImages
    from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store

    n, size = 48, (32, 32, 8)
    chunks = np.stack([np.full((2, *size), 5 * number, np.uint8) for number in range(n)])
    chunks[:, 1] = 0
    chunks[:, 0, 0, 0, 0] = 255  # none is empty
    zeros = {name: np.zeros(n, int) for name in ("cleft_id", "n_cutout_sections", "n_padded_voxels")}
    batch = ChunkBatch(chunks, {"synapse_id": np.arange(n), **zeros})
    write_chunk_store(ChunkStream([batch], size, (16.0, 16.0, 40.0), 64), str(tmp_path / "s.zarr"))
    images = SynapseImages(ChunkStore(str(tmp_path / "s.zarr")))
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda position: images.picture("thumbnail", position), range(n)))
    for number, picture in enumerate(pictures):
        assert np.median(np.asarray(Image.open(io.BytesIO(picture)))) == pytest.approx(5 * number, abs=2)
