"""Embeddings with known traits at any size, without images: for benchmarks and for tests of the analyses.

What a volume cannot give in minutes, thousands of annotated synapses on neurites of all sizes, is drawn here from a
latent space: traits are curved functions of a few latent axes and noise, features a fixed random network of all axes.
The shares of noise are set so that the best possible scores are near those published for the real volume (explained
variance 0.70 for cleft size to 0.10 for the size of postsynaptic mitochondria, ROC AUC 0.86 to 0.98).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_N_LATENT, _N_HIDDEN, _BLOCK = 24, 128, 20_000
_FIRST_ID = 2**60
# Share of the variance of a continuous trait that its latent axes explain, as published for the backbone.
_EXPLAINED = {"cleft": 0.75, "pre_distance": 0.2, "post_distance": 0.6, "pre_mito": 0.62, "post_mito": 0.15}


@dataclass(frozen=True)
class SimulatedEmbeddings:
    """Features and everything that is to be known about their synapses.

    Attributes:
        features_nf: float32 (n, f).
        annotations: One row per synapse, nothing censored: ``synapse_id``, ``pre_root_id``, ``post_root_id`` and the
            nine traits by their published names; sizes of mitochondria are -inf where there are none.
    """

    features_nf: np.ndarray
    annotations: pd.DataFrame


def simulate_embeddings(
    n_synapses: int,
    n_features: int = 512,
    synapses_per_neurite: float = 8.0,
    seed: int = 0,
    shared: tuple[float, float] = (0.15, 0.10),
    type_effects: tuple[float, float] = (1.5, 1.2),
) -> SimulatedEmbeddings:
    """Draw synapses with traits and features.

    Synapses of a neurite share their cell type and, by a share of the variance of every latent axis, whatever else
    makes them look alike; so the errors of a model that types them one by one are correlated within a neurite. Numbers
    of synapses per neurite are log-normal with a spread of one.

    Args:
        n_synapses: Number of synapses.
        n_features: Features each.
        synapses_per_neurite: Mean, for both sides.
        seed: Seed of everything; the network that makes features of latent axes is the same for every number of
            synapses.
        shared: Shares of presynaptic and of postsynaptic neurites in the variance of every latent axis.
        type_effects: Half the distance of the two cell types, presynaptic and postsynaptic, in standard deviations.

    Returns:
        The embeddings.
    """
    network, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    pre_u, post_u = (_neurites(rng, n_synapses, synapses_per_neurite) for _ in range(2))
    pre_type_n, post_type_n = _types(rng, pre_u, 0.3), _types(rng, post_u, 0.25)
    latent_nd = np.sqrt(1 - sum(shared)) * rng.normal(size=(n_synapses, _N_LATENT))
    for share, neurite_n in zip(shared, (pre_u, post_u), strict=True):
        latent_nd += np.sqrt(share) * rng.normal(size=(neurite_n.max() + 1, _N_LATENT))[neurite_n]
    latent_nd[:, 0] += type_effects[0] * (2 * pre_type_n - 1)
    latent_nd[:, 1] += type_effects[1] * (2 * post_type_n - 1)
    table = {
        "synapse_id": np.arange(n_synapses, dtype=np.int64) + _FIRST_ID,
        "pre_root_id": pre_u + _FIRST_ID,
        "post_root_id": post_u + 2 * _FIRST_ID,
        **_traits(rng, latent_nd),
        "pre_cell_type": pre_type_n,
        "post_cell_type": post_type_n,
    }
    return SimulatedEmbeddings(_features(network, rng, latent_nd, n_features), pd.DataFrame(table))


def _neurites(rng: np.random.Generator, n_synapses: int, mean_size: float) -> np.ndarray:
    """Neurite of every synapse, int64 (n,), codes without gaps."""
    size_u = rng.lognormal(size=max(2, round(n_synapses / mean_size)))
    drawn_n = rng.choice(len(size_u), size=n_synapses, p=size_u / size_u.sum())
    return np.unique(drawn_n, return_inverse=True)[1].astype(np.int64)


def _types(rng: np.random.Generator, neurite_n: np.ndarray, inhibitory: float) -> np.ndarray:
    type_n: np.ndarray = (rng.random(neurite_n.max() + 1) < inhibitory).astype(float)[neurite_n]
    return type_n


def _traits(rng: np.random.Generator, latent_nd: np.ndarray) -> dict[str, np.ndarray]:
    """The seven traits that differ between synapses of a neurite."""
    z = latent_nd.T
    has_pre_n = _bernoulli(rng, 3.2 * _standard(np.sin(1.2 * z[7]) + 0.6 * z[8]))
    has_post_n = _bernoulli(rng, 2.0 * _standard(np.tanh(z[9]) + 0.4 * z[10] * z[11]))
    signals = {
        "cleft": np.sin(1.2 * z[5]) + 0.4 * z[6] * z[1] + 0.5 * z[6],
        "pre_distance": np.tanh(z[2]) + 0.4 * z[3] ** 2,
        "post_distance": z[3] + 0.5 * np.abs(z[4]),
        "pre_mito": np.sin(z[12]) + 0.5 * z[13] + 0.3 * z[0],
        "post_mito": np.tanh(z[14]) + 0.5 * z[15] ** 2,
    }
    values = {
        name: np.sqrt(_EXPLAINED[name]) * _standard(signal_n)
        + np.sqrt(1 - _EXPLAINED[name]) * rng.normal(size=len(latent_nd))
        for name, signal_n in signals.items()
    }
    return {
        "cleft_size_log1p_zscore": values["cleft"],
        "presyn_soma_dist_log1p_zscore": values["pre_distance"],
        "postsyn_soma_dist_log1p_zscore": values["post_distance"],
        "mito_size_pre_vx_log1p_zscore_zi": np.where(has_pre_n == 1, values["pre_mito"], -np.inf),
        "mito_size_post_vx_log1p_zscore_zi": np.where(has_post_n == 1, values["post_mito"], -np.inf),
        "has_mito_pre": has_pre_n,
        "has_mito_post": has_post_n,
    }


def _standard(value_n: np.ndarray) -> np.ndarray:
    standard_n: np.ndarray = (value_n - value_n.mean()) / value_n.std()
    return standard_n


def _bernoulli(rng: np.random.Generator, log_odds_n: np.ndarray) -> np.ndarray:
    return (rng.random(len(log_odds_n)) < 1 / (1 + np.exp(-log_odds_n))).astype(float)


def _features(
    network: np.random.Generator, rng: np.random.Generator, latent_nd: np.ndarray, n_features: int
) -> np.ndarray:
    """Two layers with fixed random weights, rectified as a backbone's features are, and a little noise."""
    first_dh = network.normal(size=(_N_LATENT, _N_HIDDEN)).astype(np.float32) * np.float32(0.7 / _N_LATENT**0.5)
    second_hf = network.normal(size=(_N_HIDDEN, n_features)).astype(np.float32) / np.float32(_N_HIDDEN**0.5)
    features_nf = np.empty((len(latent_nd), n_features), np.float32)
    for start in range(0, len(latent_nd), _BLOCK):
        rows = slice(start, start + _BLOCK)
        hidden_nh = np.tanh(latent_nd[rows].astype(np.float32) @ first_dh)
        noise_nf = 0.05 * rng.normal(size=(len(hidden_nh), n_features)).astype(np.float32)
        features_nf[rows] = np.maximum(hidden_nh @ second_hf, 0) + noise_nf
    return features_nf
