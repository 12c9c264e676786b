"""Hooks around outputs: checks and cleaning before a run, the clock of the pipelines, one writer among machines."""

from __future__ import annotations

import time
from pathlib import Path

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from synapseclr.storage.addresses import is_local, plain_address
from synapseclr.storage.atomic_files import check_writable, pipeline_at_work, remove_leftovers
from synapseclr.training.launching import machine_index

_SECONDS = "pipeline_seconds"


class OutputCare:
    """Checks and cleans the folders that a run writes to."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Delete the temporary files and folders of killed runs; finish replacements that were killed half-way.

        Raises:
            OutputError: If an output cannot be written, before hours are spent on it.
        """
        outputs = []
        for name in sorted(pipeline.all_outputs()):
            dataset = catalog.get(name)
            path = str(getattr(dataset, "_filepath", ""))
            if path and is_local(path) and getattr(dataset, "_protocol", "file") == "file":
                outputs.append(Path(plain_address(path)))
        for output in outputs:
            check_writable(output)
        for folder in sorted({output.parent for output in outputs}):
            remove_leftovers(folder)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Set the pipeline that is recorded with the outputs of its nodes."""
        pipeline_at_work.set(min(node.tags, default=""))


class PipelineClock:
    """Measures the seconds that the nodes of each pipeline take, loading and saving included."""

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._started: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, to which the figures go."""
        self._catalog = catalog

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Reset: hooks outlive a session, and the time between two sessions does not count."""
        self._started, self._seconds = {}, {}

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """A node begins with its first input."""
        self._started.setdefault(node.name, time.monotonic())

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """A node without inputs begins here."""
        self._started.setdefault(node.name, time.monotonic())

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """A node without outputs ends here."""
        if not node.outputs:
            self._add(node)

    @hook_impl
    def after_dataset_saved(self, node: Node) -> None:
        """A node ends, so far, with this output."""
        self._add(node)

    def _add(self, node: Node) -> None:
        """Renew the figure of a node's pipeline; the dataset keeps those of pipelines run earlier."""
        now = time.monotonic()
        pipeline = min(node.tags, default="")
        self._seconds[pipeline] = self._seconds.get(pipeline, 0.0) + now - self._started.get(node.name, now)
        self._started[node.name] = now
        dataset = self._catalog.get(_SECONDS) if self._catalog is not None and _SECONDS in self._catalog else None
        if dataset is not None:
            dataset.save({name: round(value, 2) for name, value in self._seconds.items()})


class OneWriter:
    """Lets only machine 0 write where several machines run the same command on a shared disk.

    What a launch returns is the same on all of them; the others keep it in memory for the nodes that follow.
    """

    @hook_impl
    def after_node_run(self, node: Node, catalog: DataCatalog) -> None:
        """Have what is about to be saved stay here, if the last launch has shown that this is not machine 0."""
        if machine_index() > 0:
            for name in (*node.outputs, _SECONDS):
                if not isinstance(catalog.get(name), MemoryDataset):
                    catalog[name] = MemoryDataset(copy_mode="assign")
