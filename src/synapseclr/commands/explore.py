"""``kedro explore``: a web page over a run's outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synapseclr.commands.run import opened_catalog
from synapseclr.storage.addresses import is_local, plain_address

if TYPE_CHECKING:
    from kedro.io import DataCatalog

    from synapseclr.explorer.run_outputs import RunOutputs

_TABLES = {
    "imputed_traits": "Traits are not imputed yet: `kedro run --pipeline=imputation`.",
    "outlier_scores": "Outliers are not scored yet: `kedro run --pipeline=outliers`.",
    "neurite_cell_types": "",
    "neurite_classes": "",
    "synapse_orientations": "",
    "occlusion_effects": "",
    "annotation_scales": "",
}
_MAPPED = ("imputed_traits", "outlier_scores", "synapse_orientations")  # they have a row per synapse
_ACCEPTED = "accepted_defects"


@click.command()
@click.option("--env", "-e", default=None, help="Configuration environment whose outputs are shown.")
@click.option("--params", default="", metavar="NAME=VALUE,...", help="Such as data_root=gs://bucket/prefix.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.option("--export", "folder", default=None, type=click.Path(path_type=Path), help="Write a static copy and end.")
@click.option(
    "--export-pictures", default=1000, show_default=True, type=click.IntRange(0), help="Synapses pictured in the copy."
)
def explore(
    env: str | None, params: str, port: int, no_browser: bool, folder: Path | None, export_pictures: int
) -> None:
    """Look at synapses in a web page.

    Opens a page over the outputs of a run, local or in a bucket, on this machine's loopback address. With --export, the
    page is written as a folder of files that any web server can serve. See docs/explorer.md.
    """
    from synapseclr.hooks.error_sentences import in_sentences

    with in_sentences():
        outputs = load_outputs(env, params)
        if folder is not None:
            _export(outputs, folder, export_pictures)
        else:
            _serve(outputs, port, no_browser)


def load_outputs(env: str | None, params: str) -> RunOutputs:
    """Read the outputs of a run that the catalog has.

    Raises:
        SynapseCLRError: If there are no embeddings.
    """
    from kedro.io import DatasetError

    from synapseclr.analysis.feature_rows import is_lazy
    from synapseclr.analysis.neuroglancer import NeuroglancerConfig
    from synapseclr.errors import SynapseCLRError, TableError
    from synapseclr.explorer.label_tables import LabelTables
    from synapseclr.explorer.run_outputs import NO_INDEX, MappedSynapses, RunOutputs
    from synapseclr.storage.addresses import is_local, plain_address
    from synapseclr.volumes import Traits

    with opened_catalog(env, params) as catalog:
        notes: list[str] = []

        def optional(name: str, otherwise: str) -> Any:
            """Load an entry; a missing or damaged one becomes a note on the page."""
            try:
                if name in catalog and catalog.exists(name):
                    return catalog.load(name)
            except (DatasetError, SynapseCLRError, OSError) as error:
                otherwise = f"{name} cannot be read: {str(error).strip().splitlines()[-1]}"
            if otherwise:
                notes.append(otherwise)
            return None

        matrix = _large_matrix(catalog)
        synapses: Any = None
        if matrix is None:
            synapses = optional("synapse_manifold", "There is no manifold yet: `kedro run --pipeline=manifold`.")
        elif matrix[0] != "synapse_manifold":
            notes.append("There is no manifold yet: `kedro run --pipeline=manifold`.")
        if synapses is None and matrix is None:
            synapses = optional("synapse_embeddings", "")
        if synapses is None and matrix is None:
            raise TableError(
                "There is nothing to explore: neither synapse_manifold nor synapse_embeddings can be read. "
                f"{' '.join(notes)} Run `kedro run --pipeline=demo`, or name the outputs with --env and "
                "--params=data_root=..."
            )
        chunks = optional("synapse_chunks", "There are no chunks here, hence no pictures.")
        try:
            if chunks is not None:
                len(chunks)
        except SynapseCLRError as error:
            notes.append(f"There are no pictures. {error}")
            chunks = None
        paths = {name: _local_path(catalog, name) for name in _MAPPED if matrix is not None and catalog.exists(name)}
        mapped = {name: path for name, path in paths.items() if path is not None}
        tables = {name: optional(name, otherwise) for name, otherwise in _TABLES.items() if name not in mapped}
        folder = catalog.load("synapse_labels")
        index_folder = catalog.load("feature_index_folder")
        labels = LabelTables(folder)
        notes += [f"The labels of {name} are left out: {why}." for name, why in labels.read().damaged.items()]
        found = RunOutputs(
            synapses=MappedSynapses() if matrix is not None else synapses,
            chunks=chunks,
            tables={name: table for name, table in tables.items() if table is not None},
            neuroglancer=NeuroglancerConfig.model_validate(catalog.load("params:neuroglancer")),
            labels=labels,
            accepted_defects=catalog.get(_ACCEPTED) if _ACCEPTED in catalog else None,
            notes=tuple(notes),
            title=_title(env, folder.rpartition("/07_model_output")[0]),
            traits=Traits.model_validate(catalog.load("params:traits")),
            index_folder=plain_address(index_folder) if is_local(index_folder) else None,
        )
        if matrix is not None:
            from synapseclr.explorer.mapped_run import mapped_outputs

            found = mapped_outputs(found, matrix[1], mapped, plain_address(catalog.load("explorer_columns")))
        if is_lazy(found.synapses.X) and found.index is None:
            return replace(found, notes=(*found.notes, NO_INDEX))
        return found


def _local_path(catalog: DataCatalog, name: str) -> Path | None:
    path: Path | None = getattr(catalog.get(name), "local_path", None)
    return path


def _large_matrix(catalog: DataCatalog) -> tuple[str, Path] | None:
    """Name and path of the manifold, else of the embeddings, if it is on this machine and above 300,000 synapses."""
    from kedro.io import DatasetError

    from synapseclr.explorer.mapped_run import stored_rows
    from synapseclr.explorer.run_outputs import TILES_ABOVE

    for name in ("synapse_manifold", "synapse_embeddings"):
        try:
            if catalog.exists(name):
                path = _local_path(catalog, name)
                if path is None or not is_local(catalog.load("explorer_columns")):
                    return None
                return (name, path) if stored_rows(path) > TILES_ABOVE else None
        except (DatasetError, OSError, ValueError):  # said by who reads it
            return None
    return None


def _title(env: str | None, root: str) -> str:
    """Name a run without the path of this machine: environment, and the address in a bucket or the folder's name."""
    folder = Path(plain_address(root)).resolve() if is_local(root) else None
    place = root if folder is None else folder.parent.name if folder.name == "data" else folder.name
    return " · ".join(dict.fromkeys(part for part in (env, place) if part)) or "synapses"


def _serve(outputs: RunOutputs, port: int, no_browser: bool) -> None:
    from synapseclr.explorer.web_server import HOST, create_app, make_explorer_server

    for prepared in ("index", "columns"):  # computed now, so that the first request does not wait
        getattr(outputs, prepared)
    server = make_explorer_server(create_app(outputs), port)
    address = f"http://{HOST}:{server.port}/"
    click.echo(f"{len(outputs):,} synapses on {address}  (Ctrl-C ends)")
    if not no_browser:
        click.launch(address)
    server.serve_forever()  # returns at Ctrl-C
    click.echo("The explorer has ended.")


def _export(outputs: RunOutputs, folder: Path, max_pictured: int) -> None:
    from synapseclr.explorer.static_export import export_explorer

    n_pictured = export_explorer(outputs, folder, max_pictured)
    click.echo(
        f"{folder}: {len(outputs):,} synapses, {n_pictured:,} with pictures. Look at it with "
        f"`python -m http.server --directory {folder}`."
    )
