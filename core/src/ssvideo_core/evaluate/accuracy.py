"""Accuracy of scores, and scores averaged over the clips of a video.

N examples, C classes. Accuracies are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ProtocolError


def label_ranks(
    scores: NDArray[Any], labels: NDArray[Any], *, ties: Literal["lower", "higher"] = "lower"
) -> NDArray[np.int64]:
    """How many classes are placed before the right one, for each example.

    scores: [N, C], larger is better; labels: [N] whole numbers in [0, C). Returns [N] int64; an
    example counts for top-k where this is below k.
    ties: which of two classes with equal scores comes first; "lower" index agrees with `argmax`,
    "higher" with taking the last entries of an ascending sort (BraVe).
    Raises ProtocolError for NaN, other shapes, or labels that are no class.
    """
    labels = np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ProtocolError(
            f"scores {scores.shape} and labels {labels.shape} are not [N, C] and [N]"
        )
    if np.isnan(scores).any():
        rows = np.flatnonzero(np.isnan(scores).any(axis=1))
        raise ProtocolError(
            f"{len(rows)} of {len(scores)} rows of scores hold NaN, first: row {rows[0]}"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ProtocolError(
            f"labels run from {labels.min()} to {labels.max()}, but there are {scores.shape[1]} "
            "columns of scores, numbered from 0"
        )
    right = np.take_along_axis(scores, labels[:, None], axis=1)
    position = np.arange(scores.shape[1])
    earlier = position < labels[:, None] if ties == "lower" else position > labels[:, None]
    return ((scores > right) | ((scores == right) & earlier)).sum(axis=1)  # type: ignore[no-any-return]


def top_k_accuracy(
    scores: NDArray[Any],
    labels: NDArray[Any],
    ks: Sequence[int] = (1, 5),
    *,
    ties: Literal["lower", "higher"] = "lower",
) -> dict[int, float]:
    """Share of examples whose right class is among the k best, for every k.

    Arguments and errors as in `label_ranks`. With no more than k classes it is 1.
    """
    ranks = label_ranks(scores, labels, ties=ties)
    return {k: float((ranks < k).mean()) for k in ks}


def group_average(
    scores: NDArray[Any], labels: NDArray[Any], group: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean scores of every `group` consecutive rows, such as the clips of one video.

    scores: [N, ...] floating; labels: [N]. Returns scores [N / group, ...], summed in float64 and
    given back in the dtype they came in, and labels [N / group]. Raises ProtocolError when N is no
    multiple of `group` or the labels of a group differ: the rows are then not in video order.
    """
    labels = np.asarray(labels)
    if group < 1 or len(scores) % group or labels.shape != (len(scores),):
        raise ProtocolError(
            f"{len(scores)} rows of scores with labels {labels.shape} cannot be averaged in groups "
            f"of {group}"
        )
    by_group = labels.reshape(-1, group)
    mixed = np.flatnonzero((by_group != by_group[:, :1]).any(axis=1))
    if len(mixed):
        raise ProtocolError(
            f"{len(mixed)} groups of {group} rows hold more than one label, first: "
            f"group {mixed[0]} with {by_group[mixed[0]].tolist()}; the rows must be in video order"
        )
    means = scores.reshape(-1, group, *scores.shape[1:]).mean(axis=1, dtype=np.float64)
    return means.astype(scores.dtype), by_group[:, 0]
