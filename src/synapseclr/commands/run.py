"""``kedro run`` as Kedro has it, but for errors: what a user can mend is said in one or two sentences."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click


def make_run_command() -> click.Command:
    """Make Kedro's `run` with an option for tracebacks."""
    from kedro.framework.cli.project import run as kedro_run

    def run(verbose: bool, **options: Any) -> Any:
        from synapseclr.hooks.error_sentences import in_sentences

        with nullcontext() if verbose else in_sentences("(--verbose shows the traceback.)"):
            return kedro_run.callback(**options)  # type: ignore[misc]

    option = click.Option(["--verbose"], is_flag=True, help="Show the traceback of every error.")
    return click.Command("run", callback=run, params=[*kedro_run.params, option], help=kedro_run.help)
