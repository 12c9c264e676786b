"""``kedro synapseclr mlflow``: make up for what MLflow was not told."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
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
