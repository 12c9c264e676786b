"""Embed a store piece by piece into the shards of a matrix, by any number of processes; what is done is not redone.

A piece, a few batches, is the unit of work: it is kept from the moment it is written. When all are there, processes
join them to shards, each its own ones; no process ever holds more than a shard, and none collects what others made.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import ConfigurationError
from synapseclr.models.simclr import BACKBONE
from synapseclr.storage.sharded_anndata import CHUNK_ROWS, SHARD_ROWS, MatrixShards
from synapseclr.training.extraction import ROTATION_VARIANCE, embed_batches, pick_device, spread_over_poses
from synapseclr.training.prepared_store import prepared_store
from synapseclr.training.workers import barrier, from_first, own_share, rank

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from synapseclr.augmentation import AugmentationConfig
    from synapseclr.models.simclr import SimCLR
    from synapseclr.training.config import EmbeddingConfig
    from synapseclr.volumes import ChunkStore

_PIECES = 64  # at least so many, as far as batches allow, so that processes have equally much to do
_MOST_ROWS = 4096  # of a piece: what a killed process loses at most
_BETWEEN = "between.npz"


def embed_to_shards(
    model: SimCLR,
    store: ChunkStore,
    augmentation: AugmentationConfig,
    config: EmbeddingConfig,
    url: str,
    weights: str,
    rows: tuple[int, int] = (CHUNK_ROWS, SHARD_ROWS),
) -> tuple[MatrixShards, NDArray[np.float32] | None]:
    """Embed every synapse of a store, in store order, into shards; or continue where an earlier run has ended.

    Batches are those of :func:`synapseclr.training.embed_store`, so that features are the same.

    Args:
        model: Built of the weights.
        store: Chunks.
        augmentation: Pretraining's configuration; its extraction form is applied.
        config: The parameters ``embedding``.
        url: Folder for the shards, which all processes share.
        weights: Digest of the weights; with store and parameters it determines the features.
        rows: Of a chunk and of a shard of the matrix.

    Returns:
        The shards, all written, and the synapses' spread over poses (n,), None for a single pose.

    Raises:
        ConfigurationError: If several devices are asked for and one is named; if the processes cannot work together.
    """
    on_gpu = {"auto": None, "cpu": False}.get(config.device, True)
    is_one = config.is_one_process(on_gpu)
    if not is_one and ":" in config.device:
        raise ConfigurationError(
            f"embedding.device is {config.device}, which is one GPU, but embedding.devices is {config.devices} on "
            f"{config.nodes} machines. Set embedding.device to auto, cuda or cpu."
        )
    determined_by = [
        weights,
        store.sha256,
        augmentation.for_extraction().model_dump_json(),
        config.poses.model_dump_json(),
        config.batch_size,
    ]
    fingerprint = hashlib.sha256(json.dumps(determined_by).encode()).hexdigest()
    first = embed_batches(
        model, [store.read(list(range(min(2, len(store)))))], augmentation, pick_device(config.device), config.poses
    )
    widths = {name: layer.shape[1] for name, layer in first.items() if name not in (ROTATION_VARIANCE, BACKBONE)}
    shards = MatrixShards(
        url,
        len(store),
        {"X": first[BACKBONE].shape[1], **widths},
        fingerprint,
        chunk_rows=rows[0],
        shard_rows=rows[1],
    )
    if is_one:
        _embed_share(model, store, augmentation, config, shards)
    else:
        from synapseclr.training.launching import launch

        launch(_embed_in_worker, (model, store, augmentation, config, shards), config, on_gpu)
    if ROTATION_VARIANCE not in first:
        return shards, None
    parts = [_read(shards, _spread_key(shard))["spread"] for shard in range(shards.n_shards)]
    return shards, np.concatenate(parts)


def _embed_in_worker(
    model: SimCLR,
    store: ChunkStore,
    augmentation: AugmentationConfig,
    config: EmbeddingConfig,
    shards: MatrixShards,
    report: Callable[..., None],
) -> None:
    _embed_share(model, store, augmentation, config, shards)


def _embed_share(
    model: SimCLR, store: ChunkStore, augmentation: AugmentationConfig, config: EmbeddingConfig, shards: MatrixShards
) -> None:
    """Embed this process's pieces, then join its shards."""
    from rich.progress import track

    left = from_first(shards.begin if rank() == 0 else None)
    pieces = _pieces(shards, config.batch_size)
    missing = [piece for piece in _of_shards(shards, left, pieces) if not _is_there(shards, _piece_key(piece))]
    barrier()  # nobody writes before all have looked
    own = own_share(len(missing))
    synapses = prepared_store(store, augmentation.for_extraction(), config.chunk_cache_mb)
    device, size = pick_device(config.device), config.batch_size
    tracked = track([missing[n] for n in own], description="Embedding synapses", disable=rank() > 0)
    others = [missing[n] for n in reversed(range(len(missing))) if n not in own]
    for piece in (*tracked, *others):  # who is ready helps the others, from the end of their share
        if _is_there(shards, _piece_key(piece)):
            continue
        rows = range(piece.start, piece.stop)
        batches = (synapses.read(rows[first : first + size]) for first in range(0, len(rows), size))
        layers = embed_batches(model, batches, augmentation, device, config.poses)
        _write_piece(shards, piece, {name: layer_nf.numpy() for name, layer_nf in layers.items()})
    barrier()
    if rank() == 0 and left and not _is_there(shards, _BETWEEN):
        _write(shards, _BETWEEN, {"variance": _variance_between(shards, pieces)})
    barrier()
    for number in own_share(len(left)):
        _join(shards, left[number], pieces)


def _pieces(shards: MatrixShards, batch_size: int) -> list[range]:
    """Rows of the pieces: whole batches, 4,096 rows at most; the same however many processes there are."""
    n = shards.n_rows
    wanted = min(math.ceil(n / _PIECES), _MOST_ROWS)
    size = max(math.ceil(wanted / batch_size), 1) * batch_size
    # A piece ends where a shard does, so that none lies in two shards.
    bounds = sorted({*range(0, n, size), *range(0, n, shards.shard_rows), n})
    return [range(start, stop) for start, stop in pairwise(bounds)]


def _of_shards(shards: MatrixShards, wanted: list[int], pieces: list[range]) -> Iterator[range]:
    is_wanted = set(wanted)
    return (piece for piece in pieces if piece.start // shards.shard_rows in is_wanted)


def _variance_between(shards: MatrixShards, pieces: list[range]) -> NDArray[np.float64]:
    """Variance of the backbone's features between synapses, of the moments of all pieces."""
    moments = [_read(shards, _piece_key(piece), ("mean", "squares")) for piece in pieces]
    n_p = np.array([len(piece) for piece in pieces])[:, None]
    mean_pf = np.stack([found["mean"] for found in moments])
    mean_f = (n_p * mean_pf).sum(axis=0) / n_p.sum()
    squares_f = sum(found["squares"] for found in moments) + (n_p * np.square(mean_pf - mean_f)).sum(axis=0)
    return np.asarray(squares_f / n_p.sum())


def _join(shards: MatrixShards, shard: int, pieces: list[range]) -> None:
    """Write a shard of its pieces, and delete these."""
    own = list(_of_shards(shards, [shard], pieces))
    parts = [_read(shards, _piece_key(piece)) for piece in own]
    layers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if ROTATION_VARIANCE in layers:
        between_f = _read(shards, _BETWEEN)["variance"]
        spread_n = spread_over_poses(layers[ROTATION_VARIANCE], between_f)
        _write(shards, _spread_key(shard), {"spread": spread_n})
    shards.write(shard, {name: layers[BACKBONE if name == "X" else name] for name in shards.widths})
    for piece in own:
        shards.records.delete(_piece_key(piece))


def _write_piece(shards: MatrixShards, piece: range, layers: dict[str, NDArray[np.float32]]) -> None:
    features_nf = layers[BACKBONE].astype(np.float64)
    mean_f = features_nf.mean(axis=0)
    moments = {"mean": mean_f, "squares": np.square(features_nf - mean_f).sum(axis=0)}
    _write(shards, _piece_key(piece), {**layers, **moments})


def _piece_key(piece: range) -> str:
    return f"piece-{piece.start:012d}.npz"


def _spread_key(shard: int) -> str:
    return f"spread-{shard:06d}.npz"


def _is_there(shards: MatrixShards, key: str) -> bool:
    return shards.records.has(key)


def _write(shards: MatrixShards, key: str, arrays: dict[str, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    shards.records.write(key, content.getvalue(), scratch=None)


def _read(shards: MatrixShards, key: str, names: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(shards.records.read(key)), allow_pickle=False) as stored:
        return {name: stored[name] for name in names or stored.files}
