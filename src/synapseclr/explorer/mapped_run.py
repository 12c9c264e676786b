"""The columns of a large run as memory-mapped files: made once beside the run, opened in a moment, never in memory.

The tables of ten million synapses take 8 GB as pandas has them. Here every column is one NumPy file, in the order of
the synapses: what the tables hold, the columns that the page offers, and the maps. Columns are read and written one
after the other, so that memory holds a few of them, and the operating system keeps in memory those that are used.
The folder belongs to the inputs by their digests, sizes and times: another run has another one, and the old one goes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.explorer.map_planes import CENTRE_COLUMNS, MapPlane, projection_names, volume_plane_names
from synapseclr.explorer.map_tiles import QuadTree, quad_tree
from synapseclr.explorer.run_outputs import Column, MappedFiles, MappedSynapses, RunOutputs
from synapseclr.storage.atomic_files import check_file, check_folder, folder_written_whole, settle_folder, write_whole
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.storage.sharded_anndata import content_digest, lazy_parts
from synapseclr.volumes.synapse_table import SynapseRows

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

_VERSION = 2  # of the files
_PLAN = "columns.json"
_BLOCK_ROWS = 102_400
_PCA_ROWS = 50_000
_NM_PER_UM = 1000.0


def stored_rows(matrix: str | Path) -> int:
    """Number of synapses of an annotated matrix on this machine; nothing but its description is read."""
    import zarr

    group: Any = zarr.open_group(str(matrix), mode="r")
    return int(group["X"].shape[0]) if "X" in group else 0


def mapped_outputs(
    outputs: RunOutputs, matrix: str | Path, tables: Mapping[str, str | Path], folder: str | Path
) -> RunOutputs:
    """Map a run's columns from files, which are made if they are not there.

    Args:
        outputs: The run, with its small tables and settings; its ``synapses`` are replaced.
        matrix: Local path of the annotated matrix.
        tables: Local paths of the Parquet tables that have a row per synapse, by name.
        folder: Local folder of the files; older ones in it are deleted.

    Returns:
        The run, mapped.

    Raises:
        TableError: If the matrix has no synapse ids.
        OutputError: If an input or the folder is damaged, or the folder cannot be written.
    """
    folder = Path(folder)
    target = folder / _identity(outputs, matrix, tables)
    parts = lazy_parts(str(matrix), without=("obs", "var", "layers", "varm", "varp", "obsp"))
    if target.parent.is_dir():
        settle_folder(target)
    if not (target / _PLAN).is_file():
        with folder_written_whole(target) as written:
            _write(outputs, matrix, tables, parts, written)
        for other in folder.iterdir():
            if other != target and (other / _PLAN).is_file():
                shutil.rmtree(other, ignore_errors=True)
    check_folder(target, is_read=False)
    return _opened(outputs, parts, target)


def _identity(outputs: RunOutputs, matrix: str | Path, tables: Mapping[str, str | Path]) -> str:
    """Digest of all that the files are made of."""
    known: list[Any] = [_VERSION, content_digest(ObjectFolder(str(Path(matrix).resolve())))]
    for name, path in sorted(tables.items()):
        state = Path(path).stat()
        known.append([name, state.st_size, state.st_mtime_ns])
    for name, table in sorted(outputs.tables.items()):
        known.append([name, hashlib.sha256(pd.util.hash_pandas_object(table).to_numpy().tobytes()).hexdigest()])
    known.append([str(trait) for trait in outputs.traits])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:20]


def _write(
    outputs: RunOutputs,
    matrix: str | Path,
    tables: Mapping[str, str | Path],
    parts: Mapping[str, Any],
    folder: Path,
) -> None:
    from rich.progress import Progress

    folder.mkdir(parents=True)
    logger.info("The columns of the explorer are made, once for this run.")
    with Progress(transient=True) as progress:
        plan: dict[str, Any] = {"obs": _write_observations(matrix, folder, progress)}
        obs = _frame(folder, plan["obs"])
        if "synapse_id" not in obs:
            raise TableError(
                "The embeddings have no column synapse_id in obs. Run `kedro run --pipeline=embedding` again."
            )
        plan["tables"] = {
            name: _write_table(path, obs["synapse_id"].to_numpy(), folder / name, progress)
            for name, path in tables.items()
        }
        synapses = MappedSynapses(obs, parts.get("X"), parts.get("obsm", {}), parts.get("uns", {}))
        plan["planes"] = list(_write_planes(synapses, folder, progress))
        plan["trees"] = {
            about["name"]: _write_tree(np.load(folder / f"plane_{number}.npy", mmap_mode="r"), number, folder)
            for number, about in enumerate(progress.track(plan["planes"], description="Order of tiles"))
            if len(about["axes"]) == 2
        }
        frames = {name: _frame(folder / name, found) for name, found in plan["tables"].items()}
        made = replace(outputs, synapses=synapses, tables={**outputs.tables, **frames})
        plan["columns"] = []
        task = progress.add_task("Columns", total=None)
        for number, column in enumerate(made.made_columns()):
            np.save(folder / f"column_{number}.npy", np.ascontiguousarray(column.values_n, np.float32))
            about = {"name": column.name, "label": column.label, "group": column.group, "unit": column.unit}
            plan["columns"].append(about | {"class_names": list(column.class_names)})
            progress.advance(task)
    write_whole(folder / _PLAN, json.dumps(plan).encode(), is_recorded=False)


def _write_observations(matrix: str | Path, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Write the columns of ``obs``, which are read one after the other."""
    import anndata
    import zarr

    obs: Any = zarr.open_group(str(matrix), mode="r")["obs"]
    names = [str(name) for name in obs.attrs["column-order"]]
    written: list[dict[str, Any]] = []
    for name in progress.track(names, description="Synapses"):
        entry = _write_values(pd.Series(anndata.io.read_elem(obs[name])), name, folder / f"obs_{len(written)}.npy")
        written += [entry] if entry else []
    return written


def _write_table(path: str | Path, synapse_id: np.ndarray, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Write the columns of a table in the order of the synapses."""
    import pyarrow.parquet as parquet

    check_file(path)
    folder.mkdir()
    table = parquet.ParquetFile(path)
    names = [name for name in table.schema_arrow.names if name != "synapse_id"]
    stored_id = table.read(["synapse_id"]).column(0).to_numpy().astype(np.int64)
    row_n = None
    if not np.array_equal(stored_id, synapse_id):
        # Of several rows of a synapse the first counts.
        distinct_id, first_d = np.unique(stored_id, return_index=True)
        place_n = SynapseRows(distinct_id).rows(synapse_id)
        row_n = np.where(place_n < 0, -1, first_d[place_n])
    np.save(folder / "obs_0.npy", synapse_id)
    written: list[dict[str, Any]] = [{"name": "synapse_id", "file": "obs_0.npy"}]
    for name in progress.track(names, description=folder.name.replace("_", " ")):
        series = table.read([name]).column(0).to_pandas()
        if row_n is not None:
            series = series.reindex(row_n)  # rows are numbered; -1 is none of them
        entry = _write_values(series, name, folder / f"obs_{len(written)}.npy")
        written += [entry] if entry else []
    return written


def _write_values(series: pd.Series, name: str, file: Path) -> dict[str, Any] | None:
    """Write a column; of text and categories their codes. None for text that is different almost everywhere."""
    entry = {"name": name, "file": file.name}
    if pd.api.types.is_bool_dtype(series) and not series.isna().any():
        np.save(file, series.to_numpy(bool))
    elif pd.api.types.is_numeric_dtype(series):
        is_plain = isinstance(series.dtype, np.dtype)
        np.save(file, series.to_numpy() if is_plain else series.to_numpy(np.float64, na_value=np.nan))
    else:
        found = series.astype("category")
        if len(found.cat.categories) > max(1000, len(series) // 10):
            return None
        np.save(file, found.cat.codes.to_numpy())
        return entry | {"categories": [str(value) for value in found.cat.categories]}
    return entry


def _frame(folder: Path, written: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Columns as a table that is mapped: pandas copies none of them."""
    columns: dict[str, Any] = {}
    for entry in written:
        values_n = np.load(folder / entry["file"], mmap_mode="r")
        is_text = "categories" in entry
        columns[entry["name"]] = pd.Categorical.from_codes(values_n, entry["categories"]) if is_text else values_n
    return pd.DataFrame(columns, copy=False)


def _write_planes(synapses: MappedSynapses, folder: Path, progress: Progress) -> Iterator[dict[str, Any]]:
    """Write the coordinates of all maps, block by block."""
    sources: list[tuple[MapPlane, Any]] = [
        (plane, partial(_projected, synapses.obsm[key], len(plane.axes)))
        for key, plane in projection_names(synapses.obsm, synapses.uns)
    ]
    if not sources:
        plane = MapPlane("PCA", np.empty((0, 2), np.float32), ("PCA 1", "PCA 2"))
        sources = [(plane, partial(_principal, synapses.X, *_principal_axes(synapses.X)))]
    obs = synapses.obs
    if all(name in obs and np.isfinite(obs[name].to_numpy()).all() for name in CENTRE_COLUMNS):
        sources += [
            (plane, partial(_positioned, [obs[CENTRE_COLUMNS[axis]].to_numpy() for axis in kept]))
            for kept, plane in volume_plane_names()
        ]
    for number, (plane, read) in enumerate(sources):
        shape = (len(obs), len(plane.axes))
        file: Any = np.lib.format.open_memmap(folder / f"plane_{number}.npy", "w+", np.float32, shape)
        for start in progress.track(range(0, len(obs), _BLOCK_ROWS), description=f"Map {plane.name}"):
            rows = slice(start, start + _BLOCK_ROWS)
            file[rows] = np.asarray(read(rows), np.float32)
        file.flush()
        yield {"name": plane.name, "axes": plane.axes, "unit": plane.unit, "is_downward": plane.is_downward}


def _write_tree(plane_n2: np.ndarray, number: int, folder: Path) -> dict[str, Any]:
    tree = quad_tree(plane_n2)
    np.save(folder / f"tree_{number}_key.npy", tree.key_m)
    np.save(folder / f"tree_{number}_row.npy", tree.row_m)
    return {"number": number, "low": tree.low, "side": tree.side, "dense": tree.dense_l}


def _projected(layer: Any, n_axes: int, rows: slice) -> np.ndarray:
    return np.asarray(layer[rows])[:, :n_axes]


def _principal(features: Any, axes_2f: np.ndarray, mean_f: np.ndarray, rows: slice) -> np.ndarray:
    return (np.asarray(features[rows]) - mean_f) @ axes_2f.T


def _positioned(centres: list[np.ndarray], rows: slice) -> np.ndarray:
    return np.stack([centre_n[rows] for centre_n in centres], axis=1) / _NM_PER_UM


def _principal_axes(features: Any) -> tuple[np.ndarray, np.ndarray]:
    """First two principal axes (2, f) and mean (f,) of 50,000 synapses."""
    from sklearn.decomposition import PCA

    from synapseclr.analysis.feature_rows import FeatureRows

    sample_mf = np.concatenate([rows_rf for _, rows_rf in FeatureRows(features).sample(_PCA_ROWS)])
    fitted = PCA(2, random_state=0).fit(sample_mf)
    return fitted.components_.astype(np.float32), fitted.mean_.astype(np.float32)


def _opened(outputs: RunOutputs, parts: Mapping[str, Any], folder: Path) -> RunOutputs:
    plan = json.loads((folder / _PLAN).read_bytes())
    columns = tuple(
        Column(
            about["name"],
            about["label"],
            about["group"],
            np.load(folder / f"column_{number}.npy", mmap_mode="r"),
            tuple(about["class_names"]),
            about["unit"],
        )
        for number, about in enumerate(plan["columns"])
    )
    planes = tuple(
        MapPlane(
            about["name"],
            np.load(folder / f"plane_{number}.npy", mmap_mode="r"),
            tuple(about["axes"]),
            about["unit"],
            about["is_downward"],
        )
        for number, about in enumerate(plan["planes"])
    )
    trees = {
        name: QuadTree(
            planes[about["number"]].coordinates_nd,
            np.load(folder / f"tree_{about['number']}_key.npy", mmap_mode="r"),
            np.load(folder / f"tree_{about['number']}_row.npy", mmap_mode="r"),
            tuple(about["low"]),
            about["side"],
            tuple(about["dense"]),
        )
        for name, about in plan["trees"].items()
    }
    obs = _frame(folder, plan["obs"])
    tables = {name: _frame(folder / name, written) for name, written in plan["tables"].items()}
    return replace(
        outputs,
        synapses=MappedSynapses(obs, parts.get("X"), parts.get("obsm", {}), parts.get("uns", {})),
        tables={**outputs.tables, **tables},
        mapped=MappedFiles(folder, columns, planes, trees),
    )
