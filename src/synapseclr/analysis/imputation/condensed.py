"""All models of a trait as a few matrices, for predictions at millions of synapses.

The models of a trait, three folds times five repetitions, were fitted on parts of the same annotated synapses. Their
latent means are sums over these, which differ in weights and in the length scale of the kernel. Kernels at a few length
scales, between which all others are interpolated, give every model's mean by one product of matrices, equal to the
model's own up to single precision. Variances, a triangular system per model and synapse otherwise, are not equal: the
logarithm of posterior over prior variance is regressed on the same kernels, at synapses drawn at random. What that
changes is measured at further synapses. Of several classes, each is a latent function of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from synapseclr.analysis.gaussian_processes.exact import ExactModel
from synapseclr.analysis.gaussian_processes.models import FittedProcess
from synapseclr.analysis.gaussian_processes.multiclass import FittedClasses
from synapseclr.analysis.imputation.ensemble import Member, MemberModel, Prediction, mixture
from synapseclr.volumes.table_schema import NOT_NEGATIVE, POSITIVE_COUNT, TEXT, TableSchema

if TYPE_CHECKING:
    import torch

_TESTED = 0.2  # share of the drawn synapses at which the error is measured
_TOLERANCE = 1e-5  # of an interpolated kernel, whose greatest value is 1
_MOST_SCALES = 24
_MOST_REGRESSED = 1_000  # annotated synapses whose kernels variances are regressed on
_PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_KERNEL_VALUES = 400_000  # held at a time: 1.6 MB, which stay in the processor's cache
_LEAST_LOG_RATIO = -12.0
_NODES = 16  # of a quadrature
_SAMPLES = 16  # of the latent functions of several classes, and as many mirrored; others for each model

CONDENSATION_ERRORS = TableSchema(
    "The table of errors of condensed models",
    {
        "trait": TEXT,
        "n_tested": POSITIVE_COUNT,
        **dict.fromkeys(
            ("mean_error_in_sd", "sd_error", "largest_sd_error", "out_of_distribution_error"), NOT_NEGATIVE
        ),
    },
)


class Condensation(NamedTuple):
    """Models of a trait, condensed, and what that changes.

    Attributes:
        models: For any synapses.
        errors: At drawn synapses that the regression did not see: root mean square of the change of the mean in
            standard deviations of the full prediction, of the relative change of that standard deviation, its greatest
            size, and the root mean square of the change of ``out_of_distribution``.
    """

    models: CondensedModels
    errors: dict[str, int | float]


@dataclass(frozen=True)
class CondensedModels:
    """The m models of a trait over c annotated synapses, j length scales and r kernel inputs; arrays are float32.

    A model has a latent function, or one of each of k classes: q = m or m k functions, those of a model side by side.

    Attributes:
        near_cr: The columns of the annotated synapses' inputs that radial kernels see.
        scale_j: Length scales.
        radial_jcq: Weights of kernels at these.
        linear_rq: Weights of the inputs.
        constant_q: Float64.
        prior_q2: Prior variance: a constant, and the factor of the squared norm of the inputs; float64.
        regressed: Index of a length scale, and number of annotated synapses; variances are regressed on their kernels.
        variance_bq: Coefficients of the logarithm of posterior over prior variance; b terms, see :func:`_terms`.
        rescale_m3: Centre, scale and noise of the target; float64.
        is_class: As of :class:`~synapseclr.analysis.imputation.ensemble.MemberModel`.
    """

    near_cr: np.ndarray
    scale_j: np.ndarray
    radial_jcq: np.ndarray
    linear_rq: np.ndarray
    constant_q: np.ndarray
    prior_q2: np.ndarray
    regressed: tuple[int, int]
    variance_bq: np.ndarray
    rescale_m3: np.ndarray
    is_class: bool

    def predict(self, inputs_nr: np.ndarray) -> Prediction:
        """Mixture of the models at synapses of which none is annotated, by their kernel inputs."""
        step = max(1, _KERNEL_VALUES // len(self.near_cr))
        parts = [self._predict(inputs_nr[start : start + step]) for start in range(0, max(len(inputs_nr), 1), step)]
        mean_on, sd_on = (
            np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("mean_on", "sd_on")
        )
        ood_n = np.concatenate([part.out_of_distribution_n for part in parts])
        return Prediction(mean_on, sd_on, mean_on, sd_on, ood_n)

    def _predict(self, inputs_nr: np.ndarray) -> Prediction:
        mean_nq, terms_nb = self._latent_means(inputs_nr)
        ratio_nq = np.exp(np.clip((terms_nb @ self.variance_bq).astype(np.float64), _LEAST_LOG_RATIO, 0.0))
        prior_nq = self.prior_q2[:, 0] + np.square(inputs_nr).sum(axis=1)[:, None] * self.prior_q2[:, 1]
        none = np.empty(0, np.int64)
        n_classes = mean_nq.shape[1] // len(self.rescale_m3)
        if self.is_class and n_classes == 1:
            chance_nq, chance_variance_nq = _logistic_moments(mean_nq, prior_nq * ratio_nq)
        members = []
        for m, (centre, scale, noise) in enumerate(self.rescale_m3):
            own = slice(m * n_classes, (m + 1) * n_classes)
            mean_kn, prior_kn, ratio_kn = mean_nq[:, own].T, prior_nq[:, own].T, ratio_nq[:, own].T
            variance_kn = prior_kn * ratio_kn
            if n_classes > 1:
                mean_on, variance_on = _softmax_moments(mean_kn, variance_kn, m)
            elif self.is_class:
                mean_on, variance_on = chance_nq[:, own].T, chance_variance_nq[:, own].T
            else:
                mean_on, variance_on = mean_kn * scale + centre, variance_kn * scale**2 + noise
            members.append(Member(mean_on, variance_on, ratio_kn.mean(axis=0), none))
        return mixture(members, none)

    def _latent_means(self, inputs_nr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent means float64 (n, q), and what variances are regressed on, float32 (n, b)."""
        import torch

        query = torch.as_tensor(inputs_nr, dtype=torch.float32)
        near, centre = query[:, : self.near_cr.shape[1]], torch.as_tensor(self.near_cr)
        half_squared = near @ centre.mT
        half_squared -= 0.5 * near.square().sum(dim=1)[:, None]
        half_squared -= 0.5 * centre.square().sum(dim=1)
        half_squared.clamp_(max=0.0)
        mean = query @ torch.as_tensor(self.linear_rq)
        place, n_regressed = self.regressed
        kernel, kept = torch.empty_like(half_squared), half_squared[:, :n_regressed]
        for j, scale in enumerate(self.scale_j):
            torch.mul(half_squared, 1.0 / float(scale) ** 2, out=kernel)
            torch.addmm(mean, kernel.exp_(), torch.as_tensor(self.radial_jcq[j]), out=mean)
            if j == place:
                kept = kernel[:, :n_regressed].clone()
        return mean.double().numpy() + self.constant_q, _terms(query, kept).numpy()


def _logistic_moments(mean_nq: np.ndarray, variance_nq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the logistic function of normal variables, each float64 (n, q).

    By the quadrature of :func:`~synapseclr.analysis.gaussian_processes.models.class_probability`, in single precision.
    """
    import torch

    nodes_h, weights_h = np.polynomial.hermite_e.hermegauss(_NODES)
    node_h11, weight_h11 = (
        torch.as_tensor(each_h, dtype=torch.float32)[:, None, None] for each_h in (nodes_h, weights_h / weights_h.sum())
    )
    mean_nq32, spread_nq = (
        torch.as_tensor(each_nq, dtype=torch.float32) for each_nq in (mean_nq, np.sqrt(variance_nq))
    )
    chance_hnq = torch.addcmul(mean_nq32, node_h11, spread_nq).sigmoid_()
    first_nq = (weight_h11 * chance_hnq).sum(dim=0)
    second_nq = (chance_hnq - first_nq).square_().mul_(weight_h11).sum(dim=0)
    return first_nq.double().numpy(), second_nq.double().numpy()


def _softmax_moments(mean_kn: np.ndarray, variance_kn: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the softmax of independent normal variables, each float64 (k, n), over mirrored samples."""
    import torch

    half_sk = np.random.default_rng(seed).standard_normal((_SAMPLES, len(mean_kn)), np.float32)
    draw_s1k = torch.as_tensor(np.concatenate([half_sk, -half_sk])[:, None])
    mean_nk, spread_nk = (
        torch.as_tensor(np.ascontiguousarray(each_kn.T), dtype=torch.float32)
        for each_kn in (mean_kn, np.sqrt(variance_kn))
    )
    chance_snk = torch.softmax(torch.addcmul(mean_nk, draw_s1k, spread_nk), dim=-1)
    variance_nk, mean_nk = torch.var_mean(chance_snk, dim=0, correction=0)
    return mean_nk.double().numpy().T, variance_nk.double().numpy().T


def _terms(query: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """One, the inputs, their squares, norm and squared norm, and kernels."""
    import torch

    squares = query.square()
    norm = squares.sum(dim=1, keepdim=True)
    return torch.cat([torch.ones_like(norm), query, squares, norm, norm.sqrt(), kernel], dim=1)


class _Function(NamedTuple):
    """One of the independent functions whose sum is a latent function, given training synapses.

    Attributes:
        train: float (a, r).
        weight_a: Weights of the kernels there.
        constant: Mean.
        scales: See :func:`_hyper_parameters`.
        n_radial: Leading inputs that radial kernels see; None: all.
    """

    train: torch.Tensor
    weight_a: np.ndarray
    constant: float
    scales: tuple[np.ndarray, np.ndarray, np.ndarray]
    n_radial: int | None


def condense(models: Sequence[MemberModel], inputs_dr: np.ndarray) -> Condensation | None:
    """Condense the models of a trait.

    Args:
        models: Of one trait.
        inputs_dr: Kernel inputs of some thousand synapses drawn at random, in random order.

    Returns:
        The condensed models; None for those that cannot be: other kernels than ``rbf+linear``, and the variational
        process.
    """
    by_column = [functions for model in models for functions in _latent_functions(model.process)]
    if not by_column or not all(by_column):
        return None
    together = [(q, function) for q, functions in enumerate(by_column) for function in functions]
    centre_cr, row_of = _distinct([function.train for _, function in together])
    n_radial = together[0][1].n_radial or centre_cr.shape[1]
    nodes_j = _length_scales(np.concatenate([function.scales[0] for _, function in together]))
    n_columns, n_inputs = len(by_column), centre_cr.shape[1]
    radial_jcq = np.zeros((len(nodes_j), len(centre_cr), n_columns))
    linear_rq, constant_q, prior_q2 = np.zeros((n_inputs, n_columns)), np.zeros(n_columns), np.zeros((n_columns, 2))
    for q, function in together:
        rows_a = row_of[id(function.train)]
        for length, variance, factor in zip(*function.scales, strict=True):
            np.add.at(radial_jcq[..., q].T, rows_a, factor * function.weight_a[:, None] * _lagrange(length, nodes_j))
            linear_rq[:, q] += factor * variance * (function.train.double().numpy().T @ function.weight_a)
            prior_q2[q] += factor * np.array([1.0, variance])
        constant_q[q] += function.constant
    regressed = (len(nodes_j) // 2, min(_MOST_REGRESSED, len(centre_cr)))
    order_c = np.random.default_rng(0).permutation(len(centre_cr))  # those regressed on come first
    targets = [
        (model.process.centre, model.process.scale, model.process.noise)
        if isinstance(model.process, FittedProcess)
        else (0.0, 1.0, 0.0)
        for model in models
    ]
    unfitted = CondensedModels(
        centre_cr[order_c, :n_radial].astype(np.float32),
        nodes_j,
        radial_jcq[:, order_c].astype(np.float32),
        linear_rq.astype(np.float32),
        constant_q,
        prior_q2,
        regressed,
        np.zeros((0, n_columns), np.float32),
        np.array(targets),
        models[0].is_class,
    )
    return _with_variances(unfitted, models, inputs_dr)


def _with_variances(condensed: CondensedModels, models: Sequence[MemberModel], inputs_dr: np.ndarray) -> Condensation:
    """Regress the variances on most of the drawn synapses, and measure on the others what changes."""
    from dataclasses import replace

    n_tested = max(1, round(_TESTED * len(inputs_dr)))
    fitted_fr, tested_tr = inputs_dr[n_tested:], inputs_dr[:n_tested]
    log_ratio_fq = np.concatenate([_log_ratio(model.process, fitted_fr) for model in models], axis=1)
    terms_fb = condensed._latent_means(fitted_fr)[1].astype(np.float64)
    found = replace(condensed, variance_bq=_ridge(terms_fb, log_ratio_fq).astype(np.float32))
    full = mixture([model.predict(tested_tr) for model in models], np.empty(0, np.int64))
    short = found.predict(tested_tr)
    shift_on, relative_on = (short.mean_on - full.mean_on) / full.sd_on, short.sd_on / full.sd_on - 1
    errors = {
        "n_tested": n_tested,
        "mean_error_in_sd": _root_mean_square(shift_on),
        "sd_error": _root_mean_square(relative_on),
        "largest_sd_error": float(np.abs(relative_on).max()),
        "out_of_distribution_error": _root_mean_square(short.out_of_distribution_n - full.out_of_distribution_n),
    }
    return Condensation(found, errors)


def _log_ratio(process: FittedProcess | FittedClasses, inputs_nr: np.ndarray) -> np.ndarray:
    """Logarithm of posterior over prior variance of every latent function, float64 (n, k)."""
    if isinstance(process, FittedClasses):
        found = process.posterior(inputs_nr)
        return np.asarray(np.log(found.variance_kn / found.prior_variance_n).T)
    _, variance_on, prior_on = process.latent(inputs_nr)
    return np.asarray(np.log(variance_on / prior_on).T)


def _ridge(terms_fb: np.ndarray, target_fq: np.ndarray) -> np.ndarray:
    """Coefficients (b, q) by ridge regression on standardised terms; the penalty is the best on a fifth of the rows."""
    centre_b, spread_b = terms_fb.mean(axis=0), terms_fb.std(axis=0)
    varies_b = spread_b > 1e-9 * np.maximum(np.abs(centre_b), 1e-30)
    standard_fv = (terms_fb[:, varies_b] - centre_b[varies_b]) / spread_b[varies_b]
    level_q = target_fq.mean(axis=0)
    n_held = max(1, len(terms_fb) // 5)
    held, others = slice(0, n_held), slice(n_held, None)

    def solve(rows: slice, penalty: float) -> np.ndarray:
        part_fv = standard_fv[rows]
        gram_vv = part_fv.T @ part_fv
        gram_vv[np.diag_indices_from(gram_vv)] += penalty * len(part_fv)
        return np.asarray(np.linalg.solve(gram_vv, part_fv.T @ (target_fq[rows] - level_q)))

    loss = {
        penalty: float(np.square(standard_fv[held] @ solve(others, penalty) + level_q - target_fq[held]).sum())
        for penalty in _PENALTIES
    }
    coefficient_vq = solve(slice(None), min(loss, key=lambda penalty: loss[penalty]))
    coefficient_bq = np.zeros((terms_fb.shape[1], target_fq.shape[1]))
    coefficient_bq[varies_b] = coefficient_vq / spread_b[varies_b][:, None]
    coefficient_bq[0] = level_q - centre_b[varies_b] @ coefficient_bq[varies_b]
    return coefficient_bq


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _latent_functions(process: FittedProcess | FittedClasses) -> list[list[_Function]]:
    """The functions that make up each latent function of a process; an empty list for one that cannot be condensed."""
    if isinstance(process, FittedClasses):
        given = process.conditioned
        if not hasattr(given.kernel.base_kernel, "weighted_sums"):
            return [[]]
        scales = _hyper_parameters(given.kernel, 1.0)
        weights_ka, mean_k = given.weights_ka.double().numpy(), given.mean_k.double().numpy()
        n_radial = given.kernel.base_kernel.n_radial
        return [
            [_Function(given.train, weight_a, float(mean), scales, n_radial)]
            for weight_a, mean in zip(weights_ka, mean_k, strict=True)
        ]
    if not isinstance(process.latent, ExactModel):
        return [[]]
    functions = []
    for part in process.latent.parts:
        kernel = part.prior.kernel
        if not hasattr(kernel.base_kernel, "weighted_sums"):
            return [[]]
        scales = _hyper_parameters(kernel, part.prior.squares_o)
        weight_a, constant = part.weights.double().numpy(), float(part.prior.mean)
        functions.append(_Function(part.train, weight_a, constant, scales, kernel.base_kernel.n_radial))
    return [functions]


def _distinct(inputs: Sequence[torch.Tensor]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Distinct rows of several arrays, and by an array's identity the places of its rows among these."""
    arrays = list({id(each): each for each in inputs}.items())
    together = np.concatenate([each.double().numpy() for _, each in arrays])
    _, first_c, row_n = np.unique(together.astype(np.float32), axis=0, return_index=True, return_inverse=True)
    ends = np.cumsum([len(each) for _, each in arrays])[:-1]
    rows = np.split(row_n.reshape(-1), ends)
    return together[first_c], {name: rows_a for (name, _), rows_a in zip(arrays, rows, strict=True)}


def _hyper_parameters(kernel: Any, squares_o: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length scales, variances of the linear part, and factors of the outputs that count, each float64 (o,)."""
    base = kernel.base_kernel
    factor_o = (squares_o * kernel.outputscale.detach().reshape(-1)).double().numpy()
    length_o = base.lengthscale.detach().reshape(-1).double().numpy()
    variance_o = base.variance.detach().reshape(-1).double().numpy()
    counts_o = factor_o != 0
    return length_o[counts_o], variance_o[counts_o], factor_o[counts_o]


def _length_scales(length_k: np.ndarray) -> np.ndarray:
    """As few length scales as interpolate the kernels at all of these: Chebyshev nodes of their logarithms."""
    low, high = float(np.log(length_k.min())), float(np.log(length_k.max()))
    if high - low < 1e-9:
        return np.exp([0.5 * (low + high)])
    squared_s = np.concatenate([[0.0], np.geomspace(1e-4, 60.0, 400)]) * np.exp(2 * high)
    nodes_j = np.exp([0.5 * (low + high)])
    for n_nodes in range(2, _MOST_SCALES + 1):
        angle_j = np.pi * (np.arange(n_nodes) + 0.5) / n_nodes
        nodes_j = np.exp(0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle_j))
        kernel_js = np.exp(-0.5 * squared_s / np.square(nodes_j)[:, None])
        error = max(
            np.abs(_lagrange(length, nodes_j) @ kernel_js - np.exp(-0.5 * squared_s / length**2)).max()
            for length in np.unique(length_k)
        )
        if error < _TOLERANCE:
            break
    return nodes_j


def _lagrange(length: float, nodes_j: np.ndarray) -> np.ndarray:
    """Weights (j,) of values at the nodes that interpolate one at a length scale, in its logarithm."""
    place_j, place = np.log(nodes_j), np.log(length)
    weight_j = np.ones(len(nodes_j))
    for j, node in enumerate(place_j):
        others = np.delete(place_j, j)
        weight_j[j] = np.prod((place - others) / (node - others))
    return weight_j
