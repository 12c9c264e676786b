"""``kedro synapseclr check``: look at tables and volumes without cutting anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synapseclr.commands.run import opened_catalog

if TYPE_CHECKING:
    from kedro.io import DataCatalog

    from synapseclr.volumes.preflight import InputCheck

_LAYERS = ("em_volume", "segmentation_volume", "cleft_volume")
_TABLES = ("synapse_table", "annotation_table")


@click.command()
@click.option("--env", "-e", default=None, help="Configuration environment whose tables and volumes are checked.")
@click.option("--params", default="", metavar="NAME=VALUE,...", help="Such as data_root=gs://bucket/prefix.")
@click.option("--picture", default=None, type=click.Path(path_type=Path), help="Where to write the first chunk (PNG).")
def check(env: str | None, params: str, picture: Path | None) -> None:
    """Check tables and volumes before anything is cut.

    Prints the layers (scale, bounds, type, codec) and how a sample of the synapses fits them, and draws the first
    chunk. Ends with status 1 if preprocessing would stop, else with 0. Nothing else is written.
    """
    from synapseclr.hooks.error_sentences import in_sentences

    with in_sentences(), opened_catalog(env, params) as catalog:
        errors = _check(catalog, picture)
    if errors:
        raise click.ClickException(f"{errors} of these would stop preprocessing. Nothing was cut.")
    click.echo("Preprocessing can begin: kedro run --pipeline=preprocessing" + (f" --env={env}" if env else ""))


def _check(catalog: DataCatalog, picture: Path | None) -> int:
    """Print and draw the result of the check; returns the number of errors."""
    from kedro.io import DatasetError

    from synapseclr.errors import SynapseCLRError
    from synapseclr.hooks.error_sentences import sentence_of
    from synapseclr.pipelines.preprocessing.nodes import draw_first_chunk, inspect
    from synapseclr.volumes import PreprocessingConfig, Traits
    from synapseclr.volumes.preflight import describe

    config = PreprocessingConfig.model_validate(catalog.load("params:preprocessing"))
    traits = Traits.model_validate(catalog.load("params:traits"))
    loaded: dict[str, Any] = {}
    broken = []
    for name in (*_LAYERS, *_TABLES, "chunk_source"):
        try:
            loaded[name] = catalog.load(name)
        except (DatasetError, SynapseCLRError, OSError) as error:
            broken.append(f"{name} cannot be used. {sentence_of(error) or error}")
    for text in broken:
        click.echo(f"ERROR    {text}")
    if broken:
        return len(broken)
    layers = (loaded["em_volume"], loaded["segmentation_volume"], loaded["cleft_volume"])
    found: InputCheck = inspect(
        layers, loaded["synapse_table"], loaded["annotation_table"], config, loaded["chunk_source"], traits
    )
    click.echo(describe(found))
    if found.first_chunk is not None:
        figure = draw_first_chunk(found, config)
        if picture is None:
            catalog.save("first_chunk", figure)
            click.echo(f"first chunk: {getattr(catalog['first_chunk'], '_filepath', 'first_chunk')}")
        else:
            figure.savefig(picture, dpi=150, bbox_inches="tight")
            click.echo(f"first chunk: {picture}")
    for text in found.warnings:
        click.echo(f"warning  {text}")
    for text in found.errors:
        click.echo(f"ERROR    {text}")
    return len(found.errors)
