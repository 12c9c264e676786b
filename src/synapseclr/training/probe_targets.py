"""Which annotated synapses a training is probed with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProbeTargets:
    """Annotated synapses for the k-NN probe.

    Attributes:
        indices: Positions in the chunk store, (n,).
        labels: By trait: 0, 1 or NaN, (n,).
        groups: By trait: the neurite whose synapses must not vote for each other, (n,).
    """

    indices: NDArray[np.int64]
    labels: dict[str, NDArray[np.float64]]
    groups: dict[str, NDArray[np.int64]]
