"""The losses, from embeddings on; tests/test_stica_embeddings.py has what comes before."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.feature_crops import FeatureBoxes, draw_boxes, num_terms
from gdt_stica.stica_objective import (
    CROP_KINDS,
    Part,
    StepLoss,
    gather_keys,
    pair_loss,
    plan_terms,
    stica_loss,
)
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.start import Process
from torch import Tensor

_spec = importlib.util.spec_from_file_location(
    "plain_stica", Path(__file__).with_name("plain_stica.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
B, D = 3, 5
PUBLISHED = {"num_large": 2, "num_small": 4, "num_large_t": 2, "num_small_t": 1}
NUMBERS = [
    PUBLISHED,
    {"num_large": 2, "num_small": 0, "num_large_t": 0, "num_small_t": 0},
    {"num_large": 1, "num_small": 2, "num_large_t": 2, "num_small_t": 0},
    {"num_large": 0, "num_small": 0, "num_large_t": 1, "num_small_t": 3},
]
SETTINGS = {"temperature": 0.5, "audio_temperature": 0.1, "alpha": 0.3}
Embeddings = dict[tuple[str, str, int], np.ndarray]


def make_boxes(numbers: dict[str, int]) -> list[FeatureBoxes]:
    rng = np.random.default_rng(0)
    return [draw_boxes(rng, **numbers, map_size=(4, 7, 7)) for _ in range(2)]


def make_embeddings(numbers: dict[str, int], world_size: int, batch: int = B) -> Embeddings:
    """Name to [W, B, D] float64 of length 1."""
    rng = np.random.default_rng(1)
    found = {}
    for name in plain.names(**numbers):
        x = rng.normal(size=(world_size, batch, D))
        found[name] = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return found


def part(name: tuple[str, str, int]) -> Part:
    view, crop, row = name
    return Part("fg".index(view), crop, row)


class SimulatedRank(Process):
    """One of W ranks in this process: gathers what all ranks sent in an earlier round."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__(rank, world_size, rank, torch.device("cpu"))
        self.sent: list[Tensor] = []
        self.everyone: list[Tensor] | None = None

    def gather(self, tensor: Tensor) -> Tensor:
        self.sent.append(tensor.detach().clone())
        if self.everyone is None:
            return torch.stack([self.sent[-1]] * self.world_size)
        assert torch.equal(self.everyone[self.rank], tensor)
        return torch.stack(self.everyone)


Found = tuple[StepLoss, dict[tuple[str, str, int], np.ndarray]]


def of_rank(
    embeddings: Embeddings, numbers: dict[str, int], process: Process, **settings: float
) -> Found:
    """The loss of one rank, and the gradients of its embeddings by name."""
    own = {n: torch.tensor(x[process.rank], requires_grad=True) for n, x in embeddings.items()}
    by_part = {part(name): x for name, x in own.items()}
    settings = {**SETTINGS, **settings}
    terms = plan_terms(make_boxes(numbers), sound=settings["alpha"] > 0)
    found = stica_loss(by_part, terms, gather_keys(by_part, terms, process), **settings)
    found.loss.backward()
    zero = np.zeros_like(next(iter(embeddings.values()))[0])
    return found, {n: zero if x.grad is None else x.grad.numpy() for n, x in own.items()}


def simulate(embeddings: Embeddings, numbers: dict[str, int], **settings: float) -> list[Found]:
    """All ranks, by the production functions."""
    world_size = len(next(iter(embeddings.values())))
    ranks = [SimulatedRank(rank, world_size) for rank in range(world_size)]
    for rank in ranks:
        of_rank(embeddings, numbers, rank, **settings)
    sent = [rank.sent[0] for rank in ranks]
    for rank in ranks:
        rank.everyone = sent
    return [of_rank(embeddings, numbers, rank, **settings) for rank in ranks]


def assert_plain(found: Found, embeddings: Embeddings, numbers: dict[str, int], rank: int) -> None:
    loss, calls, gradients = plain.stica(embeddings, rank, **numbers, **SETTINGS)
    np.testing.assert_allclose(found[0].loss.item(), loss, **CLOSE)
    np.testing.assert_allclose(found[0].call_losses, calls, **CLOSE)
    assert found[1].keys() == gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[1][name], gradient, **CLOSE, err_msg=str(name))


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_every_rank_equals_the_plain_version(numbers: dict[str, int], world_size: int) -> None:
    embeddings = make_embeddings(numbers, world_size)
    for rank, found in enumerate(simulate(embeddings, numbers)):
        assert_plain(found, embeddings, numbers, rank)


def gathered_by_processes(process: Process, embeddings: Embeddings) -> Found:
    found, gradients = of_rank(embeddings, PUBLISHED, process)
    loss = StepLoss(found.loss.detach(), found.terms, found.call_losses)
    return loss, gradients


def test_processes_equal_the_plain_version() -> None:
    embeddings = make_embeddings(PUBLISHED, 2)
    for rank, found in enumerate(pool_of(2).run(gathered_by_processes, embeddings)):
        assert_plain(found, embeddings, PUBLISHED, rank)


def test_three_ranks_equal_one_process_with_the_whole_batch() -> None:
    embeddings = make_embeddings(PUBLISHED, 3)
    ranks = simulate(embeddings, PUBLISHED)
    whole = {name: x.reshape(1, 3 * B, D) for name, x in embeddings.items()}
    ((found, gradients),) = simulate(whole, PUBLISHED)
    calls = np.mean([rank.call_losses.numpy() for rank, _ in ranks], axis=0)
    np.testing.assert_allclose(calls, found.call_losses, **CLOSE)
    np.testing.assert_allclose(np.mean([r.loss.item() for r, _ in ranks]), found.loss.item())
    for name, gradient in gradients.items():
        parts = np.concatenate([rank[name] for _, rank in ranks])
        np.testing.assert_allclose(parts / 3, gradient, **CLOSE, err_msg=str(name))


def test_order_of_samples_does_not_matter() -> None:
    embeddings, order = make_embeddings(PUBLISHED, 2), [2, 0, 1]
    (before, _), (after, _) = (
        simulate(found, PUBLISHED)[0]
        for found in (embeddings, {name: x[:, order] for name, x in embeddings.items()})
    )
    np.testing.assert_allclose(after.call_losses, before.call_losses, **CLOSE)


def test_keys_alone_get_no_gradient() -> None:
    _, gradients = simulate(make_embeddings(PUBLISHED, 2), PUBLISHED)[0]
    used = {name for name, gradient in gradients.items() if gradient.any()}
    seconds = {(view, f"{place}_large", 1) for view in "fg" for place in ("space", "time")}
    small = {("g", "space_small", j) for j in range(4)} | {("g", "time_small", 0)}
    wholes = {(view, what, 0) for view in "fg" for what in ("full", "audio")}
    assert used == seconds | small | wholes


@pytest.mark.parametrize("numbers", NUMBERS)
def test_numbers_of_terms_are_those_that_are_checked_before_training(
    numbers: dict[str, int],
) -> None:
    found, _ = simulate(make_embeddings(numbers, 1), numbers)[0]
    space, time = (
        num_terms(numbers[f"num_large{end}"], numbers[f"num_small{end}"]) for end in ("", "_t")
    )
    counters = found.crop_counters
    assert (sum(counters[:2]), sum(counters[2:])) == (space, time)
    assert len(found.terms) == space + time + 2


def test_losses_are_logged_by_kind() -> None:
    found, _ = simulate(make_embeddings(PUBLISHED, 1), PUBLISHED)[0]
    calls = dict.fromkeys((*CROP_KINDS, "cross_modal"), 0.0)
    for term, loss in zip(found.terms, found.call_losses.tolist(), strict=True):
        calls[term.kind] += loss
    assert found.crop_counters == (1, 8, 1, 2)
    sums = [calls[kind] for kind in CROP_KINDS]
    np.testing.assert_allclose(found.crop_losses, sums, **CLOSE)
    scalars = {name: value.item() for name, value in found.scalars().items()}
    assert scalars == pytest.approx(
        {
            "loss": found.loss.item(),
            "crop_loss": sum(sums) / 12,
            "av_loss": calls["cross_modal"] / 2,
            "crop_loss/L-L": sums[0],
            "crop_loss/S-L": sums[1] / 8,
            "crop_loss/TL-TL": sums[2],
            "crop_loss/TS-TL": sums[3] / 2,
        }
    )
    assert scalars["loss"] == pytest.approx(0.7 * scalars["crop_loss"] + 0.3 * scalars["av_loss"])
    alone, _ = simulate(make_embeddings(NUMBERS[1], 1), NUMBERS[1], alpha=0.0)[0]
    assert set(alone.scalars()) == {"loss", "crop_loss", "crop_loss/L-L"}
    assert alone.crop_losses[1:].tolist() == [0, 0, 0]


def test_without_sound_there_are_only_crops_and_with_it_alone_there_may_be_none() -> None:
    embeddings = make_embeddings(PUBLISHED, 2)
    found, gradients = simulate(embeddings, PUBLISHED, alpha=0.0)[0]
    assert {term.kind for term in found.terms} == set(CROP_KINDS)
    assert found.loss.item() == pytest.approx(found.call_losses.mean().item(), rel=1e-12)
    assert not gradients["f", "full", 0].any()
    none = dict.fromkeys(PUBLISHED, 0)
    found, _ = simulate(make_embeddings(none, 2), none, alpha=1.0)[0]
    assert [term.kind for term in found.terms] == ["cross_modal"] * 2
    assert found.loss.item() == pytest.approx(found.call_losses.mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("numbers", "sound", "alpha"),
    [(PUBLISHED, True, 0.0), (PUBLISHED, False, 0.5), (dict.fromkeys(PUBLISHED, 0), True, 0.5)],
)
def test_terms_that_do_not_fit_alpha_are_refused(
    numbers: dict[str, int], sound: bool, alpha: float
) -> None:
    embeddings = {part(n): torch.tensor(x[0]) for n, x in make_embeddings(numbers, 1).items()}
    terms = plan_terms(make_boxes(numbers), sound=sound)
    remote = gather_keys(embeddings, terms, Process(0, 1, 0, torch.device("cpu")))
    with pytest.raises(ValueError, match=f"alpha {alpha} with"):
        stica_loss(embeddings, terms, remote, alpha=alpha)


def test_views_with_other_numbers_of_crops_are_refused() -> None:
    one, other = (make_boxes(numbers)[0] for numbers in NUMBERS[:2])
    for boxes in ([one, other], [one]):
        with pytest.raises(ValueError, match="expected two views with the same numbers"):
            plan_terms(boxes, sound=True)


def test_equal_embeddings_give_the_logarithm_of_the_number_of_candidates() -> None:
    same = torch.full((B, D), D**-0.5, dtype=torch.float64)
    remote = same[:1].repeat(4, 1)
    for second in (remote, None):
        loss = pair_loss(same, same, remote, second, temperature=0.1)
        assert loss.item() == pytest.approx(math.log(B + 4), rel=1e-12)


def test_orthogonal_embeddings_have_a_known_loss() -> None:
    keys, remote = torch.eye(8, dtype=torch.float64).split([3, 5])
    loss = pair_loss(keys, keys, remote, remote[:2], temperature=0.5)
    wanted = (math.log(1 + 7 * math.exp(-2)) + math.log(1 + 4 * math.exp(-2))) / 2
    assert loss.item() == pytest.approx(wanted, rel=1e-12)


def test_gradients_of_both_sides_by_finite_differences() -> None:
    x = make_embeddings(NUMBERS[1], 2)["f", "full", 0]
    first, second = (torch.tensor(rank, requires_grad=True) for rank in x)
    keys = {"f": first.detach().clone(), "s": second.detach().clone()}

    def loss(first: Tensor, second: Tensor) -> Tensor:
        """Keys held fixed, as they are without gradient."""
        options: dict[str, Any] = {"temperature": 0.5}
        forth = pair_loss(keys["f"], second, remote, None, **options)
        return (forth + pair_loss(keys["s"], first, remote, None, **options)) / 2

    remote = torch.tensor(x[0, :2] * 0.5)
    assert torch.autograd.gradcheck(loss, (first, second))
    for wanted, found in zip(
        torch.autograd.grad(loss(first, second), (first, second)),
        torch.autograd.grad(
            pair_loss(first, second, remote, remote, temperature=0.5), (first, second)
        ),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gathering_is_one_collective_of_the_keys() -> None:
    embeddings = make_embeddings(PUBLISHED, 3)
    terms = plan_terms(make_boxes(PUBLISHED), sound=True)
    rank = SimulatedRank(1, 3)
    keys = [("f", "space_large", 0), ("g", "space_large", 1), ("f", "space_large", 1)]
    keys += [("f", "time_large", 0), ("g", "time_large", 1), ("f", "time_large", 1)]
    keys += [(view, what, 0) for view in "fg" for what in ("full", "audio")]
    rank.everyone = [torch.tensor(np.stack([embeddings[k][r] for k in keys])) for r in range(3)]
    own = {part(n): torch.tensor(x[1], requires_grad=True) for n, x in embeddings.items()}
    remote = gather_keys(own, terms, rank)
    assert len(rank.sent) == 1
    by_part = {part(name): x for name, x in embeddings.items()}
    for term, (first, second) in zip(terms, remote, strict=True):
        assert not first.requires_grad
        np.testing.assert_array_equal(first, np.concatenate(by_part[term.first][[0, 2]]))
        if term.symmetric:
            np.testing.assert_array_equal(second, np.concatenate(by_part[term.second][[0, 2]]))
        else:
            assert second is None


def test_a_lone_process_has_no_remote_keys() -> None:
    found = {part(n): torch.tensor(x[0]) for n, x in make_embeddings(PUBLISHED, 1).items()}
    terms = plan_terms(make_boxes(PUBLISHED), sound=True)
    remote = gather_keys(found, terms, Process(0, 1, 0, torch.device("cpu")))
    assert {tuple(x.shape) for pair in remote for x in pair if x is not None} == {(0, D)}
