"""Intervals for a mean over videos, when videos of one group are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ProtocolError

Array = NDArray[np.float64]
Groups = Sequence[Any] | NDArray[Any] | None

DRAWS = 10_000
MAX_WEIGHTS = 2_000_000  # drawn at a time: 16 MB


def bootstrap_interval(
    correct: NDArray[Any] | Sequence[bool],
    groups: Groups = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of an accuracy or recall: of the mean of `correct` over videos.

    correct: [n], true and false or values in [0, 1]; groups: [n], videos of one group are kept
    together (None: each video is its own). Returns (low, high), fractions in [0, 1] around the
    mean. Raises ProtocolError for fewer than two groups, values outside [0, 1] or unequal lengths.

    The draws are a Bayesian bootstrap (Rubin, Annals of Statistics 1981) of whole groups: every
    draw gives each group a random weight from a standard exponential distribution, where a resample
    with replacement would give it a random whole number. Two more groups, one all right and one all
    wrong, take part with half the weight of a group (Jeffreys' prior); their size is what a group
    is worth, from one video to all of its videos. With groups of several videos the draws are
    stretched as Student's t is against the normal, which matters for few groups. The interval holds
    the middle `level` of the draws.

    Why not the percentiles of a resample: for yes-or-no answers these lie on a lattice, miss the
    level by up to two points, are too narrow for few groups, and shrink to a point when every
    answer is right. Without groups this one is Jeffreys' interval for a proportion, whose coverage
    stays within about a point of the level. tests/test_intervals.py measures the coverage.
    """
    values = np.asarray(correct, np.float64)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):  # NaN is refused as well
        raise ProtocolError(f"values from {values.min():g} to {values.max():g} are not in [0, 1]")
    return _interval(values, groups, 0.0, 1.0, level, draws, seed)


@dataclass(frozen=True)
class Difference:
    """How much better the first of two is: value and its interval, in [-1, 1]."""

    value: float
    interval: tuple[float, float]


def paired_difference(
    first: NDArray[Any] | Sequence[bool],
    second: NDArray[Any] | Sequence[bool],
    groups: Groups = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Mean of first - second on the same videos in the same order, with its interval.

    Both: [n] as in `bootstrap_interval`, which explains the other arguments and the errors. Much
    narrower than the difference of two intervals, because videos that both find easy cancel.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise ProtocolError(f"answers {a.shape} and {b.shape} are not about the same videos")
    interval = _interval(a - b, groups, -1.0, 1.0, level, draws, seed)
    return Difference(float((a - b).mean()), interval)


def _interval(
    values: Array,
    groups: Groups,
    lowest: float,
    highest: float,
    level: float,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    sums, sizes, counts = _cells(values, groups)
    size = _design_effect(values, sums, sizes, counts)
    sums = np.append(sums, [lowest * size, highest * size])
    sizes = np.append(sizes, [size, size])
    shapes = np.append(counts, [0.5, 0.5])
    rng = np.random.Generator(np.random.PCG64(seed))
    at_once = max(1, MAX_WEIGHTS // len(shapes))
    means = []
    for start in range(0, draws, at_once):
        weights = rng.standard_gamma(shapes, size=(min(at_once, draws - start), len(shapes)))
        means.append((weights @ sums) / (weights @ sizes))
    drawn, mean, num_groups = np.concatenate(means), float(values.mean()), counts.sum()
    if num_groups < len(values):
        # How much groups differ is itself estimated from these few: Student's t, not the normal.
        stretch = np.sqrt((num_groups + 1) / rng.chisquare(num_groups - 1, draws))
        drawn = np.clip(mean + (drawn - mean) * stretch, lowest, highest)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return min(float(low), mean), max(float(high), mean)


def _design_effect(values: Array, sums: Array, sizes: Array, counts: Array) -> float:
    """How many videos of a group are worth one: 1 (independent) to a group's size (all alike).

    The variance of the mean when groups are kept together, over that when they are not. Where all
    values are equal there is none, and the average size is taken, to be safe.
    """
    mean = values.mean()
    between = counts @ (sums - mean * sizes) ** 2
    within = ((values - mean) ** 2).sum()
    return float(max(1.0, between / within) if within > 0 else sizes @ counts / counts.sum())


def _cells(values: Array, groups: Groups) -> tuple[Array, Array, Array]:
    """Groups with the same sum and size are interchangeable: (sums, sizes, how many groups).

    The sum of n exponential weights is a gamma weight of shape n, so a cell needs one draw. Without
    this a thousand yes-or-no answers would need a thousand draws instead of two.
    """
    if values.ndim != 1 or (groups is not None and len(groups) != len(values)):
        raise ProtocolError(
            f"{values.shape} values and {'no' if groups is None else len(groups)} groups do not "
            "belong together; expected [n] and [n]"
        )
    groups = range(len(values)) if groups is None else groups
    number: dict[Any, int] = {}
    index = np.array([number.setdefault(g, len(number)) for g in groups], np.int64)
    if len(number) < 2:
        raise ProtocolError(f"an interval needs at least 2 independent groups, found {len(number)}")
    table: Array = np.stack([np.bincount(index, values), np.bincount(index)], axis=1)
    cells, counts = np.unique(table, axis=0, return_counts=True)
    return cells[:, 0], cells[:, 1], counts.astype(np.float64)
