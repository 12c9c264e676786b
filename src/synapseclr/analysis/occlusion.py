"""Explanation by occlusion: how a synapse's traits and features change when a part of its image is made grey."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.config import OcclusionConfig
from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.analysis.traits import (
    Trait,
    UnscorableTraitError,
    grouped_interval,
    linear_probe,
    trait_named,
    trait_values,
    values_by_class,
)
from synapseclr.analysis.traits.passed_over import passed_over
from synapseclr.analysis.traits.probes import fold_coordinates
from synapseclr.volumes.table_schema import COUNT, KEY, TEXT, Column, TableSchema

logger = logging.getLogger(__name__)

REGIONS = {"presynaptic": 1, "cleft": 2, "postsynaptic": 3}
"""Regions of a chunk that are occluded, and their mask codes."""

Embed = Callable[[Iterator[np.ndarray]], np.ndarray]
"""Embeds batches of chunks, uint8 (b, 2, x, y, z): features float32 (n, f), as those of the run."""

_FOLLOWABLE = "Annotate synapses of more neurites, or name other traits in `features.occlusion.traits`."
_DISTANCE = Column(rule=("in_range", {"min_value": -1e-6, "max_value": 2.000001}))

OCCLUSION_EFFECTS = TableSchema(
    "The table of occlusion effects",
    {
        "synapse_id": KEY,
        "trait": TEXT,
        "label": TEXT,
        "group": TEXT,
        "neurite": Column("root_id"),
        "score": Column(),
        **{f"{region}_change": Column() for region in REGIONS},
        **{f"{region}_distance": _DISTANCE for region in REGIONS},
    },
    key="synapse_id",
)

OCCLUSION_PATCHES = TableSchema(
    "The table of occluded patches",
    {
        "synapse_id": KEY,
        "trait": TEXT,
        **{f"{end}_{axis}": COUNT for axis in "xyz" for end in ("start", "stop")},
        "change": Column(),
        "distance": _DISTANCE,
    },
    key="synapse_id",
)


class Occlusions(NamedTuple):
    """Effects of occlusion.

    Attributes:
        effects: One row a synapse and trait: ``score`` of the whole image, by region the ``change`` of the score when
            it is occluded, and the cosine ``distance`` that the features move.
        patches: One row a patch, synapse and trait.
    """

    effects: pd.DataFrame
    patches: pd.DataFrame


def occlude(chunk_cxyz: np.ndarray, is_hidden_xyz: np.ndarray) -> np.ndarray:
    """Replace a part of a chunk's image by that part's own mean grey.

    Black would mean missing data to the encoder, and any foreign grey would draw an edge around the part: it would
    react to the edge. The mean leaves the masks, the outline and the mean grey of the part as they are, and takes
    everything inside: vesicles, densities, membranes, texture.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity (0: missing data), mask codes.
        is_hidden_xyz: bool (x, y, z).

    Returns:
        A changed copy; missing data stay missing.
    """
    occluded_cxyz = chunk_cxyz.copy()
    is_changed_xyz = is_hidden_xyz & (chunk_cxyz[0] > 0)
    if is_changed_xyz.any():
        occluded_cxyz[0][is_changed_xyz] = max(1, round(float(chunk_cxyz[0][is_changed_xyz].mean())))
    return occluded_cxyz


def patch_windows(shape_xyz: Sequence[int], n_patches: Sequence[int]) -> list[tuple[slice, ...]]:
    """Boxes of nearly equal size that make up a chunk; at most one a voxel along each axis."""
    edges = [
        np.linspace(0, length, min(n, length) + 1).round().astype(int)
        for length, n in zip(shape_xyz, n_patches, strict=True)
    ]
    parts = [[slice(int(first), int(last)) for first, last in pairwise(ends)] for ends in edges]
    return list(product(*parts))


def choose_synapses(obs: pd.DataFrame, traits: Sequence[Trait], config: OcclusionConfig) -> np.ndarray:
    """Rows of the synapses to explain: those named, or as many of every class of the first annotated trait.

    Returns:
        int64 (k,), in ascending order within the classes, which take turns: the first few are of different classes.
    """
    if config.synapses:
        row_of_id = {identifier: row for row, identifier in enumerate(obs["synapse_id"].tolist())}
        wanted = list(dict.fromkeys(config.synapses))
        unknown = [identifier for identifier in wanted if identifier not in row_of_id]
        for identifier in unknown:
            logger.warning("features.occlusion.synapses: there is no synapse %d in the embeddings.", identifier)
        return np.array([row_of_id[each] for each in wanted if each in row_of_id], dtype=np.int64)
    rng = np.random.default_rng(config.seed)
    for trait in traits:
        values_n = trait_values(obs, trait)
        groups = [np.flatnonzero(values_n == code) for code in range(len(trait.class_names))]
        groups = [rng.permutation(rows) for rows in groups if len(rows)]
        if len(groups) > 1:
            n_each = -(-config.n_synapses // len(groups))
            turns = [rows[turn] for turn in range(n_each) for rows in groups if turn < len(rows)]
            return np.array(turns[: config.n_synapses], dtype=np.int64)
    return rng.permutation(len(obs))[: config.n_synapses]


def followed_traits(traits: Sequence[Trait], config: OcclusionConfig) -> list[Trait]:
    """Traits whose prediction is followed: those named, or the first two with classes; without classes the first two.

    Raises:
        TableError: If a name is not declared.
    """
    if config.traits is not None:
        return [trait_named(name, traits) for name in config.traits]
    return [trait for trait in traits if trait.is_class][:2] or list(traits)[:2]


def explain(
    read: Callable[[int], np.ndarray],
    embed: Embed,
    features_nf: np.ndarray | FeatureRows,
    obs: pd.DataFrame,
    traits: Sequence[Trait],
    config: OcclusionConfig,
    penalties: Sequence[float] = (0.1, 1.0, 10.0),
) -> Occlusions:
    """Occlude the regions of synapses, and patches of some of them, and follow traits and features.

    A trait is predicted by a linear probe on the features of the annotated synapses, those of the explained synapses'
    neurites left out. Its score is the log-odds of class 1, or the predicted number; a change is the score of the
    occluded image less that of the whole one, both in the same poses.

    Args:
        read: Returns the chunk of a row, uint8 (2, x, y, z).
        embed: Embeds chunks.
        features_nf: Features of all synapses; probes are trained on the rows of annotated ones.
        obs: Their metadata and annotations.
        traits: Traits to follow.
        config: What is occluded.
        penalties: L2 penalties of the probe to choose from.

    Returns:
        Both tables; empty if there is nothing to explain.
    """
    rows_k = choose_synapses(obs, traits, config)
    nothing = Occlusions(*(pd.DataFrame(columns=list(each.columns)) for each in (OCCLUSION_EFFECTS, OCCLUSION_PATCHES)))
    if not len(rows_k):
        return nothing
    chunks = {int(row): read(int(row)) for row in rows_k}
    windows = {int(row): _masked_windows(chunks[int(row)], config) for row in rows_k[: config.n_patch_synapses]}
    versions_vf = embed(_batched(_versions(chunks, windows), config.batch_size))
    n_versions = 1 + len(REGIONS)
    regions_krf = versions_vf[: len(rows_k) * n_versions].reshape(len(rows_k), n_versions, -1)
    patch_starts = np.cumsum([len(rows_k) * n_versions, *map(len, windows.values())])
    distance_kr = _cosine_distance(regions_krf[:, :1], regions_krf[:, 1:])
    synapse_id = obs["synapse_id"].to_numpy()
    effects, patches, reasons = [], [], []
    for trait, values_n in values_by_class(obs, traits):
        try:
            scores_v = _scores(trait, values_n, features_nf, versions_vf, obs, rows_k, config, penalties)
        except UnscorableTraitError as reason:
            reasons.append((trait.name, str(reason)))
            continue
        scores_kr = scores_v[: len(rows_k) * n_versions].reshape(len(rows_k), n_versions)
        table = pd.DataFrame({"synapse_id": synapse_id[rows_k], "trait": trait.name, "label": trait.label})
        table["group"] = _group_names(trait, values_n[rows_k], scores_kr[:, 0])
        table["neurite"] = _neurites(obs, trait.group)[rows_k]
        table["score"] = scores_kr[:, 0]
        for place, region in enumerate(REGIONS):
            table[f"{region}_change"] = scores_kr[:, 1 + place] - scores_kr[:, 0]
            table[f"{region}_distance"] = distance_kr[:, place]
        effects.append(table)
        for place, (row, boxes) in enumerate(windows.items()):
            part = slice(*patch_starts[place : place + 2])
            found = _tabulate_boxes(boxes).assign(
                change=scores_v[part] - scores_kr[place, 0],
                distance=_cosine_distance(regions_krf[place, :1], versions_vf[part]),
            )
            found.insert(0, "trait", trait.name)
            found.insert(0, "synapse_id", synapse_id[row])
            patches.append(found)
    for sentence in passed_over(reasons, "not followed by occlusion", _FOLLOWABLE):
        logger.warning(sentence)
    if not effects:
        return nothing
    return Occlusions(
        pd.concat(effects, ignore_index=True), pd.concat(patches, ignore_index=True) if patches else nothing.patches
    )


def _masked_windows(chunk_cxyz: np.ndarray, config: OcclusionConfig) -> list[tuple[slice, ...]]:
    windows = patch_windows(chunk_cxyz.shape[1:], config.n_patches)
    return [window for window in windows if chunk_cxyz[1][window].any()]


def _versions(
    chunks: Mapping[int, np.ndarray], windows: Mapping[int, Sequence[tuple[slice, ...]]]
) -> Iterator[np.ndarray]:
    """Of every synapse the whole image and those without a region; then of some of them those without a patch."""
    for chunk_cxyz in chunks.values():
        yield chunk_cxyz
        for code in REGIONS.values():
            yield occlude(chunk_cxyz, chunk_cxyz[1] == code)
    for row, boxes in windows.items():
        for window in boxes:
            is_hidden_xyz = np.zeros(chunks[row].shape[1:], dtype=bool)
            is_hidden_xyz[window] = True
            yield occlude(chunks[row], is_hidden_xyz)


def _tabulate_boxes(boxes: Sequence[tuple[slice, ...]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            f"{end}_{axis}": [getattr(box[number], end) for box in boxes]
            for number, axis in enumerate("xyz")
            for end in ("start", "stop")
        }
    )


def _batched(chunks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    for chunk_cxyz in chunks:
        batch.append(chunk_cxyz)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _cosine_distance(whole_f: np.ndarray, occluded_f: np.ndarray) -> np.ndarray:
    """One minus the cosine of the angle between features, over the last axis."""
    product_ = (whole_f * occluded_f).sum(axis=-1)
    norms = np.linalg.norm(whole_f, axis=-1) * np.linalg.norm(occluded_f, axis=-1)
    return np.asarray(1.0 - product_ / np.maximum(norms, 1e-12))


def _neurites(obs: pd.DataFrame, group: str) -> np.ndarray:
    return obs[group].to_numpy() if group in obs else np.arange(len(obs))


def _scores(
    trait: Trait,
    values_n: np.ndarray,
    features_nf: np.ndarray | FeatureRows,
    versions_vf: np.ndarray,
    obs: pd.DataFrame,
    rows_k: np.ndarray,
    config: OcclusionConfig,
    penalties: Sequence[float],
) -> np.ndarray:
    """Score of every version by a probe that has not seen the neurites of the explained synapses.

    Raises:
        UnscorableTraitError: If too few synapses are left to train it.
    """
    neurite_n = _neurites(obs, trait.group)
    is_free_n = np.isfinite(values_n) & ~np.isin(neurite_n, neurite_n[rows_k])
    train_a = np.flatnonzero(is_free_n)
    target_a = values_n[train_a]
    if len(train_a) < config.min_annotated or np.ptp(target_a) == 0:
        raise UnscorableTraitError(
            f"{len(train_a)} annotated synapses are of neurites that are not explained; it takes "
            f"{config.min_annotated}, of more than one value"
        )
    train_ar, versions_vr = fold_coordinates(features_nf[train_a], versions_vf)
    groups_a = pd.factorize(neurite_n[train_a])[0]
    return linear_probe(train_ar, target_a, versions_vr, trait.is_class, groups_a, penalties, config.seed)


def _group_names(trait: Trait, known_k: np.ndarray, score_k: np.ndarray) -> list[str]:
    """Class of each synapse, by its annotation or else by its score; of numbers, the half of the scores it is in."""
    if not trait.is_class:
        return [f"{'upper' if score > np.median(score_k) else 'lower'} half" for score in score_k]
    code_k = np.where(np.isnan(known_k), score_k > 0, known_k).astype(int)
    return [trait.class_names[code] for code in code_k]


def summarise_effects(effects: pd.DataFrame) -> pd.DataFrame:
    """Mean effects by trait, group of synapses and region, with 90 % intervals by the bootstrap over neurites.

    Returns:
        ``trait, label, group, region, n, change, change_lower_90, change_upper_90``, and the same of ``distance``.
    """
    found = []
    for (trait, label, group), rows in effects.groupby(["trait", "label", "group"], sort=False):
        neurite_a = pd.factorize(rows["neurite"].to_numpy())[0]
        for region in REGIONS:
            entry = {"trait": trait, "label": label, "group": group, "region": region, "n": len(rows)}
            for what in ("change", "distance"):
                values_a = rows[f"{region}_{what}"].to_numpy(np.float64)
                lower, upper = grouped_interval(values_a, neurite_a)
                entry |= {what: values_a.mean(), f"{what}_lower_90": lower, f"{what}_upper_90": upper}
            found.append(entry)
    return pd.DataFrame(found)
