"""The record that is kept of every shard of a chunk store, and the key under which it lies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from synapseclr.errors import VolumeError

if TYPE_CHECKING:
    from synapseclr.volumes.objects import ObjectFolder

RECORD_DTYPES = {"synapse_id": "int64", "cleft_id": "uint64", "n_cutout_sections": "int32", "n_padded_voxels": "int64"}
RECORD_FOLDER = "chunks/record"


@dataclass(frozen=True)
class ShardRecord:
    """What is kept of a stored shard.

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
