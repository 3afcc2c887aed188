"""The objective of GDT: which clips shall agree, and which shall differ (arXiv 2003.04298).

A sample comes in up to four copies: V1, a clip at a first time; R1, its reversal; V2, a clip of the
same video at a second time; R2, its reversal. Every copy has a video part "v" and a sound part "a".
A query of one modality looks for its key of the other modality among the keys of the batch:

    loss = mean_i −log  exp(q_i·k_i/τ) / ( Σ_j exp(q_i·k_j/τ) + Σ_m exp(q_i·n_m/τ) )        `nce`

Two copies X and Y make a pair loss. It says what a change from X to Y does to the video's meaning:

    base        X finds X, Y finds Y                         no statement about X and Y
    variant     the same, and Y is a negative of X           a feature shall tell them apart
    invariant   X finds Y, Y finds X                         a feature shall not notice

A hypothesis about reversal and time shift is a mean of pair losses: `HYPOTHESES`. `plan_terms`
lists the softmaxes of a hypothesis, and `gdt_loss` computes just these.

Negatives are local, of this process: the keys of the other samples and, in a variant loss, all of
the other copy; or remote, of the other processes: `gather_copies`. Gradient flows through queries
only, never through keys or negatives, and never to another process.

Axes: B clips of this process, W processes, M = (W − 1)·B remote clips, D values of a projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from ssvideo_torch.start import Process
from torch import Tensor

from gdt_stica.choices import check_choice

V1, R1, V2, R2 = COPIES = range(4)

Modality = Literal["v", "a"]
Copies = Mapping[int, Tensor]


class PairLoss(NamedTuple):
    """copies: X and Y, or X alone in a base loss."""

    kind: Literal["base", "variant", "invariant"]
    copies: tuple[int, ...]


class Hypothesis(NamedTuple):
    """copies: those that it needs, in the order in which the original's networks see them."""

    name: str
    pair_losses: tuple[PairLoss, ...]
    copies: tuple[int, ...]


def _base(*copies: int) -> PairLoss:
    return PairLoss("base", copies)


def _differ(x: int, y: int) -> PairLoss:
    return PairLoss("variant", (x, y))


def _agree(x: int, y: int) -> PairLoss:
    return PairLoss("invariant", (x, y))


_ALL = (V1, V2, R1, R2)
# In the released code's order, which the released negatives depend on.
HYPOTHESES = {
    1: Hypothesis("cross_modal_baseline", (_base(V1),), (V1,)),
    2: Hypothesis("v_reversal", (_differ(V1, R1),), (V1, R1)),
    3: Hypothesis("i_reversal", (_base(V1, R1), _agree(V1, R1)), (V1, R1)),
    4: Hypothesis("v_shift", (_differ(V1, V2),), (V1, V2)),
    5: Hypothesis("i_shift", (_base(V1, V2), _agree(V1, V2)), (V1, V2)),
    6: Hypothesis(
        "v_reversal_v_shift",
        (_differ(V1, R1), _differ(V2, R2), _differ(V1, V2), _differ(R1, R2)),
        _ALL,
    ),
    7: Hypothesis(
        "i_reversal_v_shift",
        (_base(V1, R1), _agree(V1, R1), _agree(V2, R2), _differ(V1, V2), _differ(R1, R2)),
        _ALL,
    ),
    8: Hypothesis(
        "v_reversal_i_shift",
        (_base(V1, V2), _differ(V1, R1), _differ(V2, R2), _agree(V1, V2), _agree(R1, R2)),
        _ALL,
    ),
    9: Hypothesis(
        "i_reversal_i_shift",
        (
            *(_base(V1, R1), _base(V1, V2)),
            *(_agree(V1, R1), _agree(V2, R2), _agree(V1, V2), _agree(R1, R2)),
        ),
        _ALL,
    ),
}


@dataclass(frozen=True)
class Term:
    """One softmax over a batch of queries.

    Queries of the modality `query` and copy `query_copy` look for the keys of the modality `key`
    and copy `key_copy` of their own samples. Negatives besides the other samples' keys, all of the
    modality `key`: the copies `local_negatives` of this process, own sample included, and
    `remote_negatives` of all other processes. A copy that is named twice counts twice.
    """

    query: Modality
    query_copy: int
    key: Modality
    key_copy: int
    local_negatives: tuple[int, ...]
    remote_negatives: tuple[int, ...]


@dataclass(frozen=True)
class GDTLoss:
    """loss: scalar, with gradient. call_losses: (pair losses,), without; their mean is the loss."""

    loss: Tensor
    call_losses: Tensor


def nce(query: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Noise-contrastive loss of a batch of queries; the equation above.

    query, keys: (B, D); keys[i] is the right one for query[i] and wrong for all others.
    negatives: (M, D), wrong for every query; M may be 0. All of one float dtype and device.
    temperature: τ, above 0. Returns the mean over the queries, a scalar, at least 0.
    Only `query` gets a gradient. Vectors of length 1 are meant, but not asked for.
    """
    candidates = torch.cat([keys, negatives]).detach()  # (B + M, D)
    logits = query @ candidates.T / temperature  # (B, B + M)
    return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


def plan_terms(hypothesis: int, *, negatives: str = "released") -> tuple[tuple[Term, ...], ...]:
    """The softmaxes of a hypothesis, one tuple for each of its pair losses, in order.

    hypothesis: 1 to 9. In a pair loss: X v→a, X a→v, then Y v→a, Y a→v.

    negatives: which copies of other processes are negatives in a pair loss. A pair loss (X, Y) adds
    the list of Y to that of X and uses the result for both; an invariant one adds X to Y.
    "released": lists are not cleared within a step, so a pair loss also has copies of earlier ones,
    some of them twice in hypotheses 3, 5 and 7 to 9. "unique": the same lists, every copy at most
    once. Raises ConfigError for other values.
    """
    check_choice(f"hypothesis {hypothesis!r}", hypothesis, tuple(HYPOTHESES))
    check_choice(f"negatives {negatives!r}", negatives, ("released", "unique"))
    remote = {copy: [copy] for copy in COPIES}
    plan = []
    for pair in HYPOTHESES[hypothesis].pair_losses:
        grown, *added = reversed(pair.copies) if pair.kind == "invariant" else pair.copies
        for copy in added:
            remote[grown] = remote[grown] + remote[copy]
        if negatives == "unique":
            remote[grown] = list(dict.fromkeys(remote[grown]))
        plan.append(_pair_terms(pair, tuple(remote[grown])))
    return tuple(plan)


def _pair_terms(pair: PairLoss, remote: tuple[int, ...]) -> tuple[Term, ...]:
    terms = []
    for own, other in zip(pair.copies, reversed(pair.copies), strict=True):
        key_copy = other if pair.kind == "invariant" else own
        local = (other,) if pair.kind == "variant" else ()
        terms.append(Term("v", own, "a", key_copy, local, remote))
        terms.append(Term("a", own, "v", key_copy, local, remote))
    return tuple(terms)


def gdt_loss(
    features_v: Copies,
    features_a: Copies,
    *,
    remote_v: Copies,
    remote_a: Copies,
    hypothesis: int,
    temperature: float = 0.07,
    negatives: str = "released",
) -> GDTLoss:
    """The loss of one process: the mean of the hypothesis' pair losses, each a mean of softmaxes.

    features_v, features_a: copy (0 V1, 1 R1, 2 V2, 3 R2) to projections (B, D), of video and of
    sound, one float dtype and device; the copies in `HYPOTHESES[hypothesis].copies`, others are not
    looked at. remote_v, remote_a: the same copies of all other processes, (M, D), as
    `gather_copies` gives them; M = 0 for a lone process, which the released code cannot run.
    temperature: 0.07 in the paper, for both directions. negatives: see `plan_terms`.

    The gradient of W processes' mean loss is what averaging their gradients gives. It is that of
    one process with the whole batch for hypotheses 1, 2 and 4 (tests/test_objective.py); the others
    treat remote and local clips differently.

    Raises ValueError for copies that miss or differ in shape, ConfigError as `plan_terms`.
    """
    plan = plan_terms(hypothesis, negatives=negatives)
    needed = HYPOTHESES[hypothesis].copies
    _check_features(needed, features_v, features_a, what="(B, D)")
    _check_features(needed, remote_v, remote_a, what="(M, D)")
    features: dict[Modality, Copies] = {"v": features_v, "a": features_a}
    remote: dict[Modality, Copies] = {"v": remote_v, "a": remote_a}

    def loss_of(term: Term) -> Tensor:
        return nce(
            features[term.query][term.query_copy],
            features[term.key][term.key_copy],
            torch.cat(
                [features[term.key][copy] for copy in term.local_negatives]
                + [remote[term.key][copy] for copy in term.remote_negatives]
            ),
            temperature=temperature,
        )

    pairs = torch.stack([torch.stack([loss_of(term) for term in terms]).mean() for terms in plan])
    return GDTLoss(loss=pairs.mean(), call_losses=pairs.detach())


def gather_copies(
    features_v: Copies, features_a: Copies, process: Process
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The projections of all other processes, for video and for sound: the remote negatives.

    features_v, features_a: copy to (B, D), the same copies and sizes on every process. All
    processes call this together, and it is one collective. Returns copy to (M, D) without gradient,
    process after process; M = 0 when there is no other one.
    """
    copies = sorted(features_v)
    _check_features(copies, features_v, features_a, what="(B, D)")
    own = torch.stack([part[copy] for part in (features_v, features_a) for copy in copies])
    everyone = process.gather(own)  # (W, 2·copies, B, D)
    others = torch.cat([everyone[: process.rank], everyone[process.rank + 1 :]])
    remote = others.transpose(0, 1).flatten(1, 2)  # (2·copies, M, D)
    remote_v, remote_a = remote[: len(copies)], remote[len(copies) :]
    return dict(zip(copies, remote_v, strict=True)), dict(zip(copies, remote_a, strict=True))


def _check_features(copies: tuple[int, ...] | list[int], v: Copies, a: Copies, what: str) -> None:
    for name, part in (("video", v), ("sound", a)):
        missing = [copy for copy in copies if copy not in part]
        if missing:
            raise ValueError(f"{name} has the copies {sorted(part)}, but {missing} miss")
    shapes = {tuple(part[copy].shape) for part in (v, a) for copy in copies}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"shapes {sorted(shapes)}: expected one shape {what} for all copies")
