"""Small volumes of noise, and a table of synapses in them: precomputed and OME-Zarr."""

import numpy as np
import pandas as pd
import zarr

from synapseclr.volumes import (
    OmeZarrLayer,
    PrecomputedLayer,
    PreprocessingConfig,
    cut_chunks,
    write_precomputed,
)

SHAPE, N = (64, 64, 32), 22


def make_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": np.arange(N), "pre_root_id": 1, "post_root_id": 2})
    table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = rng.integers(0, SHAPE, (N, 3)).astype(float)
    return table


def write_volumes(place):
    em = np.random.default_rng(1).integers(1, 255, SHAPE).astype(np.uint8)
    ids = np.zeros(SHAPE, np.uint64)
    ids[::4, ::4, ::4] = np.arange(1, 1 + 16 * 16 * 8).reshape(16, 16, 8)
    for name, array in (("em", em), ("segmentation", ids), ("clefts", ids)):
        kind = "image" if name == "em" else "segmentation"
        write_precomputed(array, f"{place}/{name}", (16, 16, 40), kind, (32, 32, 16))


def stream(place, table, **changes):
    layers = (PrecomputedLayer(f"{place}/{name}", name) for name in ("em", "segmentation", "clefts"))
    values = {"voxel_size_nm": (16, 16, 40), "chunk_size_vx": (24, 24, 12), "synapses_per_shard": 4}
    return cut_chunks(*layers, table, PreprocessingConfig(**(values | changes)))


UNITS = {"micrometer": 1e-3, "nanometer": 1.0}


def write_image(url, array_xyz, version, axes="zyx", unit="nanometer", offset_vx=(0, 0, 0), chunks=(32, 32, 8), **more):
    """Write an image of two scales: one of half the resolution, and the array itself at 16 x 16 x 40 nm."""
    voxel_nm = dict(zip("xyz", (16, 16, 40), strict=True))
    of_axis = dict(zip("xyz", range(3), strict=True))
    group = zarr.open_group(
        url, mode="w", zarr_format=2 if version == "0.4" else 3, storage_options=more.get("options")
    )
    channel = more.get("channel", 0)

    def on_axes(values, other):
        return [values[of_axis[name]] if name in of_axis else other for name in axes]

    def transformations(factor):
        size = [voxel_nm.get(name, 1) * (factor if name in voxel_nm else 1) * UNITS[unit] for name in axes]
        shift = {name: offset_vx[n] + (factor - 1) / 2 for name, n in of_axis.items()}
        place = [shift.get(name, 0) * voxel_nm.get(name, 0) * UNITS[unit] for name in axes]
        return [{"type": "scale", "scale": size}, {"type": "translation", "translation": place}]

    space = [name for name in axes if name in of_axis]
    for name, factor in (("half", 2), ("full", 1)):
        voxels = array_xyz[::factor, ::factor, ::factor].transpose([of_axis[name] for name in space])
        shape = iter(voxels.shape)
        whole = [next(shape) if name in of_axis else {"c": channel + 1, "t": 2}[name] for name in axes]
        options = {"shards": tuple(on_axes([2 * c for c in chunks], 1))} if more.get("sharded") else {}
        array = group.create_array(
            name, shape=whole, chunks=tuple(on_axes(chunks, 1)), dtype=voxels.dtype.newbyteorder(">"), **options
        )
        array[tuple(slice(None) if name in of_axis else {"c": channel, "t": 0}[name] for name in axes)] = voxels
    kinds = {"t": "time", "c": "channel"}
    described = {
        "axes": [
            {"name": name, "type": "space", "unit": unit} if name in of_axis else {"name": name, "type": kinds[name]}
            for name in axes
        ],
        "datasets": [
            {"path": name, "coordinateTransformations": transformations(factor)}
            for name, factor in (("half", 2), ("full", 1))
        ],
    }
    attributes = {"version": version, "multiscales": [described]}
    group.attrs.update(attributes if version == "0.4" else {"ome": attributes})
    return OmeZarrLayer(url if "://" in url else f"file://{url}", "EM volume", None, channel)
