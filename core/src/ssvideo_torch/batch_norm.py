"""Batch normalisation over all processes, on CPUs too, where PyTorch's own does not run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _GlobalSum(torch.autograd.Function):
    """The sum over all processes; all their losses depend on it, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm1d to 3d whose statistics in training are those of all processes' batches.

    Equal to BatchNorm of one process that holds the whole batch, gradients and running statistics
    included, whatever each process' share. All processes call it together; one all-reduce forward,
    one backward. Names and values of the state dict are BatchNorm's.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"input is {tuple(input.shape)}, expected (B, C, …)")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, …) to the same shape."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        mean, variance, count = self._global_statistics(input)
        self._update(mean.detach(), variance.detach(), count)
        shape = (1, -1, *[1] * (input.dim() - 2))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return input * scale.to(input.dtype).view(shape) + shift.to(input.dtype).view(shape)

    def _global_statistics(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and biased variance per channel (C,), and the number of values of a channel."""
        values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        dims = [0, *range(2, input.dim())]
        here = values.new_tensor([input.numel() / input.shape[1]])
        # Sums of squares lose the variance of channels far from zero: the running mean is near
        # the mean, known to all processes alike, and cancels in exact arithmetic.
        assert self.running_mean is not None, "made by `_like`, which checks it"
        centre = self.running_mean.detach().clone().to(values.dtype)
        centred = values - centre.view(1, -1, *[1] * (input.dim() - 2))
        sums = torch.cat([centred.sum(dims), centred.square().sum(dims), here])
        total: Tensor = _GlobalSum.apply(sums)  # type: ignore[no-untyped-call]
        first, second, count = total.tensor_split([len(centre), 2 * len(centre)])
        offset = first / count
        return centre + offset, second / count - offset.square(), count.detach()

    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """`module` with every BatchNorm over all processes: PyTorch's on GPUs, ours on CPUs.

    Needs a process group. Call it after the module is on its device and before its optimiser is
    made; parameters and buffers stay the same objects.
    """
    assert dist.is_initialized(), "there is no process group to share statistics in"
    if next(module.parameters()).is_cuda:
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        converted: nn.Module = convert(module)  # type: ignore[no-untyped-call]
        return converted
    return _converted(module)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        return _like(module)
    for name, child in module.named_children():
        module.add_module(name, _converted(child))
    return module


def _like(norm: Any) -> GlobalBatchNorm:
    if not (norm.affine and norm.track_running_stats):
        raise ValueError(f"{norm} has no weights or no running statistics; both are needed")
    made = GlobalBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    made.training = norm.training
    return made
