"""Maps of the synapses: projections of their features, positions in the volume; colours of classes on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.plotting.manifold import cluster_colour
from synapseclr.plotting.theme import UNKNOWN, class_colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from synapseclr.explorer.run_outputs import Column

CENTRE_COLUMNS = tuple(f"centre_{axis}_nm" for axis in "xyz")
_NM_PER_UM = 1000.0
_NO_CLUSTER = ("none", "-1")


@dataclass(frozen=True)
class MapPlane:
    """A map of all synapses.

    Attributes:
        name: Name on the page, unique.
        coordinates_nd: float32 (n, 2), or (n, 3) for a map in space.
        axes: Name of each coordinate.
        unit: Unit of the coordinates; None: they have none.
        is_downward: Its second coordinate counts downwards, as in sections.
    """

    name: str
    coordinates_nd: np.ndarray
    axes: tuple[str, ...]
    unit: str | None = None
    is_downward: bool = False


def projections(synapses: AnnData) -> list[MapPlane]:
    """Maps of the features that the manifold holds.

    Args:
        synapses: With ``obsm``: ``X_umap`` (n, 2), ``X_umap_3d`` (n, 3), ``X_pca`` (n, p), those that exist. Where the
            first components stood in for UMAP, the maps are named after them.
    """
    return [
        replace(plane, coordinates_nd=np.asarray(synapses.obsm[key][:, : len(plane.axes)], np.float32))
        for key, plane in projection_names(synapses.obsm, synapses.uns)
    ]


def projection_names(obsm: Mapping[str, Any], uns: Mapping[str, Any]) -> list[tuple[str, MapPlane]]:
    """Name the maps of :func:`projections`, without coordinates, each with the array whose first columns they are."""
    method = str(uns.get("manifold", {}).get("method", "umap"))
    found = []
    for key, name, n_axes in (
        ("X_umap", "UMAP", 2),
        ("X_pca", "PCA", 2),
        ("X_umap_3d", "UMAP in 3D", 3),
        ("X_pca", "PCA in 3D", 3),
    ):
        if key not in obsm or obsm[key].shape[1] < n_axes:
            continue
        stands_in = key != "X_pca" and method != "umap"
        if stands_in and "X_pca" in obsm:
            continue
        shown, axis = ("PC", "PC") if stands_in else (name, name.split()[0])
        axes = tuple(f"{axis} {number + 1}" for number in range(n_axes))
        found.append((key, MapPlane(shown, np.empty((0, n_axes), np.float32), axes)))
    return found


def volume_planes(synapses: AnnData) -> list[MapPlane]:
    """Positions of the clefts in the volume, in µm: its three planes, and space. Empty if a synapse has no position."""
    obs = synapses.obs
    if any(name not in obs for name in CENTRE_COLUMNS):
        return []
    centre_n3 = obs[list(CENTRE_COLUMNS)].to_numpy(np.float64, na_value=np.nan) / _NM_PER_UM
    if not np.isfinite(centre_n3).all():
        return []
    return [
        replace(plane, coordinates_nd=centre_n3[:, kept].astype(np.float32)) for kept, plane in volume_plane_names()
    ]


def volume_plane_names() -> list[tuple[tuple[int, ...], MapPlane]]:
    """Name the maps of :func:`volume_planes`, without coordinates, each with the axes of the volume that it has."""
    found: list[tuple[tuple[int, ...], MapPlane]] = []
    for kept in ((0, 1), (0, 2), (2, 1), (0, 1, 2)):
        axes = tuple("xyz"[axis] for axis in kept)
        name = "Volume in 3D" if len(kept) == 3 else f"Volume, {' and '.join(axes)}"
        found.append((kept, MapPlane(name, np.empty((0, len(kept)), np.float32), axes, "µm", is_downward=True)))
    return found


def column_colours(column: Column) -> Sequence[str | None]:
    """Colour of each class, as in the report's figures; None is grey: synapses in no cluster."""
    numbers = [int(name) if name.isdecimal() else None for name in column.class_names]
    are_clusters = column.group == "Clusters" and all(
        number is not None or name in _NO_CLUSTER for name, number in zip(column.class_names, numbers, strict=True)
    )
    if not are_clusters:
        return [*class_colours(len(column.class_names))][: len(column.class_names)]
    colours = [cluster_colour(-1 if number is None else number) for number in numbers]
    return [None if colour == UNKNOWN else colour for colour in colours]


def map_overview(planes: dict[str, MapPlane], columns: dict[str, Column]) -> dict[str, Any]:
    """Tell the page how to draw maps and classes.

    Returns:
        ``planes``: by name, axes, unit and whether the second axis points downward. ``class_colours``: by column.
        ``usual_colours``: of classes that the page makes up.
    """
    return {
        "planes": {
            name: {"axes": plane.axes, "unit": plane.unit, "downward": plane.is_downward}
            for name, plane in planes.items()
        },
        "class_colours": {name: column_colours(column) for name, column in columns.items() if column.class_names},
        "usual_colours": class_colours(20),
    }
