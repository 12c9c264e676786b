"""Cutting out of shared storage blocks: the same chunks as one by one, each block decoded once, faults recorded."""

import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import ConfigurationError, TableError, VolumeError
from synapseclr.volumes import (
    ChunkStore,
    PrecomputedLayer,
    PreprocessingConfig,
    VolumeLayer,
    cut_chunks,
    write_chunk_store,
)
from synapseclr.volumes import write_precomputed as write
from synapseclr.volumes.cutting import runs
from synapseclr.volumes.layers import blocks
from synapseclr.volumes.layers.blocks import BlockCache
from synapseclr.volumes.preflight import check_inputs

sys.path.append(str(Path(__file__).parents[2] / "benchmarks/baselines"))
SHAPE, BLOCK, SIZE = (90, 80, 40), (32, 24, 8), (26, 21, 11)
N = 60
BIG = 648_518_346_349_500_000


def labels(rng, n, share):
    """Boxes of ids, large and small, over a background of zeros."""
    array = np.zeros(SHAPE, np.uint64)
    for label in range(1, n + 1):
        lower = rng.integers(0, SHAPE)
        array[tuple(slice(a, a + int(s)) for a, s in zip(lower, rng.integers(2, share, 3), strict=True))] = BIG + label
    return array


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Three volumes of random boxes, and a table with synapses inside, at the edge and where there is no cleft."""
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(1)
    em = rng.integers(0, 255, SHAPE).astype(np.uint8)
    em[em == 0] = 1
    em[:, :, 9] = 0
    em[:32, :24, :8] = 7  # a block of one intensity
    arrays = {"em": em, "segmentation": labels(rng, 60, 40), "clefts": labels(rng, 80, 7)}
    for name, array in arrays.items():
        write(array, f"file://{folder / name}", (16, 16, 40), "image" if name == "em" else "segmentation", BLOCK)
    centres = rng.integers(0, SHAPE, (N, 3))
    centres[0] = 0
    roots = BIG + rng.integers(1, 61, (N, 2))
    for row, centre in enumerate(centres):  # neurons that are really there
        roots[row, 0] = arrays["segmentation"][tuple(centre)] or roots[row, 0]
    table = pd.DataFrame({"id": rng.permutation(N) + 2**60, "pre_root_id": roots[:, 0], "post_root_id": roots[:, 1]})
    table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = centres.astype(float)
    return folder, table


def configuration(**changes):
    values = {
        "voxel_size_nm": (16, 16, 40),
        "chunk_size_vx": SIZE,
        "max_cleft_distance_nm": 150,
        "synapses_per_shard": 8,
    }
    return PreprocessingConfig(**(values | {"max_rejected_fraction": 0.9} | changes))


def stream(volumes, table=None, **changes):
    folder, whole_table = volumes
    layers = (PrecomputedLayer(f"file://{folder / name}", name) for name in ("em", "segmentation", "clefts"))
    return cut_chunks(*layers, whole_table if table is None else table, configuration(**changes))


def stored(a_stream, path):
    write_chunk_store(a_stream, str(path))
    return ChunkStore(str(path))


@pytest.fixture(scope="module")
def here(volumes, tmp_path_factory):
    return stored(stream(volumes), tmp_path_factory.mktemp("here") / "s.zarr")


def test_chunks_are_those_of_the_straightforward_way(volumes, here):
    from cloudvolume import CloudVolume
    from per_synapse_cutting import cut_synapse

    folder, table = volumes
    opened = [CloudVolume(f"file://{folder / name}", progress=False) for name in ("em", "segmentation", "clefts")]
    chunks = dict(zip(here.synapse_id.tolist(), here.read(slice(None)), strict=True))
    for synapse_id, pre, post, *centre in table.itertuples(index=False):
        expected = cut_synapse(opened, np.array(centre, np.int64), pre, post, configuration())
        if expected is None:
            assert "no labelled cleft lies within 150 nm" in here.rejected[synapse_id]
        else:
            np.testing.assert_array_equal(chunks[synapse_id], expected, err_msg=str(synapse_id))
    assert 20 < len(here) < N
    codes = np.bincount(np.concatenate([chunk[1].ravel() for chunk in chunks.values()]))
    assert (codes > 500).all()
    assert len(codes) == 4


def test_every_block_is_decoded_once(volumes, here, tmp_path):
    source = stream(volumes)
    assert stored(source, tmp_path / "s.zarr").sha256 == here.sha256
    n_blocks = int(np.prod(-(-np.array(SHAPE) // BLOCK)))
    for cache in (source.batches.cutter.em, source.batches.cutter.segmentation, source.batches.cutter.cleft):
        assert n_blocks / 2 < cache.n_decoded <= n_blocks


def test_a_cache_without_room_decodes_more_but_gives_the_same_chunks(volumes, here, tmp_path):
    source = stream(volumes, volume_cache_mb=0)
    store = stored(source, tmp_path / "s.zarr")
    assert source.batches.cutter.em.n_decoded > 100
    by_id = dict(zip(store.synapse_id.tolist(), store.read(slice(None)), strict=True))
    for synapse_id, chunk in zip(here.synapse_id.tolist(), here.read(slice(None)), strict=True):
        np.testing.assert_array_equal(by_id[synapse_id], chunk)


def test_blocks_beyond_the_capacity_are_let_go(volumes):
    layer = PrecomputedLayer(f"file://{volumes[0] / 'em'}").at_resolution((16, 16, 40))
    cache = BlockCache(layer, 0)
    everything = cache.indices(np.zeros(3, np.int64), np.array(SHAPE))
    assert sum(1 for _ in cache.blocks(everything)) == 3 * 4 * 5
    assert len(cache._blocks) == 1


def damage(volumes, tmp_path, name, change):
    """The volumes with one changed block of a layer; returns their folder and the block's name."""
    import shutil

    shutil.copytree(volumes[0], tmp_path / "volumes")
    block = sorted((tmp_path / "volumes" / name / "16_16_40").glob("32-64_24-48_8-16*"))[0]
    change(block)
    return (tmp_path / "volumes", volumes[1]), block


def touches_block(table):
    centre = table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]].to_numpy()
    lower = centre - np.array(SIZE) // 2
    return set(table["id"][((lower < (64, 48, 16)) & (lower + SIZE > (32, 24, 8))).all(axis=1)])


@pytest.mark.parametrize("name", ["em", "clefts"])
def test_synapses_of_a_missing_block_are_recorded_and_the_next_run_tries_them_again(volumes, here, tmp_path, name):
    broken, block = damage(volumes, tmp_path, name, lambda path: path.rename(tmp_path / path.name))
    store = stored(stream(broken), tmp_path / "s.zarr")
    lost = {key for key, reason in store.rejected.items() if "no labelled cleft" not in reason}
    expected = touches_block(volumes[1])
    assert lost == (expected - set(here.rejected) if name == "em" else expected)
    reason = store.rejected[next(iter(lost))]
    assert f"The {name} at file://" in reason
    assert "32-64_24-48_8-16" in reason
    (tmp_path / block.name).rename(block)
    assert stored(stream(broken), tmp_path / "s.zarr").sha256 == here.sha256


def test_a_damaged_block_is_tried_several_times_and_ends_the_run_above_the_allowed_fraction(
    volumes, here, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(blocks, "FIRST_PAUSE_S", 0.001)
    broken, _ = damage(volumes, tmp_path, "em", lambda path: path.write_bytes(b"no gzip"))
    ids = touches_block(volumes[1]) & set(here.synapse_id.tolist())
    table = volumes[1][volumes[1]["id"].isin(ids)]
    message = r"synapses had to be rejected.* em at file:///.*cannot be read .* 16_16_40/32-64_24-48_8-16"
    with caplog.at_level(logging.WARNING), pytest.raises(TableError, match=message):
        stored(stream(broken, table, max_rejected_fraction=0.0), tmp_path / "s.zarr")
    assert "Attempt 3 of 4" in caplog.text


def test_a_passing_fault_does_not_change_the_result(volumes, here, tmp_path, monkeypatch):
    from synapseclr.volumes.layers.layer import OpenLayer

    monkeypatch.setattr(blocks, "FIRST_PAUSE_S", 0.001)
    download, seen = OpenLayer.download, set()

    def unreliable(self, start, stop):
        block = (self.layer.role, *start.tolist())
        if block not in seen:
            seen.add(block)
            raise VolumeError("connection reset") from ConnectionResetError()
        return download(self, start, stop)

    monkeypatch.setattr(OpenLayer, "download", unreliable)
    assert stored(stream(volumes), tmp_path / "s.zarr").sha256 == here.sha256


def test_remote_volumes_are_fetched_ahead_with_the_same_result(volumes, here, tmp_path, monkeypatch):
    monkeypatch.setattr(VolumeLayer, "is_local", False)
    source = stream(volumes)
    assert stored(source, tmp_path / "s.zarr").sha256 == here.sha256
    assert source.batches.cutter.em.n_decoded <= 3 * 4 * 5


@pytest.mark.parametrize(
    "changes", [{"max_cleft_distance_nm": 149.0}, {"synapses_per_shard": 4}, {"cutout_zero_fraction": 0.5}]
)
def test_the_fingerprint_changes_with_the_parameters(volumes, changes):
    assert stream(volumes, **changes).batches.fingerprint != stream(volumes).batches.fingerprint


def test_the_fingerprint_changes_with_table_and_volumes_but_not_with_how_the_work_is_done(volumes):
    import os

    folder, table = volumes
    first = stream(volumes).batches.fingerprint
    assert stream(volumes, workers=3, read_attempts=9).batches.fingerprint == first
    assert stream(volumes, table.assign(pre_root_id=table["pre_root_id"] + 1)).batches.fingerprint != first
    os.utime(folder / "em/info", (1, 1))  # as if it had been written at another time
    assert stream(volumes).batches.fingerprint != first


def test_dask_gives_the_same_store(volumes, here, tmp_path):
    """Two workers of a scheduler, and after an interruption."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        changes = {"scheduler_address": cluster.scheduler_address}
        store = stored(stream(volumes, **changes), tmp_path / "s.zarr")
        assert store.sha256 == here.sha256
        assert store.rejected == here.rejected
        for path in (tmp_path / "s.zarr/chunks/record").glob("00000000[25]*"):
            path.unlink()
        again = stored(stream(volumes, **changes), tmp_path / "s.zarr")
    assert (again.sha256, again.rejected) == (here.sha256, here.rejected)


def test_workers_of_this_machine_give_the_same_store(volumes, here, tmp_path):
    assert stored(stream(volumes, workers=1), tmp_path / "s.zarr").sha256 == here.sha256


def test_no_scheduler_at_the_address_is_an_error_that_names_it(volumes, tmp_path, monkeypatch):
    monkeypatch.setattr("synapseclr.storage.dask_client.CONNECT_S", 0.5)
    with pytest.raises(ConfigurationError, match=r"No dask scheduler answers at .* = tcp://127.0.0.1:9"):
        stored(stream(volumes, scheduler_address="tcp://127.0.0.1:9"), tmp_path / "s.zarr")


def test_runs_are_consecutive_shards_several_a_worker():
    assert runs([0, 1, 2, 3, 6, 7], 1) == [range(0, 1), range(1, 2), range(2, 3), range(3, 4), range(6, 7), range(7, 8)]
    many = runs([*range(100), *range(200, 300)], 5)
    assert [shard for run in many for shard in run] == [*range(100), *range(200, 300)]
    assert {len(run) for run in many} == {10}
    assert max(len(run) for run in runs(range(10**5), 2)) == 256


@pytest.fixture
def own_ids(tiny_volume, tmp_path):
    """Clefts with the ids of their synapses, and one of no synapse that lies nearer to the centre of the first."""
    cleft = np.zeros((64, 48, 20), np.uint64)
    first, second = (int(i) + BIG for i in tiny_volume.synapses["id"])  # centres at x = 42 and x = 10
    cleft[46:50, 23:25, 9:12], cleft[8:12, 23:25, 9:12] = first, second
    cleft[42, 23, 10] = 5
    write(cleft, f"file://{tmp_path}/clefts", (16, 16, 40), "segmentation", (32, 32, 8))
    table = tiny_volume.synapses.assign(id=[first, second])
    return (tiny_volume.em, tiny_volume.segmentation, PrecomputedLayer(f"file://{tmp_path}/clefts", "clefts")), table


def matched(own_ids, config, table=None, **changes):
    layers, whole = own_ids
    source = cut_chunks(*layers, whole if table is None else table, config.model_copy(update=changes))
    batch = source.batches.cut(0)
    ids, cleft_ids = (batch.records[name].tolist() for name in ("synapse_id", "cleft_id"))
    return dict(zip(ids, cleft_ids, strict=True)), batch.rejected


def test_clefts_with_the_ids_of_their_synapses_are_matched_by_id(tiny_volume, own_ids):
    first, second = own_ids[1]["id"]
    assert matched(own_ids, tiny_volume.config) == ({first: 5, second: second}, {})
    assert matched(own_ids, tiny_volume.config, cleft_match="id") == ({first: first, second: second}, {})
    # another id: nothing to take by id, and auto takes the nearest
    moved = own_ids[1].assign(id=[first + 2, second])
    assert matched(own_ids, tiny_volume.config, moved, cleft_match="auto") == ({first + 2: 5, second: second}, {})
    by_id, rejected = matched(own_ids, tiny_volume.config, moved, cleft_match="id")
    assert by_id == {second: second}
    found = f"there is none of the id {first + 2} in its chunk"
    assert rejected == {first + 2: f"no labelled cleft lies within 150 nm of its centre; {found}"}


def test_the_check_says_which_matching_fits(tiny_volume, own_ids):
    layers, table = own_ids
    found = check_inputs(layers, table, table["id"], tiny_volume.config)
    assert (found.shares["own_cleft"].n, found.shares["own_cleft"].of) == (2, 2)
    assert any("Set preprocessing.cleft_match to id" in text for text in found.warnings)
    by_id = tiny_volume.config.model_copy(update={"cleft_match": "id"})
    assert not any("cleft" in text for text in check_inputs(layers, table, table["id"], by_id).warnings)
    unrelated = table.assign(id=[1, 2])
    quiet = check_inputs(layers, unrelated, table["id"], tiny_volume.config)
    assert not any("cleft_match" in text for text in quiet.warnings)
    wrong = check_inputs(layers, unrelated, unrelated["id"], by_id)
    assert any("set preprocessing.cleft_match to proximity" in text for text in wrong.errors)


def test_the_way_of_matching_is_part_of_what_determines_the_chunks(tiny_volume, own_ids):
    layers, table = own_ids
    found = {
        cut_chunks(*layers, table, tiny_volume.config.model_copy(update={"cleft_match": match})).batches.fingerprint
        for match in ("proximity", "id", "auto")
    }
    assert len(found) == 3
