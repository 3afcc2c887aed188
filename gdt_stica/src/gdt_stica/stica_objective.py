"""The objective of STiCA: crops of two views of a clip agree, and views agree with their sound.

arXiv 2103.10211. f is view 0 and g is view 1 of the same clips, each with its own crops, drawn anew
each step: `feature_crops.draw_boxes`. Every crop, whole map and sound has an embedding of length 1.
In a pair loss (`pair_loss`) the query of each clip finds the key of the same clip among the keys of
all clips of all processes. In the original's names:

    L-L            the second large crop of f and that of g find each other
    S-L            each small crop of g finds each large crop of f
    TL-TL, TS-TL   the same for crops in time
    cross_modal    the whole map of a view and its sound find each other

    loss = (1 − α) mean of all crop losses + α mean of the cross-modal losses           `stica_loss`

`plan_terms` lists the pair losses. Keys have no gradient, nor do other processes' embeddings.

One step of training, from pixels to the loss:

    forward = parallel(StepEmbeddings(network), process, sync_bn=True)    once: stica_embeddings.py
    boxes = [draw_boxes(rng, …), draw_boxes(rng, …)]                      of view 0, of view 1
    found = stica_step_loss(forward, videos, spectrograms, boxes, process, alpha=0.5, …)
    found.loss.backward()                                                 found.scalars() to log

With alpha 0 no sound is encoded: `audio_network` and `mlp_a` must not want a gradient then.

Axes: B clips of this process, W processes, M = (W − 1)·B remote clips, D values of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from ssvideo_torch.precision import autocast
from ssvideo_torch.start import Process
from torch import Tensor, nn

from gdt_stica.feature_crops import FeatureBoxes
from gdt_stica.objective import nce

CROP_KINDS = ("L-L", "S-L", "TL-TL", "TS-TL")
CROSS_MODAL = "cross_modal"
SPACE, TIME = "space", "time"
_SIZES = ("large", "small")


class Part(NamedTuple):
    """What an embedding is of: a view (0 f, 1 g), and of it a crop, the whole, or the sound.

    crop: a field of FeatureBoxes, "full" or "audio". row: of the box there.
    """

    view: int
    crop: str
    row: int = 0


class Term(NamedTuple):
    """One pair loss: `second` finds `first`; if symmetric, `first` finds `second` too."""

    kind: str
    first: Part
    second: Part
    symmetric: bool


@dataclass(frozen=True)
class StepLoss:
    """loss: scalar, with gradient. terms: the pair losses in it. call_losses: (terms,), without."""

    loss: Tensor
    terms: tuple[Term, ...]
    call_losses: Tensor

    @property
    def crop_losses(self) -> Tensor:
        """(4,) sums of the crop losses by kind, in the order of CROP_KINDS."""
        return torch.stack([sum(self._of(kind), self.loss.new_zeros(())) for kind in CROP_KINDS])

    @property
    def crop_counters(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(len(self._of(kind)) for kind in CROP_KINDS)

    def scalars(self) -> dict[str, Tensor]:
        """What the original logs: loss; crop_loss, av_loss and "crop_loss/L-L" etc., means of the
        terms there are. All without gradient, on the device."""
        groups = {"crop_loss": CROP_KINDS, "av_loss": (CROSS_MODAL,)}
        groups |= {f"crop_loss/{kind}": (kind,) for kind in CROP_KINDS}
        found = {name: self._of(*kinds) for name, kinds in groups.items()}
        means = {name: torch.stack(losses).mean() for name, losses in found.items() if losses}
        return {"loss": self.loss.detach(), **means}

    def _of(self, *kinds: str) -> list[Tensor]:
        calls = zip(self.terms, self.call_losses.unbind(), strict=True)
        return [loss for term, loss in calls if term.kind in kinds]


def pair_loss(
    first: Tensor,
    second: Tensor,
    remote_first: Tensor,
    remote_second: Tensor | None,
    *,
    temperature: float,
) -> Tensor:
    """`second` finds its clips in `first`, and the other way round unless remote_second is None.

    first, second: (B, D), one row a clip. remote_first, remote_second: (M, D) of other clips, from
    other processes; M may be 0. The mean of one or two `objective.nce`; only queries get a
    gradient.
    """
    loss = nce(second, first, remote_first, temperature=temperature)
    if remote_second is None:
        return loss
    return (loss + nce(first, second, remote_second, temperature=temperature)) / 2


def plan_terms(boxes: Sequence[FeatureBoxes], *, sound: bool) -> tuple[Term, ...]:
    """The pair losses of a step, in the original's order.

    boxes: of both views; how many of each kind decides. sound: whether views find their sound.
    Raises ValueError unless there are two views with as many crops.
    """
    numbers = [[len(getattr(b, f"{p}_{s}")) for p in (SPACE, TIME) for s in _SIZES] for b in boxes]
    if len(numbers) != 2 or numbers[0] != numbers[1]:
        raise ValueError(f"crops of the views: {numbers}, expected two views with the same numbers")
    terms = []
    for place, prefix in ((SPACE, ""), (TIME, "T")):
        large, small = (range(len(getattr(boxes[0], f"{place}_{size}"))) for size in _SIZES)
        for i in large:
            key = Part(0, f"{place}_large", i)
            if i == 1:
                again = Part(1, f"{place}_large", i)
                terms.append(Term(f"{prefix}L-{prefix}L", again, key, True))
            for j in small:
                query = Part(1, f"{place}_small", j)
                terms.append(Term(f"{prefix}S-{prefix}L", key, query, False))
    views = range(2) if sound else ()
    terms += [Term(CROSS_MODAL, Part(v, "full"), Part(v, "audio"), True) for v in views]
    return tuple(terms)


def stica_loss(
    embeddings: Mapping[Part, Tensor],
    terms: Sequence[Term],
    remote: Sequence[tuple[Tensor, Tensor | None]],
    *,
    temperature: float = 0.5,
    audio_temperature: float = 0.1,
    alpha: float = 0.5,
) -> StepLoss:
    """The loss of one process from its embeddings.

    embeddings: (B, D) of every part that a term names, one float dtype and device. remote: for each
    term, `first` and `second` of all other processes, (M, D); None for the second if the term is
    not symmetric. temperature: of crops, 0.5 in the paper. audio_temperature: of views and
    their sound; the original has 0.1 in the code, whatever its flags. alpha: the share of the
    cross-modal losses, 0 to 1; at 0 `terms` has none of them, below 1 it has crops.

    The gradient of W processes' mean loss is what averaging their gradients gives, and that of
    one process with the whole batch (tests/test_stica_objective.py). Raises ValueError for terms
    that do not fit alpha, KeyError for a part that misses.
    """
    calls = torch.stack(
        [
            pair_loss(
                embeddings[term.first],
                embeddings[term.second],
                *of_others,
                temperature=audio_temperature if term.kind == CROSS_MODAL else temperature,
            )
            for term, of_others in zip(terms, remote, strict=True)
        ]
    )
    loss = (calls * calls.new_tensor(_shares(terms, alpha))).sum()
    return StepLoss(loss, tuple(terms), calls.detach())


def _shares(terms: Sequence[Term], alpha: float) -> list[float]:
    """What each pair loss counts in the loss."""
    cross_modal = sum(term.kind == CROSS_MODAL for term in terms)
    crops = len(terms) - cross_modal
    if (crops == 0 and alpha < 1) or (cross_modal == 0) != (alpha == 0):
        raise ValueError(
            f"alpha {alpha} with {crops} terms of crops and {cross_modal} of views and their sound"
        )
    return [
        alpha / cross_modal if term.kind == CROSS_MODAL else (1 - alpha) / crops for term in terms
    ]


def gather_keys(
    embeddings: Mapping[Part, Tensor], terms: Sequence[Term], process: Process
) -> list[tuple[Tensor, Tensor | None]]:
    """What `stica_loss` takes as `remote`. All processes call it together: one collective.

    embeddings: (B, D) of every part, the same parts and sizes on every process. Remote rows
    come process after process, without gradient.
    """
    sides = [(term.first, term.second if term.symmetric else None) for term in terms]
    keys = list(dict.fromkeys(part for side in sides for part in side if part is not None))
    everyone = process.gather(torch.stack([embeddings[key] for key in keys]))  # (W, keys, B, D)
    others = torch.cat([everyone[: process.rank], everyone[process.rank + 1 :]])
    remote = dict(zip(keys, others.transpose(0, 1).flatten(1, 2), strict=True))  # each (M, D)
    return [(remote[first], remote[second] if second else None) for first, second in sides]


def stica_step_loss(
    forward: nn.Module,
    videos: Sequence[Tensor],
    spectrograms: Tensor | None,
    boxes: Sequence[FeatureBoxes],
    process: Process,
    *,
    temperature: float = 0.5,
    audio_temperature: float = 0.1,
    alpha: float = 0.5,
    precision: str = "float32",
) -> StepLoss:
    """The loss of one step; all processes call it together.

    forward: a `stica_embeddings.StepEmbeddings`, or what `ssvideo_torch.parallel` makes of it.
    videos, spectrograms, boxes: as it takes them; spectrograms are not looked at when alpha is 0.
    temperature, audio_temperature, alpha: see `stica_loss`. precision: of the encodings, see
    `ssvideo_torch.precision`; losses are in float32 at least.
    """
    sound = spectrograms if alpha > 0 else None
    with autocast(process.device, precision):
        embeddings = forward(videos, sound, boxes)
    terms = plan_terms(boxes, sound=sound is not None)
    return stica_loss(
        embeddings,
        terms,
        gather_keys(embeddings, terms, process),
        temperature=temperature,
        audio_temperature=audio_temperature,
        alpha=alpha,
    )
