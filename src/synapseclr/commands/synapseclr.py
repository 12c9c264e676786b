"""``kedro synapseclr``: ``check`` tables and volumes, verify the chunk store, and send what MLflow did not get.

The program ``synapseclr`` is the same group without Kedro's start, since ``new`` is needed before there is a project.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from synapseclr import __version__
from synapseclr.commands.export import export
from synapseclr.commands.init import init
from synapseclr.commands.new import new
from synapseclr.commands.run import opened_catalog

if TYPE_CHECKING:
    from kedro.io import DataCatalog

    from synapseclr.volumes.preflight import InputCheck

_LAYERS = ("em_volume", "segmentation_volume", "cleft_volume")
_TABLES = ("synapse_table", "annotation_table")


@click.group(name="synapseclr")
@click.version_option(__version__, message="%(prog)s %(version)s")
def synapseclr() -> None:
    """Write projects and environments, check inputs, and look after what SynapseCLR has stored.

    Pipelines are run by `kedro run`, in the folder of a project.
    """


for _command in (export, init, new):
    synapseclr.add_command(_command)


@synapseclr.group()
def chunks() -> None:
    """Look after the chunk store."""


@chunks.command()
@click.option("--env", "-e", default=None, help="Configuration environment whose synapse_chunks are checked.")
@click.option("--params", default="", metavar="NAME=VALUE,...", help="Such as data_root=gs://bucket/prefix.")
@click.option("--store", default=None, metavar="URL", help="Another store: local path or fsspec URL.")
@click.option("--repair", is_flag=True, help="Drop damaged shards, so that preprocessing cuts them again.")
def verify(env: str | None, params: str, store: str | None, repair: bool) -> None:
    """Check every shard of the chunk store against its checksums.

    Names the damaged shards and their synapses, and then ends with status 1. With --repair, damaged shards are taken
    out of the store's record: `kedro run --pipeline=preprocessing` with the same inputs then cuts them, and only them.
    """
    from synapseclr.hooks.error_sentences import in_sentences
    from synapseclr.volumes.store.verification import verify_chunk_store

    with in_sentences():
        url, options = (store, None) if store else _catalogued(env, params)
        found = verify_chunk_store(url, options, repair=repair)
    for shard in found.damaged:
        click.echo(str(shard))
    for name in found.damaged_arrays:
        click.echo(f"The array {name} differs from the shards' records.")
    state = "complete" if found.is_complete else "unfinished"
    click.echo(
        f"{url} ({state}): {found.n_shards} shards, {len(found.damaged)} damaged, {found.n_synapses} synapses intact."
    )
    if found.is_intact:
        return
    if not repair:
        raise click.ClickException("The store is damaged. Add --repair to drop what is damaged.")
    advice = "The arrays were written anew."
    if found.damaged:
        advice = "Run `kedro run --pipeline=preprocessing` to cut the dropped shards again."
    raise click.ClickException(f"The store was damaged and has been repaired. {advice}")


def _catalogued(env: str | None, params: str) -> tuple[str, dict[str, object] | None]:
    """Address and options of the catalog's synapse_chunks."""
    with opened_catalog(env, params) as catalog:
        handle = cast(Any, catalog.load("synapse_chunks"))
    return handle.url, handle.storage_options


@synapseclr.group()
def mlflow() -> None:
    """Look after what runs tell MLflow."""


@mlflow.command()
@click.argument("place", type=click.Path(path_type=Path))
@click.option("--tracking-uri", default=None, help="Address of the server; by default the one that the run had.")
def send(place: Path, tracking_uri: str | None) -> None:
    """Send what a run could not tell MLflow while it was away.

    PLACE is the file that the run's last warning names, or the folder with all of them. A file is removed when MLflow
    has everything in it.
    """
    from synapseclr.errors import SynapseCLRError
    from synapseclr.tracking.outbox import send_all

    try:
        for sent in send_all(place, tracking_uri):
            click.echo(f"Run {sent.run_id}: {sent.n_entries} entries sent.")
            for command in sent.commands:
                click.echo(f"Still to be done: {command}")
    except SynapseCLRError as error:
        raise click.ClickException(str(error)) from error


@synapseclr.command()
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


@synapseclr.command()
@click.argument("vesicles")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--env", "-e", default=None, help="Configuration environment whose synapse table is meant.")
@click.option("--params", default="", metavar="NAME=VALUE,...", help="Such as data_root=gs://bucket/prefix.")
@click.option("--radius-nm", default=300.0, show_default=True, help="Distance from the contact that counts.")
def sides(vesicles: str, output: Path, env: str | None, params: str, radius_nm: float) -> None:
    """Find the presynaptic sides of a table that does not know them, by a mask of vesicles.

    VESICLES is the address of a label layer; of the two neurites, the one with more of its voxels near their contact is
    presynaptic. Writes the synapse table with the column presynaptic_root_id and with positions in nm to OUTPUT (CSV),
    for the catalog to name.
    """
    from synapseclr.hooks.error_sentences import in_sentences
    from synapseclr.storage.addresses import file_url
    from synapseclr.volumes import PrecomputedLayer, PreprocessingConfig, check_synapse_table
    from synapseclr.volumes.sides import find_sides, positions_in_nm
    from synapseclr.volumes.synapse_table import PRESYNAPTIC

    with in_sentences(), opened_catalog(env, params) as catalog:
        config = PreprocessingConfig.model_validate(catalog.load("params:preprocessing"))
        synapses = check_synapse_table(catalog.load("synapse_table"), config.position_unit_nm)
        layer = PrecomputedLayer(file_url(vesicles), "vesicle volume", layer_type="segmentation")
        found = find_sides(catalog.load("segmentation_volume"), layer, synapses, config, radius_nm)
        positions_in_nm(found, config.position_unit_nm).to_csv(output, index=False)
    n_known, n_swapped = (found[PRESYNAPTIC] != 0).sum(), (found[PRESYNAPTIC] == found["post_root_id"]).sum()
    click.echo(f"{output}: the sides of {n_known} of {len(found)} synapses; {n_swapped} of them stood the other way.")
