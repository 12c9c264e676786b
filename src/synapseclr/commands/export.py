"""``kedro synapseclr export``: a run's results for Neuroglancer, CAVE, WEBKNOSSOS and spreadsheets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

_COLOUR_HELP = (
    "Column or label of a trait, cluster or score; by default the clusters, or else the presynaptic cell type."
)


def _of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which run is exported, and where to."""
    options = (
        click.option("--env", "-e", default=None, help="Configuration environment whose outputs are exported."),
        click.option("--params", default="", metavar="NAME=VALUE,...", help="Such as data_root=gs://bucket/prefix."),
        click.option(
            "--out", required=True, metavar="PATH", help="What to write: a file, or a folder for Neuroglancer."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def export() -> None:
    """Export a run's results to other tools."""


@export.command()
@_of_a_run
def csv(env: str | None, params: str, out: str) -> None:
    """Write all that is known of each synapse: ids, positions, sizes, traits, clusters, scores (.csv or .parquet)."""
    from synapseclr.explorer.exports import results_table

    _write_table(env, params, out, results_table)


@export.command()
@_of_a_run
@click.option("--column", default=None, metavar="NAME", help=_COLOUR_HELP)
def cave(env: str | None, params: str, out: str, column: str | None) -> None:
    """Write a CAVE reference table (CSV): id, target_id (the synapse), and tag, or value and its uncertainty."""
    from synapseclr.explorer.exports import cave_reference_table

    _write_table(env, params, out, lambda outputs: cave_reference_table(outputs, column))


@export.command()
@_of_a_run
@click.option("--dataset", required=True, metavar="URL", help="Address of the data set in WEBKNOSSOS.")
@click.option("--voxel-size", required=True, metavar="X,Y,Z", help="Voxel size of the data set there, in nm.")
@click.option("--zoom", default=0.5, show_default=True, type=click.FloatRange(0, min_open=True), help="Voxels a pixel.")
def webknossos(env: str | None, params: str, out: str, dataset: str, voxel_size: str, zoom: float) -> None:
    """Write a link to every synapse in WEBKNOSSOS (CSV: synapse_id, webknossos_url)."""
    from synapseclr.explorer.exports import webknossos_links

    size_nm = _three_numbers(voxel_size)
    _write_table(env, params, out, lambda outputs: webknossos_links(outputs, dataset, size_nm, zoom))


@export.command()
@_of_a_run
@click.option("--colour-by", default=None, metavar="NAME", help=_COLOUR_HELP)
@click.option("--served-at", default=None, metavar="URL", help="Where browsers will find the folder, if not at --out.")
def neuroglancer(env: str | None, params: str, out: str, colour_by: str | None, served_at: str | None) -> None:
    """Write the synapses as a precomputed annotation layer, coloured by a trait or by clusters.

    PATH may be a bucket, gs://bucket/prefix. The link opens the layer over the volumes of the parameters
    `neuroglancer`; neuroglancer_layer.json, in the folder, is the layer to paste into a state of your own.
    """
    from synapseclr.commands.explore import load_outputs
    from synapseclr.explorer.exports import export_neuroglancer
    from synapseclr.hooks.error_sentences import in_sentences

    with in_sentences():
        outputs = load_outputs(env, params)
        link = export_neuroglancer(outputs, out, colour_by, served_at)
    click.echo(f"{out}: {len(outputs):,} synapses.")
    click.echo(
        link
        or "No link: a browser cannot read this folder. Copy it to a bucket or a web server, and give --served-at URL."
    )


def _write_table(env: str | None, params: str, out: str, make: Callable[[Any], pd.DataFrame]) -> None:
    from synapseclr.commands.explore import load_outputs
    from synapseclr.errors import ConfigurationError
    from synapseclr.hooks.error_sentences import in_sentences
    from synapseclr.storage.atomic_files import written_whole

    with in_sentences():
        if Path(out).suffix not in (".csv", ".parquet"):
            raise ConfigurationError(f"--out {out}: expected a name that ends in .csv or .parquet.")
        table = make(load_outputs(env, params))
        with written_whole(out) as partial:
            if Path(out).suffix == ".parquet":
                table.to_parquet(partial, index=False)
            else:
                table.to_csv(partial, index=False)
    click.echo(f"{out}: {len(table):,} rows, columns {', '.join(map(str, table.columns[:8]))}{_more(table)}.")


def _more(table: pd.DataFrame) -> str:
    return f" and {len(table.columns) - 8} more" if len(table.columns) > 8 else ""


def _three_numbers(text: str) -> tuple[float, float, float]:
    parts = text.strip("[]() ").split(",")
    try:
        x, y, z = (float(part) for part in parts)
    except ValueError:
        raise click.BadParameter(f"'{text}' are not three numbers, such as 11.24,11.24,28.") from None
    if min(x, y, z) <= 0:
        raise click.BadParameter(f"'{text}' has a size that is not above 0.")
    return x, y, z
