"""Features with traits whose dependence and noise are known."""

import numpy as np
import pandas as pd


def curved_traits(n=240, n_annotated=180, seed=0):
    """A curved trait with known noise, and a class whose probability is known."""
    rng = np.random.default_rng(seed)
    features_nf = rng.normal(size=(n, 6)).astype(np.float32)
    size_n = np.sin(1.5 * features_nf[:, 0]) + 0.3 * rng.normal(size=n)
    class_n = (rng.random(n) < 1 / (1 + np.exp(-2.5 * features_nf[:, 1]))).astype(float)
    size_n[n_annotated:] = class_n[n_annotated:] = np.nan
    table = pd.DataFrame(
        {
            "synapse_id": np.arange(n) + 2**60,
            "pre_root_id": rng.integers(0, 40, n) + 2**60,
            "cleft_size_log1p_zscore": size_n,
            "pre_cell_type": class_n,
        }
    )
    return features_nf, table
