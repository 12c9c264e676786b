"""Cutting out of volumes in a bucket, into a store in a bucket: continued, verified, repaired."""

import gcsfs
import numpy as np
import pytest
from small_volumes import make_table, stream, write_volumes

from synapseclr.errors import VolumeError
from synapseclr.volumes import ChunkStore, write_chunk_store
from synapseclr.volumes.store.shards import record_key, shard_key
from synapseclr.volumes.store.verification import verify_chunk_store


@pytest.fixture(scope="module")
def table():
    return make_table()


def test_a_store_in_a_bucket_is_continued_verified_and_repaired(gcs_prefix, tmp_path, table):
    write_volumes(f"file://{tmp_path}")
    write_chunk_store(stream(f"file://{tmp_path}", table), str(tmp_path / "s.zarr"))
    expected = ChunkStore(str(tmp_path / "s.zarr"))
    write_volumes(gcs_prefix)
    url = f"{gcs_prefix}/s.zarr"
    source = stream(gcs_prefix, table)
    assert not source.batches.volumes[0].is_local
    object.__setattr__(source.batches, "write", interrupted_after_two(source.batches))
    with pytest.raises(RuntimeError, match="power cut"):
        write_chunk_store(source, url)
    with pytest.raises(VolumeError, match="is unfinished"):
        len(ChunkStore(url))
    cut = []
    source = stream(gcs_prefix, table)
    object.__setattr__(
        source.batches, "cut", lambda shard: cut.append(shard) or type(source.batches).cut(source.batches, shard)
    )
    write_chunk_store(source, url)
    assert cut == [2, 3, 4, 5]
    store = ChunkStore(url)
    assert store.sha256 == expected.sha256
    np.testing.assert_array_equal(store.read(slice(None)), expected.read(slice(None)))

    bucket = gcsfs.GCSFileSystem()
    data = bytearray(bucket.cat_file(f"{url}/{shard_key(3)}"))
    data[30] ^= 1
    bucket.pipe_file(f"{url}/{shard_key(3)}", bytes(data))
    with pytest.raises(VolumeError, match=rf"Synapse {store.synapse_id[12]} of .* {url} .*shard 3"):
        ChunkStore(url).read([12])
    (found,) = verify_chunk_store(url, repair=True).damaged
    assert found.synapse_ids == (store.synapse_id[12],)
    assert found.address == f"{url}/{shard_key(3)}"
    assert not bucket.exists(f"{url}/{record_key(3)}")
    write_chunk_store(stream(gcs_prefix, table), url)
    assert verify_chunk_store(url).is_intact
    assert ChunkStore(url).sha256 == expected.sha256


def interrupted_after_two(source):
    def write(shards, writer):
        for shard in shards[:2]:
            yield writer(shard, source.cut(shard))
        raise RuntimeError("power cut")

    return write
