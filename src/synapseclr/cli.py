"""Commands of this project beside Kedro's own."""

from __future__ import annotations

from pathlib import Path

import click
from kedro.framework.cli.project import run as kedro_run

from synapseclr.commands.check import check
from synapseclr.commands.chunks import synapseclr
from synapseclr.commands.explore import explore
from synapseclr.commands.line_values import accept_lists
from synapseclr.commands.run import make_run_command
from synapseclr.commands.tracking import mlflow

accept_lists(kedro_run)


@click.group(name="synapseclr")
def cli() -> None:
    """Commands of SynapseCLR."""


@cli.command()
@click.option(
    "--grid", "-g", multiple=True, required=True, metavar="NAME=VALUE,...", help="Values of a parameter; repeatable."
)
@click.option("--name", default="sweep", show_default=True, help="The same name continues a sweep.")
@click.option("--pipeline", "-p", default="pretraining", show_default=True, help="What each combination runs.")
@click.option("--env", "-e", default=None, help="Configuration environment.")
@click.option("--params", default="", metavar="NAME=VALUE,...", help="Parameters that all combinations share.")
def sweep(grid: tuple[str, ...], name: str, pipeline: str, env: str | None, params: str) -> None:
    """Run a pipeline for every combination of a parameter grid.

    Each combination is a run of its own in MLflow, nested under one for the sweep, and writes to a folder of its own. A
    combination that has finished is skipped when the command is given again. See docs/comparing_runs.md.
    """
    from synapseclr.commands.sweep import Sweep, parse_assignments, run_sweep
    from synapseclr.errors import SynapseCLRError

    try:
        plan = Sweep.from_arguments(name, pipeline, env, grid, parse_assignments(params))
        failed = run_sweep(plan, Path.cwd())
    except SynapseCLRError as error:
        raise click.ClickException(str(error)) from error
    if failed:
        n = len(plan.combinations())
        raise click.ClickException(
            f"{len(failed)} of {n} combinations failed: {'; '.join(failed)}. Their output is above; the same command "
            "tries them again."
        )


synapseclr.add_command(check)
synapseclr.add_command(mlflow)
cli.add_command(synapseclr)
cli.add_command(explore)
cli.add_command(make_run_command())
