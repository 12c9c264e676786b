import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import ConfigurationError, TableError, VolumeError
from synapseclr.storage.foreign_files import NpyFolder
from synapseclr.volumes import (
    ChunkSource,
    ChunkStore,
    PreprocessingConfig,
    check_synapse_table,
    import_chunks,
    write_chunk_store,
)

SIZE_VX = (24, 24, 6)
CONFIG = PreprocessingConfig(
    voxel_size_nm=(8, 8, 40), chunk_size_vx=SIZE_VX, synapses_per_shard=5, max_rejected_fraction=0.2
)


def stored(source, synapses, folder, config=CONFIG):
    url = str(folder / "chunks.zarr")
    write_chunk_store(import_chunks(source, check_synapse_table(synapses), config), url)
    return ChunkStore(url)


def processed(published):
    return ChunkSource("processed_chunks", published.chunks)


def test_published_chunks_are_stored_as_they_are_in_the_order_of_their_table(published, tmp_path):
    store = stored(processed(published), published.synapses, tmp_path)
    assert store.synapse_id.tolist() == published.meta["synapse_id"].tolist()
    np.testing.assert_array_equal(store.read(slice(None)), published.chunk_ncxyz)
    assert store.records["n_cutout_sections"].tolist() == published.meta["n_cutout_sections"].tolist()
    assert store.rejected == {}


def test_an_interrupted_import_is_continued_without_reading_again(published, tmp_path, monkeypatch):
    real, asked = NpyFolder.bytes_of, []

    def bytes_of(folder, name):
        asked.append(name)
        if name == published.meta["filename"][7] and len(asked) < 20:
            raise VolumeError("the connection broke")
        return real(folder, name)

    monkeypatch.setattr(NpyFolder, "bytes_of", bytes_of)
    with pytest.raises(VolumeError, match="the connection broke"):
        stored(processed(published), published.synapses, tmp_path)
    asked.extend([""] * 20)
    store = stored(processed(published), published.synapses, tmp_path)
    np.testing.assert_array_equal(store.read(slice(None)), published.chunk_ncxyz)
    assert asked.count(published.meta["filename"][0]) == 1


def test_a_damaged_and_a_missing_file_are_rejected_by_name(published, tmp_path):
    names = published.meta["filename"]
    damaged, missing = Path(published.chunks) / names[2], Path(published.chunks) / names[7]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    missing.unlink()
    store = stored(processed(published), published.synapses, tmp_path)
    ids = published.meta["synapse_id"]
    assert set(store.rejected) == {ids[2], ids[7]}
    assert f"{names[2]} (1000 bytes) is no .npy file that can be read: it is truncated" in store.rejected[ids[2]]
    assert f"{names[7]} does not exist" in store.rejected[ids[7]]
    np.testing.assert_array_equal(store.read(slice(None)), np.delete(published.chunk_ncxyz, [2, 7], axis=0))


def test_a_file_of_another_synapse_is_found_by_its_volumes(published, tmp_path):
    names = published.meta["filename"]
    published.put_array(f"{published.chunks}/{names[4]}", published.chunk_ncxyz[5])
    store = stored(processed(published), published.synapses, tmp_path)
    assert "but meta.csv says" in store.rejected[published.meta["synapse_id"][4]]


def test_a_chunk_whose_synapse_the_table_lacks_is_rejected(published, tmp_path):
    known = published.synapses[published.synapses["id"] != published.meta["synapse_id"][0]]
    store = stored(processed(published), known, tmp_path)
    assert "the synapse table does not have it" in store.rejected[published.meta["synapse_id"][0]]


def test_a_run_with_too_many_rejections_ends_with_the_first_reason(published, tmp_path):
    config = CONFIG.model_copy(update={"chunk_size_vx": (24, 24, 7)})
    with pytest.raises(TableError, match=r"5 of 12 chunks in .*expected uint8 \(2, 24, 24, 7\)"):
        stored(processed(published), published.synapses, tmp_path, config)


def test_a_folder_without_its_table_is_named(published, tmp_path):
    (Path(published.chunks) / "meta.csv").unlink()
    with pytest.raises(VolumeError, match=r"meta.csv does not exist"):
        stored(processed(published), published.synapses, tmp_path)


def test_a_synapse_twice_in_the_published_table_is_an_error(published, tmp_path):
    published.put_table(f"{published.chunks}/meta.csv", pd.concat([published.meta, published.meta[:1]]))
    with pytest.raises(TableError, match=r"meta.csv has synapse_id \d+ more than once"):
        stored(processed(published), published.synapses, tmp_path)


@pytest.fixture
def raw(published, tmp_path):
    """Larger raw chunks, of which the stored ones are the centre."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for synapse_id, chunk_cxyz in zip(published.meta["synapse_id"], published.chunk_ncxyz, strict=True):
        for channel, suffix in ((0, ""), (1, "_mask")):
            array = rng.integers(0, 3, (24, 24, 24), dtype=np.uint8)
            array[:, :, 9:15] = chunk_cxyz[channel]
            np.save(folder / f"{synapse_id}{suffix}.npy", array)
    return folder


def test_of_raw_chunks_the_central_sections_are_taken(published, raw, tmp_path):
    store = stored(ChunkSource("raw_chunks", str(raw)), published.synapses, tmp_path)
    np.testing.assert_array_equal(store.read(slice(None)), published.chunk_ncxyz)
    assert store.records["n_cutout_sections"].tolist() == published.meta["n_cutout_sections"].tolist()


def test_a_section_with_more_than_a_hundredth_of_zeros_is_blanked(published, raw, tmp_path):
    path = raw / f"{published.meta['synapse_id'][0]}.npy"
    array = np.maximum(np.load(path), 1)
    array[0, :5, 10] = 0  # 5 of 576 pixels
    array[0, :6, 11] = 0
    np.save(path, array)
    store = stored(ChunkSource("raw_chunks", str(raw)), published.synapses, tmp_path)
    chunk_xyz = store.read([0])[0, 0]
    assert store.records["n_cutout_sections"][0] == 1
    assert chunk_xyz[:, :, 1].any()
    assert not chunk_xyz[:, :, 2].any()


def test_an_image_without_mask_is_rejected(published, raw, tmp_path):
    synapse_id = int(published.meta["synapse_id"][6])
    (raw / f"{synapse_id}_mask.npy").unlink()
    store = stored(ChunkSource("raw_chunks", str(raw)), published.synapses, tmp_path)
    assert list(store.rejected) == [synapse_id]
    assert f"{synapse_id}_mask.npy does not exist" in store.rejected[synapse_id]


def test_other_objects_come_in_through_a_table_of_mask_codes(published, raw, tmp_path):
    source = ChunkSource("raw_chunks", str(raw), mask_codes={0: "background", 1: "background", 2: "synaptic_cleft"})
    with pytest.raises(TableError, match=r"_mask.npy has the code 3, which the source's mask_codes do not name"):
        stored(source, published.synapses, tmp_path)
    source = ChunkSource(
        "raw_chunks", str(raw), mask_codes={0: "background", 1: "background"} | dict.fromkeys((2, 3), "synaptic_cleft")
    )
    store = stored(source, published.synapses, tmp_path)
    np.testing.assert_array_equal(store.read(slice(None))[:, 1] == 2, published.chunk_ncxyz[:, 1] >= 2)


def test_an_unknown_kind_of_source_is_refused():
    with pytest.raises(ConfigurationError, match="Choose one of: volumes, processed_chunks, raw_chunks"):
        ChunkSource("npy", "folder")


def npy(header, content=b""):
    """A `.npy` file of version 1.0 with any header."""
    text = header.encode() + b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def described(shape, dtype="|u1"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


def npz():
    import io

    stream = io.BytesIO()
    np.savez(stream, np.zeros((24, 24, 24), np.uint8))
    return stream.getvalue()


BAD = {
    "an npz": (npz(), "an .npz archive"),
    "an absurd shape": (npy(described((10**6, 10**6, 10**6)), b"1234"), r"uint8 \(1000000, 1000000, 1000000\) takes"),
    "a negative shape": (npy(described((-1, 24, 24)), b"1234"), "gives the shape"),
    "a nested header": (npy("(" * 9000), "its header is damaged"),
    "a header that is no dictionary": (npy("[1, 2]"), "its header is damaged"),
    "more than it says": (npy(described((24, 24, 24)), b"\0" * 20000), "it is too long"),
    "objects": (npy(described((1,), "|O"), b"cos\nsystem\n"), "pickled objects"),
    "an unknown version": (b"\x93NUMPY\x09\x00" + b"\0" * 100, "format version 9.0"),
    "a text": (b"id,x\n1,2\n", "no .npy file"),
    "nothing": (b"", "no .npy file"),
    "a scalar": (npy(described(()), b"1"), r"has the shape \(\)"),
}


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_files_that_are_no_arrays_are_rejected_and_listed_and_never_end_an_import(published, raw, tmp_path, suffix):
    import re

    for synapse_id, (content, _) in zip(published.meta["synapse_id"], BAD.values(), strict=False):
        (raw / f"{synapse_id}{suffix}.npy").write_bytes(content)
    config = CONFIG.model_copy(update={"max_rejected_fraction": 1.0})
    store = stored(ChunkSource("raw_chunks", str(raw)), published.synapses, tmp_path, config)
    assert len(store) == len(published.meta) - len(BAD)
    for synapse_id, (_, reason) in zip(published.meta["synapse_id"], BAD.values(), strict=False):
        assert f"{synapse_id}{suffix}.npy" in store.rejected[synapse_id]
        assert re.search(f"{reason}|, and {synapse_id}_mask.npy", store.rejected[synapse_id])


def test_a_file_far_larger_than_a_chunk_is_not_read(published, raw, tmp_path):
    synapse_id = int(published.meta["synapse_id"][0])
    with (raw / f"{synapse_id}.npy").open("r+b") as file:
        file.truncate(2**31)  # sparse: takes no room on the disk
    store = stored(ChunkSource("raw_chunks", str(raw)), published.synapses, tmp_path)
    assert "has 2147483648 bytes; at most 1073741824" in store.rejected[synapse_id]
    name = published.meta["filename"][1]
    with (Path(published.chunks) / name).open("r+b") as file:
        file.truncate(2**31)
    source = processed(published)
    (tmp_path / "processed").mkdir()
    store = stored(source, published.synapses, tmp_path / "processed")
    assert "has 2147483648 bytes; at most" in store.rejected[int(published.meta["synapse_id"][1])]


@pytest.mark.parametrize("later_ns", [1_000_000, -3600 * 10**9], ids=["within a second", "clock set back"])
def test_a_raw_chunk_replaced_under_the_same_name_is_imported_again(published, raw, tmp_path, later_ns):
    import os

    source = ChunkSource("raw_chunks", str(raw))
    first = stored(source, published.synapses, tmp_path).sha256
    path = raw / f"{published.meta['synapse_id'][0]}.npy"
    written = path.stat()
    changed = np.maximum(np.load(path), 1)
    changed[:, :, 9:15] = 77
    np.save(path, changed)
    assert path.stat().st_size == written.st_size
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns + later_ns))
    again = stored(source, published.synapses, tmp_path)
    assert again.sha256 != first
    assert (again.read([0])[0, 0] == 77).all()


def test_a_processed_chunk_replaced_under_the_same_name_is_imported_again(published, tmp_path):
    stored(processed(published), published.synapses, tmp_path)
    chunk_cxyz = published.chunk_ncxyz[0].copy()
    chunk_cxyz[0] = 77  # the masks, whose volumes meta.csv has, stay
    published.put_array(f"{published.chunks}/{published.meta['filename'][0]}", chunk_cxyz)
    assert (stored(processed(published), published.synapses, tmp_path).read([0])[0, 0] == 77).all()


def test_what_has_not_changed_is_not_read_again(published, raw, tmp_path, monkeypatch):
    source = ChunkSource("raw_chunks", str(raw))
    stored(source, published.synapses, tmp_path)
    monkeypatch.setattr(NpyFolder, "bytes_of", lambda *_: pytest.fail("a file was read again"))
    stored(source, published.synapses, tmp_path)


def test_a_table_of_chunks_that_is_no_table_is_named(published, tmp_path):
    (Path(published.chunks) / "meta.csv").write_bytes(b"")
    with pytest.raises(VolumeError, match=r"meta.csv is no readable CSV table"):
        stored(processed(published), published.synapses, tmp_path)


def test_versions_in_a_bucket_are_told_by_what_the_store_says_of_them():
    from synapseclr.storage.object_folder import object_version

    first = {"name": "b/1.npy", "size": 9, "etag": "abc", "generation": "1", "type": "file"}
    assert object_version(first) == object_version(dict(first, name="b/2.npy"))
    for change in ({"size": 8}, {"etag": "abd"}, {"generation": "2"}):
        assert object_version(first | change) != object_version(first)


def test_threads_that_read_do_not_share_an_index_of_pandas(published, tmp_path, monkeypatch):
    """Its table is made at the first question, and several threads that ask at once find it half made."""
    get_loc = pd.Index.get_loc

    def of_main_thread(index, key):
        assert threading.current_thread() is threading.main_thread()
        return get_loc(index, key)

    monkeypatch.setattr(pd.Index, "get_loc", of_main_thread)
    assert len(stored(processed(published), published.synapses, tmp_path)) == len(published.meta)
