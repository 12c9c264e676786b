"""``kedro synapseclr chunks``: look after the chunk store."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click


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
    from kedro.framework.session import KedroSession

    from synapseclr.commands.sweep import parse_assignments
    from synapseclr.hooks import untracked

    given = parse_assignments(params)
    with untracked(), KedroSession.create(Path.cwd(), env=env, runtime_params=given) as session:
        handle = cast(KedroSession, session).load_context().catalog.load("synapse_chunks")
    return handle.url, handle.storage_options
