"""Volumes in HDF5 files, as CREMI publishes them."""

import h5py
import numpy as np
import pytest

from synapseclr.datasets import Hdf5VolumeDataset
from synapseclr.errors import VolumeError
from synapseclr.volumes.layers.resampling import open_on_grid

SIZE_NM, BIG = (4.0, 4.0, 40.0), 2**63 + 1


@pytest.fixture
def cremi(tmp_path):
    """Raw data, and labels that begin two sections, three rows and one column further in."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "sample.hdf", "w") as file:
        raw = file.create_dataset("volumes/raw", data=rng.integers(0, 256, (6, 10, 12), np.uint8))
        labels = rng.integers(BIG, BIG + 9, (3, 5, 7), np.uint64)
        labels[0, 0, :3] = np.uint64(2**64 - 1), np.uint64(2**64 - 3), np.uint64(2**64 - 4)
        labels = file.create_dataset("volumes/labels/neuron_ids", data=labels, chunks=(2, 3, 4), compression="gzip")
        for array in (raw, labels):
            array.attrs["resolution"] = SIZE_NM[::-1]
        labels.attrs["offset"] = (80.0, 12.0, 4.0)
    return tmp_path / "sample.hdf"


def opened(path, array):
    return Hdf5VolumeDataset(filepath=str(path), array=array, role="volume").load().at_resolution(SIZE_NM)


def test_voxels_are_where_resolution_and_offset_put_them(cremi):
    em, labels = opened(cremi, "volumes/raw"), opened(cremi, "volumes/labels/neuron_ids")
    with h5py.File(cremi) as file:
        raw_zyx, labels_zyx = file["volumes/raw"][:], file["volumes/labels/neuron_ids"][:]
    assert (em.lower_vx.tolist(), em.upper_vx.tolist()) == ([0, 0, 0], [12, 10, 6])
    assert (labels.lower_vx.tolist(), labels.upper_vx.tolist()) == ([1, 3, 2], [8, 8, 5])
    assert (em.codec, labels.codec, labels.block_size_vx.tolist()) == ("raw", "gzip", [4, 3, 2])
    box = em.read(np.array([-1, 0, 1]), np.array([4, 5, 3]))
    np.testing.assert_array_equal(box[1:], raw_zyx.T[:3, :5, 1:4])
    assert not box[0].any()
    read = labels.read(np.array([1, 3, 2]), np.array([7, 5, 3]))
    np.testing.assert_array_equal(read[3:], labels_zyx.T[3:])
    assert read.dtype == np.uint64


def test_an_offset_between_two_voxels_counts_where_the_array_is_resampled(cremi):
    with h5py.File(cremi, "r+") as file:
        file["volumes/labels/neuron_ids"].attrs["offset"] = (70.0, 12.0, 5.0)
    layer = Hdf5VolumeDataset(filepath=str(cremi), array="volumes/labels/neuron_ids", role="volume").load()
    found = open_on_grid(layer, (4, 4, 35), 2, holds_ids=True)
    assert found.source.origin_nm.tolist() == [1, 0, -10]
    assert (found.lower_vx.tolist(), found.upper_vx.tolist()) == ([1, 3, 2], [8, 8, 5])  # 70 to 190 nm along z
    np.testing.assert_array_equal(found.nearest(2, 2, 5), [2, 3, 4])  # centres at 87.5, 122.5 and 157.5 nm


def test_ids_by_which_voxels_without_a_label_are_marked_are_background(cremi):
    read = opened(cremi, "volumes/labels/neuron_ids").read(np.array([1, 3, 2]), np.array([3, 1, 1]))
    assert read.ravel().tolist() == [0, 0, 2**64 - 4]


def test_a_file_that_is_written_anew_is_another_volume(cremi):
    before = opened(cremi, "volumes/raw").identity()
    assert opened(cremi, "volumes/raw").identity() == before
    assert opened(cremi, "volumes/labels/neuron_ids").identity() != before
    with h5py.File(cremi, "a") as file:
        file["volumes/raw"].attrs["offset"] = (40.0, 0.0, 0.0)
    assert opened(cremi, "volumes/raw").identity() != before


def test_what_is_missing_is_named(cremi, tmp_path):
    with pytest.raises(VolumeError, match=r"has no array volumes/clefts .* the file holds volumes"):
        opened(cremi, "volumes/clefts")
    with pytest.raises(VolumeError, match=r"absent\.hdf cannot be opened .* Check the path"):
        opened(tmp_path / "absent.hdf", "volumes/raw")
    (tmp_path / "text.hdf").write_text("no volume")
    with pytest.raises(VolumeError, match=r"text\.hdf cannot be opened .* Expected an HDF5 file"):
        opened(tmp_path / "text.hdf", "volumes/raw")
