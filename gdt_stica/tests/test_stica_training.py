"""One step of training STiCA, in one process and in several, against a plain program of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.feature_crops import FeatureBoxes, draw_boxes
from gdt_stica.model_stica import STiCA
from gdt_stica.stica_training import draw_step_boxes, make_state, train_step
from gdt_stica.training_state import TrainingState
from ssvideo_core.randomness import generator
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.checkpoint import load, save
from ssvideo_torch.start import Process
from torch import Tensor
from torch.nn import functional as F

BATCH, RATE, DECAY, TEMPERATURE = 4, 1e-3, 1e-5, 0.4
FRAMES, PIXELS, MAP_SIZE = 25, 33, (4, 3, 3)
CROPS = {"num_large": 2, "num_small": 1, "num_large_t": 2, "num_small_t": 1}
ALONE = Process(0, 1, 0, torch.device("cpu"))


def state_of(
    process: Process, *, num_layer: int = 0, alpha: float = 0.5, dropout: float = 0.0
) -> TrainingState:
    """float64, so that only the order of sums differs."""
    torch.manual_seed(0)
    architecture = Architecture(model="stica", width=1 / 32, num_layer=num_layer)
    network = STiCA(architecture, dropout=dropout).double()
    return make_state(
        network,
        process,
        weight_decay=DECAY,
        sound=alpha > 0,
        passes="needed",
        precision="float32",
    )


def inputs(step: int, clips: slice) -> tuple[list[Tensor], Tensor]:
    """The clips of both views and the spectrograms of a step."""

    def draw(number: int, *shape: int) -> Tensor:
        source = torch.Generator().manual_seed(10 * step + number)
        return torch.randn(BATCH, *shape, dtype=torch.float64, generator=source)[clips]

    return [draw(view, 3, FRAMES, PIXELS, PIXELS) for view in range(2)], draw(2, 1, 40, 20)


def boxes_of(rank: int, step: int) -> list[FeatureBoxes]:
    process = Process(rank, rank + 1, rank, torch.device("cpu"))
    return draw_step_boxes(process, seed=3, step=step, map_size=MAP_SIZE, rule="inclusive", **CROPS)


def train(
    process: Process,
    clips: slice,
    drawn_by: int,
    *,
    num_layer: int = 0,
    alpha: float = 0.5,
    steps: int = 1,
) -> dict[str, np.ndarray]:
    """The mean loss of every step and all that was learned. drawn_by: whose boxes are used."""
    state, losses = state_of(process, num_layer=num_layer, alpha=alpha), []
    for step in range(steps):
        videos, sound = inputs(step, clips)
        found = train_step(
            state,
            videos,
            sound if alpha > 0 else None,
            boxes_of(drawn_by, step),
            process,
            step=step,
            rate=RATE,
            temperature=TEMPERATURE,
            alpha=alpha,
            precision="float32",
            seed=0,
        )
        losses.append(float(process.gather(found["loss"]).mean()))
    learned = {k: v.numpy() for k, v in state.network.state_dict().items()}
    return {"losses": np.array(losses), **learned}


def train_share(
    process: Process, drawn_by: Sequence[int], num_layer: int, alpha: float
) -> dict[str, np.ndarray]:
    share = BATCH // process.world_size
    own = slice(process.rank * share, (process.rank + 1) * share)
    return train(process, own, drawn_by[process.rank], num_layer=num_layer, alpha=alpha)


def assert_close(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


def cut(feature_map: Tensor, boxes: Sequence[FeatureBoxes], group: str, row: int) -> Tensor:
    """One crop of all clips, of which the first share has the boxes of rank 0, and so on."""
    crops = []
    for part, of_rank in zip(feature_map.chunk(len(boxes)), boxes, strict=True):
        box = getattr(of_rank, group)[row].tolist()
        if group.startswith("time"):
            crops.append(part[:, :, box[0] : box[1]])
        else:
            crops.append(part[:, :, :, box[0] : box[1], box[2] : box[3]])
    return torch.cat(crops)


def cross_entropy(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    similarity = torch.exp(query @ key.detach().T / temperature)
    return -(similarity.diagonal() / similarity.sum(1)).log().mean()


def plain_loss(
    network: STiCA,
    videos: Sequence[Tensor],
    sound: Tensor,
    boxes: Sequence[Sequence[FeatureBoxes]],
    alpha: float,
) -> Tensor:
    """The paper's loss of the whole batch: every crop its own call, every clip once.

    boxes: of each rank, of both views.
    """
    f_boxes, g_boxes = zip(*boxes, strict=True)
    f_map, g_map = (network.feature_map(video) for video in videos)
    f, g = {}, {}
    for place in ("space", "time"):
        for row in range(2):
            f[place, row] = network.embed_map(cut(f_map, f_boxes, f"{place}_large", row))
    full = [network.embed_map(f_map)] if alpha > 0 else []
    for place in ("space", "time"):
        for group, row in (("small", 0), ("large", 1)):
            g[place, group] = network.embed_map(cut(g_map, g_boxes, f"{place}_{group}", row))
    full += [network.embed_map(g_map)] if alpha > 0 else []
    crops = []
    for place in ("space", "time"):
        first, second = f[place, 1], g[place, "large"]
        both = [
            cross_entropy(first, second, TEMPERATURE),
            cross_entropy(second, first, TEMPERATURE),
        ]
        crops.append(sum(both) / 2)
        crops += [cross_entropy(g[place, "small"], f[place, row], TEMPERATURE) for row in range(2)]
    loss = (1 - alpha) * torch.stack(crops).mean()
    if alpha == 0:
        return loss
    heard = network.audio_network(sound)
    views = []
    for v in full:
        a = F.normalize(network.mlp_a(heard), dim=1)
        views.append((cross_entropy(v, a, 0.1) + cross_entropy(a, v, 0.1)) / 2)
    return loss + alpha * torch.stack(views).mean()


def train_plainly(
    drawn_by: Sequence[int], *, num_layer: int = 0, alpha: float = 0.5, steps: int = 1
) -> dict[str, np.ndarray]:
    """SGD with momentum .9 and weight decay 1e-5 on `plain_loss`, with autograd's gradient."""
    network = state_of(ALONE, num_layer=num_layer, alpha=alpha).network
    parameters = [p for p in network.parameters() if p.requires_grad]
    buffers = [torch.zeros_like(parameter) for parameter in parameters]
    losses = []
    for step in range(steps):
        videos, sound = inputs(step, slice(None))
        boxes = [boxes_of(rank, step) for rank in drawn_by]
        loss = plain_loss(network, videos, sound, boxes, alpha)
        gradients = torch.autograd.grad(loss, parameters)
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for parameter, gradient, buffer in zip(parameters, gradients, buffers, strict=True):
                buffer.mul_(0.9).add_(gradient + DECAY * parameter)
                parameter -= RATE * buffer
    learned = {k: v.numpy() for k, v in network.state_dict().items()}
    return {"losses": np.array(losses), **learned}


@pytest.mark.parametrize(("num_layer", "alpha"), [(0, 0.5), (1, 0.3), (0, 0.0), (0, 1.0)])
def test_steps_are_plain_sgd_on_the_loss(num_layer: int, alpha: float) -> None:
    steps = 2 if num_layer == 0 else 1
    found = train(ALONE, slice(None), 0, num_layer=num_layer, alpha=alpha, steps=steps)
    assert_close(found, train_plainly([0], num_layer=num_layer, alpha=alpha, steps=steps))


@pytest.mark.parametrize(("num_layer", "alpha"), [(0, 0.5), (1, 0.5), (0, 0.0)])
def test_two_processes_with_boxes_of_their_own(num_layer: int, alpha: float) -> None:
    want = train_plainly([0, 1], num_layer=num_layer, alpha=alpha)
    for found in pool_of(2).run(train_share, [0, 1], num_layer, alpha):
        assert_close(found, want)


def test_two_processes_with_the_same_boxes_are_one_with_the_whole_batch() -> None:
    whole = train(ALONE, slice(None), 1)
    for found in pool_of(2).run(train_share, [1, 1], 0, 0.5):
        assert_close(found, whole)


@pytest.mark.parametrize("alpha", [0.5, 0.0])
def test_a_step_changes_every_parameter_that_the_loss_needs(alpha: float) -> None:
    before = {k: v.numpy().copy() for k, v in state_of(ALONE).network.state_dict().items()}
    found = train(ALONE, slice(None), 0, alpha=alpha)
    parameters = dict(state_of(ALONE).network.named_parameters())
    same = {k for k in parameters if np.array_equal(found[k], before[k])}
    still = ("audio_network.base.fc.",) if alpha else ("audio_network.", "mlp_a.")
    assert same == {k for k in parameters if k.startswith(still)}
    if not alpha:
        sound = [k for k in before if k.startswith(still)]
        assert all(np.array_equal(found[k], before[k]) for k in sound)


def test_boxes_are_drawn_by_seed_step_and_process() -> None:
    rng = generator(3, 5, 1, "crops")
    want = [draw_boxes(rng, map_size=MAP_SIZE, rule="inclusive", **CROPS) for _ in range(2)]
    for found, view in zip(boxes_of(1, 5), want, strict=True):
        for group in ("space_large", "space_small", "time_large", "time_small"):
            np.testing.assert_array_equal(getattr(found, group), getattr(view, group))
    spaces = {
        tuple(boxes.space_small[0].tolist())
        for rank in range(4)
        for step in range(4)
        for boxes in boxes_of(rank, step)
    }
    assert len(spaces) == 9  # every place of a 1 x 1 window on 3 x 3


def test_dropout_is_drawn_by_seed_and_step() -> None:
    def loss(step: int) -> float:
        videos, sound = inputs(0, slice(None))
        found = train_step(
            state_of(ALONE, dropout=0.5),
            videos,
            sound,
            boxes_of(0, 0),
            ALONE,
            step=step,
            rate=RATE,
            temperature=TEMPERATURE,
            alpha=0.5,
            precision="float32",
            seed=7,
        )
        return float(found["loss"])

    torch.manual_seed(1)
    first = loss(4)
    torch.manual_seed(2)
    assert loss(4) == first
    assert loss(5) != first


def test_a_step_says_what_its_loss_is_made_of() -> None:
    videos, sound = inputs(0, slice(None))
    found = train_step(
        state_of(ALONE),
        videos,
        sound,
        boxes_of(0, 0),
        ALONE,
        step=0,
        rate=RATE,
        temperature=TEMPERATURE,
        alpha=0.25,
        precision="float32",
        seed=0,
    )
    groups = [found[f"crop_loss/{name}"] for name in ("L-L", "S-L", "TL-TL", "TS-TL")]
    counts = torch.tensor([1.0, 2.0, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(found["crop_loss"], torch.stack(groups) @ counts / counts.sum())
    torch.testing.assert_close(found["loss"], 0.75 * found["crop_loss"] + 0.25 * found["av_loss"])


def test_a_state_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def take_step(state: TrainingState, step: int) -> None:
        videos, sound = inputs(step, slice(None))
        train_step(
            state,
            videos,
            sound,
            boxes_of(0, step),
            ALONE,
            step=step,
            rate=RATE,
            temperature=TEMPERATURE,
            alpha=0.5,
            precision="float32",
            seed=3,
        )

    straight, other = (state_of(ALONE, dropout=0.3) for _ in range(2))
    take_step(straight, 0)
    load(save(tmp_path, 1, straight.parts(), facts={}), other.parts())
    for state in (straight, other):
        take_step(state, 1)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value), name
