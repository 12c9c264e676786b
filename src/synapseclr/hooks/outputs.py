"""Care for outputs: what killed runs have left is cleared away, and outputs know the pipeline that made them."""

from __future__ import annotations

from pathlib import Path

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from synapseclr.storage.addresses import is_local, plain_address
from synapseclr.storage.atomic_files import check_writable, pipeline_at_work, remove_leftovers


class OutputCare:
    """Looks after the folders that a run writes to."""

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
        """Note the pipeline, which is recorded with what its nodes save."""
        pipeline_at_work.set(min(node.tags, default=""))
