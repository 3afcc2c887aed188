"""One step of training, in one process and in several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.model import AudioVisualGDT
from gdt_stica.objective import HYPOTHESES
from gdt_stica.training import Copies, TrainingState, make_state, train_step
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.checkpoint import load, save
from ssvideo_torch.start import Process
from torch import Tensor

BATCH, RATE = 4, 1e-3
ALONE = Process(0, 1, 0, torch.device("cpu"))


def state_of(process: Process, *, sync_bn: bool = True) -> TrainingState:
    """float64, so that only the order of sums differs; no dropout, which is drawn by rank."""
    torch.manual_seed(0)
    network = AudioVisualGDT(Architecture(width=1 / 16), dropout=0.0).double()
    return make_state(
        network, process, momentum=0.9, weight_decay=1e-5, sync_bn=sync_bn, precision="float32"
    )


def inputs(hypothesis: int, step: int, clips: slice) -> Copies:
    def draw(copy: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(100 * step + copy)
        return torch.randn(BATCH, *shape, dtype=torch.float64, generator=generator)[clips]

    return {
        copy: (draw(copy, 3, 4, 16, 16), draw(copy + 10, 1, 40, 20))
        for copy in HYPOTHESES[hypothesis].copies
    }


def train(
    process: Process, hypothesis: int, negatives: str, clips: slice, steps: int = 1
) -> dict[str, np.ndarray]:
    """The mean loss of every step, and all that was learned."""
    state, losses = state_of(process), []
    for step in range(steps):
        loss = train_step(
            state,
            inputs(hypothesis, step, clips),
            process,
            step=step,
            rate=RATE,
            hypothesis=hypothesis,
            temperature=0.07,
            negatives=negatives,
            precision="float32",
            seed=0,
        )
        losses.append(float(process.gather(loss).mean()))
    found = {k: v.numpy() for k, v in state.network.state_dict().items()}
    return {"losses": np.array(losses), **found}


def train_share(process: Process, hypothesis: int, negatives: str) -> dict[str, np.ndarray]:
    share = BATCH // process.world_size
    own = slice(process.rank * share, (process.rank + 1) * share)
    return train(process, hypothesis, negatives, own)


def assert_close(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("hypothesis", [1, 2, 4])
def test_two_processes_are_one_with_the_whole_batch(hypothesis: int) -> None:
    # One step: rounding of 1e-15 grows a hundredfold in each, through batch norms of few values.
    whole = train(ALONE, hypothesis, "unique", slice(None))
    for found in pool_of(2).run(train_share, hypothesis, "unique"):
        assert_close(found, whole)


def test_each_step_changes_every_parameter_but_the_unused_classifier() -> None:
    state = state_of(ALONE)
    before = {k: v.clone() for k, v in state.network.named_parameters()}
    train_step(
        state,
        inputs(1, 0, slice(None)),
        ALONE,
        step=0,
        rate=RATE,
        hypothesis=1,
        temperature=0.07,
        negatives="released",
        precision="float32",
        seed=0,
    )
    same = {k for k, v in state.network.named_parameters() if torch.equal(v, before[k])}
    assert same == {"audio_network.base.fc.weight", "audio_network.base.fc.bias"}


def plain_update(
    parameter: Tensor, gradient: Tensor, buffer: Tensor | None, rate: float
) -> tuple[Tensor, Tensor]:
    """SGD with momentum .9 and weight decay 1e-5, as the paper's optimiser is written."""
    gradient = gradient + 1e-5 * parameter
    buffer = gradient if buffer is None else 0.9 * buffer + gradient
    return parameter - rate * buffer, buffer


def test_steps_are_plain_sgd_on_the_loss() -> None:
    """Loss and update written out, with autograd's gradient only."""
    steps = 3
    found = train(ALONE, 1, "released", slice(None), steps)
    network = state_of(ALONE).network
    values = {k: v.detach().clone() for k, v in network.named_parameters() if v.requires_grad}
    buffers: dict[str, Tensor | None] = dict.fromkeys(values)
    for step in range(steps):
        clips, sound = inputs(1, step, slice(None))[0]
        v, a = torch.func.functional_call(
            network, {k: x.requires_grad_() for k, x in values.items()}, (clips, sound)
        )
        loss = torch.zeros((), dtype=torch.float64)
        for query, key in ((v, a.detach()), (a, v.detach())):
            similarity = torch.exp(query @ key.T / 0.07)
            loss = loss - (similarity.diagonal() / similarity.sum(1)).log().mean() / 2
        gradients = torch.autograd.grad(loss, list(values.values()))
        assert float(loss.detach()) == pytest.approx(found["losses"][step], rel=1e-9)
        for (name, value), gradient in zip(list(values.items()), gradients, strict=True):
            updated, buffers[name] = plain_update(value.detach(), gradient, buffers[name], RATE)
            values[name] = updated
    for name, value in values.items():
        np.testing.assert_allclose(found[name], value.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_a_state_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def take_step(state: TrainingState, step: int) -> None:
        train_step(
            state,
            inputs(2, step, slice(None)),
            ALONE,
            step=step,
            rate=RATE,
            hypothesis=2,
            temperature=0.07,
            negatives="released",
            precision="float32",
            seed=3,
        )

    straight, other = state_of(ALONE), state_of(ALONE)
    take_step(straight, 0)
    load(save(tmp_path, 1, straight.parts(), facts={}), other.parts())
    for state in (straight, other):
        take_step(state, 1)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value), name
