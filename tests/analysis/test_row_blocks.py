"""Functions over blocks of rows: in memory, lazy, by workers; results that outlive an interruption."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr

from synapseclr.analysis.row_blocks import BlockResults, Moments, RowBlocks, RowBlocksConfig, sample_rows
from synapseclr.errors import OutputError, SynapseCLRError

N, F = 500, 5


@pytest.fixture(scope="module")
def features_nf():
    """Columns of very different means and spreads, the case in which sums of squares lose their digits."""
    drawn_nf = np.random.default_rng(0).normal(size=(N, F)) * [1, 10, 0.1, 1, 1] + [0, 1e4, -5, 0, 3]
    return drawn_nf.astype(np.float32)


@pytest.fixture
def config(tmp_path):
    return RowBlocksConfig(rows=60, folder=str(tmp_path / "blocks"))


def lazy(features_nf):
    return da.from_array(features_nf, chunks=(37, 2))


def length(block_nf, labels_n, exponent):
    return {"length": np.linalg.norm(block_nf, axis=1) ** exponent, "label": labels_n}


def failing(block_nf, place):
    """Count the calls in a folder, and fail at the fourth one as long as there is a file ``fails`` beside it."""
    place = Path(place)
    calls = place / "calls"
    calls.mkdir(exist_ok=True)
    n_calls = len(list(calls.iterdir()))
    if (place / "fails").exists() and n_calls == 3:
        raise ValueError("the fourth block")
    (calls / f"{n_calls}").touch()
    return {"sum": block_nf.sum(axis=1)}


def test_moments_of_blocks_are_those_of_all_rows(features_nf, config):
    exact_nf = features_nf.astype(np.float64)
    for array in (features_nf, lazy(features_nf)):
        with RowBlocks("moments", (array,), config) as blocks:
            moments = blocks.moments()
        np.testing.assert_allclose(moments.mean_f, exact_nf.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance_ff, np.cov(exact_nf.T, bias=True), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(moments.highest_f, exact_nf.max(axis=0))
        assert moments.n == N


def test_moments_merge_in_any_grouping(features_nf):
    whole = Moments.of(features_nf)
    parts = [Moments.of(part) for part in np.split(features_nf, [1, 80, 300])]
    merged = parts[0].merge(parts[1].merge(parts[2])).merge(parts[3])
    for one, other in zip(whole, merged, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_features_that_are_not_finite_are_counted(features_nf, config):
    spoilt_nf = features_nf.copy()
    spoilt_nf[[3, 200], 1] = np.nan, np.inf
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(SynapseCLRError, match="not finite for 2 of 500 synapses"),
        RowBlocks("moments", (lazy(spoilt_nf),), config) as blocks,
    ):
        blocks.moments()


def test_lazy_arrays_give_what_arrays_in_memory_give(features_nf, config):
    labels_n = np.arange(N)
    expected_n = np.linalg.norm(features_nf, axis=1) ** 2
    with RowBlocks("lengths", (lazy(features_nf), labels_n), config) as blocks:
        assert len(blocks) > 5
        found = blocks.map(length, description="Lengths", exponent=2)
        np.testing.assert_array_equal(found.column("label"), labels_n)
        np.testing.assert_allclose(found.column("length"), expected_n, rtol=1e-6)
        np.testing.assert_array_equal(found.lazy("length").compute(), found.columns()["length"])
    assert not list(Path(config.folder).rglob("*.npz"))
    here = RowBlocks("lengths", (features_nf, labels_n), config).map(length, 2, description="Lengths")
    np.testing.assert_allclose(here.column("length"), expected_n, rtol=1e-6)


def test_chosen_rows_come_in_their_order(features_nf, config):
    rows_m = sample_rows(N, 41, seed=3)
    assert len(np.unique(rows_m)) == 41
    found_mf, label_m = RowBlocks("sample", (lazy(features_nf), np.arange(N)), config).rows(rows_m)
    np.testing.assert_array_equal(found_mf, features_nf[rows_m])
    np.testing.assert_array_equal(label_m, rows_m)
    assert sample_rows(7, 41, seed=3).tolist() == [*range(7)]


def test_results_of_uneven_blocks_are_joined_in_their_order():
    rng = np.random.default_rng(0)
    parts = tuple(
        {"x": rng.random((n, 2)).astype(kind), "s": np.full(n, "a" * n)}
        for n, kind in ((1, "f4"), (5, "f4"), (0, "f4"), (3, "f8"))
    )
    found = BlockResults(parts).columns()
    for name, values in found.items():
        expected = np.concatenate([part[name] for part in parts])
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)


def test_few_rows_of_stored_features_are_read_without_going_over_all(features_nf, config, tmp_path, monkeypatch):
    stored = zarr.create_array(str(tmp_path / "a.zarr"), data=features_nf, chunks=(4, features_nf.shape[1]))
    blocks = RowBlocks("sample", (da.from_array(stored, chunks=(20, -1), inline_array=True), np.arange(N)), config)
    monkeypatch.setattr(RowBlocks, "map", lambda *_, **__: pytest.fail("all blocks were read"))
    rows_m = sample_rows(N, N // 10, seed=3)
    found_mf, label_m = blocks.rows(rows_m)
    np.testing.assert_array_equal(found_mf, features_nf[rows_m])
    np.testing.assert_array_equal(label_m, rows_m)


def test_a_second_run_goes_on_where_the_first_stopped(features_nf, config, tmp_path):
    config = config.model_copy(update={"threads": 1})
    (tmp_path / "fails").touch()
    with (
        pytest.raises(ValueError, match="fourth block"),
        RowBlocks("sums", (lazy(features_nf),), config) as blocks,
    ):
        blocks.map(failing, str(tmp_path), description="Sums")
    kept = len(list(Path(config.folder).rglob("*.npz")))
    assert kept == 3
    (tmp_path / "fails").unlink()
    with RowBlocks("sums", (lazy(features_nf),), config) as blocks:
        found_n = blocks.map(failing, str(tmp_path), description="Sums").column("sum")
    np.testing.assert_allclose(found_n, features_nf.sum(axis=1), rtol=1e-6)
    assert len(list((tmp_path / "calls").iterdir())) == len(blocks)  # no block was computed twice


def test_results_of_other_features_or_parameters_are_not_taken(features_nf, config):
    for array, exponent in ((features_nf, 1), (features_nf, 2), (features_nf + 1, 2)):
        blocks = RowBlocks("lengths", (lazy(array), np.arange(N)), config)  # never left: results stay
        found = blocks.map(length, exponent, description="Lengths")
        np.testing.assert_allclose(found.column("length"), np.linalg.norm(array, axis=1) ** exponent, rtol=1e-5)


def test_a_damaged_result_is_an_error_that_names_it(features_nf, config):
    blocks = RowBlocks("lengths", (lazy(features_nf), np.arange(N)), config)
    found = blocks.map(length, 1, description="Lengths")
    damaged = next(Path(config.folder).rglob("000002.npz"))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(OutputError, match=r"000002.npz, the result of a block, is damaged"):
        found.column("length")


def test_arrays_of_other_lengths_are_refused(features_nf):
    with pytest.raises(ValueError, match=r"different numbers of rows: \[3, 500\]"):
        RowBlocks("lengths", (features_nf, np.arange(3)))


def test_workers_of_dask_give_the_same_bits(features_nf, config):
    from distributed import LocalCluster

    with RowBlocks("moments", (lazy(features_nf),), config) as blocks:
        here = blocks.moments()
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        there = config.model_copy(update={"scheduler_address": cluster.scheduler_address})
        with RowBlocks("moments", (lazy(features_nf),), there) as blocks:
            for one, other in zip(here, blocks.moments(), strict=True):
                np.testing.assert_array_equal(one, other)
