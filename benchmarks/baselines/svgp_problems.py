"""The published process on the traits of a split, and what a step of it costs."""

import statistics
import time

import gpytorch
import numpy as np
import torch
from baselines import published_svgp
from baselines.published_svgp import Problem, Training, class_weights

from synapseclr.analysis.traits import TraitSplit


class StockRBFKernel(gpytorch.kernels.RBFKernel):
    """gpytorch's kernel as it is, made the way the lean one is."""

    def __init__(self, data_af: torch.Tensor) -> None:
        super().__init__()


def training_problem(inputs_nf: torch.Tensor, split: TraitSplit) -> Problem:
    """Training synapses of the first fold."""
    train = split.folds[0][0]
    target_a = split.target_a[train]
    is_class = split.trait.is_class
    weight_a = class_weights(target_a) if is_class else np.ones(len(train))
    if not is_class:
        target_a = (target_a - target_a.mean()) / target_a.std()
    target, weight = (torch.as_tensor(values, dtype=torch.float32) for values in (target_a, weight_a))
    return Problem(inputs_nf[split.rows_a[train]], target, weight, is_class)


def step_seconds(inputs_nf: torch.Tensor, split: TraitSplit, n_inducing: int, kernel: type, n_steps: int) -> float:
    """Median seconds, of the processor, of a step of the baseline."""
    lean, published_svgp.LeanRBFKernel = published_svgp.LeanRBFKernel, kernel  # type: ignore[misc]
    try:
        training = Training(training_problem(inputs_nf, split), n_inducing)
    finally:
        published_svgp.LeanRBFKernel = lean  # type: ignore[misc]
    training.run(3)
    taken = []
    for _ in range(n_steps):
        start = time.process_time()
        training.run(1)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def check_lean_kernel() -> None:
    """The lean kernel has the values and gradients of gpytorch's."""
    data_af, points_mf = torch.randn(60, 12), torch.randn(7, 12, requires_grad=True)
    results = []
    for kernel in (published_svgp.LeanRBFKernel(data_af), StockRBFKernel(data_af)):
        kernel.lengthscale = 3.0
        points_mf.grad = None
        values_mn = kernel(points_mf, data_af).to_dense()
        values_mn.square().sum().backward()
        results.append((values_mn.detach(), points_mf.grad.clone(), kernel.raw_lengthscale.grad))
    for lean, stock in zip(*results, strict=True):
        torch.testing.assert_close(lean, stock, rtol=1e-4, atol=1e-5)
