"""Synapses that were marked or accepted as defective are left out of the analyses."""

from __future__ import annotations

import logging
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline.node import Node

ANALYSES = frozenset({"manifold", "imputation", "consensus", "similarity", "features"})
_EMBEDDINGS = "synapse_embeddings"
_PARAMETERS = "params:outliers"

logger = logging.getLogger(__name__)


class DefectExclusion:
    """Hands the nodes of the analyses the embeddings without the synapses of ``outliers.examples`` and ``.accept``.

    The parameters decide, not a stored table: the same command gives the same result, whatever ran before. The outliers
    pipeline itself sees every synapse. ``outliers.exclude: false`` switches this off.
    """

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Replace the embeddings of the trained encoder; other inputs are matched to them by synapse id."""
        if _EMBEDDINGS not in inputs or not ANALYSES & node.tags or _PARAMETERS not in catalog:
            return None
        from synapseclr.analysis.outliers import OutliersConfig, excluded_table, without_excluded

        config = OutliersConfig.model_validate(catalog.load(_PARAMETERS))
        if not (config.exclude and (config.examples or config.accept)):
            return None
        embeddings = inputs[_EMBEDDINGS]
        excluded = excluded_table(embeddings.obs["synapse_id"].to_numpy(), config)
        logger.info("%d defective synapses are left out of %s.", len(excluded), node.name)
        return {_EMBEDDINGS: without_excluded(embeddings, excluded)}
