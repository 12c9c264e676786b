"""More of the same: from a set of synapses to all that are like them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from synapseclr.analysis.outliers import OutliersConfig, detect, unsupervised_score, whiten
from synapseclr.analysis.search.similarity import Query, answer_query
from synapseclr.errors import TableError
from synapseclr.explorer.run_outputs import RunOutputs

SearchKind = Literal["similar", "defective"]
MAX_EXAMPLES = 500
MAX_FOUND = 200
_WHOLE_BELOW = 20_000
_COMPONENTS = 64


class Found(NamedTuple):
    """Synapses that a search found, best first, without its examples.

    Attributes:
        rows_k: int64 (k,).
        values_k: float64 (k,): distance to the nearest example, or score.
        measure: What the values are.
    """

    rows_k: np.ndarray
    values_k: np.ndarray
    measure: str


class FewShotSearch:
    """Searches a run's synapses by examples. What does not depend on them is computed once, at the first search.

    Args:
        outputs: The run.
        config: Shrinkage and unsupervised score of the search for defects.
    """

    def __init__(self, outputs: RunOutputs, config: OutliersConfig | None = None) -> None:
        self._outputs = outputs
        self._config = config or OutliersConfig()
        self._white_nf: np.ndarray | None = None
        self._unusual_n: np.ndarray | None = None
        self._lock = threading.Lock()

    def find(self, example_rows: Sequence[int], kind: SearchKind, k: int) -> Found:
        """Find more synapses like the examples.

        Args:
            example_rows: Rows, 1 to 500.
            kind: ``similar``: nearest in feature space to any example; ``defective``: ranked as the outliers pipeline
                does, by likeness to the examples and by being unusual.
            k: How many, 1 to 200; fewer where there are not as many others.

        Raises:
            TableError: If the numbers are out of range or nothing is left to find.
        """
        rows_e = np.unique(np.asarray(example_rows, dtype=np.int64))
        k = min(k, len(self._outputs) - len(rows_e), MAX_FOUND)
        if not 1 <= len(rows_e) <= MAX_EXAMPLES:
            raise TableError(f"A search takes 1 to {MAX_EXAMPLES} examples; {len(rows_e)} are selected.")
        if k < 1:
            raise TableError("Every synapse is an example: there is nothing left to find.")
        if kind == "similar":
            query = Query("", rows_e, self._outputs.features_nf[rows_e])
            nearest = answer_query(self._outputs.index, np.arange(len(self._outputs)), query, k)
            return Found(nearest.indices_qk[0], nearest.distances_qk[0].astype(np.float64), "distance")
        white_nf, unusual_n = self._prepared()
        score_n = detect(white_nf, unusual_n, rows_e, self._config.prior_examples).score_n.copy()
        score_n[rows_e] = -np.inf
        best_k = np.argsort(-score_n, kind="stable")[:k]
        return Found(best_k, score_n[best_k], "score")

    def _prepared(self) -> tuple[np.ndarray, np.ndarray]:
        """Whitened features. Of many synapses the principal components, which need an eighth of the memory."""
        with self._lock:
            if self._white_nf is None or self._unusual_n is None:
                features_nf = self._outputs.features_nf
                components = self._outputs.synapses.obsm.get("X_pca")
                if len(features_nf) > _WHOLE_BELOW and components is not None:
                    features_nf = np.asarray(components[:, :_COMPONENTS])
                white_nf = whiten(features_nf, self._config.shrinkage)
                self._unusual_n = unsupervised_score(white_nf, "mahalanobis")
                self._white_nf = white_nf.astype(np.float32)
            return self._white_nf, self._unusual_n
