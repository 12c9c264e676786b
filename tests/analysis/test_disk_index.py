"""The index in files: built in passes, resumed, reused, and as good as the exact search."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis import disk_index
from synapseclr.analysis.config import SimilarityConfig
from synapseclr.analysis.disk_index import DiskIndex, build_disk_index, is_index_of, is_too_large, open_index
from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.search import (
    FeatureIndex,
    Query,
    answer_query,
    distance_histograms,
    measure_recall,
)
from synapseclr.errors import OutputError, SynapseCLRError
from synapseclr.pipelines.similarity.nodes import answer_queries, compare_indices, find_neighbours, index_features
from synapseclr.storage.sharded_anndata import open_lazily, write_sharded

N, F, K = 5000, 6, 10


@pytest.fixture(scope="module", autouse=True)
def small_passes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synapseclr.analysis.feature_rows._BLOCK_VALUES", 1)  # blocks of 4,096 rows: two passes
        patch.setattr(disk_index, "_POINTS_PER_CODE", 4)  # faster, and good enough here
        yield


@pytest.fixture(scope="module")
def features_nf():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(40, F))[rng.integers(0, 40, N)] * 2 + rng.normal(size=(N, F))).astype(np.float32)


@pytest.fixture(scope="module")
def lazy(features_nf, tmp_path_factory):
    obs = pd.DataFrame({"synapse_id": np.arange(N) + 2**60, "half": np.arange(N) % 2}, index=np.arange(N).astype(str))
    folder = tmp_path_factory.mktemp("embeddings") / "synapse_embeddings.zarr"
    write_sharded(anndata.AnnData(features_nf, obs=obs), folder)
    return open_lazily(str(folder), block_rows=2560)


@pytest.fixture(scope="module")
def lazy_nf(lazy):
    assert FeatureRows(lazy.X)._stored is not None  # single rows are read past dask's blocks
    return lazy.X


@pytest.fixture(scope="module")
def folder(lazy_nf, tmp_path_factory):
    return build_disk_index(lazy_nf, tmp_path_factory.mktemp("run") / "feature_index")


@pytest.fixture(scope="module")
def index(lazy_nf, folder):
    return DiskIndex(lazy_nf, folder)


@pytest.fixture(scope="module")
def flat(features_nf):
    return FeatureIndex(features_nf, "flat")


def test_lists_stay_on_the_disk(index, folder):
    import faiss

    lists = faiss.downcast_InvertedLists(faiss.extract_index_ivf(index._index).invlists)
    assert isinstance(lists, faiss.OnDiskInvertedLists)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".written.json",
        "index.faiss",
        "lists.ivfdata",
        "plan.json",
    ]
    assert (folder / "lists.ivfdata").stat().st_size == N * (F + 8)  # a byte a component, and the row


def test_most_true_neighbours_are_found_at_their_exact_distances(index, flat, features_nf):
    assert measure_recall(index, K) > 0.95
    query_qf = features_nf[:300] + np.float32(0.05)
    found, true = index.search(query_qf, K), flat.search(query_qf, K)
    distances_qk = np.linalg.norm(features_nf[found.indices_qk].astype(float) - query_qf[:, None], axis=2)
    np.testing.assert_allclose(found.distances_qk, distances_qk, rtol=1e-6)
    assert (np.diff(found.distances_qk, axis=1) >= 0).all()
    is_same_q = (found.indices_qk == true.indices_qk).all(axis=1)
    assert is_same_q.mean() > 0.8


def test_an_exact_search_by_blocks_is_that_in_memory(lazy_nf, flat, features_nf):
    found, true = DiskIndex(lazy_nf, None).search(features_nf[5:9], K), flat.search(features_nf[5:9], K)
    np.testing.assert_array_equal(found.indices_qk, true.indices_qk)
    np.testing.assert_array_equal(found.distances_qk, true.distances_qk)


def test_where_cells_hold_too_few_the_exact_search_answers(lazy_nf, folder, flat, features_nf):
    import faiss

    index = DiskIndex(lazy_nf, folder)
    faiss.extract_index_ivf(index._index).nprobe = 1
    found = index.search(features_nf[:2], 3000)
    np.testing.assert_array_equal(found.indices_qk, flat.search(features_nf[:2], 3000).indices_qk)


def test_the_synapse_itself_is_left_out(index):
    rows_q = np.array([4, 4800])
    found = index.neighbours_of_rows(rows_q, 3)
    assert (found.indices_qk != rows_q[:, None]).all()
    with pytest.raises(SynapseCLRError, match="5001 neighbours asked for, but there are 5000 synapses"):
        index.search(np.zeros((1, F)), N + 1)


def test_an_interrupted_building_goes_on_and_ends_the_same(lazy_nf, folder, tmp_path, monkeypatch):
    written, write_pass = [], disk_index._write_pass

    def killed_in_the_second(features, blocks, trained, part, name):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(part.name)
        write_pass(features, blocks, trained, part, name)

    with monkeypatch.context() as patch:
        patch.setattr(disk_index, "_write_pass", killed_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            build_disk_index(lazy_nf, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "index.building").glob("*.faiss")}
    assert sorted(path.name for path in kept) == ["pass-00000.faiss", "trained.faiss"]

    def noting(features, blocks, trained, part, name):
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        written.append(part.name)
        write_pass(features, blocks, trained, part, name)

    monkeypatch.setattr(disk_index, "_write_pass", noting)
    build_disk_index(lazy_nf, tmp_path / "index")
    assert written == ["pass-00000.faiss", "pass-00001.faiss"]
    assert not (tmp_path / "index.building").exists()
    for name in ("lists.ivfdata", "plan.json"):
        assert (tmp_path / "index" / name).read_bytes() == (folder / name).read_bytes()


def test_an_index_is_used_again_by_features_that_it_is_of(lazy_nf, features_nf, folder, index):
    before = (folder / "lists.ivfdata").stat().st_mtime_ns
    again = open_index(features_nf, "ivfpq", folder, "features")  # the same ones, in memory
    assert (folder / "lists.ivfdata").stat().st_mtime_ns == before
    query_qf = features_nf[:3]
    np.testing.assert_array_equal(again.search(query_qf, K).indices_qk, index.search(query_qf, K).indices_qk)
    assert not is_index_of(lazy_nf + 1, folder)
    with pytest.raises(SynapseCLRError, match="is no index of these features"):
        DiskIndex(lazy_nf + 1, folder)


def test_other_features_get_an_index_of_their_own(tmp_path, features_nf):
    few_nf = features_nf[:300, :5]  # fewer than a codebook has entries, and than components come in
    build_disk_index(few_nf, tmp_path / "index")
    (tmp_path / "index.building").mkdir()  # of a run that was killed before it had a plan
    other = open_index(few_nf + 1, "ivfpq", tmp_path / "index", "features")
    assert is_index_of(few_nf + 1, tmp_path / "index")
    assert measure_recall(other, 3) > 0.9
    (tmp_path / "cut").write_bytes(b"cut")
    (tmp_path / "cut").replace(tmp_path / "index/lists.ivfdata")  # `other` has the former file in its memory
    with pytest.raises(OutputError, match=r"lists.ivfdata is cut short"):
        open_index(few_nf + 1, "ivfpq", tmp_path / "index", "features")


def test_values_that_are_not_finite_are_refused(tmp_path, features_nf):
    wrong_nf = features_nf.copy()
    wrong_nf[4500, 2] = np.nan
    with pytest.raises(SynapseCLRError, match=r"Features of 'encoder.fc' are not finite for 1 of"):
        open_index(wrong_nf, "ivfpq", tmp_path / "index", "encoder.fc")


def test_the_place_of_an_index_follows_from_size(lazy_nf, features_nf, tmp_path):
    assert is_too_large(lazy_nf)
    assert not is_too_large(features_nf)
    assert is_too_large(np.broadcast_to(np.float32(0), (3_000_000, 1)))
    assert not is_too_large(np.broadcast_to(np.float32(0), (600_000, 1)))
    assert is_too_large(np.broadcast_to(np.float32(0), (600_000, 2**30)))  # 2 TB
    assert open_index(features_nf, "auto", tmp_path / "index", "").kind == "flat"
    assert open_index(lazy_nf, "ivf", tmp_path / "index", "").kind == "ivf"
    assert isinstance(open_index(lazy_nf, "flat", tmp_path / "index", ""), DiskIndex)
    assert not (tmp_path / "index").exists()


def test_in_a_bucket_the_index_is_temporary(features_nf, caplog):
    index = open_index(features_nf[:400], "ivfpq", "memory://run/feature_index", "features")
    assert index.search(features_nf[:1], 1).indices_qk.tolist() == [[0]]
    assert "deleted after the run" in caplog.text


def test_queries_are_answered_together_as_one_by_one(index, flat, features_nf):
    queries = [
        Query("one", np.array([3]), features_nf[[3]]),
        Query("three", np.array([1, 50, 99]), features_nf[[1, 50, 99]]),
        Query("outside", np.array([], dtype=int), features_nf[:1] + 0.1),
    ]
    rows_m = np.arange(0, N, 3)
    filtered = FeatureIndex(features_nf[rows_m], "flat")
    for query, found in zip(queries, index.answers(queries, 4, rows_m), strict=True):
        np.testing.assert_array_equal(found.indices_qk, answer_query(filtered, rows_m, query, 4).indices_qk)
    for query, found in zip(queries, index.answers(queries, 4), strict=True):
        true = answer_query(flat, None, query, 4)
        assert np.isin(found.indices_qk, true.indices_qk).mean() >= 0.75
        assert not np.isin(found.indices_qk, query.rows_e).any()
    every_point = Query("many", np.arange(40), features_nf[:40])
    (found,) = index.answers([every_point], 20)
    np.testing.assert_allclose(found.distances_qk, every_point.distances(features_nf[found.indices_qk[0]])[None])
    assert np.isin(found.indices_qk, answer_query(flat, None, every_point, 20).indices_qk).mean() > 0.9
    with pytest.raises(SynapseCLRError, match="3 neighbours asked for, but there are 2 other synapses"):
        index.answers(queries, 3, np.array([1, 3, 99]))


def test_distances_are_counted_by_block_as_in_memory(index, features_nf):
    queries = [Query("one", np.array([3]), features_nf[[3]]), Query("two", np.array([1, 6]), features_nf[[1, 6]])]
    for rows_m in (None, np.arange(0, N, 3)):
        lazy = distance_histograms(index.features_nf, rows_m, queries)
        pd.testing.assert_frame_equal(lazy, distance_histograms(features_nf, rows_m, queries))


def test_the_pipeline_takes_lazy_embeddings(lazy, folder):
    config = SimilarityConfig(n_neighbours=3, n_queries=2, n_listed=50, n_recall_queries=40)
    index = index_features(lazy, str(folder), config)
    table = find_neighbours(lazy, index, {}, config)
    assert 50 <= table["synapse_id"].nunique() <= 52
    assert table.groupby("is_drawn")["synapse_id"].nunique()[True] == 2
    recall, metrics = compare_indices(index, config)
    assert recall["index"].tolist() == ["ivfpq"]
    assert json.loads(json.dumps(metrics))["similarity/recall/ivfpq"] > 0.95
    filtered = config.model_copy(update={"filter": {"half": 1}, "query": (2**60 + 5, 2**60 + 6)})
    results, histograms = answer_queries(lazy, index, {}, filtered, NeuroglancerConfig())
    assert (results.loc[results["rank"] > 0, "synapse_id"] % 2 == 1).all()
    assert histograms.groupby("query", sort=False)["n_synapses"].sum().tolist() == [N // 2 - 1, N // 2]
