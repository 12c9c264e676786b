"""Optimisers by name."""

from __future__ import annotations

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from synapseclr.training.optimisation.config import OptimiserConfig


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """Make the optimiser of a model's parameters; the schedule sets its learning rate.

    LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888) moves a weight w with gradient g by the momentum of
    ``trust_coefficient |w| / (|g| + weight_decay |w|) (g + weight_decay w)`` times the learning rate. Biases and the
    parameters of norms, which are vectors, take neither the decay nor the factor: they follow plain momentum.

    Args:
        model: Whose parameters are optimised.
        config: Which optimiser.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "adam":
        return Adam(model.parameters(), lr=rate, weight_decay=decay)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.name == "adamw":
        return AdamW(groups, lr=rate)
    from pytorch_optimizer import LARS

    return LARS(groups, lr=rate, momentum=config.momentum, trust_coefficient=config.trust_coefficient)
