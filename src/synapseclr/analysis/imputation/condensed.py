"""All models of a trait as a few matrices, for predictions at millions of synapses.

The models of a trait, three folds times five repetitions, were fitted on parts of the same annotated synapses. Their
latent means are sums over these, which differ in weights and in the length scale of the kernel. Kernels at a few length
scales, between which all others are interpolated, give every model's mean by one product of matrices, equal to the
model's own up to single precision. Variances, a triangular system per model and synapse otherwise, are not equal: the
logarithm of posterior over prior variance is regressed on the same kernels, at synapses drawn at random. What that
changes is measured at further synapses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from synapseclr.analysis.gaussian_processes.exact import ExactModel
from synapseclr.analysis.gaussian_processes.models import FittedProcess, Posterior, class_probability
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

    Attributes:
        near_cr: The columns of the annotated synapses' inputs that radial kernels see.
        scale_j: Length scales.
        radial_jcm: Weights of kernels at these.
        linear_rm: Weights of the inputs.
        constant_m: Float64.
        prior_m2: Prior variance: a constant, and the factor of the squared norm of the inputs; float64.
        regressed: Index of a length scale, and number of annotated synapses; variances are regressed on their kernels.
        variance_bm: Coefficients of the logarithm of posterior over prior variance; b terms, see :func:`_terms`.
        rescale_m3: Centre, scale and noise of the target; float64.
        is_class: As of :class:`~synapseclr.analysis.imputation.ensemble.MemberModel`.
    """

    near_cr: np.ndarray
    scale_j: np.ndarray
    radial_jcm: np.ndarray
    linear_rm: np.ndarray
    constant_m: np.ndarray
    prior_m2: np.ndarray
    regressed: tuple[int, int]
    variance_bm: np.ndarray
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
        mean_nm, terms_nb = self._latent_means(inputs_nr)
        ratio_nm = np.exp(np.clip((terms_nb @ self.variance_bm).astype(np.float64), _LEAST_LOG_RATIO, 0.0))
        prior_nm = self.prior_m2[:, 0] + np.square(inputs_nr).sum(axis=1)[:, None] * self.prior_m2[:, 1]
        members = []
        for m, (centre, scale, noise) in enumerate(self.rescale_m3):
            mean_n, variance_n = mean_nm[:, m], prior_nm[:, m] * ratio_nm[:, m]
            if self.is_class:
                posterior = Posterior(mean_n[None], variance_n[None], prior_nm[None, :, m], 0.0)
                mean_n, variance_n = class_probability(posterior)
            else:
                mean_n, variance_n = mean_n * scale + centre, variance_n * scale**2 + noise
            members.append(Member(mean_n[None], variance_n[None], ratio_nm[:, m], np.empty(0, np.int64)))
        return mixture(members, np.empty(0, np.int64))

    def _latent_means(self, inputs_nr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent means float64 (n, m), and what variances are regressed on, float32 (n, b)."""
        import torch

        query = torch.as_tensor(inputs_nr, dtype=torch.float32)
        near, centre = query[:, : self.near_cr.shape[1]], torch.as_tensor(self.near_cr)
        half_squared = near @ centre.mT
        half_squared -= 0.5 * near.square().sum(dim=1)[:, None]
        half_squared -= 0.5 * centre.square().sum(dim=1)
        half_squared.clamp_(max=0.0)
        mean = query @ torch.as_tensor(self.linear_rm)
        place, n_regressed = self.regressed
        kernel, kept = torch.empty_like(half_squared), half_squared[:, :n_regressed]
        for j, scale in enumerate(self.scale_j):
            torch.mul(half_squared, 1.0 / float(scale) ** 2, out=kernel)
            torch.addmm(mean, kernel.exp_(), torch.as_tensor(self.radial_jcm[j]), out=mean)
            if j == place:
                kept = kernel[:, :n_regressed].clone()
        return mean.double().numpy() + self.constant_m, _terms(query, kept).numpy()


def _terms(query: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """One, the inputs, their squares, norm and squared norm, and kernels."""
    import torch

    squares = query.square()
    norm = squares.sum(dim=1, keepdim=True)
    return torch.cat([torch.ones_like(norm), query, squares, norm, norm.sqrt(), kernel], dim=1)


def condense(models: Sequence[MemberModel], inputs_dr: np.ndarray) -> Condensation | None:
    """Condense the models of a trait.

    Args:
        models: Of one trait.
        inputs_dr: Kernel inputs of some thousand synapses drawn at random, in random order.

    Returns:
        The condensed models; None for those that cannot be: other kernels than ``rbf+linear``, several classes, and
        the variational process.
    """
    processes = [model.process for model in models if isinstance(model.process, FittedProcess)]
    parts = [part for process in processes for part in _parts(process)]
    if len(processes) < len(models) or not all(_parts(process) for process in processes):
        return None
    kernels = [part.prior.kernel for part in parts]
    if not all(hasattr(kernel.base_kernel, "weighted_sums") for kernel in kernels):
        return None
    centre_cr, row_of = _distinct([part.train.double().numpy() for part in parts])
    n_radial = parts[0].prior.kernel.base_kernel.n_radial or centre_cr.shape[1]
    scales = [_hyper_parameters(part) for part in parts]
    nodes_j = _length_scales(np.concatenate([length_o for length_o, *_ in scales]))
    n_models, n_inputs = len(models), centre_cr.shape[1]
    radial_jcm = np.zeros((len(nodes_j), len(centre_cr), n_models))
    linear_rm, constant_m, prior_m2 = np.zeros((n_inputs, n_models)), np.zeros(n_models), np.zeros((n_models, 2))
    of_model = [m for m, process in enumerate(processes) for _ in _parts(process)]
    for m, part, rows_a, (length_o, variance_o, factor_o) in zip(of_model, parts, row_of, scales, strict=True):
        weight_a = part.weights.double().numpy()
        for length, variance, factor in zip(length_o, variance_o, factor_o, strict=True):
            np.add.at(radial_jcm[..., m].T, rows_a, factor * weight_a[:, None] * _lagrange(length, nodes_j))
            linear_rm[:, m] += factor * variance * (part.train.double().numpy().T @ weight_a)
            prior_m2[m] += factor * np.array([1.0, variance])
        constant_m[m] += part.prior.mean
    regressed = (len(nodes_j) // 2, min(_MOST_REGRESSED, len(centre_cr)))
    order_c = np.random.default_rng(0).permutation(len(centre_cr))  # those regressed on come first
    unfitted = CondensedModels(
        centre_cr[order_c, :n_radial].astype(np.float32),
        nodes_j,
        radial_jcm[:, order_c].astype(np.float32),
        linear_rm.astype(np.float32),
        constant_m,
        prior_m2,
        regressed,
        np.zeros((0, n_models), np.float32),
        np.array([(process.centre, process.scale, process.noise) for process in processes]),
        models[0].is_class,
    )
    return _with_variances(unfitted, models, processes, inputs_dr)


def _with_variances(
    condensed: CondensedModels, models: Sequence[MemberModel], processes: Sequence[FittedProcess], inputs_dr: np.ndarray
) -> Condensation:
    """Regress the variances on most of the drawn synapses, and measure on the others what changes."""
    from dataclasses import replace

    n_tested = max(1, round(_TESTED * len(inputs_dr)))
    fitted_fr, tested_tr = inputs_dr[n_tested:], inputs_dr[:n_tested]
    log_ratio_fm = np.stack([_log_ratio(process, fitted_fr) for process in processes], axis=1)
    terms_fb = condensed._latent_means(fitted_fr)[1].astype(np.float64)
    found = replace(condensed, variance_bm=_ridge(terms_fb, log_ratio_fm).astype(np.float32))
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


def _log_ratio(process: FittedProcess, inputs_nr: np.ndarray) -> np.ndarray:
    _, variance_on, prior_on = process.latent(inputs_nr)
    return np.asarray(np.log(variance_on[0] / prior_on[0]))


def _ridge(terms_fb: np.ndarray, target_fm: np.ndarray) -> np.ndarray:
    """Coefficients (b, m) by ridge regression on standardised terms; the penalty is the best on a fifth of the rows."""
    centre_b, spread_b = terms_fb.mean(axis=0), terms_fb.std(axis=0)
    varies_b = spread_b > 1e-9 * np.maximum(np.abs(centre_b), 1e-30)
    standard_fv = (terms_fb[:, varies_b] - centre_b[varies_b]) / spread_b[varies_b]
    level_m = target_fm.mean(axis=0)
    n_held = max(1, len(terms_fb) // 5)
    held, others = slice(0, n_held), slice(n_held, None)

    def solve(rows: slice, penalty: float) -> np.ndarray:
        part_fv = standard_fv[rows]
        gram_vv = part_fv.T @ part_fv
        gram_vv[np.diag_indices_from(gram_vv)] += penalty * len(part_fv)
        return np.asarray(np.linalg.solve(gram_vv, part_fv.T @ (target_fm[rows] - level_m)))

    loss = {
        penalty: float(np.square(standard_fv[held] @ solve(others, penalty) + level_m - target_fm[held]).sum())
        for penalty in _PENALTIES
    }
    coefficient_vm = solve(slice(None), min(loss, key=lambda penalty: loss[penalty]))
    coefficient_bm = np.zeros((terms_fb.shape[1], target_fm.shape[1]))
    coefficient_bm[varies_b] = coefficient_vm / spread_b[varies_b][:, None]
    coefficient_bm[0] = level_m - centre_b[varies_b] @ coefficient_bm[varies_b]
    return coefficient_bm


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _parts(process: FittedProcess) -> tuple[Any, ...]:
    """The independent functions whose sum is an exact process's latent function; () for others."""
    return tuple(process.latent.parts) if isinstance(process.latent, ExactModel) else ()


def _distinct(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Distinct rows of several arrays, and the place of every array's rows among these."""
    together = np.concatenate(inputs)
    _, first_c, row_n = np.unique(together.astype(np.float32), axis=0, return_index=True, return_inverse=True)
    ends = np.cumsum([len(part) for part in inputs])[:-1]
    return together[first_c], np.split(row_n.reshape(-1), ends)


def _hyper_parameters(part: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length scales, variances of the linear part, and factors of the outputs that count, each float64 (o,)."""
    kernel = part.prior.kernel
    base = kernel.base_kernel
    factor_o = (part.prior.squares_o * kernel.outputscale.detach().reshape(-1)).double().numpy()
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
