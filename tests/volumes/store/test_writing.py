"""Interrupted stores are continued; damaged ones are noticed."""

import errno
import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from synapseclr.errors import OutputError, TableError, VolumeError
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.shard_reading import zarr_reader
from synapseclr.volumes.store.shards import ChunkBatch, ShardSource, record_key, shard_key

SIZE, SHARD, N = (6, 5, 4), 4, 15
REJECTED = {5: "no cleft", 12: "outside", 13: "outside", 14: "outside"}  # one in the middle, and most of the last shard
CHUNKS = np.random.default_rng(0).integers(1, 255, (N, 2, *SIZE)).astype(np.uint8)


@dataclass
class Source(ShardSource):
    """Chunks 0 to 14, some rejected; keeps account of what was cut, and fails when it is told to."""

    fingerprint: str = "one"
    fails_after: int = 99
    unreadable: tuple[int, ...] = ()
    cut_shards: list[int] = field(default_factory=list)
    n_shards: int = -(-N // SHARD)
    n_synapses: int = N

    def cut(self, shard):
        if len(self.cut_shards) == self.fails_after:
            raise RuntimeError("power cut")
        self.cut_shards.append(shard)
        rows = range(shard * SHARD, min((shard + 1) * SHARD, N))
        stored = np.array([row for row in rows if row not in REJECTED and row not in self.unreadable], np.int64)
        rejected = {row: REJECTED.get(row, "unreadable") for row in rows if row not in stored}
        zeros = np.zeros(len(stored))
        records = {"synapse_id": stored, "cleft_id": stored + 100, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
        failed = tuple(row for row in rejected if row in self.unreadable)
        return ChunkBatch(CHUNKS[stored], records, rejected, failed)

    def check(self, rejected, failed=()):
        if len(rejected) > 8:
            raise TableError("too many")


def write(source, url):
    options = {"auto_mkdir": True} if "://" in str(url) else None
    write_chunk_store(ChunkStream(source, SIZE, (16, 16, 40), SHARD), str(url), options)
    return source


def objects(url):
    return {p.relative_to(url).as_posix(): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that was written without interruption."""
    url = tmp_path_factory.mktemp("whole") / "s.zarr"
    write(Source(), url)
    return url


def test_rejected_synapses_leave_no_chunk_and_move_no_other_one(whole):
    store = ChunkStore(str(whole))
    kept = [row for row in range(N) if row not in REJECTED]
    assert store.synapse_id.tolist() == kept
    np.testing.assert_array_equal(store.read(slice(None)), CHUNKS[kept])
    np.testing.assert_array_equal(store.read([-1, 5]), CHUNKS[[11, 6]])
    assert store.rejected == REJECTED


@pytest.mark.parametrize("n_done", range(4))
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_an_interrupted_store_is_continued_and_equals_a_whole_one(whole, tmp_path, n_done, prefix):
    url = f"{prefix}{tmp_path}/s.zarr"
    with pytest.raises(RuntimeError, match="power cut"):
        write(Source(fails_after=n_done), url)
    assert write(Source(), url).cut_shards == list(range(n_done, 4))
    assert objects(tmp_path / "s.zarr") == objects(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("n_done", range(0, 9, 2))
def test_a_disk_that_fills_up_ends_in_a_sentence_and_what_is_there_is_continued(whole, tmp_path, n_done, monkeypatch):
    left = [n_done]

    def fill(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        left[0] -= not is_folder
        if left[0] < is_folder:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("synapseclr.storage.atomic_files.os.fsync", fill)
    with pytest.raises(OutputError, match=r"s\.zarr.* cannot be written \(No space left on device\)\. .* Make room"):
        write(Source(), tmp_path / "s.zarr")
    monkeypatch.undo()
    assert write(Source(), tmp_path / "s.zarr").cut_shards == list(range(n_done // 2, 4))
    assert objects(tmp_path / "s.zarr") == objects(whole)


def test_a_folder_that_takes_no_store_ends_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/s\.zarr cannot be written \(Not a directory\)"):
        write(Source(), tmp_path / "file/s.zarr")


@pytest.mark.parametrize("lost", [record_key(1), "chunks/partial/0123"])
def test_a_shard_that_was_not_recorded_is_cut_again(whole, tmp_path, lost):
    """Killed after the shard was written, or in the midst of it."""
    with pytest.raises(RuntimeError, match="power cut"):
        write(Source(fails_after=2), tmp_path / "s.zarr")
    partial = tmp_path / "s.zarr.partial"
    (partial / record_key(1)).unlink()
    if lost != record_key(1):
        (partial / lost).parent.mkdir(exist_ok=True)
        (partial / shard_key(1)).rename(partial / lost)
    assert write(Source(), tmp_path / "s.zarr").cut_shards == [1, 2, 3]
    assert objects(tmp_path / "s.zarr") == objects(whole)


def test_a_record_of_which_a_byte_has_changed_does_not_count(whole, tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        write(Source(fails_after=2), tmp_path / "s.zarr")
    path = tmp_path / "s.zarr.partial" / record_key(0)
    path.write_bytes(path.read_bytes().replace(b'"synapse_id":[0,', b'"synapse_id":[9,'))
    assert write(Source(), tmp_path / "s.zarr").cut_shards == [0, 2, 3]
    assert objects(tmp_path / "s.zarr") == objects(whole)


def test_a_store_of_other_inputs_is_begun_anew(whole, tmp_path, caplog):
    with pytest.raises(RuntimeError, match="power cut"):
        write(Source(fingerprint="other", fails_after=2), tmp_path / "s.zarr")
    with caplog.at_level(logging.INFO):
        assert write(Source(), tmp_path / "s.zarr").cut_shards == [0, 1, 2, 3]
    assert "is of other inputs, parameters or codecs; it is begun anew" in caplog.text
    assert objects(tmp_path / "s.zarr") == objects(whole)


def test_shards_of_two_codecs_are_never_mixed(whole, tmp_path, monkeypatch):
    from zarr.codecs import BloscCodec

    other = BloscCodec(cname="zlib", shuffle="shuffle")
    with monkeypatch.context() as patch:
        patch.setattr("synapseclr.volumes.store.shards.chunk_codec", lambda: other)
        with pytest.raises(RuntimeError, match="power cut"):
            write(Source(fails_after=2), tmp_path / "s.zarr")
    assert write(Source(), tmp_path / "s.zarr").cut_shards == [0, 1, 2, 3]
    assert objects(tmp_path / "s.zarr") == objects(whole)


def test_a_complete_store_is_not_cut_again_but_one_of_other_inputs_is(tmp_path, caplog):
    write(Source(), tmp_path / "s.zarr")
    with caplog.at_level(logging.INFO):
        assert write(Source(), tmp_path / "s.zarr").cut_shards == []
    assert "none is cut again" in caplog.text
    assert write(Source(fingerprint="other"), tmp_path / "s.zarr").cut_shards == [0, 1, 2, 3]


def test_what_could_not_be_read_is_tried_again_by_the_next_run(whole, tmp_path):
    write(Source(unreadable=(2, 9)), tmp_path / "s.zarr")
    assert set(ChunkStore(str(tmp_path / "s.zarr")).rejected) == {*REJECTED, 2, 9}
    assert write(Source(), tmp_path / "s.zarr").cut_shards == [0, 2]
    assert objects(tmp_path / "s.zarr") == objects(whole)


def test_too_many_rejections_end_the_run_at_once_and_keep_what_was_done(tmp_path):
    source = Source(unreadable=tuple(range(9)))
    with pytest.raises(TableError, match="too many"):
        write(source, tmp_path / "s.zarr")
    assert source.cut_shards == [0, 1, 2]
    assert not (tmp_path / "s.zarr").exists()


def damaged(whole, tmp_path, key, offset):
    """A copy of the store with one byte of an object flipped."""
    for name, data in objects(whole).items():
        path = tmp_path / "s.zarr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    path = tmp_path / "s.zarr" / key
    changed = bytearray(path.read_bytes())
    changed[offset] ^= 1
    path.write_bytes(changed)
    return ChunkStore(str(tmp_path / "s.zarr"))


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_flipped_byte_is_found_when_its_chunk_is_read(whole, tmp_path, prefix):
    store = ChunkStore(prefix + damaged(whole, tmp_path, shard_key(2), 30).url)  # in the first chunk: synapse 8
    with pytest.raises(VolumeError, match=r"Synapse 8 of the chunk store .* is in shard 2 \(chunks/c/2/.*--repair"):
        store.read([0, 7, 9])
    np.testing.assert_array_equal(store.read([0, 8]), CHUNKS[[0, 9]])


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_missing_shard_is_not_read_as_black_chunks(whole, tmp_path, prefix):
    store = ChunkStore(prefix + damaged(whole, tmp_path, shard_key(1), 0).url)
    (tmp_path / "s.zarr" / shard_key(1)).unlink()
    with pytest.raises(VolumeError, match=r"Synapse 6 of the chunk store .* its shard is missing.* shard 1"):
        store.read([0, 5])


def test_plain_zarr_reads_the_store(whole):
    import zarr

    group = zarr.open_group(str(whole), mode="r")
    assert group["chunks"].shape == (3 * SHARD, 2, *SIZE)
    assert group["is_stored"][:].tolist() == [True] * 7 + [False] + [True] * 4
    np.testing.assert_array_equal(zarr_reader(group["chunks"])(np.array([6])), CHUNKS[[7]])
    assert {name for name, _ in group.members()} >= {"chunks", "synapse_id", "cleft_id", "chunk_sha256"}
