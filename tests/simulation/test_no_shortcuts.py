"""What a network could learn without looking at the synapse must be clearly worse than what the synapse shows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synapseclr.analysis.handcrafted import mask_statistics
from synapseclr.simulation import SimulatedVolume

HALF_CHUNK_VX = np.array([40, 40, 16])
DISTANCES_NM = np.arange(-96, 97, 12.0)


def sound_table(volume: SimulatedVolume):
    """Synapses without defects whose chunk lies inside the volume: tables joined."""
    table = volume.synapse_table.merge(volume.truth_table, left_on="id", right_on="synapse_id")
    centre = table[[f"ctr_pos_{axis}_vx" for axis in "xyz"]].to_numpy()
    inside = np.all((centre >= HALF_CHUNK_VX) & (centre + HALF_CHUNK_VX <= volume.em_xyz.shape), axis=1)
    return table[inside & (table["defect"] == "")].reset_index(drop=True)


def trivial_statistics(volume: SimulatedVolume, table) -> np.ndarray:
    """Mean, variance and histogram of each chunk, whole and inside each mask, and mask volumes."""
    rows = []
    for row in table.itertuples():
        centre = np.array([row.ctr_pos_x_vx, row.ctr_pos_y_vx, row.ctr_pos_z_vx])
        window = tuple(slice(c - h, c + h) for c, h in zip(centre, HALF_CHUNK_VX, strict=True))
        em, segments = volume.em_xyz[window].astype(float), volume.segmentation_xyz[window]
        histogram = np.histogram(em, bins=16, range=(0, 256))[0] / em.size
        masks = segments == row.pre_root_id, segments == row.post_root_id, volume.cleft_xyz[window] > 0
        volumes = [np.log1p(mask.sum()) for mask in masks]
        rows.append([em.mean(), em.var(), *histogram, *volumes])
    return np.array(rows)


def normal_profile(volume: SimulatedVolume, table) -> np.ndarray:
    """Mean grey level along the cleft normal, pre (-) to post (+), scaled by the cytoplasm around."""
    size = np.array(volume.voxel_size_nm)
    rows = []
    for row in table.itertuples():
        centre = np.array([row.centre_x_nm, row.centre_y_nm, row.centre_z_nm])
        normal = np.array([row.normal_x, row.normal_y, row.normal_z])
        first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
        first /= np.linalg.norm(first)
        second = np.cross(normal, first)
        offsets = np.array([(u, v) for u in range(-50, 51, 25) for v in range(-50, 51, 25)])
        lateral = offsets[:, :1] * first + offsets[:, 1:] * second
        points = centre + lateral[None] + DISTANCES_NM[:, None, None] * normal
        places = (points / size - 0.5).reshape(-1, 3).T
        low = np.maximum(np.floor(places.min(axis=1)).astype(int) - 1, 0)
        window = tuple(slice(a, int(b) + 3) for a, b in zip(low, places.max(axis=1), strict=True))
        em, places = volume.em_xyz[window], places - low[:, None]
        grey = map_coordinates(em, places, order=1, output=np.float32).reshape(len(DISTANCES_NM), -1)
        # Interpolation must not mix in missing data, which is black.
        seen = map_coordinates((em > 0).astype(np.float32), places, order=1).reshape(grey.shape) > 0.999
        profile = np.where(seen, grey, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
        profile = np.where(seen.any(axis=1), profile, 128.0)
        rows.append(profile - np.quantile(profile, 0.9))
    return np.array(rows)


def grouped_auc(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """ROC AUC of a logistic regression, three folds, no neurite in both training and test."""
    scores = np.zeros(len(labels))
    for train, test in GroupKFold(3).split(features, labels, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000)).fit(
            features[train], labels[train]
        )
        scores[test] = model.decision_function(features[test])
    return float(roc_auc_score(labels, scores))


@pytest.fixture(scope="module")
def table(medium_volume):
    return sound_table(medium_volume)


@pytest.fixture(scope="module")
def trivial(medium_volume, table):
    return trivial_statistics(medium_volume, table)


def test_pre_type_is_in_the_density_and_not_in_trivial_statistics(medium_volume, table, trivial):
    labels, groups = table["pre_cell_type"].to_numpy(int), table["pre_root_id"].to_numpy()
    from_trivial = grouped_auc(trivial, labels, groups)
    from_morphology = grouped_auc(normal_profile(medium_volume, table), labels, groups)
    assert from_trivial < 0.78
    assert from_morphology > 0.93
    assert from_morphology - from_trivial > 0.15


def test_post_type_is_not_in_trivial_statistics(table, trivial):
    assert grouped_auc(trivial, table["post_cell_type"].to_numpy(int), table["post_root_id"].to_numpy()) < 0.82


@pytest.mark.parametrize("side", ["pre", "post"])
def test_position_and_order_tell_nothing(table, side):
    labels, groups = table[f"{side}_cell_type"].to_numpy(int), table[f"{side}_root_id"].to_numpy()
    position = table[[f"ctr_pos_{axis}_vx" for axis in "xyz"]].to_numpy(float)
    order = np.stack([np.arange(len(table)), table["id"].to_numpy()], axis=1).astype(float)
    assert grouped_auc(position, labels, groups) < 0.64
    assert grouped_auc(order, labels, groups) < 0.62


def test_cleft_size_does_not_depend_on_type(table):
    for side in ("pre", "post"):
        sizes = np.log(table["cleft_size_vx"]).groupby(table[f"{side}_cell_type"]).agg(["mean", "std"])
        assert abs(sizes["mean"].diff().iloc[-1]) < 0.4 * sizes["std"].mean()


def local_axes(row) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre in nm, the normal, and two directions in the plane of the cleft."""
    centre = np.array([row.centre_x_nm, row.centre_y_nm, row.centre_z_nm])
    normal = np.array([row.normal_x, row.normal_y, row.normal_z])
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    return centre, normal, first, np.cross(normal, first)


def handcrafted(volume: SimulatedVolume, table) -> np.ndarray:
    """Mask statistics of each chunk."""
    rows = []
    for row in table.itertuples():
        centre = np.array([row.ctr_pos_x_vx, row.ctr_pos_y_vx, row.ctr_pos_z_vx])
        window = tuple(slice(c - h, c + h) for c, h in zip(centre, HALF_CHUNK_VX, strict=True))
        segments = volume.segmentation_xyz[window]
        code = (segments == row.pre_root_id) + np.uint8(3) * (segments == row.post_root_id)
        code[volume.cleft_xyz[window] > 0] = 2
        rows.append(mask_statistics(np.stack([volume.em_xyz[window], code]), volume.voxel_size_nm))
    return np.array(rows)


def central_darkness(volume: SimulatedVolume, table) -> np.ndarray:
    """How much darker the middle of the postsynaptic density is than the rest of the disc, grey levels."""
    size, rows = np.array(volume.voxel_size_nm), []
    for row in table.itertuples():
        centre, normal, first, second = local_axes(row)
        radius_nm = np.sqrt(row.cleft_size_vx * np.prod(size) / 44 / np.pi)
        angle, share = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(0.05, 0.95, 19))
        u, v = radius_nm * share * np.cos(angle), radius_nm * share * np.sin(angle)
        points = centre + 30 * normal + u[..., None] * first + v[..., None] * second
        grey = map_coordinates(volume.em_xyz, (points / size - 0.5).reshape(-1, 3).T, order=1, output=np.float32)
        grey = grey.reshape(share.shape).mean(axis=1)
        rows.append(grey[share[:, 0] > 0.75].mean() - grey[share[:, 0] < 0.35].mean())
    return np.array(rows)


def unevenness(volume: SimulatedVolume, table) -> np.ndarray:
    """Log ratio of coarse to fine variation in the presynaptic neurite beside the cleft."""
    size, rows = np.array(volume.voxel_size_nm), []
    for row in table.itertuples():
        centre, normal, *_ = local_axes(row)
        middle = np.round((centre - 220 * normal) / size).astype(int)
        low = np.maximum(middle - np.array([16, 16, 6]), 0)
        window = tuple(slice(a, b) for a, b in zip(low, middle + np.array([17, 17, 7]), strict=True))
        em, inside = volume.em_xyz[window].astype(float), volume.segmentation_xyz[window] == row.pre_root_id
        inside &= em > 0
        weight = gaussian_filter(inside.astype(float), 45 / size)
        grey = em - em[inside].mean()
        coarse = gaussian_filter(grey * inside, 45 / size) / np.maximum(weight, 1e-3)
        core = inside & (weight > 0.85)
        rows.append(np.log(coarse[core].var() / grey[core].var()) if core.sum() > 30 else np.nan)
    ratios = np.array(rows)
    return np.where(np.isnan(ratios), np.nanmedian(ratios), ratios)


@pytest.fixture(scope="module")
def texture_table(texture_volume):
    return sound_table(texture_volume)


@pytest.mark.parametrize("side", ["pre", "post"])
def test_with_texture_no_statistics_tell_the_types(texture_volume, texture_table, side):
    labels, groups = texture_table[f"{side}_cell_type"].to_numpy(int), texture_table[f"{side}_root_id"].to_numpy()
    statistics = np.hstack(
        [handcrafted(texture_volume, texture_table), trivial_statistics(texture_volume, texture_table)]
    )
    assert grouped_auc(statistics, labels, groups) < 0.7
    alone = np.array([roc_auc_score(labels, column) for column in statistics.T])
    assert np.maximum(alone, 1 - alone).max() < 0.75


def test_with_texture_each_type_is_in_the_arrangement_on_its_own_side(texture_volume, texture_table):
    pre, post = (texture_table[f"{side}_cell_type"].to_numpy(int) for side in ("pre", "post"))
    dark, uneven = central_darkness(texture_volume, texture_table), unevenness(texture_volume, texture_table)
    assert roc_auc_score(1 - post, dark) > 0.9
    assert roc_auc_score(1 - pre, uneven) > 0.7
    assert abs(roc_auc_score(1 - pre, dark) - 0.5) < 0.12
    assert abs(roc_auc_score(1 - post, uneven) - 0.5) < 0.12


def test_with_texture_types_of_both_sides_and_targets_are_independent(texture_table):
    assert abs(texture_table["pre_cell_type"].corr(texture_table["post_cell_type"])) < 0.2
    on_spine = texture_table["post_target"] == "spine"
    for side in ("pre", "post"):
        assert abs(texture_table[f"{side}_cell_type"].corr(on_spine.astype(float))) < 0.2
