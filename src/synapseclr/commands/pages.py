"""Commands that serve the pages of Kedro's plugins: ``kedro mlflow ui`` and ``kedro viz``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import click

from synapseclr.tracking.server import runs_page

_PATIENCE_SECONDS = 600
_FOREIGN_LINK = re.compile(rb"<link\b[^>]*https?://[^>]*>")


class MlflowCommands(click.Group):
    """kedro-mlflow's commands, with another ``ui``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of its commands."""
        return list(self._originals().list_commands(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look a command up."""
        return ui if cmd_name == "ui" else self._originals().get_command(ctx, cmd_name)

    def _originals(self) -> click.Group:
        from kedro_mlflow.framework.cli.cli import mlflow_commands

        return mlflow_commands


@click.command()
@click.option("--env", "-e", default=None, help="Configuration environment.")
@click.option("--host", "-h", default=None, help="Address to listen on; default: mlflow.yml's, 127.0.0.1.")
@click.option("--port", "-p", default=None, help="Port to listen on; default: mlflow.yml's, 5000.")
def ui(env: str | None, host: str | None, port: str | None) -> None:
    """Serve MLflow's page, and print the address of the list of runs.

    kedro-mlflow's own starts a program of the name mlflow, which is found in an activated environment only.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from synapseclr.hooks.error_sentences import in_sentences

    bootstrap_project(Path.cwd())
    with in_sentences(), KedroSession.create(Path.cwd(), env=env) as session:
        context: Any = session.load_context()  # type: ignore[attr-defined]
        if not hasattr(context, "mlflow"):
            raise click.ClickException("Take SYNAPSECLR_TRACKING out of the environment: it switches MLflow off.")
        uri = str(context.mlflow.server.mlflow_tracking_uri)
        experiment_id = str(context.mlflow.tracking.experiment._experiment.experiment_id)
        host, port = host or context.mlflow.ui.host, port or context.mlflow.ui.port
    if page := runs_page(uri, experiment_id):
        click.echo(f"Runs: {page}")
        return
    server = f"http://{host}:{port}"
    threading.Thread(target=_tell_when_there, args=(server, runs_page(server, experiment_id)), daemon=True).start()
    command = [sys.executable, "-m", "mlflow", "server", f"--host={host}", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={uri}", f"--registry-store-uri={uri}", "--uvicorn-opts=--log-level=warning"]
    quiet = {
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    raise SystemExit(subprocess.call(command, env=quiet | os.environ))


def _tell_when_there(server: str, page: str) -> None:
    """Print the address of the runs once the server answers."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server}/health", timeout=5):
                click.echo(f"Runs: {page} (Ctrl-C ends the server)")
                return
        except OSError:
            time.sleep(0.5)


def ask_nobody_for_versions() -> None:
    """Let kedro-viz' questions for a newer version be answered without PyPI, for which it has no switch.

    Where PyPI cannot be reached, its page greets with "Kedro-Viz None is here!".
    """
    from kedro_viz import __version__
    from kedro_viz.api.rest.responses import version
    from kedro_viz.integrations import pypi
    from packaging.version import Version

    version.get_latest_version = pypi.get_latest_version = lambda: Version(__version__)


def without_foreign_links(page: bytes) -> bytes:
    """Take what loads fonts from elsewhere out of a page of kedro-viz: it has the reader's own then."""
    return _FOREIGN_LINK.sub(b"", page)


def keep_graph_here() -> None:
    """Have kedro-viz' page fetch nothing from other hosts, and open with a box a pipeline, without their data sets."""
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import RedirectResponse
    from kedro_viz.api import apps

    made_from = apps.create_api_app_from_project

    def create(*arguments: Any, **options: Any) -> FastAPI:
        app = made_from(*arguments, **options)

        @app.middleware("http")
        async def stay_here(request: Request, call_next: Any) -> Response:
            if request.url.path == "/" and not request.url.query:
                return RedirectResponse("/?types=nodes")
            answer = await call_next(request)
            if not answer.headers.get("content-type", "").startswith("text/html"):
                return answer
            page = b"".join([part async for part in answer.body_iterator])
            headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
            return Response(without_foreign_links(page), answer.status_code, headers)

        return app

    apps.create_api_app_from_project = create


def serve_graph(**options: Any) -> None:
    """Serve kedro-viz, with the options of its ``run_server``, until interrupted."""
    from kedro_viz.server import run_server

    ask_nobody_for_versions()
    keep_graph_here()
    run_server(**options)


def quieten_viz() -> None:
    """Have ``kedro viz run`` ask nobody for versions; plugins with commands outside of projects go before ours."""
    from kedro_viz.launchers.cli.main import viz

    viz.lazy_subcommands["run"] = f"{__name__}.viz_run"


def __getattr__(name: str) -> Any:
    """Make ``viz_run`` when kedro-viz looks it up: kedro-viz is slow to import."""
    if name != "viz_run":
        raise AttributeError(name)
    import kedro_viz.server
    from kedro_viz.launchers.cli.run import run as original

    def callback(**options: Any) -> Any:
        ask_nobody_for_versions()
        own, kedro_viz.server.run_server = kedro_viz.server.run_server, serve_graph  # by name, in a new process
        try:
            return original.callback(**options)
        finally:
            kedro_viz.server.run_server = own

    return click.Command("run", callback=callback, params=original.params, help=original.help)
