"""Annotation layers, read back by CloudVolume."""

import json

import numpy as np
import pytest
from cloudvolume.datasource.precomputed.annotation import PrecomputedAnnotationSource

from synapseclr.errors import TableError
from synapseclr.explorer.annotation_layer import MISSING_CLASS, Property, write_annotation_layer

N = 300
FIRST_ID, FIRST_ROOT = 2**60 + 1, 2**63 + 5


def _points(n=N):
    rng = np.random.default_rng(0)
    ids_n = FIRST_ID + rng.permutation(n)
    points_n3 = rng.uniform(0, (9000, 7000, 2000), (n, 3)).astype(np.float32)
    kinds = Property("kind", "kind of cell", rng.integers(0, 2, n).astype(np.uint8), ("spiny", "smooth"))
    sizes = Property("size", "cleft size", rng.normal(size=n).astype(np.float32))
    roots_n = np.uint64(FIRST_ROOT) + rng.integers(0, 4, n).astype(np.uint64)
    roots_n[3] = 0
    return ids_n, points_n3, [kinds, sizes], {"pre_root_id": roots_n, "post_root_id": np.arange(n) // 2 + 2**53}


def _opened(folder):
    return PrecomputedAnnotationSource(f"precomputed://file://{folder}")


def test_positions_properties_and_ids_are_read_back_exactly(tmp_path):
    ids_n, points_n3, properties, related = _points()
    write_annotation_layer(str(tmp_path / "layer"), ids_n, points_n3, properties, related)
    found = _opened(tmp_path / "layer").get_all()
    order = np.argsort(found.ids)
    expected = np.argsort(ids_n)
    np.testing.assert_array_equal(found.ids[order], ids_n[expected].astype(np.uint64))
    np.testing.assert_array_equal(found.geometry[order], points_n3[expected])
    np.testing.assert_array_equal(found.properties["size"][order], properties[1].values_n[expected])
    np.testing.assert_array_equal(found.properties["kind"][order], properties[0].values_n[expected])
    entry = json.loads((tmp_path / "layer/info").read_text())["properties"][1]
    assert entry["enum_labels"] == ["spiny", "smooth", "not known"]
    assert entry["enum_values"] == [0, 1, MISSING_CLASS]


def test_an_annotation_is_found_by_its_id_and_by_its_neurites(tmp_path):
    ids_n, points_n3, properties, related = _points()
    write_annotation_layer(str(tmp_path / "layer"), ids_n, points_n3, properties, related)
    layer = _opened(tmp_path / "layer")
    found = layer.get_by_id(int(ids_n[7]))
    np.testing.assert_array_equal(np.ravel(found.geometry), points_n3[7])
    roots = related["pre_root_id"]
    of_root = layer.get_by_relationship("pre_root_id", int(roots[7]))
    assert set(of_root.ids.tolist()) == set(ids_n[roots == roots[7]].tolist())


def test_cells_hold_no_more_than_their_limit_and_every_point_once(tmp_path):
    ids_n, points_n3, properties, related = _points(2000)
    write_annotation_layer(str(tmp_path / "layer"), ids_n, points_n3, properties, related, cell_limit=100)
    info = json.loads((tmp_path / "layer/info").read_text())
    assert len(info["spatial"]) > 2
    seen = []
    for level in info["spatial"]:
        assert np.prod(level["grid_shape"]) >= len(list((tmp_path / "layer" / level["key"]).iterdir()))
        for file in (tmp_path / "layer" / level["key"]).iterdir():
            n = int(np.frombuffer(file.read_bytes()[:8], "<u8")[0])
            assert n <= 1.2 * level["limit"]  # a draw at random is even on average
            cell_ids = np.frombuffer(file.read_bytes()[-8 * n :], "<u8").astype(np.int64)
            place = np.array(file.name.split("_"), dtype=int)
            lower = info["lower_bound"] + place * level["chunk_size"]
            points = points_n3[np.argsort(ids_n)][cell_ids - FIRST_ID]
            assert (points >= lower - 1e-2).all()
            assert (points <= lower + level["chunk_size"] + 1e-2).all()
            seen += cell_ids.tolist()
    assert sorted(seen) == sorted(ids_n.tolist())


def test_a_folder_with_files_and_points_without_a_place_are_refused(tmp_path):
    ids_n, points_n3, properties, related = _points()
    points_n3[5] = np.nan
    with pytest.raises(TableError, match=f"Synapse {ids_n[5]} has no position"):
        write_annotation_layer(str(tmp_path / "layer"), ids_n, points_n3, properties, related)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TableError, match="holds files already"):
        write_annotation_layer(str(tmp_path), ids_n, points_n3, properties, related)
    assert (tmp_path / "notes.txt").exists()
