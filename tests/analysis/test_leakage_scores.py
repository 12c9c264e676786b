"""The technical check finds what is in the features, and nothing where there is nothing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from synapseclr.analysis.config import LeakageConfig
from synapseclr.analysis.handcrafted import cleft_orientations
from synapseclr.analysis.leakage_scores import (
    leakage_metrics,
    measure_leakage,
    neurite_permutations,
    orientation_form,
    ridge_predictions,
)
from synapseclr.errors import TableError

N = 240
QUICK = LeakageConfig(n_permutations=20, n_components=12)


def _normals(n=N, seed=0):
    normals_n3 = np.random.default_rng(seed).normal(size=(n, 3))
    return normals_n3 / np.linalg.norm(normals_n3, axis=1, keepdims=True)


@pytest.fixture
def tables():
    rng = np.random.default_rng(1)
    normals_n3 = _normals()
    obs = pd.DataFrame({"synapse_id": np.arange(N) + 2**60, "pre_root_id": np.arange(N) // 6 + 2**61})
    obs[["centre_x_nm", "centre_y_nm", "centre_z_nm"]] = rng.integers(0, 40, (N, 3)) * 40.0
    orientations = pd.DataFrame(normals_n3, columns=["normal_x", "normal_y", "normal_z"])
    orientations.insert(0, "synapse_id", obs["synapse_id"])
    return obs, orientations


def _noise(n_columns=16, seed=2):
    return np.random.default_rng(seed).normal(size=(N, n_columns)).astype(np.float32)


def _score(table, name, effect, probe="linear"):
    row = table[(table["representation"] == name) & (table["effect"] == effect) & (table["probe"] == probe)]
    return row.iloc[0]


def test_orientation_in_the_features_is_found_and_absent_is_not(tables):
    obs, orientations = tables
    form_n6 = orientation_form(_normals()).astype(np.float32)
    representations = {
        "leaky": {"encoder.fc": np.hstack([3 * form_n6, 0.1 * _noise(4)])},
        "clean": {"encoder.fc": _noise()},
    }
    table = measure_leakage(representations, obs, orientations, QUICK)
    leaky, clean = (_score(table, name, "cleft_orientation") for name in representations)
    assert leaky["score"] > 0.95
    assert leaky["p_value"] == pytest.approx(1 / 21)
    assert clean["score"] < 0.05
    assert _score(table, "leaky", "cleft_tilt", "knn")["score"] > 0.6
    assert _score(table, "leaky", "cleft_direction")["score"] < 0.2
    assert np.isfinite(table["score"]).all()
    assert leakage_metrics(table)["manifold/leakage/leaky/encoder.fc/cleft_orientation/linear"] == leaky["score"]


def test_a_shift_between_sections_is_found(tables):
    obs, orientations = tables
    section_n = obs["centre_z_nm"].to_numpy()
    shift = np.random.default_rng(3).normal(size=41)[(section_n / 40).astype(int)]
    table = measure_leakage({"a": {"l": _noise() + shift[:, None].astype(np.float32)}}, obs, orientations, QUICK)
    assert _score(table, "a", "section", "groups")["score"] > 0.2
    assert _score(table, "a", "block", "groups")["score"] < 0.1


def test_axes_are_the_same_from_both_sides():
    normals_n3 = _normals(9)
    np.testing.assert_allclose(orientation_form(normals_n3), orientation_form(-normals_n3))
    first, second = orientation_form(normals_n3)[:2]
    distance = np.linalg.norm(np.outer(normals_n3[0], normals_n3[0]) - np.outer(normals_n3[1], normals_n3[1]))
    assert np.linalg.norm(first - second) == pytest.approx(distance)


def test_ridge_matches_scikit_learn():
    features_nr, targets_nt = _noise(5).astype(float), _noise(2, seed=5).astype(float)
    train, test = np.arange(200), np.arange(200, N)
    predicted = ridge_predictions(features_nr, targets_nt, [(train, test), (test, train)], [0.3])
    values = np.linalg.svd(features_nr[train] - features_nr[train].mean(axis=0), compute_uv=False)
    model = Ridge(alpha=0.3 * np.square(values).mean()).fit(features_nr[train], targets_nt[train])
    np.testing.assert_allclose(predicted[test], model.predict(features_nr[test]), atol=1e-8)


def test_permutations_keep_neurites_together():
    group_n = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 5))
    permuted_pn = neurite_permutations(group_n, 10, seed=0)
    assert all(sorted(row) == list(range(150)) for row in permuted_pn)
    together = pd.DataFrame({"to": group_n, "from": group_n[permuted_pn[0]]}).groupby("to")["from"].nunique()
    assert (together == 1).all()


@pytest.mark.parametrize(
    ("change", "effect", "said"),
    [
        (lambda o, t: (o.iloc[:10], t), "cleft_tilt", "known for 10 synapses"),
        (lambda o, t: (o.assign(pre_root_id=7), t), "cleft_tilt", "1 presynaptic neurites"),
        (lambda o, t: (o.drop(columns="centre_z_nm"), t), "section", "not known"),
        (lambda o, t: (o.assign(centre_z_nm=0.0), t), "position_z", "same for all"),
        (lambda o, t: (o.assign(centre_z_nm=0.0), t), "section", "one group"),
        (lambda o, t: (o, t.assign(normal_x=np.nan)), "cleft_orientation", "known for 0 synapses"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(tables, change, effect, said):
    obs, orientations = change(*tables)
    table = measure_leakage({"a": {"l": _noise()[: len(obs)]}}, obs, orientations, QUICK)
    rows = table[table["effect"] == effect]
    assert rows["score"].isna().all()
    assert rows["reason"].str.contains(said).all()
    assert not any(effect in name for name in leakage_metrics(table))


def test_constant_features_leak_nothing(tables):
    table = measure_leakage({"a": {"l": np.ones((N, 8), np.float32)}}, *tables, QUICK)
    assert (table["score"].abs() < 0.3).all()
    assert table.loc[table["probe"] != "knn", "score"].max() < 0.02


class _Store:
    voxel_size_nm = (8.0, 8.0, 40.0)

    def __init__(self):
        self.synapse_id = np.array([5, 6, 7])
        self.chunk_ncxyz = np.zeros((3, 2, 12, 12, 6), np.uint8)
        self.chunk_ncxyz[:2, 1, :6], self.chunk_ncxyz[:2, 1, 7:] = 1, 3
        self.chunk_ncxyz[:2, 1, 6, 3:9, 2:5] = 2

    def __len__(self):
        return 3

    def read(self, indices):
        return self.chunk_ncxyz[indices]


def test_orientations_come_in_the_order_asked_for():
    table = cleft_orientations(_Store(), np.array([7, 5]))
    assert table["synapse_id"].tolist() == [7, 5]
    assert np.isnan(table["tilt_deg"][0])
    assert table.loc[1, ["normal_x", "tilt_deg", "azimuth_deg"]].tolist() == pytest.approx([-1, 90, 0])
    assert len(cleft_orientations(_Store(), np.array([5, 6, 7]), max_synapses=2)) == 2
    with pytest.raises(TableError, match="no chunk"):
        cleft_orientations(_Store(), np.array([5, 99]))
