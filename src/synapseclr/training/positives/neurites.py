"""Which neurites the stored synapses connect, and which of these are annotated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synapseclr.errors import TableError


@dataclass(frozen=True)
class NeuriteTable:
    """The neurites of n stored synapses, in store order. Small, and picklable for other processes.

    Attributes:
        pre_root_id: Presynaptic root ids, uint64 (n,); 0 is no neurite.
        post_root_id: Postsynaptic root ids, uint64 (n,); 0 is no neurite.
        centre_nd_nm: Centres, float64 (n, 3), in nm.
        annotated_root_ids: Root ids of the neurites that count as annotated, uint64 (a,).
    """

    pre_root_id: NDArray[np.uint64]
    post_root_id: NDArray[np.uint64]
    centre_nd_nm: NDArray[np.float64]
    annotated_root_ids: NDArray[np.uint64]

    @classmethod
    def from_tables(cls, metadata: pd.DataFrame, annotations: pd.DataFrame) -> NeuriteTable:
        """Read the tables of the preprocessing.

        A neurite counts as annotated as soon as one of its synapses, on either side, has a value in any column of the
        annotations: whichever trait is evaluated, its neurites are among them.

        Args:
            metadata: One row a stored synapse: ``synapse_id, chunk_index, pre_root_id, post_root_id,
                centre_{x,y,z}_nm``.
            annotations: ``synapse_id`` and traits, NaN where not annotated.

        Raises:
            TableError: If the metadata are not one row for every chunk.
        """
        metadata = metadata.sort_values("chunk_index")
        if not np.array_equal(metadata["chunk_index"], np.arange(len(metadata))):
            raise TableError(
                f"synapse_metadata has {len(metadata)} rows whose chunk_index is not 0 to {len(metadata) - 1}. Run "
                "`kedro run --pipeline=preprocessing` again."
            )
        has_trait = annotations.drop(columns="synapse_id").notna().any(axis=1)
        is_annotated = metadata["synapse_id"].isin(annotations.loc[has_trait, "synapse_id"]).to_numpy()
        pre, post = (metadata[name].to_numpy().astype(np.uint64) for name in ("pre_root_id", "post_root_id"))
        return cls(
            pre_root_id=pre,
            post_root_id=post,
            centre_nd_nm=metadata[[f"centre_{axis}_nm" for axis in "xyz"]].to_numpy(np.float64),
            annotated_root_ids=np.unique(np.concatenate([pre[is_annotated], post[is_annotated]])),
        )

    @property
    def sha256(self) -> str:
        """Digest over all columns: tells the pairs of one data set from those of another."""
        digest = hashlib.sha256()
        for column in (self.pre_root_id, self.post_root_id, self.centre_nd_nm, self.annotated_root_ids):
            digest.update(f"{column.shape}{column.dtype}".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()
