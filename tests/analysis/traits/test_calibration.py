"""Calibration measures on probabilities and intervals whose calibration is known."""

import numpy as np
import pytest

from synapseclr.analysis.traits import calibration
from synapseclr.analysis.traits.calibration import (
    BetaCalibration,
    calibration_error_by_chance,
    calibration_of_classes,
    calibration_of_intervals,
    calibration_of_several,
    debiased_calibration_error,
    expected_calibration_error,
    fit_beta_calibration,
    fit_softmax_calibration,
    fit_spread_correction,
    grouped_interval,
    logit,
    reliability_table,
)


@pytest.fixture
def calibrated():
    rng = np.random.default_rng(0)
    probability_a = rng.random(4000)
    return probability_a, (rng.random(4000) < probability_a).astype(float)


def test_calibrated_probabilities_show_no_more_error_than_chance(calibrated):
    error, chance = expected_calibration_error(*calibrated), calibration_error_by_chance(calibrated[0])
    assert error < 0.03
    assert chance == pytest.approx(error, abs=0.01)


def test_overconfident_probabilities_are_found_and_corrected(calibrated):
    probability_a, target_a = calibrated
    overconfident_a = 1 / (1 + np.exp(-3 * logit(probability_a) - 1))
    correction = fit_beta_calibration(overconfident_a, target_a)
    assert correction.a == pytest.approx(1 / 3, abs=0.04)
    assert correction.b == pytest.approx(1 / 3, abs=0.04)
    assert correction.c == pytest.approx(-1 / 3, abs=0.15)
    assert expected_calibration_error(overconfident_a, target_a) > 0.1
    assert expected_calibration_error(correction.apply(overconfident_a), target_a) < 0.03


def test_frequencies_that_level_off_are_followed():
    """Class 0 may be certain while class 1 never is, which no slope of the log-odds can say."""
    rng = np.random.default_rng(5)
    probability_a = rng.random(6000)
    target_a = (rng.random(6000) < np.minimum(probability_a, 0.5)).astype(float)
    correction = fit_beta_calibration(probability_a, target_a)
    assert correction.b < 0.4 < 0.8 < correction.a
    assert expected_calibration_error(correction.apply(probability_a), target_a) < 0.04


def test_few_held_out_synapses_change_little():
    correction = fit_beta_calibration(np.array([0.6, 0.4]), np.array([1.0, 0.0]))
    assert correction.a == pytest.approx(1.0, abs=0.6)
    assert correction.b == pytest.approx(1.0, abs=0.6)


def test_a_neurite_counts_once_if_its_synapses_share_their_label():
    rng = np.random.default_rng(6)
    probability_a, target_a = rng.random(30), (rng.random(30) < 0.5).astype(float)
    repeated = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    once = fit_beta_calibration(probability_a, target_a)
    often = fit_beta_calibration(probability_a[repeated], target_a[repeated], repeated)
    np.testing.assert_allclose([often.a, often.b, often.c], [once.a, once.b, once.c], atol=1e-4)
    mixed_a = np.where(np.arange(len(repeated)) % 2, target_a[repeated], 1 - target_a[repeated])
    assert fit_beta_calibration(probability_a[repeated], mixed_a, repeated) == fit_beta_calibration(
        probability_a[repeated], mixed_a
    )


def test_gain_is_the_derivative():
    correction = BetaCalibration(0.4, 1.3, -0.2)
    probability_a = np.linspace(0.05, 0.95, 7)
    difference_a = correction.apply(probability_a + 1e-6) - correction.apply(probability_a - 1e-6)
    np.testing.assert_allclose(correction.gain(probability_a), difference_a / 2e-6, rtol=1e-5)


def test_reliability_by_hand():
    table = reliability_table(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1.0, 0.0, 0.0, 1.0]), n_bins=2)
    np.testing.assert_allclose(table["probability"], [0.15, 0.85])
    np.testing.assert_allclose(table["frequency"], [0.5, 0.5])
    assert expected_calibration_error(np.array([0.9, 0.1]), np.array([1.0, 0.0]), 2) == pytest.approx(0.1)
    assert table["lower"].iloc[0] < 0.5 < table["upper"].iloc[0]


def test_spread_correction_and_coverage():
    rng = np.random.default_rng(1)
    error_a, sd_a = rng.normal(size=3000) * 2.0, np.full(3000, 1.0)
    factor = fit_spread_correction(error_a, sd_a)
    assert factor == pytest.approx(2.0, rel=0.05)
    groups_a = np.arange(3000) // 3
    assert calibration_of_intervals(error_a, sd_a, groups_a)["coverage_90"] < 0.65
    found = calibration_of_intervals(error_a, factor * sd_a, groups_a)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert found["coverage_90_lower_90"] < 0.9 < found["coverage_90_upper_90"]


def test_interval_over_groups_is_wider_when_groups_agree_within():
    groups_a = np.arange(400) // 20
    values_a = np.random.default_rng(2).random(20)[groups_a]
    by_group, by_synapse = (np.ptp(grouped_interval(values_a, groups)) for groups in (groups_a, np.arange(400)))
    assert by_group > 2 * by_synapse


def test_draws_in_parts_are_the_same_and_their_limit_is_near(monkeypatch):
    rng = np.random.default_rng(3)
    groups_a, values_a = rng.integers(0, 500, 4000), rng.exponential(size=4000)
    whole = grouped_interval(values_a, groups_a)
    monkeypatch.setattr(calibration, "_DRAWN_AT_ONCE", 1501)
    assert grouped_interval(values_a, groups_a) == whole
    monkeypatch.setattr(calibration, "_MOST_DRAWN_GROUPS", 499)
    assert grouped_interval(values_a, groups_a) == pytest.approx(whole, abs=0.1 * np.ptp(whole))


def test_accuracy_is_counted(calibrated):
    probability_a, target_a = calibrated
    found = calibration_of_classes(probability_a, target_a, np.arange(4000))
    assert found["accuracy"] == pytest.approx(0.75, abs=0.02)
    assert found["brier_score"] == pytest.approx(1 / 6, abs=0.01)


def test_debiased_error_is_zero_for_calibrated_probabilities_and_right_for_others():
    """The plain error of 200 synapses is far from zero even for perfect probabilities."""
    rng = np.random.default_rng(3)
    plain, debiased = [], []
    for _ in range(60):
        probability_a = rng.random(200)
        target_a = (rng.random(200) < probability_a).astype(float)
        plain.append(expected_calibration_error(probability_a, target_a))
        debiased.append(debiased_calibration_error(probability_a, target_a) ** 2)
    assert np.mean(plain) > 0.06
    assert np.sqrt(np.mean(debiased)) < 0.05
    shifted_a = rng.uniform(0.2, 0.8, 20_000)
    target_a = (rng.random(20_000) < shifted_a - 0.1).astype(float)
    assert debiased_calibration_error(shifted_a, target_a) == pytest.approx(0.1, abs=0.01)


def test_labels_that_neurites_share_make_more_error_by_chance():
    rng = np.random.default_rng(4)
    groups_a = np.repeat(np.arange(60), 7)
    plain, debiased = [], []
    for _ in range(40):
        probability_a = np.clip(rng.random(60)[groups_a] + 0.05 * rng.normal(size=420), 0.01, 0.99)
        target_a = (rng.random(60)[groups_a] < probability_a.reshape(60, 7).mean(axis=1)[groups_a]).astype(float)
        found = calibration_of_classes(probability_a, target_a, groups_a)
        plain.append(found["expected_calibration_error"])
        debiased.append(found["debiased_calibration_error"] ** 2)
    assert found["calibration_error_by_chance"] > 1.5 * calibration_error_by_chance(probability_a)
    assert np.mean(plain) == pytest.approx(found["calibration_error_by_chance"], rel=0.2)
    assert np.sqrt(np.mean(debiased)) < 0.75 * np.mean(plain)


def test_interval_of_a_mean_has_the_width_of_its_standard_error():
    value_a = np.repeat([0.0, 1.0], 50)
    assert grouped_interval(value_a, np.repeat([0, 1], 50), n_draws=2000) == (0.0, 1.0)
    lower, upper = grouped_interval(value_a, np.arange(100), n_draws=2000)
    assert lower == pytest.approx(0.5 - 1.645 * 0.05, abs=0.01)
    assert upper == pytest.approx(0.5 + 1.645 * 0.05, abs=0.01)


def drawn_classes(n=3000, seed=0):
    """Probabilities of three classes and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probability_kn = rng.dirichlet([1.0, 0.7, 0.4], n).T
    label_n = (rng.random(n) > np.cumsum(probability_kn, axis=0)).sum(axis=0).clip(max=2).astype(float)
    return probability_kn, label_n


def test_several_classes_are_recalibrated_by_temperature_and_intercepts():
    probability_kn, label_n = drawn_classes()
    distorted_kn = probability_kn**2.0 * np.array([1.0, 3.0, 0.5])[:, None]
    distorted_kn /= distorted_kn.sum(axis=0)
    correction = fit_softmax_calibration(distorted_kn, label_n)
    assert abs(correction.slope - 0.5) < 0.06
    np.testing.assert_allclose(correction.apply(distorted_kn).sum(axis=0), 1.0)
    groups_n = np.arange(len(label_n))
    before, after, true = (
        calibration_of_several(each_kn, label_n, groups_n)
        for each_kn in (distorted_kn, correction.apply(distorted_kn), probability_kn)
    )
    assert before["log_loss"] > after["log_loss"] + 0.1
    assert abs(after["log_loss"] - true["log_loss"]) < 0.02
    assert after["expected_calibration_error"] < 0.04 < before["expected_calibration_error"]
    assert true["expected_calibration_error"] < 2 * true["calibration_error_by_chance"]


def test_shared_labels_of_several_classes_count_once_a_neurite():
    probability_kn, label_n = drawn_classes(40)
    repeated = np.repeat(probability_kn, 25, axis=1), np.repeat(label_n, 25)
    groups = np.repeat(np.arange(40), 25)
    once = fit_softmax_calibration(probability_kn, label_n)
    shared = fit_softmax_calibration(*repeated, groups)
    assert abs(once.slope - shared.slope) < 1e-3


def test_balanced_accuracy_counts_every_class_alike():
    probability_ka = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    found = calibration_of_several(probability_ka, np.array([0.0, 0.0, 0.0, 1.0]), np.arange(4), 2)
    assert (found["accuracy"], found["balanced_accuracy"]) == (0.75, 0.5)
