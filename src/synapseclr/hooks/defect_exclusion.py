"""Exclusion of synapses that were marked or accepted as defective from the analyses."""

from __future__ import annotations

import logging
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline.node import Node

ANALYSES = frozenset({"manifold", "imputation", "consensus", "similarity", "features"})
_EMBEDDINGS = "synapse_embeddings"
_PARAMETERS = "params:outliers"
_LISTED = "accepted_defects"

logger = logging.getLogger(__name__)


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
