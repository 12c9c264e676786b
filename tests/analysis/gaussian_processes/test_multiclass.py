import numpy as np
import pytest

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.multiclass import ClassPosterior, class_probabilities, fit_multiclass

CONFIG = GaussianProcessConfig(n_iterations=8, n_components=4, n_linear_components=4)


def blobs(n, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    label_n = np.arange(n) % n_classes
    angle_n = 2 * np.pi * label_n / n_classes
    inputs_nr = np.column_stack([np.cos(angle_n), np.sin(angle_n)]) + 0.25 * rng.normal(size=(n, 2))
    return inputs_nr, label_n.astype(float)


def accuracy(config, n=120, n_classes=4):
    inputs_nr, label_n = blobs(n + 100, n_classes)
    posterior = fit_multiclass(inputs_nr[:n], label_n[:n], inputs_nr[n:], config, n_classes)
    mean_kn, variance_kn = class_probabilities(posterior)
    np.testing.assert_allclose(mean_kn.sum(axis=0), 1.0)
    assert (variance_kn >= 0).all()
    assert (variance_kn <= mean_kn * (1 - mean_kn) + 1e-9).all()
    return (mean_kn.argmax(axis=0) == label_n[n:]).mean(), posterior


def test_classes_that_are_apart_are_told():
    share, posterior = accuracy(CONFIG)
    assert share > 0.9
    assert posterior.mean_kn.shape == (4, 100)


def test_approximations_for_many_synapses_tell_them_too():
    few = CONFIG.model_copy(update={"exact_mean_up_to": 90, "exact_up_to": 40, "n_inducing": 30, "fit_on": 40})
    assert accuracy(few)[0] > 0.85


def test_far_from_training_synapses_nothing_is_known():
    inputs_nr, label_n = blobs(80)
    radial = CONFIG.model_copy(update={"kernel": "rbf"})
    far_nr = np.array([[0.9, 0.1], [300.0, -300.0]])
    posterior = fit_multiclass(inputs_nr, label_n, far_nr, radial, 4)
    near, far = posterior.out_of_distribution_n
    assert far == pytest.approx(1.0, abs=1e-6)
    assert near < 0.8
    np.testing.assert_allclose(class_probabilities(posterior)[0][:, 1], 0.25, atol=0.08)


def test_a_class_without_a_training_synapse_stays_improbable():
    inputs_nr, label_n = blobs(90, 3)
    posterior = fit_multiclass(inputs_nr, label_n, inputs_nr, CONFIG, 4)
    mean_kn, _ = class_probabilities(posterior)
    assert mean_kn.shape == (4, 90)
    assert mean_kn[3].mean() < 0.1
    assert (mean_kn.argmax(axis=0) == label_n).mean() > 0.9


def test_balance_raises_the_probability_of_a_rare_class():
    rng = np.random.default_rng(0)
    label_n = np.r_[np.zeros(60), np.ones(60), np.full(6, 2.0)]
    inputs_nr = 0.8 * rng.normal(size=(126, 2)) + np.array([[0, 0], [1, 0], [0, 1]])[label_n.astype(int)]
    means = [
        class_probabilities(
            fit_multiclass(inputs_nr, label_n, inputs_nr, CONFIG.model_copy(update={"balance_classes": balance}), 3)
        )[0][2].mean()
        for balance in (False, True)
    ]
    assert means[1] > 1.3 * means[0]


def test_probabilities_are_those_of_the_logistic_function_for_two_certain_functions():
    posterior = ClassPosterior(np.array([[0.0], [1.0]]), np.full((2, 1), 1e-12), np.ones(1))
    np.testing.assert_allclose(class_probabilities(posterior)[0][1], 1 / (1 + np.exp(-1.0)), rtol=1e-4)
