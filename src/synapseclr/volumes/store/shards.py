"""The shards of a chunk store: layout and codecs, the record kept of each, and the sources that make them.

A store is a Zarr v3 group. ``chunks`` has one inner chunk a synapse; every shard is filled from its start, and a shard
some of whose synapses could not be cut has empty places at its end, so that shards depend on each other in nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.storage.foreign_files import parse_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synapseclr.storage.object_folder import ObjectFolder


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
        """Tell whether a store's shards have this shape and these codecs."""
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


RECORD_DTYPES = {"synapse_id": "int64", "cleft_id": "uint64", "n_cutout_sections": "int32", "n_padded_voxels": "int64"}
RECORD_FOLDER = "chunks/record"


@dataclass(frozen=True)
class ShardRecord:
    """Record of a stored shard.

    Attributes:
        shard: Its number.
        columns: The per-synapse columns of :data:`RECORD_DTYPES`, in the order of the shard.
        chunk_sha256: Digest of the voxels of every synapse, hexadecimal.
        sha256: Digest of the shard object, hexadecimal; empty if the shard has no chunk and hence no object.
        rejected: Reason by id, of synapses without a chunk.
        failed: Those of ``rejected`` that a later run tries again.
    """

    shard: int
    columns: dict[str, list[int]]
    chunk_sha256: list[str]
    sha256: str
    rejected: dict[int, str]
    failed: list[int]

    def __len__(self) -> int:
        return len(self.chunk_sha256)

    def to_json(self) -> bytes:
        """Serialise, with a digest of its own."""
        content = json.dumps(asdict(self), separators=(",", ":"))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return f'{{"digest":"{digest}","record":{content}}}\n'.encode()

    @classmethod
    def from_json(cls, data: bytes, address: str) -> ShardRecord:
        """Read what :meth:`to_json` wrote.

        Raises:
            VolumeError: If a byte of it has changed.
        """
        start, end = len('{"digest":"') + 64 + len('","record":'), len("}\n")
        content = data[start:-end]
        if data[: start - len('","record":')] != b'{"digest":"' + hashlib.sha256(content).hexdigest().encode():
            raise VolumeError(f"The record {address} is damaged.")
        fields = json.loads(content)
        fields["rejected"] = {int(synapse_id): reason for synapse_id, reason in fields["rejected"].items()}
        return cls(**fields)


def record_key(shard: int) -> str:
    """Key of a shard's record in the store."""
    return f"{RECORD_FOLDER}/{shard:09d}.json"


def read_record(folder: ObjectFolder, shard: int) -> ShardRecord:
    """Read the record of a shard.

    Raises:
        VolumeError: If it is damaged.
        FileNotFoundError: If there is none.
    """
    key = record_key(shard)
    return ShardRecord.from_json(folder.read(key), folder.address(key))


def recorded_shards(folder: ObjectFolder) -> list[int]:
    """Numbers of the shards that have a record, ascending."""
    names = (key.rpartition("/")[2].removesuffix(".json") for key in folder.keys(f"{RECORD_FOLDER}/"))
    return sorted(int(name) for name in names if name.isdigit())


@dataclass(frozen=True)
class ChunkBatch:
    """Consecutive synapses on their way into the store.

    Attributes:
        chunk_ncxyz: uint8 (n, 2, x, y, z).
        records: Per-synapse columns of length n: ``synapse_id, cleft_id, n_cutout_sections, n_padded_voxels``.
        rejected: Reason by synapse id, for synapses that belong to this batch but have no chunk.
        failed: Those of ``rejected`` whose data could not be read: a later run tries them again.
    """

    chunk_ncxyz: NDArray[np.uint8]
    records: dict[str, NDArray[Any]]
    rejected: dict[int, str] = field(default_factory=dict)
    failed: tuple[int, ...] = ()


class ShardSource:
    """Chunks that can be made shard by shard, in any order: an interrupted store of them is continued.

    Subclasses set the attributes and implement :meth:`cut`; those that work in parallel override :meth:`write` too.

    Attributes:
        n_shards: Number of shards.
        n_synapses: Number of synapses, with those that turn out to be rejected.
        fingerprint: Digest of all that determines the chunks. A store with another one is begun anew.
    """

    n_shards: int
    n_synapses: int
    fingerprint: str

    def cut(self, shard: int) -> ChunkBatch:
        """Make the chunks of one shard, at most ``synapses_per_shard``."""
        raise NotImplementedError

    def write(self, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]) -> Iterator[ShardRecord]:
        """Make and write shards, yielding the record of each as soon as it is stored."""
        for shard in shards:
            yield write(shard, self.cut(shard))

    def check(self, rejected: dict[int, str], failed: Collection[int] = ()) -> None:
        """Raise if more synapses were rejected than are allowed; called as rejections come, and at the end.

        Args:
            rejected: Reason by synapse id.
            failed: Those of ``rejected`` whose data could not be read.
        """


@dataclass(frozen=True)
class ChunkStream:
    """All chunks of a run, produced while they are stored.

    Attributes:
        batches: Batches in store order, each but the last filling whole shards; or a :class:`ShardSource`, of which an
            interrupted store is continued.
        chunk_size_vx: (x, y, z) of a chunk.
        voxel_size_nm: (x, y, z) of a voxel.
        synapses_per_shard: Synapses in one shard.
    """

    batches: Iterable[ChunkBatch] | ShardSource
    chunk_size_vx: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]
    synapses_per_shard: int = 32

    def __iter__(self) -> Iterator[ChunkBatch]:
        source = self.batches
        return map(source.cut, range(source.n_shards)) if isinstance(source, ShardSource) else iter(source)

    @property
    def layout(self) -> ShardLayout:
        """Shape and codecs of the shards."""
        return ShardLayout(self.chunk_size_vx, self.synapses_per_shard)
