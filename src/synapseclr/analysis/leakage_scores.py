"""The technical check: how well features predict what they should not know.

The orientation of the cleft is an accident of how the tissue was cut, and so is the place in the volume, apart from the
neurites that pass there. An encoder trained under random rotations cannot use orientation to recognise a synapse; one
trained without them can, and its features are then shaped by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import COLUMN_LABELS
from synapseclr.analysis.config import LeakageConfig
from synapseclr.analysis.manifold import principal_components
from synapseclr.analysis.traits.folds import Fold, neurite_codes
from synapseclr.volumes.synapse_table import table_rows
from synapseclr.volumes.table_schema import COUNT, SHARE_RULE, TEXT, Column, TableSchema

LEAKAGE_SCORES = TableSchema(
    "The table of leakage scores",
    {
        **dict.fromkeys(("representation", "layer", "effect"), TEXT),
        "probe": Column("text", rule=("isin", {"allowed_values": ["linear", "knn", "groups"]})),
        "score": Column(nullable=True, rule=("le", {"max_value": 1})),
        "null_mean": Column(nullable=True),
        "null_upper_95": Column(nullable=True),
        "p_value": Column(nullable=True, rule=SHARE_RULE),
        "n_synapses": COUNT,
        "reason": Column("text", nullable=True),
    },
)

LEAKAGE_COLUMNS = (
    "representation",
    "layer",
    "effect",
    "probe",
    "score",
    "null_mean",
    "null_upper_95",
    "p_value",
    "n_synapses",
    "reason",
)

EFFECT_LABELS = {
    "cleft_orientation": "cleft orientation",
    "cleft_tilt": COLUMN_LABELS["tilt_deg"].name,
    "cleft_direction": "direction from post to pre",
    "position_x": "position x",
    "position_y": "position y",
    "position_z": "position z",
    "section": "section",
    "block": "block of the volume",
}

_PROBED = tuple(EFFECT_LABELS)[:6]
_FEWEST = 20
_BLOCKS_PER_AXIS = 3


def measure_leakage(
    representations: Mapping[str, Mapping[str, np.ndarray]],
    obs: pd.DataFrame,
    orientations: pd.DataFrame,
    config: LeakageConfig | None = None,
) -> pd.DataFrame:
    """Measure technical effects in features.

    Args:
        representations: Name to layer to features (n, f), rows as in ``obs``.
        obs: ``synapse_id``, ``centre_{x,y,z}_nm``, ``pre_root_id``.
        orientations: From :func:`synapseclr.analysis.handcrafted.cleft_orientations`; its synapses are those measured.
        config: Probes, folds and permutations.

    Returns:
        One row per representation, layer, effect and probe. For orientation and position the ``score`` is the explained
        fraction of the variance on held-out folds split by presynaptic neurite (0: nothing; 1: all), by a
        ``linear`` and a ``knn`` probe; the orientation is that of the axis, n n^T, whichever side is presynaptic. For
        ``section`` and ``block`` (``probe`` is ``groups``) it is the share of the features' variance that lies between
        sections or blocks beyond what permutations give. ``null_mean`` and ``null_upper_95`` are what remains of the
        score when neurites' values are permuted; ``p_value`` is the share of permutations that reach it. Where an
        effect cannot be measured, the score is NaN and ``reason`` says why.
    """
    config = config or LeakageConfig()
    from rich.progress import track

    measured_n = obs["synapse_id"].isin(orientations["synapse_id"]).to_numpy()
    rows_n = np.flatnonzero(measured_n)
    if len(rows_n) > config.max_synapses:
        drawn = np.random.default_rng(config.seed).choice(len(rows_n), config.max_synapses, replace=False)
        rows_n = rows_n[np.sort(drawn)]
    table = obs.iloc[rows_n].reset_index(drop=True)
    oriented = table_rows(orientations, table["synapse_id"])
    normals_n3 = oriented[["normal_x", "normal_y", "normal_z"]].to_numpy(dtype=float)
    targets = _targets(normals_n3, table)
    groupings = _groupings(table, config)
    records = []
    recorded = [
        (name, layer, features) for name, layers in representations.items() for layer, features in layers.items()
    ]
    for name, layer, features_nf in track(recorded, description="Checking leakage"):
        components_nr = _standard_components(features_nf[rows_n], config)
        for effect in EFFECT_LABELS:
            found = (
                _probe(components_nr, targets[effect], table, config)
                if effect in _PROBED
                else [_group_share(components_nr, groupings[effect], table, config)]
            )
            records += [(name, layer, effect, *row) for row in found]
    return pd.DataFrame(records, columns=list(LEAKAGE_COLUMNS))


def leakage_metrics(leakage: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``manifold/leakage/<representation>/<layer>/<effect>/<probe>``; what was not measured is left out."""
    return {
        f"manifold/leakage/{row['representation']}/{row['layer']}/{row['effect']}/{row['probe']}": float(row["score"])
        for row in leakage.to_dict("records")
        if np.isfinite(row["score"])
    }


def orientation_form(normals_n3: np.ndarray) -> np.ndarray:
    """Quadratic form n n^T of axes, float64 (n, 6): equal for n and -n; distances are those of the matrices."""
    x, y, z = normals_n3.T
    root = np.sqrt(2.0)
    return np.stack([x * x, y * y, z * z, root * x * y, root * x * z, root * y * z], axis=1)


def _targets(normals_n3: np.ndarray, table: pd.DataFrame) -> dict[str, np.ndarray]:
    absent = np.full(len(table), np.nan)
    positions = {
        f"position_{axis}": table[f"centre_{axis}_nm"].to_numpy(float)[:, None]
        if f"centre_{axis}_nm" in table
        else absent[:, None]
        for axis in "xyz"
    }
    return {
        "cleft_orientation": orientation_form(normals_n3),
        "cleft_tilt": np.square(normals_n3[:, 2:]),
        "cleft_direction": normals_n3,
        **positions,
    }


def _groupings(table: pd.DataFrame, config: LeakageConfig) -> dict[str, np.ndarray | None]:
    """Code of the section and of the block of each synapse; None where positions are not known."""
    names = [f"centre_{axis}_nm" for axis in "xyz"]
    if not set(names) <= set(table):
        return {"section": None, "block": None}
    positions_n3 = table[names].to_numpy(dtype=float)
    offsets_n3 = positions_n3 - positions_n3.min(axis=0)
    extent_3 = np.maximum(offsets_n3.max(axis=0), 1.0)
    sides_3 = np.full(3, config.block_size_nm) if config.block_size_nm else extent_3 * 1.001 / _BLOCKS_PER_AXIS
    blocks_n3 = (offsets_n3 // sides_3).astype(np.int64)
    return {
        "section": np.unique(positions_n3[:, 2], return_inverse=True)[1],
        "block": np.unique(blocks_n3, axis=0, return_inverse=True)[1].ravel(),
    }


def _standard_components(features_nf: np.ndarray, config: LeakageConfig) -> np.ndarray:
    """Principal components of standardised features; constant ones are left out."""
    spread_f = features_nf.std(axis=0)
    varies_f = spread_f > 1e-7 * np.maximum(np.abs(features_nf).max(axis=0), 1e-30)
    if not varies_f.any():
        return np.zeros((len(features_nf), 1), np.float32)
    standard_nf = (features_nf[:, varies_f] - features_nf[:, varies_f].mean(axis=0)) / spread_f[varies_f]
    return principal_components(standard_nf, config.n_components, config.seed)[0]


def _probe(
    components_nr: np.ndarray, target_nt: np.ndarray, table: pd.DataFrame, config: LeakageConfig
) -> list[tuple[object, ...]]:
    """Both probes on one effect: probe, score, null mean, null 95 %, p, n, reason."""
    known = np.flatnonzero(np.isfinite(target_nt).all(axis=1))
    group_k = neurite_codes(table.iloc[known], "pre_root_id")
    reason = _why_not(target_nt[known], group_k, config)
    if reason:
        return [(probe, np.nan, np.nan, np.nan, np.nan, len(known), reason) for probe in ("linear", "knn")]
    components_kr, target_kt = components_nr[known].astype(np.float64), target_nt[known]
    folds = _folds(group_k, config)
    permuted_pk = neurite_permutations(group_k, config.n_permutations, config.seed)
    # The true targets first, then every permutation of them, side by side.
    stacked = np.hstack([target_kt, *(target_kt[order_k] for order_k in permuted_pk)])
    found: list[tuple[object, ...]] = []
    for probe in ("linear", "knn"):
        predicted = (
            ridge_predictions(components_kr, stacked, folds, config.penalties)
            if probe == "linear"
            else neighbour_predictions(components_kr, stacked, folds, config.n_neighbours)
        )
        sums = explained_fraction(stacked, predicted, folds).reshape(2, -1, target_kt.shape[1]).sum(axis=2)
        scores = 1.0 - sums[0] / np.maximum(sums[1], 1e-300)
        found.append((probe, *_against_null(scores[0], scores[1:]), len(known), None))
    return found


def _group_share(
    components_nr: np.ndarray, group_n: np.ndarray | None, table: pd.DataFrame, config: LeakageConfig
) -> tuple[object, ...]:
    """Share of the variance between groups, beyond the mean of the permutations."""
    n_synapses = len(table)
    reason = None
    if group_n is None:
        reason = "the positions of the synapses are not known"
    elif n_synapses < _FEWEST:
        reason = f"{n_synapses} synapses, at least {_FEWEST} needed"
    elif not 1 < len(np.unique(group_n)) < n_synapses:
        reason = "all synapses are in one group, or each in one of its own"
    if reason is not None or group_n is None:
        return "groups", np.nan, np.nan, np.nan, np.nan, n_synapses, reason
    centred_nr = components_nr - components_nr.mean(axis=0)
    total = max(float(np.square(centred_nr).sum()), 1e-300)
    permuted_pn = neurite_permutations(neurite_codes(table, "pre_root_id"), config.n_permutations, config.seed)
    orders = [np.arange(n_synapses), *permuted_pn]
    shares = np.array([_between(centred_nr, group_n[order_n]) / total for order_n in orders])
    chance = shares[1:].mean()
    score, _, upper, p_value = _against_null(shares[0], shares[1:])
    beyond = max(1.0 - chance, 1e-9)
    return "groups", (score - chance) / beyond, 0.0, (upper - chance) / beyond, p_value, n_synapses, None


def _between(centred_nr: np.ndarray, group_n: np.ndarray) -> float:
    counts_g = np.bincount(group_n)
    sums_gr = np.zeros((len(counts_g), centred_nr.shape[1]))
    np.add.at(sums_gr, group_n, centred_nr)
    return float((np.square(sums_gr).sum(axis=1) / np.maximum(counts_g, 1)).sum())


def _against_null(score: float, null_p: np.ndarray) -> tuple[float, float, float, float]:
    """Score, mean and 95th percentile of the null, and the p-value, which counts the score itself among the null."""
    p_value = (1 + int((null_p >= score).sum())) / (1 + len(null_p))
    return float(score), float(null_p.mean()), float(np.quantile(null_p, 0.95)), p_value


def _why_not(target_kt: np.ndarray, group_k: np.ndarray, config: LeakageConfig) -> str | None:
    if len(target_kt) < _FEWEST:
        return f"known for {len(target_kt)} synapses, at least {_FEWEST} needed"
    if len(np.unique(group_k)) < config.n_folds:
        return f"{len(np.unique(group_k))} presynaptic neurites, {config.n_folds} folds need as many"
    if not np.ptp(target_kt, axis=0).any():
        return "the same for all synapses"
    return None


def _folds(group_k: np.ndarray, config: LeakageConfig) -> list[Fold]:
    from sklearn.model_selection import GroupKFold

    splitter = GroupKFold(n_splits=config.n_folds, shuffle=True, random_state=config.seed)
    return list(splitter.split(group_k, groups=group_k))


def neurite_permutations(group_n: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """Permutations that move the synapses of a neurite together.

    Synapses of a neurite lie close to each other and look alike; a null that tore them apart would be too narrow.

    Args:
        group_n: int (n,): neurite of each synapse.
        n_permutations: Permutations wanted.
        seed: Their seed.

    Returns:
        int64 (p, n): row whose target each synapse takes. Neurites differ in size, so a few are split at the seams.
    """
    rng = np.random.default_rng(seed)
    order_n = np.argsort(group_n, kind="stable")
    members = np.split(order_n, np.flatnonzero(np.diff(group_n[order_n])) + 1)
    drawn_pn = np.empty((n_permutations, len(group_n)), np.int64)
    for row in drawn_pn:
        row[order_n] = np.concatenate([members[index] for index in rng.permutation(len(members))])
    return drawn_pn


def ridge_predictions(
    features_nr: np.ndarray, targets_nt: np.ndarray, folds: Sequence[Fold], penalties: Sequence[float]
) -> np.ndarray:
    """Predict every target from features, each fold from the others.

    Args:
        features_nr: float (n, r), few columns, such as principal components.
        targets_nt: float (n, t).
        folds: Pairs (train, test) of rows.
        penalties: L2 penalties to choose from, for every fold and target by generalised cross-validation; relative to
            the summed mean square of a feature.

    Returns:
        float64 (n, t).

    Source: generalised cross-validation, Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751.
    """
    predicted_nt = np.empty(targets_nt.shape)
    for train, test in folds:
        centre_r, mean_t = features_nr[train].mean(axis=0), targets_nt[train].mean(axis=0)
        left_ar, values_r, right_rr = np.linalg.svd(features_nr[train] - centre_r, full_matrices=False)
        centred_at = targets_nt[train] - mean_t
        moments_rt = left_ar.T @ centred_at
        total_t, squares_rt = np.square(centred_at).sum(axis=0), np.square(moments_rt)
        scale = max(float(np.square(values_r).mean()), 1e-300)
        shrink_pr = values_r**2 / (values_r**2 + scale * np.asarray(penalties, dtype=float)[:, None])
        error_pt = total_t - (2 * shrink_pr - shrink_pr**2) @ squares_rt
        freedom_p = 1.0 - (1.0 + shrink_pr.sum(axis=1)) / len(train)
        best_t = np.argmin(error_pt / np.maximum(freedom_p, 1e-6)[:, None] ** 2, axis=0)
        weights_rt = (shrink_pr[best_t].T / np.maximum(values_r, 1e-150)[:, None]) * moments_rt
        predicted_nt[test] = (features_nr[test] - centre_r) @ (right_rr.T @ weights_rt) + mean_t
    return predicted_nt


def neighbour_predictions(
    features_nr: np.ndarray, targets_nt: np.ndarray, folds: Sequence[Fold], n_neighbours: int
) -> np.ndarray:
    """Predict every target as the mean over the nearest synapses of the other folds: float64 (n, t)."""
    from synapseclr.analysis.search import build_index

    predicted_nt = np.empty(targets_nt.shape)
    for train, test in folds:
        index = build_index(features_nr[train].astype(np.float32), "flat")
        nearest_bk = index.search(features_nr[test].astype(np.float32), min(n_neighbours, len(train)))[1]
        sums_bt = np.zeros((len(test), targets_nt.shape[1]))
        for column in nearest_bk.T:
            sums_bt += targets_nt[train[column]]
        predicted_nt[test] = sums_bt / nearest_bk.shape[1]
    return predicted_nt


def explained_fraction(targets_nt: np.ndarray, predicted_nt: np.ndarray, folds: Sequence[Fold]) -> np.ndarray:
    """Summed squared error and variance of targets, as what predictions explain beyond the training folds' mean.

    Returns:
        float64 (2, t): squared error, and squared deviation from the mean of the training folds.
    """
    error_t = np.square(targets_nt - predicted_nt).sum(axis=0)
    total_t = np.zeros(targets_nt.shape[1])
    for train, test in folds:
        total_t += np.square(targets_nt[test] - targets_nt[train].mean(axis=0)).sum(axis=0)
    return np.stack([error_t, total_t])
