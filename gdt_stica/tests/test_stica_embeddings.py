"""From pixels to the loss of a step, in one process and in several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.feature_crops import FeatureBoxes, draw_boxes
from gdt_stica.model_stica import STiCA, cropped
from gdt_stica.stica_embeddings import StepEmbeddings, embed_parts
from gdt_stica.stica_objective import (
    Part,
    gather_keys,
    plan_terms,
    stica_loss,
    stica_step_loss,
)
from ssvideo_core.errors import ConfigError
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.parallel import parallel
from ssvideo_torch.start import Process
from torch import Tensor

BATCH, MAP_SIZE = 4, (2, 3, 3)
NUMBERS = {"num_large": 2, "num_small": 2, "num_large_t": 2, "num_small_t": 1}
ALONE = Process(0, 1, 0, torch.device("cpu"))


def make_network(num_layer: int = 1) -> STiCA:
    """float64, so that only the order of sums differs; no dropout, which is drawn by rank."""
    torch.manual_seed(0)
    options = {"num_layer": num_layer, "transformer_time_dim": 2, "num_head": 2}
    network = STiCA(Architecture(model="stica", width=1 / 32, **options), dropout=0.0)
    network.audio_network.base.fc.requires_grad_(False)
    return network.double()


def inputs(clips: slice = slice(None)) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, dtype=torch.float64, generator=generator)[clips]

    return [draw(3, 12, 40, 40), draw(3, 12, 40, 40)], draw(1, 40, 20)


def make_boxes(seed: int = 0) -> list[FeatureBoxes]:
    rng = np.random.default_rng(seed)
    return [draw_boxes(rng, **NUMBERS, map_size=MAP_SIZE, rule="inclusive") for _ in range(2)]


def running(network: STiCA, head: str) -> Tensor:
    return network.get_submodule(f"{head}.block_forward.4").running_mean


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("passes", ["needed", "released"])
def test_embeddings_are_those_of_separate_calls(passes: str, train: bool) -> None:
    boxes, (videos, sound) = make_boxes(), inputs()
    network, other = (make_network().train(train) for _ in range(2))
    found = StepEmbeddings(network, passes=passes)(videos, sound, boxes)
    terms = plan_terms(boxes, sound=True)
    assert {part for term in terms for part in (term.first, term.second)} <= found.keys()
    maps = [other.feature_map(video) for video in videos]
    for part, embedding in found.items():
        if part.crop == "audio":
            wanted = other.embed_sound(sound)
        elif part.crop == "full":
            wanted = other.embed_map(maps[part.view])
        else:
            box = getattr(boxes[part.view], part.crop)[part.row].tolist()
            wanted = other.embed_map(cropped(maps[part.view], box))
        torch.testing.assert_close(embedding, wanted, rtol=1e-9, atol=1e-10, msg=str(part))


def separately(network: STiCA, calls: list[Part], maps: list[Tensor], boxes: Any) -> None:
    for part in calls:
        if part.crop == "full":
            network.embed_map(maps[part.view])
        else:
            box = getattr(boxes[part.view], part.crop)[part.row].tolist()
            network.embed_map(cropped(maps[part.view], box))


def needed_calls() -> list[Part]:
    first = [Part(0, f"{place}_large", i) for place in ("space", "time") for i in range(2)]
    second = [*(Part(1, "space_small", j) for j in range(2)), Part(1, "space_large", 1)]
    second += [Part(1, "time_small", 0), Part(1, "time_large", 1)]
    return [*first, Part(0, "full"), *second, Part(1, "full")]


def released_calls() -> list[Part]:
    """Every large crop, followed by all small boxes that were drawn for any of them."""
    calls = []
    for view in range(2):
        for place, small in (("space", 2), ("time", 1)):
            for i in range(2):
                calls.append(Part(view, f"{place}_large", i))
                calls += [Part(view, f"{place}_small", j) for j in range(small)]
                calls += [Part(view, f"{place}_unused", j) for j in range(small)]
        calls.append(Part(view, "full"))
    return calls


@pytest.mark.parametrize(
    ("passes", "calls"), [("needed", needed_calls()), ("released", released_calls())]
)
def test_running_statistics_are_those_of_separate_calls(passes: str, calls: list[Part]) -> None:
    boxes, (videos, sound) = make_boxes(), inputs()
    network, other = make_network(), make_network()
    StepEmbeddings(network, passes=passes)(videos, sound, boxes)
    maps = [other.feature_map(video) for video in videos]
    separately(other, calls, maps, boxes)
    for _ in range(2 if passes == "released" else 1):
        pooled = other.audio_network(sound)
    for _ in range(2):
        other.mlp_a(pooled)
    for name, value in other.state_dict().items():
        found = network.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("num_layer", [0, 1])
def test_both_passes_have_the_same_loss_and_gradients(num_layer: int) -> None:
    boxes, (videos, sound) = make_boxes(), inputs()
    losses, networks = [], [make_network(num_layer) for _ in range(2)]
    for network, passes in zip(networks, ("needed", "released"), strict=True):
        forward = StepEmbeddings(network, passes=passes)
        found = stica_step_loss(forward, videos, sound, boxes, ALONE)
        found.loss.backward()
        losses.append(found.call_losses)
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-12)
    parameters = [dict(network.named_parameters()) for network in networks]
    for name, value in parameters[0].items():
        other = parameters[1][name].grad
        torch.testing.assert_close(value.grad, other, rtol=1e-7, atol=1e-12, msg=name)
    assert not torch.allclose(*(running(network, "mlp_v") for network in networks))


def test_sound_is_dropped_anew_for_each_view() -> None:
    network = make_network()
    network.mlp_a.block_forward.get_submodule("1").p = 0.5
    videos, sound = inputs()
    found = StepEmbeddings(network)(videos, sound, make_boxes())
    assert not torch.allclose(found[Part(0, "audio")], found[Part(1, "audio")])


def test_without_sound_its_networks_are_left_alone() -> None:
    network, (videos, sound) = make_network(), inputs()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found = stica_step_loss(StepEmbeddings(network), videos, sound, make_boxes(), ALONE, alpha=0.0)
    found.loss.backward()
    reached = {name for name, value in network.named_parameters() if value.grad is not None}
    assert reached == {
        name
        for name, _ in network.named_parameters()
        if name.split(".")[0] in ("video_network", "video_pooling", "mlp_v")
    }
    after = network.state_dict()
    audio = [name for name in before if name.startswith(("audio_network", "mlp_a"))]
    assert all(torch.equal(before[name], after[name]) for name in audio)


def test_losses_have_the_digits_of_float32_in_mixed_precision() -> None:
    network, (videos, sound) = make_network().float(), inputs()
    arguments = [video.float() for video in videos], sound.float(), make_boxes()
    found = stica_step_loss(StepEmbeddings(network), *arguments, ALONE, precision="bfloat16")
    assert found.loss.dtype == found.call_losses.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = StepEmbeddings(make_network().float())(*arguments)
    assert {embedding.dtype for embedding in embeddings.values()} == {torch.float32}
    lengths = torch.stack([embedding.norm(dim=1) for embedding in embeddings.values()])
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-6, atol=1e-6)


def test_unknown_passes_are_named() -> None:
    with pytest.raises(ConfigError, match="crop passes 'all': expected one of released, needed"):
        StepEmbeddings(make_network(), passes="all")


def step(process: Process, clips: slice, boxes: list[FeatureBoxes]) -> dict[str, np.ndarray]:
    """Mean losses, gradients and running statistics after one step."""
    network = make_network()
    forward = parallel(StepEmbeddings(network), process, sync_bn=True)
    found = stica_step_loss(forward, *inputs(clips), boxes, process, temperature=0.4, alpha=0.3)
    found.loss.backward()
    state = {name: value.numpy() for name, value in network.named_buffers()}
    gradients = {
        f"{name}.grad": value.grad.numpy()
        for name, value in network.named_parameters()
        if value.grad is not None
    }
    calls = process.gather(found.call_losses).mean(dim=0).numpy()
    return {"calls": calls, **state, **gradients}


def step_of_share(process: Process, boxes: list[FeatureBoxes]) -> dict[str, np.ndarray]:
    share = BATCH // process.world_size
    return step(process, slice(process.rank * share, (process.rank + 1) * share), boxes)


def assert_close(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-7, atol=1e-10, err_msg=name)


def test_two_processes_with_the_same_boxes_are_one_with_the_whole_batch() -> None:
    boxes = make_boxes()
    whole = step(ALONE, slice(None), boxes)
    for found in pool_of(2).run(step_of_share, boxes):
        assert_close(found, whole)


class Heads(torch.nn.Module):
    """What follows the trunks of a network."""

    def __init__(self, network: STiCA):
        super().__init__()
        for name in ("video_pooling", "mlp_v", "mlp_a"):
            self.add_module(name, getattr(network, name))

    def forward(self, maps: Tensor, sound: Tensor, boxes: list[FeatureBoxes]) -> dict[Part, Tensor]:
        return embed_parts(self, maps, [sound], boxes)


def make_maps() -> tuple[Tensor, Tensor]:
    """Of two ranks: feature maps [W, 2 views, B, C, T', H', W'], embeddings of sound [W, B, C]."""
    generator = torch.Generator().manual_seed(2)
    options = {"dtype": torch.float64, "generator": generator}
    return torch.randn(2, 2, 3, 16, *MAP_SIZE, **options), torch.randn(2, 3, 16, **options)


def heads_with_own_boxes(process: Process) -> dict[str, np.ndarray]:
    heads = parallel(Heads(make_network()), process, sync_bn=True)
    maps, sound = (x[process.rank].clone().requires_grad_() for x in make_maps())
    boxes = make_boxes(process.rank)
    embeddings = heads(maps, sound, boxes)
    terms = plan_terms(boxes, sound=True)
    found = stica_loss(embeddings, terms, gather_keys(embeddings, terms, process))
    found.loss.backward()
    gradients = {"maps": maps.grad.numpy(), "sound": sound.grad.numpy()}
    return {"calls": found.call_losses.numpy(), **gradients}


def test_processes_with_boxes_of_their_own_share_each_crops_statistics() -> None:
    network = make_network()
    maps, sound = (x.requires_grad_() for x in make_maps())
    boxes = [make_boxes(rank) for rank in range(2)]

    def of_rank(rank: int, part: Part) -> Tensor:
        if part.crop == "audio":
            return sound[rank]
        crop = maps[rank, part.view]
        if part.crop != "full":
            crop = cropped(crop, getattr(boxes[rank][part.view], part.crop)[part.row].tolist())
        return network.video_pooling(crop)

    def embedded(part: Part) -> Tensor:
        """[W, B, D]: one call of the head with the crops of both ranks."""
        head = network.mlp_a if part.crop == "audio" else network.mlp_v
        projections = head(torch.cat([of_rank(rank, part) for rank in range(2)]))
        return torch.nn.functional.normalize(projections, dim=1).unflatten(0, (2, -1))

    terms = plan_terms(boxes[0], sound=True)
    parts = {part: embedded(part) for term in terms for part in (term.first, term.second)}
    losses = []
    for rank in range(2):
        keys = {part: embeddings[1 - rank].detach() for part, embeddings in parts.items()}
        remote = [(keys[t.first], keys[t.second] if t.symmetric else None) for t in terms]
        own = {part: embeddings[rank] for part, embeddings in parts.items()}
        losses.append(stica_loss(own, terms, remote))
    sum(found.loss for found in losses).backward()
    for rank, found in enumerate(pool_of(2).run(heads_with_own_boxes)):
        wanted = {"maps": maps.grad[rank].numpy(), "sound": sound.grad[rank].numpy()}
        assert_close(found, {"calls": losses[rank].call_losses.numpy(), **wanted})
