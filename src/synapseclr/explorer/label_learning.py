"""Learning a label from ticks: every synapse's probability to have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synapseclr.errors import TableError
from synapseclr.explorer.run_outputs import RunOutputs

MAX_TICKS = 5_000
_BACKGROUND_PER_TICK = 10
_MIN_BACKGROUND = 100


def learnt_probability(
    outputs: RunOutputs, with_label: Sequence[int], without_label: Sequence[int] = (), seed: int = 0
) -> np.ndarray:
    """Fit a logistic regression to ticked synapses, in the first 64 principal components of the features.

    Where no synapse was marked as being without the label, random other synapses stand for these: few of them have it.
    Both classes weigh the same, so 0.5 is the boundary between them and no share of all synapses.

    Args:
        outputs: The run.
        with_label: Rows of synapses that have the label, at least one.
        without_label: Rows of synapses that do not.
        seed: Seed of the draw of random others.

    Returns:
        float32 (n,), probability of every synapse.

    Raises:
        TableError: If there are no ticks, more than 5,000, or no other synapse to tell them from.
    """
    from sklearn.linear_model import LogisticRegression

    positive = np.unique(np.asarray(with_label, dtype=np.int64))
    negative = np.setdiff1d(np.asarray(without_label, dtype=np.int64), positive)
    if not 1 <= len(positive) + len(negative) <= MAX_TICKS or not len(positive):
        raise TableError(f"Tick 1 to {MAX_TICKS:,} synapses that have the label: {len(positive)} are ticked.")
    if not len(negative):
        others = np.setdiff1d(np.arange(len(outputs)), positive)
        n_drawn = min(len(others), max(_MIN_BACKGROUND, _BACKGROUND_PER_TICK * len(positive)))
        negative = np.random.default_rng(seed).choice(others, n_drawn, replace=False)
    if not len(negative):
        raise TableError("Every synapse is ticked: there is nothing to tell them from.")
    components_nc = outputs.components_nf
    chosen = np.concatenate([positive, negative])
    # Components keep their relative spread: the last ones are noise mostly, and would count as much otherwise.
    spread = float(components_nc[chosen].std(axis=0).max()) or 1.0
    model = LogisticRegression(class_weight="balanced", max_iter=500)
    model.fit(components_nc[chosen] / spread, np.isin(chosen, positive))
    log_odds_n = (components_nc @ (model.coef_[0] / spread).astype(np.float32)) + np.float32(model.intercept_[0])
    probability_n: np.ndarray = (1 / (1 + np.exp(-np.clip(log_odds_n, -50, 50)))).astype(np.float32)
    return probability_n
