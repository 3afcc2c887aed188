from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ssvideo_core.checkpoints import load_checkpoint, save_checkpoint
from ssvideo_core.errors import DataError
from ssvideo_torch.checkpoint import BFLOAT16_BITS, load, save, to_state, to_tree
from torch import nn

Optimizer = torch.optim.Optimizer
torch.set_num_threads(1)


def equal(a: Any, b: Any) -> bool:
    """Equal in every type, key, dtype, shape and bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def network(seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)]
    return nn.Sequential(*layers).to(dtype)


OPTIMISERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True, amsgrad=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rate as tensor": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
}


class Training:
    """A network, its optimiser and a schedule of the rate."""

    def __init__(self, seed: int, make: Callable[[Any], Optimizer], dtype: torch.dtype) -> None:
        self.network = network(seed, dtype)
        names = list(self.network.named_parameters())
        groups = [
            {"params": [p for _, p in names if p.ndim > 1]},
            {"params": [p for _, p in names if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = make(groups)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=10)

    def parts(self) -> dict[str, Any]:
        return {"net": self.network, "optimizer": self.optimizer, "schedule": self.schedule}

    def states(self) -> dict[str, Any]:
        return {name: dict(part.state_dict()) for name, part in self.parts().items()}

    def steps(self, first: int, last: int) -> None:
        dtype = next(self.network.parameters()).dtype
        for step in range(first, last):
            x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(step)).to(dtype)
            self.optimizer.zero_grad()
            self.network(x).square().mean().backward()
            self.optimizer.step()
            self.schedule.step()


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_going_on_equals_never_stopping(make, dtype: torch.dtype, tmp_path: Path) -> None:
    straight = Training(0, make, dtype)
    straight.steps(0, 3)
    at_save = to_tree(straight.states())
    folder = save(tmp_path, 3, straight.parts(), facts={})
    straight.steps(3, 6)

    resumed = Training(1, make, dtype)
    assert load(folder, resumed.parts()).step == 3
    assert equal(resumed.states(), to_state(at_save))
    resumed.steps(3, 6)
    assert equal(resumed.states(), straight.states())
    assert not equal(straight.states(), to_state(at_save))


TENSORS = {
    "0-d": torch.tensor(2.5),
    "empty": torch.zeros(0, 3, dtype=torch.int16),
    "turned": torch.arange(6).reshape(2, 3).T,
    "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "bool": torch.tensor([True, False]),
    "bfloat16": torch.randn(3, 2).bfloat16().T,
    "bfloat16 0-d": torch.tensor(1.5, dtype=torch.bfloat16),
    "bfloat16 empty": torch.zeros(0, 2, dtype=torch.bfloat16),
    "float16": torch.tensor([65504.0, -0.0], dtype=torch.float16),
    "complex": torch.tensor([1 + 2j]),
    "expanded": torch.ones(1, 2).expand(3, 2),
    "parameter": nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_tensors_survive_the_disk(tensor: torch.Tensor, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 0, to_tree({"t": tensor}), facts={})
    state = to_state(load_checkpoint(folder).state)
    assert equal(state, {"t": tensor.detach()})


def test_not_a_number_in_bfloat16_keeps_its_bits() -> None:
    bits = torch.tensor([0x7FC1, -0x7F], dtype=torch.int16)
    tree = to_tree(bits.view(torch.bfloat16))
    assert tree[BFLOAT16_BITS].dtype == np.uint16
    assert torch.equal(to_state(tree).view(torch.int16), bits)


def test_keys_numbers_and_containers_stay() -> None:
    state = {0: {"a": (1, 2.5)}, "b": [None, True, "x"], 1.5: {}}
    assert equal(to_state(to_tree(state)), state)


def test_trees_and_states_share_no_memory() -> None:
    tensor = torch.ones(2)
    tree = to_tree({"a": tensor, "b": tensor.bfloat16()})
    tensor.zero_()
    state = to_state(tree)
    state["a"].fill_(7)
    state["b"].fill_(7)
    assert equal(to_state(tree), {"a": torch.ones(2), "b": torch.ones(2).bfloat16()})


class Queue:
    def __init__(self) -> None:
        self.rows = torch.zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


def test_states_beside_objects_and_of_this_rank(tmp_path: Path) -> None:
    queue = Queue()
    queue.rows = torch.tensor([1.0, 2.0])
    parts = {"net": network(0), "centres": torch.ones(2), "epoch": 3}
    folder = save(tmp_path, 1, parts, facts={"a": 1}, local={"queue": queue, "age": 5})
    fresh = Queue()
    saved = load(folder, {"net": network(1)}, local={"queue": fresh})
    assert torch.equal(fresh.rows, queue.rows)
    assert saved.state["epoch"] == 3
    assert saved.local is not None
    assert saved.local["age"] == 5
    assert torch.equal(to_state(saved.state["centres"]), torch.ones(2))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    parts = {"net": network(0), "scaler": torch.amp.GradScaler("cpu", enabled=False)}
    folder = save(tmp_path, 1, parts, facts={})
    with pytest.raises(DataError, match="holds no 'queue', only net, scaler"):
        load(folder, {"queue": Queue()})
    with pytest.raises(DataError, match="holds no 'queue', only nothing"):
        load(folder, {}, local={"queue": Queue()})
    with pytest.raises(DataError, match=r"(?s)its 'net' does not fit: .*size mismatch"):
        load(folder, {"net": nn.Sequential(nn.Conv1d(3, 5, 2))})
    with pytest.raises(DataError, match="its 'scaler' does not fit"):
        load(folder, {"scaler": torch.amp.GradScaler("cpu")})


def test_a_scaler_keeps_its_scale(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for value in (1.0, 1.0, 1.0, float("inf")):
        scaler.scale(parameter.sum() * value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    folder = save(tmp_path, 4, {"scaler": scaler}, facts={})
    fresh = torch.amp.GradScaler("cpu")
    load(folder, {"scaler": fresh})
    assert fresh.state_dict() == scaler.state_dict()
    assert fresh.get_scale() == 1024.0
    assert scaler.state_dict()["_growth_tracker"] == 0


def test_other_ranks_copy_nothing_from_the_device(tmp_path: Path) -> None:
    class Untouchable:
        def state_dict(self) -> dict[str, Any]:
            raise AssertionError("read on a rank that does not write it")

    folder = save(tmp_path, 1, {"net": Untouchable()}, facts={}, rank=1, world_size=2)
    assert not folder.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="states come back to a GPU only with one")
@pytest.mark.parametrize("capturable", [False, True])
def test_states_come_back_to_the_gpu(capturable: bool, tmp_path: Path) -> None:
    trained, fresh = (nn.Linear(3, 2, device="cuda") for _ in range(2))
    first, second = (
        torch.optim.AdamW(layer.parameters(), capturable=capturable) for layer in (trained, fresh)
    )
    trained(torch.ones(1, 3, device="cuda")).sum().backward()
    first.step()
    folder = save(tmp_path, 1, {"net": trained, "optimizer": first}, facts={})
    load(folder, {"net": fresh, "optimizer": second})
    assert equal(dict(fresh.state_dict()), dict(trained.state_dict()))
    assert equal(second.state_dict(), first.state_dict())
