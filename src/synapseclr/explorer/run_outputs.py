"""What a run has left behind, as far as the explorer shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.analysis.layers import check_finite
from synapseclr.analysis.search.neighbours import FeatureIndex
from synapseclr.analysis.search.neuroglancer import NeuroglancerConfig, synapse_links
from synapseclr.errors import TableError
from synapseclr.explorer.columns import (
    Column,
    consensus_columns,
    imputed_columns,
    observed_columns,
    score_columns,
    table_columns,
)
from synapseclr.explorer.label_tables import LabelTables
from synapseclr.volumes.synapse_ids import table_rows

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.volumes.store.chunk_store import ChunkStore

_PLANES = (("X_umap", "UMAP"), ("X_pca", "PCA"))


@dataclass(frozen=True)
class RunOutputs:
    """A run's outputs, in memory but for the chunks.

    Attributes:
        synapses: AnnData of the manifold, or of the embeddings where there is no manifold: features, ``obs`` with
            ``synapse_id``, ``obsm`` with the planes.
        chunks: Where images come from; None: there are none.
        tables: Further tables by catalog name, as far as there are: ``imputed_traits``, ``outlier_scores``,
            ``neurite_cell_types``, ``synapse_orientations``.
        neuroglancer: Where links lead.
        labels: Where labels are kept; None: nothing can be labelled.
        notes: What is missing and how to get it, for people.
        title: Of the page, such as the folder of the run.
    """

    synapses: AnnData
    chunks: ChunkStore | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    neuroglancer: NeuroglancerConfig = field(default_factory=NeuroglancerConfig)
    labels: LabelTables | None = None
    notes: tuple[str, ...] = ()
    title: str = "synapses"

    def __len__(self) -> int:
        return int(self.synapses.n_obs)

    @cached_property
    def synapse_id(self) -> np.ndarray:
        """int64 (n,)."""
        if "synapse_id" not in self.synapses.obs:
            raise TableError(
                "The embeddings have no column synapse_id in obs. Run `kedro run --pipeline=embedding` again."
            )
        return np.asarray(self.synapses.obs["synapse_id"].to_numpy(), dtype=np.int64)

    @cached_property
    def row_of_id(self) -> dict[int, int]:
        """Row of each synapse."""
        return {identifier: row for row, identifier in enumerate(self.synapse_id.tolist())}

    @cached_property
    def planes(self) -> dict[str, np.ndarray]:
        """Name to float32 (n, 2)."""
        found = {}
        for key, name in _PLANES:
            if key in self.synapses.obsm and self.synapses.obsm[key].shape[1] >= 2:
                stands_in = key == "X_umap" and self._manifold_method != "umap"
                if not (stands_in and "X_pca" in self.synapses.obsm):
                    found["PC" if stands_in else name] = np.asarray(self.synapses.obsm[key][:, :2], np.float32)
        return found or {"PCA": self._principal_plane()}

    @property
    def _manifold_method(self) -> str:
        return str(self.synapses.uns.get("manifold", {}).get("method", "umap"))

    def _principal_plane(self) -> np.ndarray:
        from sklearn.decomposition import PCA

        if min(self.features_nf.shape) < 2:
            return np.zeros((len(self), 2), np.float32)
        return np.asarray(PCA(2, random_state=0).fit_transform(self.features_nf), np.float32)

    @cached_property
    def features_nf(self) -> np.ndarray:
        """float32 (n, f), in which neighbours are searched."""
        features_nf = np.ascontiguousarray(self.synapses.X, dtype=np.float32)
        check_finite(features_nf, "the explorer's synapses")
        return features_nf

    @cached_property
    def index(self) -> FeatureIndex:
        """For the neighbours."""
        return FeatureIndex(self.features_nf)

    @cached_property
    def imputed(self) -> pd.DataFrame | None:
        """The imputed traits in the order of the synapses."""
        table = self.tables.get("imputed_traits")
        return None if table is None else table_rows(table, self.synapse_id)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Everything that synapses can be coloured by, by name."""
        found = list(observed_columns(self.synapses.obs))
        if "imputed_traits" in self.tables:
            found += imputed_columns(self.tables["imputed_traits"], self.synapse_id)
        if "outlier_scores" in self.tables:
            found += score_columns(self.tables["outlier_scores"], self.synapse_id)
        if "neurite_cell_types" in self.tables:
            found += consensus_columns(self.tables["neurite_cell_types"], self.synapses.obs)
        if "synapse_orientations" in self.tables:
            found += table_columns(self.tables["synapse_orientations"], self.synapse_id, "Orientation of the cleft")
        return {column.name: column for column in found}

    @cached_property
    def chunk_row_of_id(self) -> dict[int, int]:
        """Position in the chunk store of each synapse that has a chunk."""
        if self.chunks is None:
            return {}
        return {identifier: row for row, identifier in enumerate(self.chunks.synapse_id.tolist())}

    def neuroglancer_link(self, row: int) -> str | None:
        """Address of the synapse in Neuroglancer, if the volumes are where a browser can read them."""
        return synapse_links(self.synapses.obs.iloc[[row]], self.neuroglancer)[0]
