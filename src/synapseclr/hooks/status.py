"""The status of a run in the terminal: one line while it works, and what it came to at its end."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from synapseclr.parameters import flatten_names
from synapseclr.privacy import mask_secrets
from synapseclr.tracking.outbox import current_outbox

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

logger = logging.getLogger(__name__)

_SECONDS = "pipeline_seconds"
_REFRESHES_PER_SECOND = 2
_JUDGED_FROM_SECONDS = 5.0  # of finished stages: shorter ones do not tell how fast this machine is
_SLOWEST, _FASTEST = 4.0, 0.25  # times that a stage is expected to take of what it took before, at most and at least
_NEXT = {
    "simulation": "preprocessing",
    "preprocessing": "pretraining",
    "pretraining": "embedding",
    "embedding": "analysis",
    "published_features": "analysis",
    "simulated_embeddings": "analysis",
}
"""The pipeline to run after another, on the way to the report."""
_PLACES = ("data_root", "results_root")


class RunStatus:
    """Shows stage, node, elapsed and remaining time; at the end the headline figures, report and next command.

    A stage is a pipeline. The line counts nodes, and the stages whose nodes are all done: Kedro runs the nodes of
    several stages in turn, as soon as their inputs are there, so that the stage of the node that runs now goes back and
    forth, while both counts only rise. On a terminal it is one line below the bars, which is renewed twice a second;
    elsewhere, in files and notebooks, it is a log line at the start of every node. The remaining time comes from the
    seconds that the stages took in the last run with the same results folder, scaled by how long those that are
    finished took now; it is left out where a stage was never run, or is run in part.
    """

    def __init__(self) -> None:
        self._live: Live | None = None
        self._is_exit_watched = False
        self._reset()

    def _reset(self) -> None:
        self._todo: dict[str, set[str]] = {}  # by stage, nodes that have not been finished
        self._n_nodes = 0
        self._expected: dict[str, float] | None = None
        self._spent: dict[str, float] = {}
        self._node: Node | None = None
        self._begun = self._node_begun = time.monotonic()
        self._evaluation: Mapping[str, Any] = {}
        self._saved: set[str] = set()
        self._runs = ""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Count what is to be done, and look up how long it took before."""
        self._close()
        self._reset()
        for node in pipeline.nodes:
            self._todo.setdefault(_stage(node), set()).add(node.name)
        self._n_nodes = len(pipeline.nodes)
        self._expected = self._look_up(catalog) if _SECONDS in catalog else None
        outbox = current_outbox()
        self._runs = "" if outbox is None else outbox.page or "kedro mlflow ui"

    def _look_up(self, catalog: DataCatalog) -> dict[str, float] | None:
        """Seconds by stage; None if one is unknown, or is run in part."""
        from kedro.framework.project import pipelines

        before = catalog.load(_SECONDS)
        is_whole = all(
            stage in pipelines and {node.name for node in pipelines[stage].nodes} == nodes
            for stage, nodes in self._todo.items()
        )
        known = {stage: before[stage] for stage in self._todo if isinstance(before.get(stage), int | float)}
        return known if is_whole and len(known) == len(self._todo) else None

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """A node begins with its first input."""
        self._begin(node)

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """A node without inputs begins here; one that starts processes leaves the terminal to their bars."""
        self._begin(node)
        if self._live is not None and any(_may_start_processes(value) for value in inputs.values()):
            self._close()
            logger.info(self.line())

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Keep the evaluation for the last lines."""
        self._saved.add(dataset_name)
        if dataset_name == "evaluation":
            self._evaluation = data

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Write the last lines."""
        from rich import get_console
        from rich.text import Text

        self._finish_node()
        self._close()
        for line in self._last_lines(run_params, catalog):
            get_console().print(Text(mask_secrets(line)), soft_wrap=True)

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Give the terminal back."""
        self._close()

    def _begin(self, node: Node) -> None:
        if self._node is not None and self._node.name == node.name:
            return
        self._finish_node()
        self._node, self._node_begun = node, time.monotonic()
        if self._live is None and not self._open():
            logger.info(self.line())

    def _finish_node(self) -> None:
        """Count the node that ran last as done."""
        if self._node is None:
            return
        stage = _stage(self._node)
        self._spent[stage] = self._spent.get(stage, 0.0) + time.monotonic() - self._node_begun
        self._todo[stage].discard(self._node.name)
        self._node = None

    def line(self) -> str:
        """The status in one line."""
        if self._node is None:
            return ""
        stage = _stage(self._node)
        number = 1 + self._n_nodes - sum(map(len, self._todo.values()))
        n_done = sum(not nodes for nodes in self._todo.values())
        name = self._node.name.removeprefix(f"{stage}.")
        times = f"{clock(time.monotonic() - self._begun)} elapsed"
        if (remaining := self.remaining_seconds()) is not None:
            times += f", about {clock(remaining)} left"
        return f"Node {number} of {self._n_nodes}, {stage}: {name}; {n_done} of {len(self._todo)} stages done ({times})"

    def remaining_seconds(self) -> float | None:
        """Seconds to the end, as far as earlier runs tell; None if they do not."""
        if self._expected is None:
            return None
        spent = dict(self._spent)
        if self._node is not None:
            stage = _stage(self._node)
            spent[stage] = spent.get(stage, 0.0) + time.monotonic() - self._node_begun
        done = [stage for stage, nodes in self._todo.items() if not nodes]
        before, now = (sum(seconds.get(stage, 0.0) for stage in done) for seconds in (self._expected, spent))
        pace = min(_SLOWEST, max(_FASTEST, now / before)) if before > _JUDGED_FROM_SECONDS else 1.0
        return sum(
            max(0.0, pace * self._expected[stage] - spent.get(stage, 0.0))
            for stage, nodes in self._todo.items()
            if nodes
        )

    def _open(self) -> bool:
        """Show the line on a terminal; False if there is none."""
        from rich import get_console
        from rich.live import Live

        console = get_console()
        if not console.is_terminal or console.is_jupyter or console.is_dumb_terminal:
            return False
        self._live = Live(
            get_renderable=self._text, console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True
        )
        self._live.start()
        if not self._is_exit_watched:
            atexit.register(self._close)  # Ctrl-C and SIGTERM lead past the hooks
            self._is_exit_watched = True
        return True

    def _text(self) -> Text:
        from rich.text import Text

        return Text(self.line(), style="bold", no_wrap=True, overflow="ellipsis")

    def _close(self) -> None:
        """Take the line off the terminal, and show the cursor again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _last_lines(self, run_params: Mapping[str, Any], catalog: DataCatalog) -> list[str]:
        from synapseclr.analysis.headline import headline_metrics, headline_sentence

        figures = headline_sentence(headline_metrics(self._evaluation)) if self._evaluation else ""
        names = "+".join(run_params.get("pipeline_names") or ["__default__"])
        n_saved = len(self._saved)
        told = figures or (f"{n_saved} data sets were written" if n_saved != 1 else "1 data set was written")
        next_pipeline = next((_NEXT[stage] for stage in reversed(_NEXT) if stage in self._todo), None)
        if set(self._todo) - set(_NEXT) or next_pipeline is None:
            follows = ["kedro explore", *run_options(run_params, _PLACES)]
        else:
            follows = [f"kedro run --pipeline={next_pipeline}", *run_options(run_params)]
        report = " ".join(["kedro run --pipeline=reporting", *run_options(run_params)]) + " renews it"
        if "report" in self._saved:
            report = _in_short(str(getattr(catalog.get("report"), "_filepath", "report.html")))
        lines = [
            f"Finished: {names} in {clock(time.monotonic() - self._begun)}. {told[:1].upper()}{told[1:]}.",
            f"Report:   {report}",
            f"Runs:     {self._runs}",
            f"Next:     {' '.join(follows)}",
        ]
        return [line for line in lines if line.split(maxsplit=1)[1:]]


def _stage(node: Node) -> str:
    """The pipeline that a node belongs to."""
    return min(node.tags, default=node.namespace or node.name)


def _may_start_processes(value: Any) -> bool:
    """True for parameters of what runs on several devices or machines."""
    if not isinstance(value, BaseModel):
        return False
    return getattr(value, "devices", 1) != 1 or getattr(value, "nodes", 1) != 1


def run_options(run_params: Mapping[str, Any], among: tuple[str, ...] | None = None) -> list[str]:
    """Options that give another command the environment and parameters of a run.

    Args:
        run_params: As Kedro hands them to hooks.
        among: Names of the parameters that the other command takes; by default all.
    """
    given = flatten_names(run_params.get("runtime_params") or {})
    chosen = {name: value for name, value in given.items() if among is None or name in among}
    options = [f"--env={run_params['env']}"] if run_params.get("env") else []
    return options + ([f"--params='{','.join(f'{name}={value}' for name, value in chosen.items())}'"] if chosen else [])


def _in_short(path: str) -> str:
    """A path relative to the working directory if it lies in there."""
    relative = os.path.relpath(path) if os.path.isabs(path) else path
    return path if relative.startswith("..") else relative


def clock(seconds: float) -> str:
    """Write seconds as minutes and seconds, ``3:07``, or with hours, ``1:03:07``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
