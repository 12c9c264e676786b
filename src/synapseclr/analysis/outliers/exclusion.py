"""Which synapses are left out as defective: those marked or accepted by parameters, and those that a table lists."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.analysis.outliers.config import OutliersConfig
from synapseclr.errors import TableError
from synapseclr.volumes.synapse_ids import rows_of_ids

if TYPE_CHECKING:
    from anndata import AnnData

EXAMPLE, ACCEPTED, LISTED = "example", "accepted", "listed"

logger = logging.getLogger(__name__)


def excluded_table(synapse_id: np.ndarray, config: OutliersConfig, listed: pd.DataFrame | None = None) -> pd.DataFrame:
    """List the synapses that are taken to be defective.

    Args:
        synapse_id: int64 (n,): ids of all embedded synapses.
        config: ``examples``, which somebody has marked, and ``accept``.
        listed: ``synapse_id`` of defects accepted earlier, in a table of the user's; those without embedding, which may
            belong to other data, are counted in the log and left out. None or a table without columns: no such table.

    Returns:
        ``synapse_id``, each once, and ``reason``: ``example``, ``accepted`` or ``listed``.

    Raises:
        TableError: If a parameter names an unknown id, or no synapse would be left.
    """
    rows_of_ids(config.accept, synapse_id, "outliers.accept")
    rows_of_ids(config.examples, synapse_id, "outliers.examples")
    from_table = np.array([], dtype=np.int64) if listed is None or listed.empty else listed["synapse_id"].to_numpy()
    is_known = np.isin(from_table, synapse_id)
    if not is_known.all():
        logger.warning(
            "accepted_defects lists %d of %d synapses without embedding, such as %s: they are passed over.",
            int((~is_known).sum()),
            len(from_table),
            from_table[~is_known][:3].tolist(),
        )
    reasons: dict[int, str] = {}
    for ids, reason in ((config.examples, EXAMPLE), (config.accept, ACCEPTED), (from_table[is_known], LISTED)):
        for identifier in ids:
            reasons.setdefault(int(identifier), reason)
    if len(synapse_id) and len(reasons) == len(np.unique(synapse_id)):
        raise TableError(
            f"All {len(reasons)} synapses would be left out as defective. Shorten outliers.examples, outliers.accept "
            "or the table accepted_defects, or set outliers.exclude to false."
        )
    return pd.DataFrame(
        {
            "synapse_id": np.array(list(reasons), dtype=np.int64),
            "reason": pd.Series(list(reasons.values()), dtype=object),
        }
    )


def without_excluded(embeddings: AnnData, excluded: pd.DataFrame) -> AnnData:
    """Leave out the synapses of a table.

    Args:
        embeddings: Synapses with ``obs["synapse_id"]``.
        excluded: ``synapse_id``; ids without embedding are passed over.

    Returns:
        The others, as a copy; the embeddings themselves if there is nothing to leave out.
    """
    is_kept_n = ~embeddings.obs["synapse_id"].isin(excluded["synapse_id"]).to_numpy()
    return embeddings if is_kept_n.all() else embeddings[is_kept_n].copy()
