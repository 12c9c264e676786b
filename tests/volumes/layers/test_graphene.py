import json

import numpy as np
import pandas as pd
import pytest
from cave_server import (
    CHUNKED_GRAPH,
    TOKEN,
    LoopbackCave,
    Table,
    Version,
    graph_info,
    root,
    serve,
    supervoxel,
    synapses,
)
from kedro.io import DatasetError

from synapseclr.datasets import GrapheneVolumeDataset, PrecomputedVolumeDataset
from synapseclr.errors import ConfigurationError, UnreachableError, VolumeError
from synapseclr.volumes import check_synapse_table, cut_chunks, write_precomputed
from synapseclr.volumes.layers.resampling import open_on_grid
from synapseclr.volumes.preflight import check_inputs
from synapseclr.volumes.root_versions import PROVENANCE, RootVersion

SIZE_NM = (16, 16, 40)
BEFORE, AFTER = 1_600_000_000.0, 1_700_000_000.0


@pytest.fixture(autouse=True)
def no_saved_token(tmp_path, monkeypatch):
    """CloudVolume looks for tokens in a folder that it knew when it was imported."""
    from cloudvolume import secrets

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(secrets, "CLOUD_VOLUME_DIR", str(tmp_path / "home"))
    monkeypatch.setattr(secrets, "CAVE_CREDENTIALS_CACHE", {})


@pytest.fixture
def supervoxels_xyz(tiny_volume):
    """Both neurites in pieces: supervoxels 1 to 4 are of the first one, 5 to 8 of the other."""
    pieces = np.zeros((64, 48, 20), np.uint64)
    for piece in range(4):
        pieces[16 * piece : 16 * piece + 16, :24] = supervoxel(1 + piece)
        pieces[16 * piece : 16 * piece + 16, 24:] = supervoxel(5 + piece)
    pieces[:, :, 0] = 0
    return pieces


@pytest.fixture
def cave(tmp_path, supervoxels_xyz):
    """A graph whose first neurite was split in two between both moments."""
    place = tmp_path / "watershed"
    write_precomputed(supervoxels_xyz, f"file://{place}", SIZE_NM, "segmentation", (32, 32, 8))
    info = graph_info(json.loads((place / "info").read_text()), f"precomputed://file://{place}")
    before = {int(supervoxel(n)): int(root(1 if n < 5 else 3)) for n in range(1, 9)}
    after = before | {int(supervoxel(n)): int(root(2, 1)) for n in (3, 4)}
    versions = {
        7: Version(pd.Timestamp(BEFORE, unit="s"), {"synapses": Table(synapses(5))}),
        8: Version(pd.Timestamp(AFTER, unit="s"), {"synapses": Table(synapses(5))}),
    }
    with serve(LoopbackCave(versions=versions, graph_info=info, roots=[(0.0, before), (AFTER - 1, after)])) as cave:
        yield cave


def dataset(cave, **changes):
    options = {
        "filepath": f"graphene://{cave.address}/segmentation/table/{CHUNKED_GRAPH}",
        "timestamp": BEFORE,
        "credentials": {"token": TOKEN},
    }
    return GrapheneVolumeDataset(**(options | changes))


def whole(layer):
    opened = layer.at_resolution(SIZE_NM)
    return opened.read(opened.lower_vx, opened.upper_vx - opened.lower_vx)


def flat(cave, supervoxels_xyz, moment):
    ids, where = np.unique(supervoxels_xyz, return_inverse=True)
    return cave.roots_at(ids, moment)[where].reshape(supervoxels_xyz.shape)


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_voxels_are_root_ids_of_the_moment(cave, supervoxels_xyz, moment):
    voxels = whole(dataset(cave, timestamp=moment).load())
    assert voxels.dtype == np.uint64
    np.testing.assert_array_equal(voxels, flat(cave, supervoxels_xyz, moment))
    assert set(np.unique(voxels)) == {0, *(int(root(n)) for n in (1, 3)), *([int(root(2, 1))] * (moment == AFTER))}
    assert not np.isin(supervoxels_xyz[supervoxels_xyz > 0], voxels).any()


def test_the_moment_may_be_that_of_a_version(cave, supervoxels_xyz):
    pytest.importorskip("caveclient", reason="the extra `cave` is not installed")
    options = {"timestamp": None, "datastack": cave.datastack, "server_address": cave.address}
    layer = dataset(cave, **options, materialization_version=8).load()
    np.testing.assert_array_equal(whole(layer), flat(cave, supervoxels_xyz, AFTER))
    assert layer.root_version.materialization_version == 8
    with pytest.raises(DatasetError, match=r"Version 9 .* does not exist; available are 8"):
        dataset(cave, **options, materialization_version=9).load()


def test_chunks_equal_those_of_a_flat_segmentation_of_the_same_moment(tiny_volume, cave, supervoxels_xyz, tmp_path):
    place = f"file://{tmp_path}/flat"
    write_precomputed(flat(cave, supervoxels_xyz, BEFORE), place, SIZE_NM, "segmentation", (32, 32, 8))
    table = tiny_volume.synapses.assign(
        pre_root_id=[int(root(1)), int(root(3))], post_root_id=[int(root(3)), int(root(1))]
    )
    cut = []
    for layer in (dataset(cave).load(), PrecomputedVolumeDataset(filepath=place, layer_type="segmentation").load()):
        batch = cut_chunks(tiny_volume.em, layer, tiny_volume.cleft, table, tiny_volume.config).batches.cut(0)
        cut.append(batch.chunk_ncxyz)
    np.testing.assert_array_equal(*cut)
    assert {1, 3} <= set(np.unique(cut[0][:, 1]))


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_table_and_segmentation_of_two_versions_are_refused_before_the_cutting(tiny_volume, cave, moment):
    table = tiny_volume.synapses.assign(
        pre_root_id=[int(root(1)), int(root(3))], post_root_id=[int(root(3)), int(root(1))]
    )
    made_at = pd.Timestamp(BEFORE, unit="s", tz="UTC").isoformat()
    table.attrs[PROVENANCE] = {"materialization_version": 7, "root_ids_at": made_at, "is_remapped": False}
    layers = (tiny_volume.em, dataset(cave, timestamp=moment).load(), tiny_volume.cleft)
    found = check_inputs(layers, check_synapse_table(table), pd.Series([7]), tiny_volume.config)
    assert found.document()["root_versions"]["synapse table"] == f"version 7 ({made_at})"
    assert str(pd.Timestamp(moment, unit="s").year) in found.root_versions["segmentation volume"]
    errors = " ".join(found.errors)
    if moment == BEFORE:
        assert "proofread" not in errors
        assert found.shares["without_either"].n == 0
    else:
        assert f"are those of version 7 ({made_at}), the segmentation volume at graphene://" in errors
        assert "Read both at one version, or set `timestamp: 2023-11-14T22:13:20+00:00`" in errors


def test_a_flat_segmentation_may_say_its_version(tiny_volume):
    table = check_synapse_table(tiny_volume.synapses)
    flat = PrecomputedVolumeDataset(
        filepath=tiny_volume.segmentation.uri, layer_type="segmentation", materialization_version=8
    ).load()
    for version, is_refused in ((7, True), (8, False)):
        table.attrs[PROVENANCE] = {"materialization_version": version}
        found = check_inputs((tiny_volume.em, flat, tiny_volume.cleft), table, pd.Series([7]), tiny_volume.config)
        assert any("`materialization_version: 8`" in text for text in found.errors) is is_refused
    table.attrs[PROVENANCE] |= {"is_remapped": True, "root_ids_at": "2024-01-01"}
    assert RootVersion.of_table(table.attrs).materialization_version is None


@pytest.mark.parametrize("size_nm", [(8.0, 8.0, 40.0), (15.0, 15.0, 50.0)])
def test_root_ids_are_resampled_as_those_of_a_flat_segmentation(cave, supervoxels_xyz, tmp_path, size_nm):
    place = f"file://{tmp_path}/flat"
    write_precomputed(flat(cave, supervoxels_xyz, AFTER), place, SIZE_NM, "segmentation", (32, 32, 8))
    read = []
    for layer in (
        dataset(cave, timestamp=AFTER).load(),
        PrecomputedVolumeDataset(filepath=place, layer_type="segmentation").load(),
    ):
        opened = open_on_grid(layer, size_nm, most_ratio=4.0, holds_ids=True)
        read.append(opened.read(opened.lower_vx, opened.upper_vx - opened.lower_vx))
    assert read[0].shape != supervoxels_xyz.shape
    np.testing.assert_array_equal(*read)


def test_another_moment_is_another_volume(cave):
    identities = {
        dataset(cave, timestamp=moment).load().at_resolution(SIZE_NM).identity() for moment in (BEFORE, AFTER)
    }
    assert len(identities) == 2


def test_no_moment_no_root_ids(cave):
    with pytest.raises(ConfigurationError, match="does not say as of when its root ids are"):
        dataset(cave, timestamp=None)
    with pytest.raises(ConfigurationError, match="does not say as of when"):
        dataset(cave, timestamp=None, materialization_version=8)
    with pytest.raises(ConfigurationError, match=r"is no chunked graph.*PrecomputedVolumeDataset"):
        dataset(cave, filepath="gs://bucket/flat")
    layer = PrecomputedVolumeDataset(filepath=dataset(cave)._filepath, layer_type="segmentation").load()
    with pytest.raises(VolumeError, match=r"its voxels hold supervoxels.*GrapheneVolumeDataset"):
        layer.at_resolution(SIZE_NM)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"credentials": None}, r"asks for a token, and there is none .*conf/local/credentials\.yml"),
        ({"credentials": {"token": "f" * 32}}, r"does not accept the token"),
        ({"filepath": f"graphene://http://127.0.0.1:9/segmentation/table/{CHUNKED_GRAPH}"}, r"127\.0\.0\.1:9"),
    ],
)
def test_a_graph_that_cannot_be_read_is_said_in_a_sentence(cave, changes, sentence):
    with pytest.raises(UnreachableError, match=sentence) as raised:
        dataset(cave, **changes).load().at_resolution(SIZE_NM)
    for token in (TOKEN, "f" * 32):
        assert token not in str(raised.value)


def test_no_handle_shows_its_token(cave):
    assert TOKEN not in f"{dataset(cave)._describe()}"
    assert TOKEN not in repr(dataset(cave).load())
