"""``kedro synapseclr chunks`` and ``mlflow``: verify the chunk store, and send entries that MLflow did not get."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click

from synapseclr.commands.run import opened_catalog


@click.group(name="synapseclr")
def synapseclr() -> None:
    """Look after what SynapseCLR has stored."""


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
    from synapseclr.tracking.unsent import send_all

    try:
        for sent in send_all(place, tracking_uri):
            click.echo(f"Run {sent.run_id}: {sent.n_entries} entries sent.")
            for command in sent.commands:
                click.echo(f"Still to be done: {command}")
    except SynapseCLRError as error:
        raise click.ClickException(str(error)) from error
