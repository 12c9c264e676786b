"""Points with properties as a precomputed annotation layer of Neuroglancer.

Neuroglancer's own writer (2.41) makes one file an annotation and one cell for all of them. Here cells of a few thousand
points are filled from coarse to fine, and what belongs to single annotations and segments lies in CloudVolume's shards:
a million synapses are some hundred files.

Source: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/annotations.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synapseclr.errors import TableError
from synapseclr.storage.object_folder import ObjectFolder

CELL_LIMIT = 5000
"""Points of a cell that Neuroglancer loads at once; the rest of them lie in finer cells."""

_MAX_LEVELS = 12
_ROUNDED_TO_NM = 2.0 ** (_MAX_LEVELS - 1)
_SIZES = {np.dtype(np.float32): "float32", np.dtype(np.uint8): "uint8"}
MISSING_CLASS = 255
"""Code of annotations without a class."""


@dataclass(frozen=True)
class Property:
    """A value of every annotation.

    Attributes:
        name: A letter, then letters, digits and underscores, in lower case.
        description: Name for people.
        values_n: float32 (n,), or uint8 codes of classes.
        class_names: Names of the codes 0, 1, ...; empty for numbers.
    """

    name: str
    description: str
    values_n: np.ndarray
    class_names: Sequence[str] = ()

    @property
    def entry(self) -> dict[str, Any]:
        """The property as the layer's ``info`` has it."""
        entry: dict[str, Any] = {
            "id": self.name,
            "type": _SIZES[self.values_n.dtype],
            "description": self.description,
        }
        if self.class_names:
            labels = list(map(str, self.class_names))
            entry |= {"enum_values": [*range(len(labels)), MISSING_CLASS], "enum_labels": [*labels, "not known"]}
        return entry


def write_annotation_layer(
    folder: str,
    ids_n: np.ndarray,
    points_n3: np.ndarray,
    properties: Sequence[Property],
    related: Mapping[str, np.ndarray],
    cell_limit: int = CELL_LIMIT,
) -> None:
    """Write points as a precomputed annotation layer.

    Args:
        folder: Path or URL of a folder that is empty or does not exist.
        ids_n: Ids of the annotations, integers (n,), each once.
        points_n3: Positions (x, y, z) in nm.
        properties: Values of the points.
        related: Name of a relationship to the id of each point's segment, integers (n,); 0: none.
        cell_limit: Points in a cell.

    Raises:
        TableError: If there are no points, positions are not finite, or the folder holds anything.
    """
    if not len(ids_n):
        raise TableError("There are no synapses to write.")
    target = ObjectFolder(folder)
    if target.keys(""):
        raise TableError(f"{folder} holds files already: delete it, or give the layer another place.")
    if not np.isfinite(points_n3).all():
        wrong = ids_n[~np.isfinite(points_n3).all(axis=1)]
        raise TableError(f"Synapse {wrong[0]} has no position, like {len(wrong) - 1} more: leave them out.")
    # As the format has it: wide properties first, then those of one byte, then bytes that fill up to four.
    properties = sorted(properties, key=lambda each: -each.values_n.dtype.itemsize)
    encoded_n = _encode(points_n3, properties)
    ids_n = np.asarray(ids_n).astype(np.uint64)
    lower_3 = np.floor(points_n3.min(axis=0))
    # Cells of all levels have whole numbers of nm: some readers count in these.
    extent_3 = np.ceil((points_n3.max(axis=0) - lower_3 + 1) / _ROUNDED_TO_NM) * _ROUNDED_TO_NM
    spatial = []
    for level, (grid_3, cells) in enumerate(_levels(points_n3, lower_3, extent_3, cell_limit)):
        for cell, rows in cells.items():
            target.write(f"spatial{level}/{'_'.join(map(str, cell))}", _many(encoded_n, ids_n, rows))
        spatial.append(
            {
                "key": f"spatial{level}",
                "grid_shape": grid_3.tolist(),
                "chunk_size": (extent_3 / grid_3).tolist(),
                "limit": cell_limit,
            }
        )
    segments = {name: np.asarray(values_n).astype(np.uint64) for name, values_n in related.items()}
    by_id = {
        int(identifier): encoded_n[row].tobytes() + b"".join(_related(values_n[row]) for values_n in segments.values())
        for row, identifier in enumerate(ids_n)
    }
    relationships = []
    for name, values_n in segments.items():
        sharding = _write_shards(target, f"rel_{name}", _by_segment(values_n, encoded_n, ids_n))
        relationships.append({"id": name, "key": f"rel_{name}", "sharding": sharding})
    info = {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {axis: [1e-9, "m"] for axis in "xyz"},
        "lower_bound": lower_3.tolist(),
        "upper_bound": (lower_3 + extent_3).tolist(),
        "annotation_type": "POINT",
        "properties": [each.entry for each in properties],
        "relationships": relationships,
        "by_id": {"key": "by_id", "sharding": _write_shards(target, "by_id", by_id)},
        "spatial": spatial,
    }
    target.write("info", json.dumps(info).encode())
    target.remove_leftovers()


def _encode(points_n3: np.ndarray, properties: Sequence[Property]) -> np.ndarray:
    """Geometry and properties of every annotation, a structured array (n,) without gaps."""
    fields: list[Any] = [("geometry", "<f4", 3)]
    fields += [(each.name, each.values_n.dtype.newbyteorder("<")) for each in properties]
    n_filling = -sum(each.values_n.dtype.itemsize for each in properties) % 4
    encoded_n = np.zeros(len(points_n3), dtype=[*fields, *([("filling", "u1", n_filling)] if n_filling else [])])
    encoded_n["geometry"] = points_n3
    for each in properties:
        encoded_n[each.name] = each.values_n
    return encoded_n


def _many(encoded_n: np.ndarray, ids_n: np.ndarray, rows: np.ndarray) -> bytes:
    """Several annotations: their number, what is encoded of each, their ids."""
    return np.uint64(len(rows)).tobytes() + encoded_n[rows].tobytes() + ids_n[rows].tobytes()


def _related(segment_id: np.uint64) -> bytes:
    """The segments of one relationship of an annotation: their number, their ids."""
    return np.uint32(1).tobytes() + segment_id.tobytes() if segment_id else np.uint32(0).tobytes()


def _by_segment(values_n: np.ndarray, encoded_n: np.ndarray, ids_n: np.ndarray) -> dict[int, bytes]:
    """The annotations of every segment."""
    order = np.argsort(values_n, kind="stable")
    segments, starts = np.unique(values_n[order], return_index=True)
    parts = np.split(order, starts[1:])
    of_segment = zip(segments, parts, strict=True)
    return {int(segment): _many(encoded_n, ids_n, rows) for segment, rows in of_segment if segment}


def _levels(
    points_n3: np.ndarray, lower_3: np.ndarray, extent_3: np.ndarray, limit: int
) -> Iterator[tuple[np.ndarray, dict[tuple[int, ...], np.ndarray]]]:
    """Share points out to grids from coarse to fine: each point lies in one cell of one level.

    A level takes at random as large a part of the points that are left as fills its fullest cell, so that coarse levels
    are even samples of all.

    Yields:
        The grid's shape (3,), and the rows of each of its cells that has points.
    """
    rng = np.random.default_rng(0)
    left = np.arange(len(points_n3))
    grid_3 = np.ones(3, dtype=np.int64)
    for level in range(_MAX_LEVELS):
        cell_n3 = np.minimum((points_n3[left] - lower_3) / extent_3 * grid_3, grid_3 - 1).astype(np.int64)
        flat_n = np.ravel_multi_index(tuple(cell_n3.T), tuple(grid_3))
        fullest = int(np.bincount(np.unique(flat_n, return_inverse=True)[1]).max())
        is_last = fullest <= limit or level == _MAX_LEVELS - 1
        taken = np.full(len(left), True) if is_last else rng.random(len(left)) < 0.9 * limit / fullest
        order = np.flatnonzero(taken)[np.argsort(flat_n[taken], kind="stable")]
        cells, starts = np.unique(flat_n[order], return_index=True)
        parts = np.split(left[order], starts[1:])
        places = (tuple(int(index) for index in np.unravel_index(cell, tuple(grid_3))) for cell in cells)
        yield grid_3, dict(zip(places, parts, strict=True)) if len(cells) else {}
        left = left[~taken]
        if is_last or not len(left):
            return
        # Cells become about as long as wide: the longest edges are halved.
        edges_3 = extent_3 / grid_3
        grid_3 = np.where(edges_3 > edges_3.max() / 2, grid_3 * 2, grid_3)


def _write_shards(target: ObjectFolder, key: str, data: Mapping[int, bytes]) -> dict[str, Any]:
    """Write values by 64-bit key as shards; returns the specification for ``info``."""
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification, compute_shard_params_for_hashed

    shard_bits, minishard_bits, preshift_bits = compute_shard_params_for_hashed(len(data))
    specification = ShardingSpecification(
        "neuroglancer_uint64_sharded_v1",
        preshift_bits,
        "murmurhash3_x86_128",
        minishard_bits,
        shard_bits,
        minishard_index_encoding="gzip",
        data_encoding="gzip",
    )
    for name, content in specification.synthesize_shards(dict(data)).items():
        target.write(f"{key}/{name}", content)
    written: dict[str, Any] = specification.to_dict()
    return {name: value if isinstance(value, str) else int(value) for name, value in written.items()}
