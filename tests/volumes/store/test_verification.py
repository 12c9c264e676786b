import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from synapseclr.cli import cli
from synapseclr.errors import VolumeError
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.shards import ChunkBatch, ShardSource, record_key, shard_key
from synapseclr.volumes.store.verification import verify_chunk_store

SIZE, SHARD, N = (6, 5, 4), 4, 11
CHUNKS = np.random.default_rng(0).integers(1, 255, (N, 2, *SIZE)).astype(np.uint8)


class Source(ShardSource):
    fingerprint, n_shards, n_synapses = "one", 3, N

    def __init__(self):
        self.cut_shards = []

    def cut(self, shard):
        self.cut_shards.append(shard)
        ids = np.arange(N)[shard * SHARD : (shard + 1) * SHARD]
        zeros = np.zeros(len(ids))
        records = {"synapse_id": ids, "cleft_id": zeros, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
        return ChunkBatch(CHUNKS[ids], records)


@pytest.fixture
def url(tmp_path):
    path = tmp_path / "s.zarr"
    write_chunk_store(ChunkStream(Source(), SIZE, (16, 16, 40), SHARD), str(path))
    return path


def flip(path: Path, offset: int):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def verify(*arguments):
    return CliRunner().invoke(cli, ["synapseclr", "chunks", "verify", *map(str, arguments)])


def test_an_intact_store_passes(url):
    found = verify_chunk_store(str(url))
    assert found.is_intact
    assert (found.n_shards, found.n_synapses, found.is_complete) == (3, N, True)
    done = verify("--store", url)
    assert done.exit_code == 0
    assert "3 shards, 0 damaged, 11 synapses intact" in done.output


def test_every_single_flipped_byte_of_a_shard_is_found_and_names_what_is_lost(url):
    size = (url / shard_key(1)).stat().st_size
    for offset in range(0, size, 7):
        flip(url / shard_key(1), offset)
        (found,) = verify_chunk_store(str(url)).damaged
        flip(url / shard_key(1), offset)
        assert found.shard == 1
        # its index is at the end, without which no chunk can be found
        assert set(found.synapse_ids) <= {4, 5, 6, 7}
        assert len(found.synapse_ids) == (1 if offset < size - 4 * 16 - 4 else 4)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda url: (url / shard_key(2)).unlink(), r"chunks/c/2/0/0/0/0\) is missing\. Lost: 8, 9, 10"),
        (lambda url: flip(url / record_key(2), 120), r"000000002\.json\) has a damaged record"),
        (lambda url: (url / record_key(2)).unlink(), r"000000002\.json\) has lost its record"),
        (lambda url: (url / shard_key(2)).write_bytes(b""), r"has changed since it was written\. Lost: 8, 9, 10"),
    ],
)
def test_a_damaged_shard_is_named_and_after_the_repair_only_it_is_cut_again(url, tmp_path, damage, reason):
    shutil.copytree(url, tmp_path / "as_it_was")
    damage(url)
    done = verify("--store", url)
    assert done.exit_code == 1
    assert re.search(reason, done.output)
    assert verify("--store", url, "--repair").exit_code == 1
    with pytest.raises(VolumeError, match="is unfinished"):
        len(ChunkStore(str(url)))
    assert "(unfinished): 2 shards, 0 damaged, 8 synapses intact" in verify("--store", url).output
    source = Source()
    write_chunk_store(ChunkStream(source, SIZE, (16, 16, 40), SHARD), str(url))
    assert source.cut_shards == [2]
    assert verify("--store", url).exit_code == 0
    assert ChunkStore(str(url)).sha256 == ChunkStore(str(tmp_path / "as_it_was")).sha256


@pytest.mark.parametrize("name", ["synapse_id", "chunk_sha256"])
def test_a_damaged_array_is_named_and_written_anew(url, name):
    (data,) = (url / name / "c").rglob("0") if name == "synapse_id" else [url / name / "c/0/0"]
    flip(data, 20)
    done = verify("--store", url)
    assert done.exit_code == 1
    assert f"The array {name} differs" in done.output
    verify("--store", url, "--repair")
    assert verify("--store", url).exit_code == 0
    np.testing.assert_array_equal(ChunkStore(str(url)).synapse_id, np.arange(N))


def test_a_folder_without_a_store_is_an_error(tmp_path):
    done = verify("--store", tmp_path / "nothing.zarr")
    assert done.exit_code == 1
    assert "A chunk store of schema version 2 was expected at" in done.output


def test_the_catalogs_store_is_checked_by_kedros_command_line(demo):
    command = [sys.executable, "-m", "kedro", "synapseclr", "chunks", "verify", "--env=test"]
    command.append(f"--params=data_root={demo.root}")
    done = subprocess.run(command, env=demo.variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{demo.root}/02_intermediate/synapse_chunks.zarr (complete)" in done.stdout
