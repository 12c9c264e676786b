"""What a chunk store consists of: its arrays and its shards.

A store is a Zarr v3 group. ``chunks`` has one inner chunk a synapse; every shard is filled from its start, and a shard
some of whose synapses could not be cut has empty places at its end, so that shards depend on each other in nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.storage.declared_sizes import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.objects import ObjectFolder

SCHEMA_VERSION = 2
CHANNELS = ["intensity", "segmentation"]
MASK_CODES = {"background": 0, "pre_synaptic_neuron": 1, "synaptic_cleft": 2, "post_synaptic_neuron": 3}
_LEVEL = 1


@dataclass(frozen=True)
class ShardLayout:
    """Shape and codecs of the shards.

    Attributes:
        chunk_size_vx: (x, y, z) of a chunk.
        synapses_per_shard: Chunks in one shard.
    """

    chunk_size_vx: tuple[int, int, int]
    synapses_per_shard: int

    def create_array(self, store: Any, n: int, path: str | None = None, codec: Any = None) -> Any:
        """Create the array ``chunks`` for n synapses in a Zarr store or group, if need be with another compressor."""
        import zarr
        from zarr.codecs import Crc32cCodec

        shape = (len(CHANNELS), *self.chunk_size_vx)
        options: dict[str, Any] = {
            "shape": (n, *shape),
            "chunks": (1, *shape),
            "shards": (self.synapses_per_shard, *shape),
            "dtype": "uint8",
            "compressors": [codec or chunk_codec(), Crc32cCodec()],
            "dimension_names": ["synapse", "channel", "x", "y", "z"],
        }
        if path is None:
            return zarr.create_array(store, zarr_format=3, **options)
        return store.create_array(path, **options)

    def is_of(self, folder: ObjectFolder) -> bool:
        """Whether a store's shards have this shape and these codecs."""
        from zarr.storage import MemoryStore

        objects: dict[str, Any] = {}
        self.create_array(MemoryStore(objects), 0)
        expected = json.loads(objects["zarr.json"].to_bytes())
        try:
            found = parse_json(folder.read("chunks/zarr.json"))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return False
        return all(found.get(name) == expected[name] for name in ("chunk_grid", "codecs", "data_type"))

    def encode(self, chunk_ncxyz: NDArray[np.uint8]) -> bytes:
        """Encode the chunks of one shard as the object that Zarr would store, in a third of its time; b"" for none.

        As in Zarr, a chunk of zeros is left out.
        """
        from crc32c import crc32c
        from numcodecs import blosc

        index = np.full((self.synapses_per_shard, 2), 2**64 - 1, "<u8")
        pieces: list[bytes] = []
        offset = 0
        for place, chunk_cxyz in enumerate(np.ascontiguousarray(chunk_ncxyz, np.uint8)):
            if chunk_cxyz.any():
                encoded = blosc.compress(chunk_cxyz, b"lz4hc", _LEVEL, shuffle=blosc.NOSHUFFLE, typesize=1)
                pieces += [encoded, crc32c(encoded).to_bytes(4, "little")]
                index[place] = offset, len(encoded) + 4
                offset += len(encoded) + 4
        tail = index.tobytes()
        return b"".join([*pieces, tail, crc32c(tail).to_bytes(4, "little")]) if pieces else b""

    def decode(self, data: bytes) -> Any:
        """Open the object of one shard as a Zarr array (synapses_per_shard, 2, x, y, z), decoded when it is indexed."""
        from zarr.core.buffer.cpu import Buffer
        from zarr.storage import MemoryStore

        objects: dict[str, Any] = {}
        array = self.create_array(MemoryStore(objects), self.synapses_per_shard)
        objects["c/0/0/0/0/0"] = Buffer.from_bytes(data)
        return array


def chunk_codec() -> Any:
    """The compressor of chunks, chosen by benchmarks/chunk_store.py.

    LZ4: about half the bytes of npy, read faster than npy; at higher levels it saves little more and is written at a
    third of the rate. Zstandard saves another tenth of npy's bytes, but is read at half the rate.
    """
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="lz4hc", clevel=_LEVEL, shuffle="noshuffle")


def shard_key(shard: int) -> str:
    """Key of a shard's object in the store."""
    return f"chunks/c/{shard}/0/0/0/0"
