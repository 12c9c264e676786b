"""Hooks around what a run loads and saves: credentials, defects left out, checks, the clock, one writer."""

from __future__ import annotations

import ctypes
import logging
import time
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from synapseclr.storage.addresses import is_local, plain_address, set_default_options
from synapseclr.storage.atomic_files import check_writable, pipeline_at_work, remove_leftovers
from synapseclr.storage.sharded_anndata import ShardedMatrix
from synapseclr.training.launching import machine_index

logger = logging.getLogger(__name__)

ANALYSES = frozenset({"manifold", "imputation", "consensus", "similarity", "features"})
_EMBEDDINGS = "synapse_embeddings"
_PARAMETERS = "params:outliers"
_LISTED = "accepted_defects"
_SECONDS = "pipeline_seconds"


class StorageCredentials:
    """Makes the entries of ``credentials.yml`` that are named after a protocol the default for its URLs.

    ``gs: {token: /home/me/key.json}`` in ``conf/local/credentials.yml`` is enough for ``data_root=gs://...``: no
    catalog entry has to name it. ``conf/local`` counts in every environment; the environment's own file goes before
    it. Entries with other names are Kedro's: for the catalog entries that name them.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Configure fsspec here, and by the environment in the processes that are started from here."""
        set_default_options(_local(context) | _of_environment(context))


def _of_environment(context: KedroContext) -> dict[str, Any]:
    try:
        return dict(context.config_loader["credentials"])
    except MissingConfigException:
        return {}


def _local(context: KedroContext) -> dict[str, Any]:
    from omegaconf import OmegaConf

    loader = context.config_loader
    found = sorted(Path(loader.conf_source, "local").glob("credentials*.y*ml"))
    merged = OmegaConf.to_container(OmegaConf.merge({}, *map(OmegaConf.load, found)), resolve=True)
    return {str(name): value for name, value in merged.items()} if isinstance(merged, dict) else {}


class DefectExclusion:
    """Gives the nodes of the analyses the embeddings without defective synapses.

    These are ``outliers.examples`` and ``.accept``, and those of the table ``accepted_defects``, which only users
    write: the same command gives the same result, whatever ran before. The outliers pipeline itself sees every synapse.
    ``outliers.exclude: false`` switches this off.
    """

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Replace the embeddings of the trained encoder; other inputs are matched to them by synapse id."""
        if _EMBEDDINGS not in inputs or not ANALYSES & node.tags or _PARAMETERS not in catalog:
            return None
        from synapseclr.analysis.outliers import OutliersConfig, excluded_table, without_excluded

        config = OutliersConfig.model_validate(catalog.load(_PARAMETERS))
        listed = catalog.load(_LISTED) if config.exclude and _LISTED in catalog else None
        if not config.exclude or not (config.examples or config.accept or (listed is not None and len(listed))):
            return None
        embeddings = inputs[_EMBEDDINGS]
        excluded = excluded_table(embeddings.obs["synapse_id"].to_numpy(), config, listed)
        logger.info("%d defective synapses are left out of %s.", len(excluded), node.name)
        return {_EMBEDDINGS: without_excluded(embeddings, excluded)}


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


class FreedMemory:
    """Gives memory that a node has freed back to the system before the next node takes its own.

    The C library keeps what was freed in small pieces: after imputation some 2 GB, which the largest node of a run of
    ten million synapses would come on top of.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it; macOS and musl do not
        self._node = ""

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Called for every input; the first tells that another node begins."""
        if self._trim is not None and node.name != self._node:
            self._node = node.name
            self._trim(0)


class OneWriter:
    """Lets only machine 0 write where several machines run the same command on a shared disk.

    What a launch returns is the same on all of them; the others keep it in memory for the nodes that follow. Of a
    matrix whose shards lie on the shared disk they wait until machine 0 has put it into its place.
    """

    @hook_impl
    def after_node_run(self, node: Node, catalog: DataCatalog, outputs: dict[str, Any]) -> None:
        """Have what is about to be saved stay here, if the last launch has shown that this is not machine 0."""
        if machine_index() > 0:
            from synapseclr.datasets import AnnDataZarrDataset

            for name in (*node.outputs, _SECONDS):
                dataset = catalog.get(name)
                if isinstance(outputs.get(name), ShardedMatrix) and isinstance(dataset, AnnDataZarrDataset):
                    dataset.is_saved_elsewhere = True
                elif not isinstance(dataset, MemoryDataset):
                    catalog[name] = MemoryDataset(copy_mode="assign")
