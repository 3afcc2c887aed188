from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.config import HYPOTHESES as NAMES
from gdt_stica.objective import HYPOTHESES, R1, R2, V1, V2, gather_copies, gdt_loss, nce, plan_terms
from ssvideo_core.errors import ConfigError
from ssvideo_torch.start import Process
from torch import Tensor

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
B, D, TEMPERATURE = 3, 5, 0.07


def make_features(world_size: int, batch: int = B, seed: int = 0) -> np.ndarray:
    """[2 modalities, W, 4 copies, B, D] float64 of length 1."""
    x = np.random.default_rng(seed).normal(size=(2, world_size, 4, batch, D))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


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


def simulate(
    features: np.ndarray, hypothesis: int, negatives: str = "released"
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Loss, call losses and gradients [2, 4, B, D] of every rank, by the production functions."""
    world_size = features.shape[1]
    ranks = [SimulatedRank(rank, world_size) for rank in range(world_size)]
    leaves = [torch.tensor(features[:, r], requires_grad=True) for r in range(world_size)]
    copies = HYPOTHESES[hypothesis].copies
    sides = [[{c: leaf[m, c] for c in copies} for m in range(2)] for leaf in leaves]
    for rank, (video, sound) in zip(ranks, sides, strict=True):
        gather_copies(video, sound, rank)
    sent = [rank.sent[0] for rank in ranks]
    results = []
    for rank, leaf, (video, sound) in zip(ranks, leaves, sides, strict=True):
        rank.everyone = sent
        remote_v, remote_a = gather_copies(video, sound, rank)
        found = gdt_loss(
            video,
            sound,
            remote_v=remote_v,
            remote_a=remote_a,
            hypothesis=hypothesis,
            temperature=TEMPERATURE,
            negatives=negatives,
        )
        found.loss.backward()
        results.append((found.loss.item(), found.call_losses.numpy(), leaf.grad.numpy()))
    return results


def no_remote(copies: tuple[int, ...], dtype: torch.dtype = torch.float64) -> dict[int, Tensor]:
    return {copy: torch.empty(0, D, dtype=dtype) for copy in copies}


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("negatives", ["released", "unique"])
@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_every_rank_equals_the_plain_version(
    hypothesis: int, negatives: str, world_size: int
) -> None:
    features = make_features(world_size)
    for rank, (loss, calls, gradients) in enumerate(simulate(features, hypothesis, negatives)):
        unique = negatives == "unique"
        wanted = plain.gdt(features, rank, hypothesis, TEMPERATURE, unique=unique)
        np.testing.assert_allclose(loss, wanted[0], **CLOSE)
        np.testing.assert_allclose(calls, wanted[1], **CLOSE)
        np.testing.assert_allclose(gradients, wanted[2], **CLOSE)


@pytest.mark.parametrize("hypothesis", [1, 2, 4])
def test_three_ranks_equal_one_process_with_the_whole_batch(hypothesis: int) -> None:
    features = make_features(3)
    ranks = simulate(features, hypothesis, "unique")
    whole = features.transpose(0, 2, 1, 3, 4).reshape(2, 1, 4, 3 * B, D)
    ((loss, calls, gradients),) = simulate(whole, hypothesis, "unique")
    np.testing.assert_allclose(np.mean([r[0] for r in ranks]), loss, **CLOSE)
    np.testing.assert_allclose(np.mean([r[1] for r in ranks], axis=0), calls, **CLOSE)
    parts = np.concatenate([r[2] for r in ranks], axis=2)  # [2, 4, 3 B, D]
    np.testing.assert_allclose(parts / 3, gradients, **CLOSE)


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_repeated_negatives_change_the_loss(hypothesis: int) -> None:
    features = make_features(2)
    (released, *_), (unique, *_) = (
        simulate(features, hypothesis, negatives)[0] for negatives in ("released", "unique")
    )
    assert (released == unique) == (hypothesis in (1, 2, 4, 6))


def test_order_of_samples_does_not_matter() -> None:
    features, order = make_features(2), [2, 0, 1]
    before, after = (simulate(x, 9) for x in (features, features[:, :, :, order]))
    np.testing.assert_allclose([r[0] for r in after], [r[0] for r in before], **CLOSE)
    np.testing.assert_allclose(after[0][2], before[0][2][:, :, order], **CLOSE)


def test_one_sample_alone() -> None:
    # One candidate, which is right; with variants, two, of which the other copy's is wrong.
    one = make_features(1, batch=1)
    assert simulate(one, 1)[0][0] == pytest.approx(0.0, abs=1e-15)
    (video, sound) = one[:, 0, :, 0]
    right, wrong = video[V1] @ sound[V1], video[V1] @ sound[R1]
    query = math.log1p(math.exp((wrong - right) / TEMPERATURE))
    plan = plan_terms(2)[0][0]
    assert (plan.query_copy, plan.key_copy, plan.local_negatives) == (V1, V1, (R1,))
    got = nce(*(torch.tensor(x) for x in (video[[V1]], sound[[V1]], sound[[R1]])), temperature=0.07)
    assert got.item() == pytest.approx(query, rel=1e-12)


def test_equal_features_give_the_logarithm_of_the_number_of_candidates() -> None:
    same = torch.full((B, D), D**-0.5, dtype=torch.float64)
    loss = nce(same, same, same[:1].repeat(4, 1), temperature=TEMPERATURE)
    assert loss.item() == pytest.approx(math.log(B + 4), rel=1e-12)


def test_orthogonal_features_have_a_known_loss() -> None:
    keys, negatives = torch.eye(8, dtype=torch.float64).split([3, 5])
    loss = nce(keys, keys, negatives, temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + 7 * math.exp(-2)), rel=1e-12)


def test_large_similarities_stay_finite_in_float32() -> None:
    keys = 100 * torch.eye(3)
    wrong = nce(keys.roll(1, 0), keys, keys[:0], temperature=TEMPERATURE)
    assert wrong.item() == pytest.approx(1e4 / TEMPERATURE, rel=1e-6)


def test_gradient_of_queries_by_finite_differences_and_none_beside() -> None:
    x = torch.from_numpy(make_features(1)[:, 0]).requires_grad_()
    query, keys, negatives = x[0, V1], x[1, V1], x[1, R1]
    nce(query, keys, negatives, temperature=TEMPERATURE).backward()
    assert x.grad is not None
    assert x.grad[0, V1].abs().min() > 0
    assert not x.grad[1].any()
    fixed = keys.detach(), negatives.detach()
    assert torch.autograd.gradcheck(
        lambda q: nce(q, *fixed, temperature=TEMPERATURE), query.detach().requires_grad_()
    )


def test_remote_projections_get_no_gradient() -> None:
    features = torch.from_numpy(make_features(2)).requires_grad_()
    own, other = ([{V1: features[m, r, V1]} for m in range(2)] for r in range(2))
    options = {"remote_v": other[0], "remote_a": other[1], "hypothesis": 1}
    gdt_loss(*own, **options).loss.backward()
    assert features.grad is not None
    assert features.grad[:, 0, V1].any()
    assert not features.grad[:, 1].any()


def test_copies_that_a_hypothesis_does_not_need_are_not_looked_at() -> None:
    features = make_features(1)
    side = [{c: torch.from_numpy(features[m, 0, c]) for c in range(4)} for m in range(2)]
    side[0][R2] = side[0][R2] * math.nan
    empty = no_remote((V1, R1))
    found = gdt_loss(*side, remote_v=empty, remote_a=empty, hypothesis=3)
    wanted = plain.gdt(features, 0, 3, 0.07)
    np.testing.assert_allclose(found.loss.item(), wanted[0], **CLOSE)


def test_released_lists_grow_as_documented() -> None:
    def remote(hypothesis: int, call: int, negatives: str = "released") -> list[int]:
        (copies,) = {
            term.remote_negatives for term in plan_terms(hypothesis, negatives=negatives)[call]
        }
        return sorted(copies)

    assert remote(1, 0) == [V1]
    assert remote(3, 1) == [V1, R1, R1]
    assert remote(6, 2) == [V1, R1, V2, R2]
    assert remote(7, 4) == [V1, R1, R1, V2, R2]
    assert remote(3, 1, "unique") == [V1, R1]
    assert remote(7, 4, "unique") == [V1, R1, V2, R2]


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_the_plan_needs_the_copies_of_the_table(hypothesis: int) -> None:
    terms = [term for terms in plan_terms(hypothesis) for term in terms]
    assert {term.query_copy for term in terms} == set(HYPOTHESES[hypothesis].copies)
    used = {c for t in terms for c in (t.key_copy, *t.local_negatives, *t.remote_negatives)}
    assert used == set(HYPOTHESES[hypothesis].copies)


def test_names_are_those_of_the_flag() -> None:
    assert [HYPOTHESES[number].name for number in range(1, 10)] == list(NAMES)


def test_gathering_is_one_collective_and_leaves_the_own_projections_out() -> None:
    features = torch.arange(2 * 3 * 2 * B * D, dtype=torch.float64).reshape(2, 3, 2, B, D)
    rank = SimulatedRank(1, 3)
    rank.everyone = [features[:, r].reshape(4, B, D) for r in range(3)]
    video, sound = ({V2: features[m, 1, 1], V1: features[m, 1, 0]} for m in range(2))
    remote_v, remote_a = gather_copies(video, sound, rank)
    assert len(rank.sent) == 1
    for modality, remote in enumerate((remote_v, remote_a)):
        assert list(remote) == [V1, V2]
        for place, copy in enumerate((V1, V2)):
            wanted = torch.cat([features[modality, 0, place], features[modality, 2, place]])
            assert torch.equal(remote[copy], wanted)


def test_a_lone_process_has_no_remote_negatives() -> None:
    video = {V1: torch.ones(B, D, requires_grad=True)}
    remote_v, remote_a = gather_copies(video, video, Process(0, 1, 0, torch.device("cpu")))
    assert remote_v[V1].shape == remote_a[V1].shape == (0, D)
    assert not remote_v[V1].requires_grad


def test_wrong_choices_and_features_are_named() -> None:
    video = {V1: torch.ones(B, D)}
    options = {"remote_v": no_remote((V1,)), "remote_a": no_remote((V1,))}
    with pytest.raises(ConfigError, match="hypothesis 10: expected one of 1, 2"):
        gdt_loss(video, video, **options, hypothesis=10)
    with pytest.raises(ConfigError, match="negatives 'all': expected one of released, unique"):
        gdt_loss(video, video, **options, hypothesis=1, negatives="all")
    with pytest.raises(ValueError, match=r"video has the copies \[0\], but \[1\] miss"):
        gdt_loss(video, video, **options, hypothesis=2)
    with pytest.raises(ValueError, match=r"\(2, 5\), \(3, 5\).*expected one shape \(B, D\)"):
        gdt_loss(video, {V1: torch.ones(2, D)}, **options, hypothesis=1)
    with pytest.raises(ValueError, match="sound has the copies"):
        gather_copies(video, {}, Process(0, 1, 0, torch.device("cpu")))
