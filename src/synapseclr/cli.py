"""Commands of this project beside Kedro's own, joined."""

from __future__ import annotations

import atexit
import gc

import click

from synapseclr.commands.explore import explore
from synapseclr.commands.pages import MlflowCommands, quieten_viz
from synapseclr.commands.run import make_run_command
from synapseclr.commands.sweep import sweep
from synapseclr.commands.synapseclr import synapseclr


@click.group(name="synapseclr")
def cli() -> None:
    """Commands of SynapseCLR."""


for command in (synapseclr, explore, sweep, make_run_command()):
    cli.add_command(command)

cli.add_command(MlflowCommands(name="mlflow", help="Runs in MLflow: its page, and its settings."))
quieten_viz()

# Python ends with a search for cycles among all objects: two seconds, with torch, MLflow and Kedro, for memory that the
# system takes back anyway.
atexit.register(gc.freeze)
