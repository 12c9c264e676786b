"""Embeddings with known traits at any size, without images: for benchmarks and for tests of the analyses.

What a volume cannot give in minutes, thousands of annotated synapses on neurites of all sizes, is drawn here from a
latent space: traits are curved functions of a few latent axes and noise, features a fixed random network of all axes.
The shares of noise are set so that the best possible scores are near those published for the real volume (explained
variance 0.70 for cleft size to 0.10 for the size of postsynaptic mitochondria, ROC AUC 0.86 to 0.98).

:func:`simulate_embeddings` draws all of them in memory. :class:`EmbeddingSimulation` draws any rows of any number of
synapses, so that millions are written shard by shard; some of them are defective. It also draws what an image would
give beside features: statistics of image and masks, orientations of clefts, and features of an untrained encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from pydantic import Field

from synapseclr.parameters import Parameters

_N_LATENT, _N_HIDDEN, _BLOCK = 24, 128, 20_000
FIRST_ID = 2**60
"""Id of the first synapse."""
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
        "synapse_id": np.arange(n_synapses, dtype=np.int64) + FIRST_ID,
        "pre_root_id": pre_u + FIRST_ID,
        "post_root_id": post_u + 2 * FIRST_ID,
        **_traits(rng, latent_nd, _standard),
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


def _traits(
    rng: np.random.Generator, latent_nd: np.ndarray, standard: Callable[[np.ndarray, str], np.ndarray]
) -> dict[str, np.ndarray]:
    """The seven traits that differ between synapses of a neurite; ``standard`` standardises a signal by its name."""
    signals = _signals(latent_nd)
    has_pre_n = _bernoulli(rng, 3.2 * standard(signals.pop("has_pre"), "has_pre"))
    has_post_n = _bernoulli(rng, 2.0 * standard(signals.pop("has_post"), "has_post"))
    values = {
        name: np.sqrt(_EXPLAINED[name]) * standard(signal_n, name)
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


def _signals(latent_nd: np.ndarray) -> dict[str, np.ndarray]:
    """The curved functions of latent axes behind the traits."""
    z = latent_nd.T
    return {
        "has_pre": np.sin(1.2 * z[7]) + 0.6 * z[8],
        "has_post": np.tanh(z[9]) + 0.4 * z[10] * z[11],
        "cleft": np.sin(1.2 * z[5]) + 0.4 * z[6] * z[1] + 0.5 * z[6],
        "pre_distance": np.tanh(z[2]) + 0.4 * z[3] ** 2,
        "post_distance": z[3] + 0.5 * np.abs(z[4]),
        "pre_mito": np.sin(z[12]) + 0.5 * z[13] + 0.3 * z[0],
        "post_mito": np.tanh(z[14]) + 0.5 * z[15] ** 2,
    }


def _standard(value_n: np.ndarray, name: str = "") -> np.ndarray:
    standard_n: np.ndarray = (value_n - value_n.mean()) / value_n.std()
    return standard_n


def _bernoulli(rng: np.random.Generator, log_odds_n: np.ndarray) -> np.ndarray:
    return (rng.random(len(log_odds_n)) < 1 / (1 + np.exp(-log_odds_n))).astype(float)


def _features(
    network: np.random.Generator, rng: np.random.Generator, latent_nd: np.ndarray, n_features: int
) -> np.ndarray:
    """Two layers with fixed random weights, rectified as a backbone's features are, and a little noise."""
    weights = _network(network, n_features)
    features_nf = np.empty((len(latent_nd), n_features), np.float32)
    for start in range(0, len(latent_nd), _BLOCK):
        rows = slice(start, start + _BLOCK)
        noise_nf = 0.05 * rng.normal(size=(len(latent_nd[rows]), n_features)).astype(np.float32)
        features_nf[rows] = _through(weights, latent_nd[rows]) + noise_nf
    return features_nf


def _network(network: np.random.Generator, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    first_dh = network.normal(size=(_N_LATENT, _N_HIDDEN)).astype(np.float32) * np.float32(0.7 / _N_LATENT**0.5)
    second_hf = network.normal(size=(_N_HIDDEN, n_features)).astype(np.float32) / np.float32(_N_HIDDEN**0.5)
    return first_dh, second_hf


def _through(weights: tuple[np.ndarray, np.ndarray], latent_nd: np.ndarray) -> np.ndarray:
    first_dh, second_hf = weights
    return _rectified(np.tanh(latent_nd.astype(np.float32) @ first_dh) @ second_hf)


def _rectified(values_nf: np.ndarray) -> np.ndarray:
    found_nf: np.ndarray = np.maximum(values_nf, 0)
    return found_nf


class EmbeddingSimulationConfig(Parameters):
    """Embeddings with known traits and defects at any size, drawn without images."""

    n_synapses: int = Field(1_000_000, ge=1, description="Synapses.")
    n_features: int = Field(512, ge=1, description="Features of each.")
    n_untrained_features: int = Field(
        64, ge=1, description="Features of the untrained encoder that it is compared with."
    )
    synapses_per_neurite: float = Field(8.0, gt=0, description="Mean number of synapses of a neurite, on both sides.")
    n_annotated: int = Field(20_000, ge=0, description="Synapses with annotated traits, about.")
    defect_fraction: float = Field(0.002, ge=0, lt=1, description="Share of defective synapses.")
    defect_strength: float = Field(
        1.0, ge=0, description="Response of features to defects: 1 as in a trained encoder (ROC AUC about 0.9), 0 none."
    )
    seed: int = Field(0, ge=0, description="Seed of every draw.")


DEFECTS = ("blank", "foreign", "mixed")
"""Kinds of defects: no structure, latent axes far from all others', two synapses in one image."""

_DRAW = 20_480  # rows that share a generator: what a row gets does not depend on which rows are asked for
_TRAINED, _UNTRAINED, _CONVOLUTION = 0, 5, 6  # networks that make features of latent axes
_UNTRAINED_NOISE = 1.0  # of features whose own spread is about 0.3: an untrained encoder sees the traits dimly
_CONVOLUTION_FEATURES = 16
# Response of features to a defect, where those of sound synapses have a spread of 0.5. Chosen so that Mahalanobis
# distances behave as those of the demo's encoder: nearly all of what has no structure is found there (ROC AUC 0.99),
# and less of what belongs to two synapses (0.85); 0.92 to 0.96 of all kinds at 512 features.
_RESPONSES = {"blank": 0.7, "foreign": 0.15, "mixed": 0.1}
_RESPONSE_SPREAD = 0.5  # of the response's logarithm, between defects
_RESPONSE_SHARED = 0.5  # share of its variance along the direction of the kind; the rest lies in a few rare directions
_N_RARE = 12
_FOREIGN = 1.8, 0.3  # factor on the latent axes of foreign ones, and spread of its logarithm
_MASK_EXTREMITY = {"blank": 3.0, "mixed": 1.8}  # factor on the latent axes that masks are made of
_N_ORIENTED = 5_000
_SHARED = (0.15, 0.10)
_TYPE_EFFECTS = (1.5, 1.2)
_EXTENT_NM = 100_000.0
_TRAITS = (
    "cleft_size_log1p_zscore",
    "presyn_soma_dist_log1p_zscore",
    "postsyn_soma_dist_log1p_zscore",
    "mito_size_pre_vx_log1p_zscore_zi",
    "mito_size_post_vx_log1p_zscore_zi",
    "has_mito_pre",
    "has_mito_post",
    "pre_cell_type",
    "post_cell_type",
)


class EmbeddingSimulation:
    """Any number of synapses as :func:`simulate_embeddings` draws them, by rows: memory holds those asked for.

    Numbers that concern all rows, such as the latent axes of every neurite, take 200 bytes a neurite.

    Args:
        config: Numbers and seed.
    """

    def __init__(self, config: EmbeddingSimulationConfig) -> None:
        self.config = config
        self._weights = _network(np.random.default_rng([config.seed, _TRAINED]), config.n_features)

    def table(self, rows: range) -> pd.DataFrame:
        """Ids, positions, traits (NaN where not annotated) and defects of consecutive rows.

        Returns:
            ``synapse_id``, ``pre_root_id``, ``post_root_id``, ``centre_{x,y,z}_nm`` and the traits by their published
            names, float32, and ``defect``, a category, empty for sound synapses. 90 bytes a row.
        """
        parts = [self._draw(unit)[1] for unit in _units(rows)]
        whole = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
        first = rows.start - rows.start // _DRAW * _DRAW
        return whole.iloc[first : first + len(rows)].reset_index(drop=True)

    def features(self, rows: range) -> np.ndarray:
        """Features float32 (n, f) of consecutive rows."""
        return self._of_rows(rows, self._trained_features)

    def untrained_features(self, rows: range) -> np.ndarray:
        """Features float32 (n, f) of an untrained encoder: another network's, under more noise."""
        return self._of_rows(rows, partial(self._noisy_features, _UNTRAINED, self.config.n_untrained_features))

    def convolution_features(self, rows: range) -> np.ndarray:
        """Features float32 (n, 16) of an untrained convolution."""
        return self._of_rows(rows, partial(self._noisy_features, _CONVOLUTION, _CONVOLUTION_FEATURES))

    def mask_statistics(self, rows: range, names: Sequence[str]) -> pd.DataFrame:
        """Statistics of the masks of consecutive rows by their names, float32, beside ``synapse_id``.

        They are functions of all latent axes but those of the cell types, and of a little noise; so they tell the sizes
        of cleft and mitochondria about as well as features do, and types less. All but contrasts are shares.
        """
        return self._statistics(rows, names, (8, _N_LATENT - 2, 0.3))

    def image_statistics(self, rows: range, names: Sequence[str]) -> pd.DataFrame:
        """Statistics of the image as :meth:`mask_statistics` draws those of the masks; they hardly tell the traits."""
        return self._statistics(rows, names, (9, 8, 1.0))

    def normals(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 (k,) of 5,000 drawn synapses, and normals (k, 3) of their clefts, which features do not know."""
        rng, n = np.random.default_rng([self.config.seed, 7]), self.config.n_synapses
        rows_k = np.sort(rng.choice(n, min(_N_ORIENTED, n), replace=False))
        normals_k3 = rng.normal(size=(len(rows_k), 3))
        return rows_k + FIRST_ID, normals_k3 / np.linalg.norm(normals_k3, axis=1, keepdims=True)

    def _of_rows(self, rows: range, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        found_nk = np.empty(0, np.float32)
        for unit in _units(rows):
            drawn_nk, first = draw(unit), unit * _DRAW
            if found_nk.ndim == 1:
                found_nk = np.empty((len(rows), drawn_nk.shape[1]), np.float32)
            start, stop = max(rows.start, first), min(rows.stop, first + len(drawn_nk))
            found_nk[start - rows.start : stop - rows.start] = drawn_nk[start - first : stop - first]
        return found_nk

    def _trained_features(self, unit: int) -> np.ndarray:
        rng = np.random.default_rng([self.config.seed, 3, unit])
        features_nf = self._of_network(self._weights, _TRAINED, unit)
        features_nf += np.float32(0.05) * rng.standard_normal(features_nf.shape, np.float32)
        return features_nf

    def _of_network(self, weights: tuple[np.ndarray, np.ndarray], network: int, unit: int) -> np.ndarray:
        """Features float32 (n, f) without noise, defects included.

        A blank image excites no hidden unit. Of two synapses in one image, the second of them cut off by a drawn share,
        a unit takes the one that excites it more. To every defect features respond beyond that.
        """
        first_dh, second_hf = weights
        latent_nd, table = self._draw(unit)
        rng = np.random.default_rng([self.config.seed, 10, unit])
        defect_n = table["defect"].to_numpy()
        hidden_nh = np.tanh(latent_nd.astype(np.float32) @ first_dh)
        hidden_nh[defect_n == "blank"] = 0.0
        mixed = np.flatnonzero(defect_n == "mixed")
        others_mh = hidden_nh[rng.integers(len(table), size=len(mixed))] * rng.random((len(mixed), 1))
        hidden_nh[mixed] = np.where(np.abs(others_mh) > np.abs(hidden_nh[mixed]), others_mh, hidden_nh[mixed])
        values_nf = hidden_nh @ second_hf
        rows = np.flatnonzero(defect_n != "")
        values_nf[rows] += self._responses(network, defect_n[rows], values_nf.shape[1], rng)
        return _rectified(values_nf)

    def _responses(self, network: int, defect_k: np.ndarray, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Responses float32 (k, f) of features to defects: a shift by the kind, and a spread.

        Both are along random directions, in which sound synapses differ little: latent axes fill a few dozen of them.
        """
        directions = np.random.default_rng([self.config.seed, 11, network])
        shift_jf = directions.standard_normal((len(DEFECTS), n_features))
        rare_rf = directions.standard_normal((_N_RARE, n_features)) / _N_RARE**0.5
        code_k = np.array([DEFECTS.index(kind) for kind in defect_k], dtype=np.int64)
        strength_k = self.config.defect_strength * np.array([_RESPONSES[kind] for kind in DEFECTS])[code_k]
        strength_k = strength_k * np.exp(_RESPONSE_SPREAD * rng.normal(size=len(code_k)))
        spread_kf = rng.normal(size=(len(code_k), _N_RARE)) @ rare_rf
        along_kf = np.sqrt(_RESPONSE_SHARED) * shift_jf[code_k] + np.sqrt(1 - _RESPONSE_SHARED) * spread_kf
        return (strength_k[:, None] * along_kf).astype(np.float32)

    def _noisy_features(self, network: int, n_features: int, unit: int) -> np.ndarray:
        weights = _network(np.random.default_rng([self.config.seed, network]), n_features)
        rng = np.random.default_rng([self.config.seed, network, unit])
        features_nf = self._of_network(weights, network, unit)
        features_nf += np.float32(_UNTRAINED_NOISE) * rng.standard_normal(features_nf.shape, np.float32)
        return features_nf

    def _statistics(self, rows: range, names: Sequence[str], kind: tuple[int, int, float]) -> pd.DataFrame:
        found = pd.DataFrame(self._of_rows(rows, partial(self._mixed_axes, names, *kind)), columns=list(names))
        found.insert(0, "synapse_id", np.arange(rows.start, rows.stop, dtype=np.int64) + FIRST_ID)
        return found

    def _mixed_axes(self, names: Sequence[str], stream: int, n_axes: int, noise: float, unit: int) -> np.ndarray:
        """Random combinations, of about unit spread, of the last latent axes; shares by the logistic function."""
        latent_nd, table = self._draw(unit)
        for kind, factor in _MASK_EXTREMITY.items():
            latent_nd[table["defect"].to_numpy() == kind] *= factor
        weights_dk = np.random.default_rng([self.config.seed, stream]).normal(size=(n_axes, len(names))) / n_axes**0.5
        drawn_nk = np.random.default_rng([self.config.seed, stream, unit]).normal(size=(len(latent_nd), len(names)))
        mixed_nk = latent_nd[:, _N_LATENT - n_axes :] @ weights_dk + noise * drawn_nk
        is_share_k = np.array([not name.endswith("_contrast") for name in names])
        mixed_nk[:, is_share_k] = 1 / (1 + np.exp(-mixed_nk[:, is_share_k]))
        is_bin_k = np.array(["_histogram_" in name for name in names])
        if is_bin_k.any():
            mixed_nk[:, is_bin_k] /= mixed_nk[:, is_bin_k].sum(axis=1, keepdims=True)
        return mixed_nk.astype(np.float32)

    def _draw(self, unit: int) -> tuple[np.ndarray, pd.DataFrame]:
        """Latent axes float64 (n, d) and the table of one unit of rows."""
        config = self.config
        n = min(_DRAW, config.n_synapses - unit * _DRAW)
        rng, defects = (np.random.default_rng([config.seed, stream, unit]) for stream in (2, 12))
        latent_nd = np.sqrt(1 - sum(_SHARED)) * rng.normal(size=(n, _N_LATENT))
        types, roots = [], []
        for side, share in enumerate(_SHARED):
            cumulated_u, latent_ud, type_u = self._neurites[side]
            neurite_n = np.minimum(np.searchsorted(cumulated_u, rng.random(n)), len(cumulated_u) - 1)
            latent_nd += np.sqrt(share) * latent_ud[neurite_n]
            latent_nd[:, side] += _TYPE_EFFECTS[side] * (2.0 * type_u[neurite_n] - 1)
            types.append(type_u[neurite_n].astype(np.float64))
            roots.append(neurite_n.astype(np.int64) + (side + 1) * FIRST_ID)
        traits = _traits(rng, latent_nd, self._standardised)
        values = (*traits.values(), *types)
        is_annotated_n = rng.random(n) < config.n_annotated / config.n_synapses
        kind_n = rng.integers(len(DEFECTS), size=n)
        code_n = np.where(rng.random(n) < config.defect_fraction, kind_n, -1)
        foreign = np.flatnonzero(code_n == DEFECTS.index("foreign"))
        factor, spread = _FOREIGN
        latent_nd[foreign] *= factor * np.exp(spread * defects.normal(size=(len(foreign), 1)))
        first = unit * _DRAW + FIRST_ID
        columns: dict[str, np.ndarray | pd.Categorical] = {
            "synapse_id": np.arange(first, first + n, dtype=np.int64),
            "pre_root_id": roots[0],
            "post_root_id": roots[1],
            **{f"centre_{axis}_nm": (_EXTENT_NM * rng.random(n)).astype(np.float32) for axis in "xyz"},
            **{
                name: np.where(is_annotated_n, value_n, np.nan).astype(np.float32)
                for name, value_n in zip(_TRAITS, values, strict=True)
            },
            "defect": pd.Categorical(np.array(["", *DEFECTS])[code_n + 1], categories=["", *DEFECTS]),
        }
        return latent_nd, pd.DataFrame(columns)

    @cached_property
    def _neurites(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each side: cumulated shares of the synapses, latent axes, and types of all neurites."""
        n = max(2, round(self.config.n_synapses / self.config.synapses_per_neurite))
        sides = []
        for side, inhibitory in enumerate((0.3, 0.25)):
            rng = np.random.default_rng([self.config.seed, 1, side])
            size_u = rng.lognormal(size=n)
            latent_ud = rng.standard_normal((n, _N_LATENT), np.float32)
            sides.append((np.cumsum(size_u / size_u.sum()), latent_ud, rng.random(n) < inhibitory))
        return sides

    @cached_property
    def _moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of every signal, from synapses drawn for that alone."""
        rng = np.random.default_rng([self.config.seed, 4])
        latent_nd = rng.normal(size=(50_000, _N_LATENT))
        for side, inhibitory in enumerate((0.3, 0.25)):
            latent_nd[:, side] += _TYPE_EFFECTS[side] * (2.0 * (rng.random(len(latent_nd)) < inhibitory) - 1)
        return {name: (float(signal_n.mean()), float(signal_n.std())) for name, signal_n in _signals(latent_nd).items()}

    def _standardised(self, signal_n: np.ndarray, name: str) -> np.ndarray:
        mean, std = self._moments[name]
        return (signal_n - mean) / std


def _units(rows: range) -> range:
    return range(rows.start // _DRAW, -(-rows.stop // _DRAW))
