"""A run's results for other tools: a table, a CAVE reference table, WEBKNOSSOS links, a Neuroglancer layer."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.neuroglancer import annotation_layer, layer_url, point_layer
from synapseclr.errors import TableError
from synapseclr.explorer.annotation_layer import MISSING_CLASS, Property, write_annotation_layer
from synapseclr.explorer.run_outputs import Column, RunOutputs
from synapseclr.storage.object_folder import ObjectFolder

_CENTRES = [f"centre_{axis}_nm" for axis in "xyz"]
_ROOTS = ("pre_root_id", "post_root_id")
_DEFAULTS = ("cluster", "pre_cell_type_probability", "pre_cell_type")
MAX_LINKED = 2_000
"""Synapses in a link to a set."""

_ORTHOGONAL = 0  # WEBKNOSSOS's viewing mode
# Okabe and Ito's colours, as in the figures; more classes repeat them.
_CLASS_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#f0e442", "#ffffff")


def results_table(outputs: RunOutputs) -> pd.DataFrame:
    """Join everything that a run knows of each synapse.

    Returns:
        One row a synapse: ``synapse_id``, root ids, ``centre_{x,y,z}_nm``, then a column for each one of the explorer:
        numbers, or names of classes; empty where a value is missing.
    """
    obs = outputs.synapses.obs
    table = pd.DataFrame({"synapse_id": outputs.synapse_id})
    for name in (*_ROOTS, *_CENTRES):
        if name in obs:
            table[name] = obs[name].to_numpy()
    columns = {name: _readable(column) for name, column in outputs.columns.items() if name not in table}
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)


def _readable(column: Column) -> np.ndarray:
    if not column.class_names:
        return column.values_n
    names = np.array([*column.class_names, None], dtype=object)
    return names[np.where(np.isnan(column.values_n), len(column.class_names), column.values_n).astype(int)]


def readable_values(column: Column, rows: np.ndarray) -> list[Any]:
    """Values of some rows as a table has them: numbers, names of classes, nothing where there is none."""
    values = column.values_n[rows].astype(np.float64).tolist()
    if column.class_names:
        return ["" if math.isnan(value) else column.class_names[int(value)] for value in values]
    return ["" if math.isnan(value) else value for value in values]


def chosen_column(outputs: RunOutputs, name: str | None) -> Column:
    """Find the column that a trait or cluster name means.

    Args:
        outputs: The run.
        name: Column's name or label; None: clusters, or else the presynaptic cell type.

    Raises:
        TableError: If there is no such column; names the nearest.
    """
    columns = outputs.columns
    if name is None:
        found = [columns[each] for each in _DEFAULTS if each in columns] or list(columns.values())
        if not found:
            raise TableError("The run has no trait, cluster or score to export: run --pipeline=imputation or manifold.")
        return found[0]
    of_label = {column.label: column for column in reversed(columns.values())}
    if name not in columns and name not in of_label:
        near = difflib.get_close_matches(name, [*columns, *of_label], n=3, cutoff=0.4)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise TableError(f"The run has no column '{name}'.{meant} `kedro synapseclr export csv` writes all of them.")
    return columns.get(name) or of_label[name]


def cave_reference_table(outputs: RunOutputs, name: str | None) -> pd.DataFrame:
    """Make a CAVE reference table: values that refer to the rows of the synapse table.

    Args:
        outputs: The run; its synapse ids are those of the synapse table.
        name: The column to export; see :func:`chosen_column`.

    Returns:
        ``id`` (from 1), ``target_id`` (the synapse's id), then ``tag`` for classes (schema ``reference_tag``), or
        ``value`` and ``value2``, its uncertainty, for numbers; synapses without a value are left out. 64-bit integers
        and texts, as ``caveclient`` uploads them.
    """
    column = chosen_column(outputs, name)
    rows = np.flatnonzero(np.isfinite(column.values_n))
    target_id = outputs.synapse_id[rows]
    table = pd.DataFrame({"id": np.arange(1, len(rows) + 1, dtype=np.int64), "target_id": target_id})
    if column.class_names:
        return table.assign(tag=[column.class_names[int(code)] for code in column.values_n[rows]])
    table["value"] = column.values_n[rows]
    spread = outputs.columns.get(_uncertainty_of(column.name))
    return table if spread is None else table.assign(value2=spread.values_n[rows])


def _uncertainty_of(name: str) -> str:
    return f"{name}_sd" if name.endswith("_probability") else f"{name.removesuffix('_mean')}_sd"


def webknossos_links(
    outputs: RunOutputs, dataset_url: str, voxel_size_nm: Sequence[float], zoom: float = 0.5
) -> pd.DataFrame:
    """Make a link to every synapse in a WEBKNOSSOS data set.

    Args:
        outputs: The run.
        dataset_url: Address of the data set's view, as the browser shows it.
        voxel_size_nm: Its voxel size (x, y, z), in which WEBKNOSSOS counts.
        zoom: Voxels per screen pixel.

    Returns:
        ``synapse_id``, ``webknossos_url``.

    Raises:
        TableError: If the address is none, or the run has no positions.
    """
    if not re.match(r"https?://", dataset_url):
        raise TableError(f"'{dataset_url}' is no address of a WEBKNOSSOS data set: it begins with https://.")
    place_n3 = np.floor(_positions(outputs) / np.asarray(voxel_size_nm, dtype=np.float64)).astype(np.int64)
    view = dataset_url.partition("#")[0]
    urls = [f"{view}#{x},{y},{z},{_ORTHOGONAL},{zoom:g}" for x, y, z in place_n3.tolist()]
    return pd.DataFrame({"synapse_id": outputs.synapse_id, "webknossos_url": urls})


def export_neuroglancer(outputs: RunOutputs, folder: str, name: str | None, served_at: str | None = None) -> str | None:
    """Write a run's synapses as a precomputed annotation layer, with all columns as properties.

    Annotations have the synapses' ids, and both neurites as related segments. ``neuroglancer_layer.json`` beside them
    is the layer as Neuroglancer's state has it, with the shader that colours by the column.

    Args:
        outputs: The run.
        folder: Path or URL to write to.
        name: The column to colour by; see :func:`chosen_column`.
        served_at: Address where a browser will find the folder; None: the folder's own, if a browser can read that.

    Returns:
        A link that opens the layer over the configured volumes; None if a browser can read neither.

    Raises:
        TableError: If the run has no positions or no such column.
    """
    coloured = chosen_column(outputs, name)
    properties = _properties(outputs, coloured)
    obs = outputs.synapses.obs
    related = {side: obs[side].to_numpy() for side in _ROOTS if side in obs}
    shader = colour_shader(properties[0].name, coloured)
    centres_n3 = _positions(outputs)
    write_annotation_layer(folder, outputs.synapse_id, centres_n3, properties, related)
    config, middle = outputs.neuroglancer, np.median(centres_n3, axis=0)
    layer = annotation_layer(served_at or folder, f"synapses by {coloured.label}", shader, config)
    ObjectFolder(folder).write("neuroglancer_layer.json", json.dumps(layer, indent=2).encode())
    return layer_url(tuple(middle.tolist()), layer, config)


def selection_link(
    outputs: RunOutputs, rows: Sequence[int] | np.ndarray, name: str | None, seed: int = 0
) -> tuple[str | None, int]:
    """Make a link that opens a set of synapses in Neuroglancer, coloured by a column.

    Everything is in the address, which browsers limit: of more than 2,000 synapses, that many are drawn at random.

    Args:
        outputs: The run.
        rows: Rows of the set, at least one.
        name: The column to colour by; see :func:`chosen_column`.
        seed: Seed of the draw.

    Returns:
        The link, None if a browser cannot read the volumes; and the number of synapses in it.

    Raises:
        TableError: If the run has no positions or no such column, or the set is empty.
    """
    if not len(rows):
        raise TableError("No synapse is selected: there is nothing to open.")
    column = chosen_column(outputs, name)
    chosen = np.asarray(rows, dtype=np.int64)
    if len(chosen) > MAX_LINKED:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, MAX_LINKED, replace=False))
    values_n = column.values_n[chosen]
    if column.class_names:
        values_n = np.where(np.isnan(values_n), MISSING_CLASS, values_n).astype(np.uint8)
    property_ = Property("value", str(column.label), values_n, column.class_names)
    centres_n3 = _positions(outputs)[chosen]
    shader = colour_shader(property_.name, column)
    ids = [str(identifier) for identifier in outputs.synapse_id[chosen]]
    # JSON has no NaN: Neuroglancer reads a value that no colour is given to.
    values = [float(value) if np.isfinite(value) else -3e38 for value in values_n]
    shader = shader.replace("value == value ?", "value > -1e38 ?")
    layer = point_layer(f"synapses by {column.label}", ids, centres_n3, (property_.entry, values), shader)
    return layer_url(tuple(np.median(centres_n3, axis=0).tolist()), layer, outputs.neuroglancer), len(chosen)


def _positions(outputs: RunOutputs) -> np.ndarray:
    """Centres of the synapses in nm, float64 (n, 3)."""
    obs = outputs.synapses.obs
    missing = [name for name in _CENTRES if name not in obs]
    if missing:
        raise TableError(f"The embeddings lack {', '.join(missing)}, so nothing can be placed in space.")
    return np.asarray(obs[_CENTRES].to_numpy(), dtype=np.float64)


def _properties(outputs: RunOutputs, first: Column) -> list[Property]:
    """Columns as properties of annotations, the one to colour by first."""
    columns = [first, *(column for column in outputs.columns.values() if column.name != first.name)]
    found: dict[str, Property] = {}
    for column in columns:
        identifier = re.sub(r"\W", "_", column.name.lower(), flags=re.ASCII)
        identifier = identifier if identifier[:1].isalpha() else f"p_{identifier}"
        if identifier in found:
            continue
        values_n: np.ndarray = column.values_n.astype(np.float32)
        if column.class_names:
            values_n = np.where(np.isnan(values_n), MISSING_CLASS, values_n).astype(np.uint8)
        label = f"{column.label} ({column.unit})" if column.unit else column.label
        found[identifier] = Property(identifier, label, values_n, column.class_names)
    return list(found.values())


def colour_shader(property_name: str, column: Column) -> str:
    """Write the shader that colours annotations by a property: grey where it is missing."""
    value = f"prop_{property_name}()"
    lines = ["#uicontrol float size slider(min=1, max=20, default=7)"]
    if column.class_names:
        colours = itertools.cycle(map(_vector, _CLASS_COLOURS))
        cases = [
            f"  if (value == {code}u) colour = {colour};  // {_plain(label)}"
            for code, (label, colour) in enumerate(zip(column.class_names, colours, strict=False))
        ]
        body = [f"  uint value = uint({value});", "  vec3 colour = vec3(0.5);", *cases]
    else:
        known_n = column.values_n[np.isfinite(column.values_n)]
        ends = np.quantile(known_n, [0.0, 0.02, 0.98, 1.0]).tolist() if len(known_n) else [0.0, 0.0, 1.0, 1.0]
        ends = ends if ends[3] > ends[0] else [ends[0], ends[0], ends[0] + 1, ends[0] + 1]
        for control, default in (("lowest", ends[1]), ("highest", ends[2])):
            lines.append(f"#uicontrol float {control} slider(min={ends[0]:g}, max={ends[3]:g}, default={default:g})")
        body = [
            f"  float value = {value};",
            "  float share = clamp((value - lowest) / max(highest - lowest, 1e-9), 0.0, 1.0);",
            "  vec3 colour = value == value ? colormapJet(share) : vec3(0.5);  // a missing value equals nothing",
        ]
    lines += ["void main() {", *body, "  setColor(colour);", "  setPointMarkerSize(size);", "}"]
    return "\n".join(lines) + "\n"


def _vector(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return f"vec3({red:.3f}, {green:.3f}, {blue:.3f})"


def _plain(label: Any) -> str:
    return re.sub(r"\s+", " ", str(label)).replace("\\", "/")
