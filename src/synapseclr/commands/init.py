"""``kedro synapseclr init``: write a configuration environment for one's own volumes and table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synapseclr.errors import ConfigurationError, TableError

if TYPE_CHECKING:
    import pandas as pd

    from synapseclr.volumes.layers.layer import VolumeLayer
    from synapseclr.volumes.proposals import VoxelSize

_LAYERS = {"em": "EM volume", "segmentation": "segmentation volume", "clefts": "cleft volume"}
_ZARR = re.compile(r"(?i)^(?!n5://|zarr[23]?://|precomputed://).*\.(zarr|ozx|zip)(/|$)")
_HDF5 = re.compile(r"(?i)^(.*\.(?:hdf5?|h5))/(.+)$")
_FEW = 72  # synapses with which the batches of conf/base are larger than the training set
_RESERVED = ("base", "local")


@click.command()
@click.argument("name")
@click.option("--em", required=True, metavar="ADDRESS", help="EM volume: a path, gs://, s3:// or https://.")
@click.option("--segmentation", required=True, metavar="ADDRESS", help="Volume of root ids.")
@click.option("--cleft", default=None, metavar="ADDRESS", help="Volume of cleft ids; without it clefts are painted.")
@click.option(
    "--table", required=True, metavar="FILE", help="Synapse table: CSV, TSV, Parquet, Feather or CREMI's HDF5."
)
@click.option("--form", default="auto", show_default=True, help="Form of the table: docs/own_data.md lists them.")
@click.option("--unit-nm", default=None, metavar="X,Y,Z", help="Size in nm of one unit of the table's positions.")
@click.option("--polyadic", default="pairs", show_default=True, type=click.Choice(["pairs", "connectors"]))
@click.option("--annotations", default=None, metavar="FILE", help="Annotation table (CSV), if there is one.")
@click.option("--voxel-size", default=None, metavar="X,Y,Z", help="Voxel size of the chunks in nm; found by default.")
@click.option("--anonymous", is_flag=True, help="The volumes are in public buckets.")
def init(
    name: str,
    em: str,
    segmentation: str,
    cleft: str | None,
    table: str,
    form: str,
    unit_nm: str | None,
    polyadic: str,
    annotations: str | None,
    voxel_size: str | None,
    anonymous: bool,
) -> None:
    """Write the environment conf/NAME for volumes and a table of one's own.

    Opens the layers and the table, finds voxel sizes, form and units, and proposes sizes of chunks. An environment that
    is there already is left alone.
    """
    from synapseclr.commands.run import open_project
    from synapseclr.hooks.error_sentences import in_sentences

    with in_sentences():
        folder = _free_folder(open_project() / "conf", name)
        addresses = {"em": em, "segmentation": segmentation} | ({"clefts": cleft} if cleft else {})
        source = TableSource(table, form, polyadic, _three(unit_nm, "--unit-nm"), annotations)
        environment = _survey(name, addresses, source, _three(voxel_size, "--voxel-size"), anonymous)
        for place, text in environment.files().items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text)
            click.echo(f"written: conf/{name}/{place}")
    click.echo(f"Next: kedro synapseclr check --env {name}")


@dataclass(frozen=True)
class TableSource:
    """A synapse table and how it is read.

    Attributes:
        filepath: Its address.
        form: Name of its form, or ``auto``.
        polyadic: ``pairs`` or ``connectors``.
        unit_nm: Size in nm of one unit of its positions; None where table or form tell it.
        annotations: Address of the annotation table; None if there is none.
    """

    filepath: str
    form: str
    polyadic: str
    unit_nm: VoxelSize | None
    annotations: str | None


@dataclass(frozen=True)
class Environment:
    """Settings of an environment, and the files that hold them.

    Attributes:
        name: Its folder below ``conf``.
        addresses: Of the layers ``em``, ``segmentation`` and, if there are any, ``clefts``.
        source: The synapse table, with its form and the unit of its positions.
        voxel_size_nm: Of the chunks (x, y, z).
        chunk_size_vx: Voxels of a chunk (x, y, z).
        crop_vx: Voxels along x of the cube that the network sees.
        n_synapses: Rows of the table.
        is_public: Whether the volumes are read without an account.
    """

    name: str
    addresses: Mapping[str, str]
    source: TableSource
    voxel_size_nm: VoxelSize
    chunk_size_vx: tuple[int, int, int]
    crop_vx: int
    n_synapses: int
    is_public: bool

    def files(self) -> dict[str, str]:
        """Text of every file, by its path in the environment's folder."""
        files = {"globals.yml": self._globals(), "preprocessing/catalog.yml": self._catalog()}
        if "clefts" not in self.addresses:
            files["preprocessing/parameters.yml"] = _PAINTED
        if self.n_synapses < _FEW:
            files["pretraining/parameters.yml"] = (
                f"pretraining:\n  batch_size: 8    # of {self.n_synapses} synapses in all; larger is better\n"
            )
        return files

    def _globals(self) -> str:
        size = self.voxel_size_nm
        extent = " x ".join(f"{n * s / 1000:.2f}" for n, s in zip(self.chunk_size_vx, size, strict=True))
        lines = [
            "# Written by `kedro synapseclr init`. What else can be set: docs/own_data.md, docs/configuration.md.",
            f"data_root: data/{self.name}",
            f"voxel_size_nm: {_listed(size)}",
            f"axial_to_sagittal_spacing: {size[2] / size[0]:.9g}",
            f"chunk_size_vx: {_listed(self.chunk_size_vx)}".ljust(39) + f" # {extent} um",
            f"final_crop_size: {self.crop_vx}".ljust(39) + f" # {self.crop_vx * size[0] / 1000:.2f} um",
            "sources:",
            *(f"  {layer}: {_quoted(address)}" for layer, address in self.addresses.items() if _is_plain(address)),
            f"  credentials: {'{token: anon}' if self.is_public else 'null'}",
            "  fill_missing: false".ljust(39) + " # true: label layers were written without their empty blocks",
        ]
        return "\n".join(lines) + "\n"

    def _catalog(self) -> str:
        entries = []
        for layer, address in self.addresses.items():  # those of another kind than conf/base reads
            if not _is_plain(address):
                kind, arguments = _arguments(address)
                entry = _LAYERS[layer].replace(" ", "_").lower()
                arguments |= {"role": _LAYERS[layer], "metadata": "{kedro-viz: {layer: raw}}"}
                entries.append(_entry(entry, kind, arguments))
        source = self.source
        arguments = {"filepath": _quoted(source.filepath)}
        if source.form != "auto":
            arguments["form"] = source.form
        if source.unit_nm is not None:
            arguments["unit_nm"] = _listed(source.unit_nm)
        if source.polyadic != "pairs":
            arguments["polyadic"] = source.polyadic
        if self.is_public and "://" in source.filepath:
            arguments["credentials"] = "{token: anon}"
        entries.append(_entry("synapse_table", "SynapseTableDataset", arguments | {"metadata": _TABLE_METADATA}))
        if source.annotations:
            comment, where, dataset = "", _quoted(source.annotations), "CSVDataset"
        else:
            comment = "# No annotations until there is such a file: `syn_id` and columns of traits.\n"
            where, dataset = f"{_DATA_ROOT}/01_raw/annotations.csv", "OptionalCSVDataset"
        annotations = {"filepath": where, "validator": _ANNOTATIONS, "metadata": _TABLE_METADATA}
        entries.append(comment + _entry("annotation_table", dataset, annotations))
        return "\n".join(entries)


_DATA_ROOT = "${runtime_params:data_root,${globals:data_root}}"
_TABLE_METADATA = "{kedro-viz: {layer: raw, preview_args: {nrows: 10}}}"
_ANNOTATIONS = '{class: synapseclr.volumes.check_annotation_table, "on": [load]}'
_PAINTED = (
    "preprocessing:\n  cleft: painted                        # at the contact of the two segments: docs/layers.md\n"
)


def _entry(name: str, dataset: str, arguments: Mapping[str, str]) -> str:
    lines = [
        f"{name}:",
        f"  type: synapseclr.datasets.{dataset}",
        *(f"  {key}: {text}" for key, text in arguments.items()),
    ]
    return "\n".join(lines) + "\n"


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.9g}' for value in values)}]"


def _quoted(text: str) -> str:
    """A text as YAML takes it."""
    return text if re.fullmatch(r"[\w./~:@+=-]+", text) and ": " not in text else json.dumps(text)


def _as_size(size_nm: Sequence[float]) -> str:
    return " x ".join(f"{value:.9g}" for value in size_nm) + " nm"


def _arguments(address: str) -> tuple[str, dict[str, str]]:
    """The dataset that reads a layer, and its arguments."""
    if found := _HDF5.match(address):
        return "Hdf5VolumeDataset", {"filepath": _quoted(found[1]), "array": found[2]}
    return ("OmeZarrVolumeDataset" if _ZARR.match(address) else "PrecomputedVolumeDataset"), {
        "filepath": _quoted(address)
    }


def _is_plain(address: str) -> bool:
    """Tell whether the entries of ``conf/base`` read a layer, once they have its address."""
    return _arguments(address)[0] == "PrecomputedVolumeDataset"


def _free_folder(configuration: Path, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z]\w*", name) or name in _RESERVED:
        raise ConfigurationError(
            f"An environment cannot be called '{name}'. Use letters, digits and '_', a letter first, and neither "
            f"{' nor '.join(_RESERVED)}."
        )
    folder = configuration / name
    if folder.exists():
        raise ConfigurationError(
            f"conf/{name} is there already, and is not overwritten. Choose another name, or remove the folder first."
        )
    return folder


def _three(text: str | None, option: str) -> VoxelSize | None:
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in re.split(r"[,x\s]+", text.strip(" []")))
    except ValueError:
        x = y = z = 0.0
    if min(x, y, z) <= 0:
        raise ConfigurationError(f"{option} is '{text}', expected three lengths in nm, such as 8,8,40.")
    return x, y, z


def _survey(
    name: str, addresses: Mapping[str, str], source: TableSource, wanted_nm: VoxelSize | None, is_public: bool
) -> Environment:
    """Open layers and table, print what was found, and propose the environment."""
    import numpy as np

    from synapseclr.volumes import proposals
    from synapseclr.volumes.synapse_table import UNIT_NM
    from synapseclr.volumes.table_forms import FORM

    layers = {layer: _layer(layer, address, is_public) for layer, address in addresses.items()}
    sizes = {layer: proposals.voxel_sizes_nm(handle) for layer, handle in layers.items()}
    for layer, found in sizes.items():
        click.echo(f"{_LAYERS[layer]}: {', '.join(map(_as_size, found))}")
    size_nm = wanted_nm or proposals.propose_voxel_size(list(sizes.values()))
    others = [_LAYERS[layer] for layer, found in sizes.items() if not proposals.is_among(size_nm, found)]
    click.echo(f"chunks: {_as_size(size_nm)}" + (f"; to be resampled: {', '.join(others)}" if others else ""))
    em_nm = proposals.nearest_size(size_nm, sizes["em"])
    em = layers["em"].at_resolution(em_nm)
    extent_nm = np.asarray((em.upper_vx - em.lower_vx) * em_nm, np.float64)
    chunk_size_vx = proposals.propose_chunk_size(size_nm, extent_nm)

    synapses = _read_table(source, is_public)
    if "ctr_pos_x_vx" in synapses and source.unit_nm is None:
        source = replace(source, unit_nm=_unit(synapses, layers["segmentation"], size_nm, sizes))
    unit_nm = source.unit_nm or synapses.attrs[UNIT_NM]
    told = f"form {synapses.attrs[FORM]}, positions in units of {_as_size(unit_nm)}"
    click.echo(f"synapse table: {len(synapses):,} synapses, {told}")
    crop_vx = proposals.propose_crop_size(size_nm, chunk_size_vx)
    return Environment(name, addresses, source, size_nm, chunk_size_vx, crop_vx, len(synapses), is_public)


def _layer(layer: str, address: str, is_public: bool) -> VolumeLayer:
    from synapseclr import datasets

    kind, arguments = _arguments(address)
    arguments = {key: text.strip('"') for key, text in arguments.items()} | {"role": _LAYERS[layer]}
    credentials = {"credentials": {"token": "anon"}} if is_public else {}
    if kind == "PrecomputedVolumeDataset":
        arguments["layer_type"] = "image" if layer == "em" else "segmentation"
    handle: VolumeLayer = getattr(datasets, kind)(**arguments, **credentials).load()
    return handle


def _read_table(source: TableSource, is_public: bool) -> pd.DataFrame:
    """The table in the standard form."""
    from synapseclr.datasets import SynapseTableDataset

    credentials = {"token": "anon"} if is_public and "://" in source.filepath else None
    table: pd.DataFrame = SynapseTableDataset(
        filepath=source.filepath,
        form=source.form,
        unit_nm=source.unit_nm,
        polyadic=source.polyadic,  # type: ignore[arg-type]
        credentials=credentials,
    ).load()
    if not len(table):
        raise TableError(f"{source.filepath} has no synapses. Name a table with a row for each.")
    return table


def _unit(
    synapses: pd.DataFrame, segmentation: VolumeLayer, size_nm: VoxelSize, sizes: Mapping[str, Sequence[VoxelSize]]
) -> VoxelSize:
    from synapseclr.volumes import proposals

    read_nm = proposals.nearest_size(size_nm, sizes["segmentation"])
    every = [size_nm, *(size for found in sizes.values() for size in found)]
    fit = proposals.find_unit(synapses, segmentation.at_resolution(read_nm), read_nm, every)
    if fit is None:
        raise TableError(
            "The unit of the table's positions was not found: read as voxels of any layer, as nm or as um, less than "
            f"half of the synapses have both neurites nearby in the {segmentation.role} at {segmentation.uri}. Take "
            "table and segmentation of one version; if they are, name the unit as --unit-nm, and `kedro synapseclr "
            "check` says what does not fit."
        )
    click.echo(f"{100 * fit.fitting:.0f} % of the synapses tried have both neurites where they should be")
    return fit.unit_nm
