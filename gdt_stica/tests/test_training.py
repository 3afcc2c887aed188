"""One step of training, in one process and in several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.model import AudioVisualGDT
from gdt_stica.model_text import VideoTextGDT
from gdt_stica.objective import HYPOTHESES
from gdt_stica.training import Copies, make_state, train_step
from gdt_stica.training_state import TrainingState
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.checkpoint import load, save
from ssvideo_torch.start import Process
from torch import Tensor, nn

BATCH, RATE = 4, 1e-3
ROWS = 12  # of the table of words
ALONE = Process(0, 1, 0, torch.device("cpu"))


def state_of(process: Process, *, model: str = "av_gdt") -> TrainingState:
    """float64, so that only the order of sums differs; no dropout, which is drawn by rank."""
    torch.manual_seed(0)
    architecture = Architecture(model=model, width=1 / 16, embedding_rows=ROWS)
    network: nn.Module
    if model == "av_gdt":
        network = AudioVisualGDT(architecture, dropout=0.0)
    else:
        network = VideoTextGDT(architecture, dropout=0.0, word_table=torch.randn(ROWS, 300))
    return make_state(
        network.double(),
        process,
        momentum=0.9,
        weight_decay=1e-5,
        sync_bn=True,
        precision="float32",
    )


def inputs(hypothesis: int, step: int, clips: slice, *, model: str = "av_gdt") -> Copies:
    def draw(copy: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(100 * step + copy)
        return torch.randn(BATCH, *shape, dtype=torch.float64, generator=generator)[clips]

    def other(copy: int) -> Tensor:
        if model == "av_gdt":
            return draw(copy + 10, 1, 40, 20)
        return draw(copy + 10, 20).abs().mul(10).long().clamp(max=ROWS - 1)

    return {copy: (draw(copy, 3, 4, 16, 16), other(copy)) for copy in HYPOTHESES[hypothesis].copies}


def train(
    process: Process,
    hypothesis: int,
    negatives: str,
    clips: slice,
    steps: int = 1,
    model: str = "av_gdt",
) -> dict[str, np.ndarray]:
    """The mean loss of every step, and all that was learned."""
    state, losses = state_of(process, model=model), []
    for step in range(steps):
        loss = train_step(
            state,
            inputs(hypothesis, step, clips, model=model),
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


def train_share(
    process: Process, hypothesis: int, negatives: str, model: str = "av_gdt"
) -> dict[str, np.ndarray]:
    share = BATCH // process.world_size
    own = slice(process.rank * share, (process.rank + 1) * share)
    return train(process, hypothesis, negatives, own, model=model)


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


def test_two_processes_with_texts_are_one() -> None:
    whole = train(ALONE, 2, "unique", slice(None), model="vid_text_gdt")
    assert "mlp_t.block_forward.8.weight" in whole
    for found in pool_of(2).run(train_share, 2, "unique", "vid_text_gdt"):
        assert_close(found, whole)


@pytest.mark.parametrize(
    ("model", "unchanged"),
    [
        ("av_gdt", {"audio_network.base.fc.weight", "audio_network.base.fc.bias"}),
        ("vid_text_gdt", {"text_network.word_embd.weight"}),
    ],
)
def test_each_step_changes_every_parameter_that_is_learned(model: str, unchanged: set[str]) -> None:
    state = state_of(ALONE, model=model)
    before = {k: v.clone() for k, v in state.network.named_parameters()}
    train_step(
        state,
        inputs(1, 0, slice(None), model=model),
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
    assert same == unchanged


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
