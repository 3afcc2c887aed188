from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.crop_pooling import Box, head_of_each, pool_crops, pool_together, pooled_steps
from gdt_stica.networks.heads import make_head
from gdt_stica.networks.pooling import make_pooling
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.batch_norm import synchronise_batch_norm
from ssvideo_torch.start import Process
from torch import Tensor, nn

B, C = 3, 8
BOXES: list[Box] = [
    (0, 5, 0, 6, 1, 4),
    (0, 5, 2, 3, 0, 4),
    (1, 4, 0, 6, 0, 4),
    (3, 5, 0, 6, 0, 4),
    (0, 5, 0, 6, 0, 4),
]


def make_map(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(
        B, C, 5, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).to(dtype)


def cut(feature_map: Tensor, box: Box) -> Tensor:
    t0, t1, y0, y1, x0, x1 = box
    return feature_map[:, :, t0:t1, y0:y1, x0:x1]


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 7])
def test_crops_are_pooled_as_one_by_one(steps: int) -> None:
    both = [make_map().requires_grad_() for _ in range(2)]
    pooled = pool_crops(both[0], BOXES, steps=steps)
    average = nn.AdaptiveAvgPool3d((steps, 1, 1))
    wanted = torch.stack([average(cut(both[1], box)).flatten(2) for box in BOXES])
    torch.testing.assert_close(pooled, wanted, rtol=1e-12, atol=1e-12)
    weights = torch.randn(pooled.shape, dtype=torch.float64)
    for found in (pooled, wanted):
        (found * weights).sum().backward()
    torch.testing.assert_close(both[0].grad, both[1].grad, rtol=1e-12, atol=1e-12)


def test_means_keep_their_digits_in_mixed_precision() -> None:
    feature_map = make_map(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool_crops(feature_map, BOXES, steps=2)
    assert pooled.dtype == torch.float32
    wanted = pool_crops(feature_map.double(), BOXES, steps=2)
    torch.testing.assert_close(pooled.double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_layer", [0, 2])
def test_poolings_take_crops_together(num_layer: int) -> None:
    torch.manual_seed(0)
    options = {"num_layer": num_layer, "num_head": 2, "transformer_time_dim": 5}
    pooling = make_pooling(C, Architecture(model="stica", **options)).double()
    steps = pooled_steps(pooling)
    assert steps == (5 if num_layer else 1)
    feature_map = make_map()
    found = pool_together(pooling, pool_crops(feature_map, BOXES, steps=steps))
    wanted = torch.stack([pooling(cut(feature_map, box)) for box in BOXES])
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def make_batches(number: int, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, batch, C, dtype=torch.float64, generator=generator)
    return x * torch.arange(1, number + 1)[:, None, None] + 0.5


def heads(*, use_mlp: bool = True) -> list[nn.Module]:
    torch.manual_seed(0)
    head = make_head(C, use_mlp=use_mlp, dropout=0.0).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return [head, copy.deepcopy(head)]


def assert_same(found: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert found.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: x.grad for name, x in module.named_parameters() if x.grad is not None}


@pytest.mark.parametrize("use_mlp", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_heads_see_one_batch_after_the_other(train: bool, use_mlp: bool) -> None:
    together, alone = (head.train(train) for head in heads(use_mlp=use_mlp))
    x, y = (make_batches(3).requires_grad_() for _ in range(2))
    found = head_of_each(together, x)
    wanted = torch.stack([alone(batch) for batch in y])
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    weights = torch.randn(found.shape, dtype=torch.float64)
    for projections in (found, wanted):
        (projections * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-10)
    assert_same(gradients(together), gradients(alone))
    assert_same(together.state_dict(), alone.state_dict())
    assert together.training == train


def test_the_order_of_batches_matters_to_running_statistics_alone() -> None:
    forth, back = heads()
    batches = make_batches(3)
    there = head_of_each(forth, batches)
    torch.testing.assert_close(head_of_each(back, batches.flip(0)).flip(0), there)
    norms = [head.get_submodule("block_forward.4") for head in (forth, back)]
    assert norms[0].num_batches_tracked == norms[1].num_batches_tracked == 3
    assert not torch.allclose(norms[0].running_mean, norms[1].running_mean)


def test_values_are_dropped_alone() -> None:
    torch.manual_seed(0)
    head = make_head(C, dropout=0.5)
    one = torch.ones(1, 64, C)
    first, second = head_of_each(head, one.repeat(2, 1, 1)).detach()
    assert not torch.allclose(first, second)
    head.eval()
    first, second = head_of_each(head, one.repeat(2, 1, 1)).detach()
    assert torch.equal(first, second)


def test_heads_run_in_mixed_precision() -> None:
    together, alone = (head.float() for head in heads())
    x = make_batches(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = head_of_each(together, x)
        wanted = torch.stack([alone(batch) for batch in x])
    assert found.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    torch.testing.assert_close(
        together.get_submodule("block_forward.4").running_var,
        alone.get_submodule("block_forward.4").running_var,
    )


def project(process: Process) -> dict[str, np.ndarray]:
    """Of this rank's share of each batch, with batch norms over all processes."""
    head = heads()[0]
    if process.world_size > 1:
        head = synchronise_batch_norm(head)
    share = 4 // process.world_size
    own = make_batches(3)[:, process.rank * share :][:, :share].clone().requires_grad_()
    projections = head_of_each(head, own)
    projections.square().sum().backward()
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    return {**state, "projections": projections.detach().numpy(), "input.grad": own.grad.numpy()}


def test_two_processes_share_each_batchs_statistics() -> None:
    whole = project(Process(0, 1, 0, torch.device("cpu")))
    ranks = pool_of(2).run(project)
    for name, want in whole.items():
        if name in ("projections", "input.grad"):
            found = [np.concatenate([rank[name] for rank in ranks], axis=1)]
        else:
            found = [rank[name] for rank in ranks]
        for one in found:
            np.testing.assert_allclose(one, want, rtol=1e-9, atol=1e-11, err_msg=name)
