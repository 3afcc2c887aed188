from __future__ import annotations

import copy

import pytest
import torch
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.batch_norm import GlobalBatchNorm, synchronise_batch_norm
from torch import Tensor, nn

SHARES = (5, 3)  # clips of each process; unequal on purpose


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(2, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12, 3),
        nn.BatchNorm1d(3),
    ).double()  # fmt: skip


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 + torch.randn(sum(SHARES), 2, 2, 2, 3, dtype=torch.float64, generator=generator)


def run(model: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Two training steps' outputs, the input's gradient and all that changed."""
    x = x.clone().requires_grad_()
    model(x.detach())
    out = model(x)
    (out * weights).sum().backward()
    state = {f"grad:{n}": p.grad for n, p in model.named_parameters()} | dict(model.state_dict())
    return out.detach(), x.grad, {k: v.detach() for k, v in state.items()}


def loss_weights() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(sum(SHARES), 3, dtype=torch.float64, generator=generator)


def run_share(process) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    model = synchronise_batch_norm(make())
    start = sum(SHARES[: process.rank])
    own = slice(start, start + SHARES[process.rank])
    return run(model, inputs()[own], loss_weights()[own])


def test_two_processes_are_one_batch() -> None:
    parts = pool_of(2).run(run_share)
    out, gradient, state = run(make(), inputs(), loss_weights())
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), out, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), gradient, rtol=1e-10, atol=1e-12)
    for name, value in state.items():
        found = [p[2][name] for p in parts]
        if name.startswith("grad:"):
            torch.testing.assert_close(sum(found), value, rtol=1e-10, atol=1e-11)
        else:
            for each in found:
                torch.testing.assert_close(each, value, rtol=1e-10, atol=1e-12)


def run_float32(process) -> Tensor:
    """Channels far from zero: variance 1 beside a mean of 1000."""
    norm = synchronise_batch_norm(nn.BatchNorm1d(2))
    norm.running_mean.fill_(1000.0)
    generator = torch.Generator().manual_seed(process.rank)
    return norm(1000 + torch.randn(64, 2, generator=generator)).detach()


def test_channels_far_from_zero_keep_their_variance() -> None:
    out = torch.cat(pool_of(2).run(run_float32))
    torch.testing.assert_close(out.var(0, correction=0), torch.ones(2), rtol=1e-3, atol=0)


def test_names_and_evaluation_are_batch_norms() -> None:
    plain = make().eval()
    ours = copy.deepcopy(plain)
    ours[1] = GlobalBatchNorm(4).double()
    ours[1].load_state_dict(plain[1].state_dict())
    ours.eval()
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert torch.equal(ours(inputs()), plain(inputs()))


def convert_without_statistics(process) -> None:
    synchronise_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)))


def test_norms_without_weights_are_refused() -> None:
    with pytest.raises(Exception, match="running statistics"):
        pool_of(2).run(convert_without_statistics)
