"""The chunk store: a sharded Zarr v3 group with one inner chunk per synapse."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA_VERSION = 1
CHANNELS = ["intensity", "segmentation"]
MASK_CODES = {"background": 0, "pre_synaptic_neuron": 1, "synaptic_cleft": 2, "post_synaptic_neuron": 3}
_RECORD_DTYPES = {"synapse_id": "int64", "cleft_id": "uint64", "n_cutout_sections": "int32", "n_padded_voxels": "int64"}


@dataclass(frozen=True)
class ChunkBatch:
    """Consecutive synapses on their way into the store.

    Attributes:
        chunk_ncxyz: uint8 (n, 2, x, y, z).
        records: Per-synapse columns of length n: ``synapse_id, cleft_id, n_cutout_sections, n_padded_voxels``.
        rejected: Reason by synapse id, for synapses that belong to this batch but could not be cut.
    """

    chunk_ncxyz: NDArray[np.uint8]
    records: dict[str, NDArray[Any]]
    rejected: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkStream:
    """All batches of a run, produced while they are stored.

    Attributes:
        batches: Batches in store order; each but the last fills whole shards.
        chunk_size_vx: (x, y, z) of a chunk.
        voxel_size_nm: (x, y, z) of a voxel.
        synapses_per_shard: Synapses in one shard.
    """

    batches: Iterable[ChunkBatch]
    chunk_size_vx: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]
    synapses_per_shard: int = 32

    def __iter__(self) -> Iterator[ChunkBatch]:
        return iter(self.batches)


@dataclass(frozen=True)
class ChunkStore:
    """A handle on a stored set of chunks. Opens lazily, and again in each worker process.

    Attributes:
        url: Local path or fsspec URL of the Zarr group.
        storage_options: Passed to fsspec for remote stores.
    """

    url: str
    storage_options: dict[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "storage_options": self.storage_options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def _group(self) -> Any:  # zarr.Group, whose items and attributes are typed too widely to be of use
        import zarr

        try:
            group = zarr.open_group(self.url, mode="r", storage_options=self.storage_options)
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise VolumeError(
                f"There is no chunk store at {self.url}. Run `kedro run --pipeline=preprocessing` first."
            ) from error
        if not group.attrs.get("complete"):
            raise VolumeError(
                f"The chunk store at {self.url} is unfinished. Run `kedro run --pipeline=preprocessing` again."
            )
        if group.attrs.get("schema_version") != SCHEMA_VERSION:
            raise VolumeError(
                f"The chunk store at {self.url} has schema version {group.attrs.get('schema_version')}, this version "
                f"reads {SCHEMA_VERSION}. Run `kedro run --pipeline=preprocessing` again."
            )
        return group

    def __len__(self) -> int:
        return len(self.synapse_id)

    @cached_property
    def records(self) -> dict[str, NDArray[Any]]:
        """Per-synapse columns of length n, in store order."""
        return {name: np.asarray(self._group[name][:]) for name in _RECORD_DTYPES}

    @property
    def synapse_id(self) -> NDArray[np.int64]:
        """Synapse ids in store order, int64 (n,)."""
        return self.records["synapse_id"]

    @cached_property
    def rejected(self) -> dict[int, str]:
        """Reason by synapse id for every synapse of the table that has no chunk."""
        return {int(synapse_id): reason for synapse_id, reason in self._group.attrs["rejected"].items()}

    @property
    def sha256(self) -> str:
        """Digest over ids and voxels of all chunks: tells one data set from another."""
        return str(self._group.attrs["sha256"])

    @cached_property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z) in nm."""
        return tuple(self._group.attrs["voxel_size_nm"])

    @cached_property
    def chunk_size_vx(self) -> tuple[int, int, int]:
        """Chunk size (x, y, z) in voxels."""
        return tuple(self._group["chunks"].shape[2:])

    @property
    def axial_to_sagittal_spacing(self) -> float:
        """Section thickness over in-plane voxel size."""
        return self.voxel_size_nm[2] / self.voxel_size_nm[0]

    def read(self, indices: NDArray[np.int64] | list[int] | slice) -> NDArray[np.uint8]:
        """Read chunks by their position in the store.

        Returns:
            uint8 (k, 2, x, y, z) in the order asked for; channel 0 is the intensity, channel 1 the mask codes.
        """
        chunks = self._group["chunks"]
        if isinstance(indices, slice):
            return np.asarray(chunks[indices])
        wanted = np.asarray(indices, dtype=np.int64)
        return (
            np.stack([np.asarray(chunks[int(index)]) for index in wanted])
            if len(wanted)
            else np.empty((0, *chunks.shape[1:]), np.uint8)
        )

    def iterate(self, batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """Read all chunks in store order, ``batch_size`` at a time."""
        for start in range(0, len(self), batch_size):
            yield self.read(slice(start, min(start + batch_size, len(self))))


def write_chunk_store(stream: ChunkStream, url: str, storage_options: dict[str, Any] | None = None) -> None:
    """Write a store shard by shard. A local store appears under its name only when it is complete.

    Args:
        stream: What to store; consumed batch by batch, so memory holds one batch.
        url: Local path or fsspec URL. An older store there is replaced.
        storage_options: Passed to fsspec for remote stores.
    """
    remote = "://" in url
    target = url if remote else f"{url}.partial"
    group = _create(stream, target, storage_options)
    rejected: dict[str, str] = {}
    digest = hashlib.sha256()
    for batch in stream:
        rejected |= {str(synapse_id): reason for synapse_id, reason in batch.rejected.items()}
        if not len(batch.chunk_ncxyz):
            continue
        digest.update(batch.records["synapse_id"].astype(np.int64).tobytes())
        digest.update(batch.chunk_ncxyz.tobytes())
        group["chunks"].append(batch.chunk_ncxyz)
        for name, dtype in _RECORD_DTYPES.items():
            group[name].append(np.asarray(batch.records[name], dtype=dtype))
    group.attrs.update({"rejected": rejected, "sha256": digest.hexdigest(), "complete": True})
    if not remote:
        shutil.rmtree(url, ignore_errors=True)
        shutil.move(target, url)


def _create(stream: ChunkStream, url: str, storage_options: dict[str, Any] | None) -> Any:
    import zarr
    from zarr.codecs import BloscCodec

    group = zarr.open_group(url, mode="w", zarr_format=3, storage_options=storage_options)
    shape = (len(CHANNELS), *stream.chunk_size_vx)
    group.create_array(
        "chunks",
        shape=(0, *shape),
        chunks=(1, *shape),
        shards=(stream.synapses_per_shard, *shape),
        dtype="uint8",
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle"),
        dimension_names=["synapse", "channel", "x", "y", "z"],
    )
    for name, dtype in _RECORD_DTYPES.items():
        group.create_array(name, shape=(0,), chunks=(65536,), dtype=dtype, dimension_names=["synapse"])
    group.attrs.update(
        {
            "schema_version": SCHEMA_VERSION,
            "voxel_size_nm": [float(v) for v in stream.voxel_size_nm],
            "axes": "synapse, channel, x, y, z",
            "channels": CHANNELS,
            "mask_codes": MASK_CODES,
            "complete": False,
        }
    )
    return group
