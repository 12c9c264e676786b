r"""Batch norm over the samples of all processes, on the CPU too, which torch's ``SyncBatchNorm`` refuses.

Let N be the number of samples (and voxels) of a channel in all processes, mu and s^2 their mean and variance, and
x' = (x - mu) / s. With y = w x' + b and upstream gradient g, the gradient of a normalised layer is

    dL/dx = w / s (g - 1/N sum(g) - x' 1/N sum(g x')),

where the sums run over all processes. The gradients of w and b, sum(g x') and sum(g), are taken over the own samples
only, as torch's ``SyncBatchNorm`` does: data-parallel training adds up the processes' shares.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm of a model by one over all processes, in place.

    Parameters and buffers stay the same objects under the same names, so an optimiser that has them and the keys of
    the state dict stay valid. To call before the model is wrapped for data-parallel training; twice does no harm.

    Args:
        model: Its ``BatchNorm{1,2,3}d`` submodules are replaced.

    Returns:
        The same model.
    """
    for name, child in model.named_children():
        if isinstance(child, _KINDS):
            setattr(model, name, SynchronisedBatchNorm.like(child))
        else:
            synchronise_batch_norm(child)
    return model


class SynchronisedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Equals ``BatchNorm`` on the concatenated batch of all processes, in output, gradients and running statistics.

    On a GPU it does what torch's ``SyncBatchNorm`` does; it is no instance of that, which ``DistributedDataParallel``
    refuses on the CPU. In evaluation, or where there is one process, nothing is exchanged. Every
    process must call it the same number of times; their batches may differ in size.
    """

    process_group = None
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    @classmethod
    def like(cls, norm: nn.Module) -> SynchronisedBatchNorm:
        """Make one with the parameters, buffers and mode of a ``BatchNorm``."""
        assert isinstance(norm, _KINDS)
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta")
        made._parameters.update(norm._parameters)
        made._buffers.update(norm._buffers)
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(b, c, ...)`` by channel."""
        if input.device.type != "cpu":
            return nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]
        together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        if not (self.training and together):
            return nn.modules.batchnorm._BatchNorm.forward(self, input)
        output, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, variance * (count / (count - 1)))
        result: Tensor = output
        return result

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"Expected an input of shape (batch, channel, ...), got {tuple(input.shape)}.")

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class _Normalise(torch.autograd.Function):
    """Output, and the mean, variance (of the population) and number of samples over all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        precise = torch.promote_types(x.dtype, torch.float32)
        others = [axis for axis in range(x.dim()) if axis != 1]
        own_variance, own_mean = torch.var_mean(x.to(precise), others, correction=0)
        own_count = torch.full_like(own_mean[:1], x.numel() / x.shape[1])
        count, mean, variance = _combine(own_count, own_mean, own_variance)
        output = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse_deviation, count = ctx.saved_tensors
        others = [axis for axis in range(x.dim()) if axis != 1]
        column = (1, -1) + (1,) * (x.dim() - 2)
        gradient = gradients[0].to(mean.dtype)
        normalised = (x.to(mean.dtype) - mean.view(column)) * inverse_deviation.view(column)
        # the two sums of the derivation, over the own samples first: these are the gradients of bias and weight
        sums = torch.stack([gradient.sum(others), (gradient * normalised).sum(others)])
        own_sum, own_product = sums.clone()
        distributed.all_reduce(sums)
        mean_gradient, mean_product = (part.view(column) for part in sums / count)
        factor = inverse_deviation if weight is None else inverse_deviation * weight
        of_x = (gradient - mean_gradient - normalised * mean_product) * factor.view(column)
        of_weight = own_product.to(weight) if weight is not None and ctx.needs_input_grad[1] else None
        of_bias = own_sum.to(weight) if weight is not None and ctx.needs_input_grad[2] else None
        return of_x.to(x.dtype), of_weight, of_bias, None


def _combine(count: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool count (1,), mean and variance (c,) of all processes (Chan, Golub & LeVeque 1983): no cancellation."""
    own = torch.cat([count, mean, variance])
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own)
    counts, means, variances = torch.stack(parts).split([1, len(mean), len(mean)], dim=1)
    total = counts.sum(0)
    pooled = (counts * means).sum(0) / total
    return total, pooled, (counts * (variances + (means - pooled).square())).sum(0) / total
