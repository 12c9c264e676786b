"""``kedro sweep``: a grid of parameters as nested MLflow runs, one ``kedro run`` for every combination."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synapseclr.commands.run import parse_assignments, split_values
from synapseclr.errors import ConfigurationError, SynapseCLRError, UnreachableError
from synapseclr.parameters import label_parameters
from synapseclr.privacy import redact, redact_tree
from synapseclr.tracking.server import find_runs, process_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

_OWN = {"data_root", "results_root"}
_SHOWN = ("train_loss", "validation_loss", "effective_rank")


@click.command()
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


@dataclass(frozen=True)
class Sweep:
    """Settings of a sweep.

    Attributes:
        name: Tag ``sweep`` of its runs in MLflow; the same name continues it.
        pipeline: The pipeline that each combination runs.
        environment: Kedro's configuration environment.
        grid: Values by parameter, written as behind ``--params``.
        shared: Parameters that all combinations share.
    """

    name: str
    pipeline: str
    environment: str | None
    grid: Mapping[str, tuple[str, ...]]
    shared: Mapping[str, str]

    @classmethod
    def from_arguments(
        cls, name: str, pipeline: str, environment: str | None, grid: Sequence[str], shared: Mapping[str, str]
    ) -> Sweep:
        """Read ``parameter=value,value`` arguments.

        Raises:
            ConfigurationError: If a name or an axis of the grid cannot be used.
        """
        if not re.fullmatch(r"[\w.-]+", name):
            raise ConfigurationError(f"The sweep's name is '{name}'. Use letters, digits, '.', '_' and '-' only.")
        axes: dict[str, tuple[str, ...]] = {}
        for argument in grid:
            parameter, _, listed = argument.partition("=")
            values = tuple(dict.fromkeys(split_values(listed, f"--grid {argument}")))
            if not parameter.strip() or not values:
                raise ConfigurationError(
                    f"--grid {argument}: expected parameter=value,value, such as "
                    "pretraining.objective.temperature=0.1,0.5."
                )
            axes[parameter.strip()] = values
        if twice := sorted((set(axes) & (set(shared) | _OWN)) | (set(shared) & {"results_root"})):
            raise ConfigurationError(
                f"{', '.join(twice)} cannot be given here: a parameter is either in --grid or in --params, and each "
                "combination has a results_root of its own. Leave it out."
            )
        return cls(name, pipeline, environment, axes, shared)

    def combinations(self) -> list[dict[str, str]]:
        """Combinations of the grid's values; the last parameter given varies fastest."""
        products = itertools.product(*self.grid.values())
        return [dict(sorted(zip(self.grid, values, strict=True))) for values in products]

    def command(self, combination: Mapping[str, str], results_root: str) -> list[str]:
        """The `kedro run` of a combination."""
        parameters = {**self.shared, **combination, "results_root": results_root}
        environment = [f"--env={self.environment}"] if self.environment else []
        return [
            *(sys.executable, "-m", "kedro", "run", f"--pipeline={self.pipeline}", *environment),
            f"--params={describe(parameters, ',')}",
        ]


def describe(parameters: Mapping[str, str], separator: str = ", ") -> str:
    """Write parameters as ``name=value``."""
    return separator.join(f"{name}={value}" for name, value in parameters.items())


def run_sweep(sweep: Sweep, project: Path) -> list[str]:
    """Run every combination that has not finished yet, one after the other.

    Args:
        sweep: Its settings.
        project: Folder of the Kedro project.

    Returns:
        The combinations that failed, as text; a failure does not stop the others.

    Raises:
        ConfigurationError: If a sweep of this name had other settings.
    """
    from mlflow.exceptions import MlflowException

    variables = dict(os.environ)  # of the children: MLflow puts its own settings into ours
    client, experiment_id, data_root = _open_project(sweep, project)
    parent, known = _find_or_create(sweep, client, experiment_id)
    combinations = sweep.combinations()
    failed: list[str] = []
    status = "KILLED"
    try:
        for number, combination in enumerate(combinations, start=1):
            text = describe(combination)
            run = known.get(text) or _create_child(sweep, client, parent, combination, data_root)
            if run.info.status == "FINISHED":
                logger.info("Combination %d of %d has finished before: %s", number, len(combinations), text)
                continue
            logger.info("Combination %d of %d: %s", number, len(combinations), text)
            command = sweep.command(combination, results_root(sweep, combination, data_root))
            done = subprocess.run(command, cwd=project, env=variables | {"MLFLOW_RUN_ID": run.info.run_id}, check=False)
            if done.returncode:
                client.set_terminated(run.info.run_id, "FAILED")
                failed.append(text)
            client.update_run(run.info.run_id, name=label_parameters(combination))
        status = "FAILED" if failed else "FINISHED"
    except MlflowException as error:
        raise UnreachableError(
            f"MLflow went away during the sweep: {str(error).splitlines()[0]} The same command continues the sweep "
            "when it is back."
        ) from error
    finally:
        with contextlib.suppress(MlflowException):  # the next start marks a sweep whose process is gone
            client.set_terminated(parent.info.run_id, status)
    _print_table(sweep, find_runs(client, experiment_id, f"tags.sweep = '{sweep.name}'"))
    return failed


def _open_project(sweep: Sweep, project: Path) -> tuple[MlflowClient, str, str]:
    """Let Kedro's hooks set MLflow up as a run would; find the experiment and where outputs lie."""
    import mlflow
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    session: Any = KedroSession.create(project, env=sweep.environment)
    with session:
        context = session.load_context()
        if not hasattr(context, "mlflow"):
            raise ConfigurationError(
                "A sweep keeps its state in MLflow: take SYNAPSECLR_TRACKING out of the environment."
            )
        data_root = sweep.shared.get("data_root") or str(context.config_loader["globals"]["data_root"])
        experiment_id = str(context.mlflow.tracking.experiment._experiment.experiment_id)
    return mlflow.MlflowClient(), experiment_id, data_root


def _find_or_create(sweep: Sweep, client: MlflowClient, experiment_id: str) -> tuple[Run, dict[str, Run]]:
    """The sweep's own run, and those of its combinations by their text."""
    settings = json.dumps(
        {
            "pipeline": sweep.pipeline,
            "environment": sweep.environment,
            "params": redact_tree(dict(sorted(sweep.shared.items()))),
        }
    )
    runs = list(find_runs(client, experiment_id, f"tags.sweep = '{sweep.name}'"))
    parents = [run for run in runs if "sweep_settings" in run.data.tags]
    if not parents:
        tags = {"sweep": sweep.name, "sweep_settings": settings, **process_tags()}
        return client.create_run(experiment_id, tags=tags, run_name=f"sweep {sweep.name}"), {}
    if (found := parents[0].data.tags["sweep_settings"]) != settings:
        raise ConfigurationError(
            f"There is a sweep '{sweep.name}' with {found}, and now {settings} is asked for. Give this one another "
            "--name."
        )
    client.update_run(parents[0].info.run_id, status="RUNNING")
    for name, value in process_tags().items():
        client.set_tag(parents[0].info.run_id, name, value)
    return parents[0], {run.data.tags.get("sweep_combination", ""): run for run in runs}


def results_root(sweep: Sweep, combination: Mapping[str, str], data_root: str) -> str:
    """The folder or address that a combination writes to."""
    folder = hashlib.sha256(describe(combination).encode()).hexdigest()[:8]
    return f"{data_root.rstrip('/')}/sweeps/{sweep.name}/{folder}"


def _create_child(
    sweep: Sweep, client: MlflowClient, parent: Run, combination: Mapping[str, str], data_root: str
) -> Run:
    tags = {
        "mlflow.parentRunId": parent.info.run_id,
        "sweep": sweep.name,
        "sweep_combination": describe(combination),
        "results_root": redact(results_root(sweep, combination, data_root)),
    }
    return client.create_run(parent.info.experiment_id, tags=tags, run_name=label_parameters(combination))


def _print_table(sweep: Sweep, runs: Iterable[Run]) -> None:
    """Show the combinations with their last metrics, in the order in which they were begun."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    runs = sorted(
        (run for run in runs if "sweep_combination" in run.data.tags), key=lambda run: int(run.info.start_time)
    )
    logged = {name.removeprefix("pretraining/") for run in runs for name in run.data.metrics}
    shown = [name for name in sorted(logged) if name in _SHOWN or name.startswith("knn_")]
    table = Table(title=Text(f"Sweep {sweep.name}"))  # a text: brackets in a string would be markup
    table.add_column("combination", no_wrap=True)
    for name in ("status", *shown):
        table.add_column(Text(name.replace("_", " ")))
    for run in runs:
        values = [run.data.metrics.get(f"pretraining/{name}") for name in shown]
        combination = label_parameters(parse_assignments(run.data.tags["sweep_combination"]), "\n")
        table.add_row(
            Text(combination), run.info.status, *("" if value is None else f"{value:.4g}" for value in values)
        )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
