"""Where STiCA cuts a view's feature map in space and in time (arXiv 2103.10211).

A crop in space keeps all times of the map, a crop in time all places. Each comes large and small.
Windows are parts of the map, rounded down:

    space   large 6/7, small 4/7 of each side               6 and 4 of the published map's 7
    time    large 3/4, small 1/2, but at most 6 and 4       3 and 2 of 4; 6 and 4 of 8, 12 and 15

The loss needs `num_large` large crops (2 at most) and `num_small` small ones. What is drawn is a
step's and a process', the same for all clips of its batch.

Axes: T', H', W' of a feature map: frames / 8, pixels / 16, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError

from gdt_stica.choices import check_choice

RULES = ("released", "inclusive")
MOST_LARGE = 2

Rows = NDArray[np.int64]
MapSize = tuple[int, int, int]


def _no_rows(columns: int) -> Callable[[], Rows]:
    return lambda: np.zeros((0, columns), np.int64)


@dataclass(frozen=True, eq=False)
class FeatureBoxes:
    """The crops of one view.

    space_large, space_small: (n, 4) rows y0, y1, x0, x1. time_large, time_small: (n, 2) rows t0,
    t1. Places on the feature map, stops excluded; n may be 0.
    space_unused, time_unused: small boxes, as space_small and time_small, that the released code
    draws for its second large crop. It encodes them, but no loss uses them.
    """

    space_large: Rows
    space_small: Rows
    time_large: Rows
    time_small: Rows
    space_unused: Rows = field(default_factory=_no_rows(4))
    time_unused: Rows = field(default_factory=_no_rows(2))


@dataclass(frozen=True)
class _Axis:
    """The length of an axis of the map, and of the windows on it."""

    size: int
    large: int
    small: int


def _space_axes(map_size: MapSize) -> list[_Axis]:
    return [_Axis(size, 6 * size // 7, 4 * size // 7) for size in map_size[1:]]


def _time_axes(map_size: MapSize) -> list[_Axis]:
    size = map_size[0]
    return [_Axis(size, min(3 * size // 4, 6), min(size // 2, 4))]


def num_terms(num_large: int, num_small: int) -> int:
    """Pair losses of the crops in space, or of those in time: one for the second large crop with
    its like, and one for each large crop with each small one."""
    return int(num_large == MOST_LARGE) + num_large * num_small


def check_crops(
    *,
    num_large: int,
    num_small: int,
    num_large_t: int,
    num_small_t: int,
    map_size: MapSize,
    alpha: float,
) -> None:
    """Raise ConfigError for crops that cannot be cut from a map or that make no loss.

    num_large, num_small: in space; with _t: in time. map_size: (T', H', W'). alpha: the share of
    the audio-visual loss; only at 1 there may be no pair of crops (the original's loss is NaN).
    """
    numbers = {
        "--num_large_crops": num_large,
        "--num_small_crops": num_small,
        "--num_large_tcrops": num_large_t,
        "--num_small_tcrops": num_small_t,
    }
    for flag, number in numbers.items():
        if number < 0:
            raise ConfigError(f"{flag} {number}: expected at least 0")
        if "large" in flag and number > MOST_LARGE:
            raise ConfigError(f"{flag} {number}: expected at most {MOST_LARGE}")
    space, time = num_terms(num_large, num_small), num_terms(num_large_t, num_small_t)
    if space + time == 0 and alpha < 1:
        given = " ".join(f"{flag} {number}" for flag, number in numbers.items())
        raise ConfigError(
            f"{given}: no two crops to compare, so there is no loss of crops. In space or in time, "
            "ask for 2 large crops, or for 1 and at least 1 small; or for --cross_modal_alpha 1, "
            "the audio-visual loss alone"
        )
    _check_windows("space", space, _space_axes(map_size), map_size, "pixels (16 a row)")
    _check_windows("time", time, _time_axes(map_size), map_size, "frames (8 a step)")


def _check_windows(
    what: str, terms: int, axes: Sequence[_Axis], map_size: MapSize, more: str
) -> None:
    if terms and any(axis.small < 1 for axis in axes):
        raise ConfigError(
            f"crops in {what}: the feature map is {' x '.join(map(str, map_size))} (time, height, "
            f"width), too small to be cut in {what}, where it needs at least 2; take clips of more "
            f"{more}, or no crops in {what}"
        )


def draw_boxes(
    rng: np.random.Generator,
    *,
    num_large: int,
    num_small: int,
    num_large_t: int,
    num_small_t: int,
    map_size: MapSize,
    rule: str = "released",
) -> FeatureBoxes:
    """The crops of one view, drawn evenly; numbers and sizes as `check_crops` accepts them.

    In the released code's order: space before time; for each large crop its box, then `num_small`
    small boxes; the row of a box before its column. Only the first `num_small` small boxes are
    used. Crops in space, or in time, that make no pair loss are not drawn.

    rule: "released" never takes the last place of a window, so large crops in space are always the
    same; "inclusive" does. Raises ConfigError for other rules.
    """
    check_choice(f"feature crops '{rule}'", rule, RULES)
    space = _draw_group(rng, _space_axes(map_size), num_large, num_small, rule)
    time = _draw_group(rng, _time_axes(map_size), num_large_t, num_small_t, rule)
    return FeatureBoxes(
        space_large=space[0],
        space_small=space[1][:num_small],
        time_large=time[0],
        time_small=time[1][:num_small_t],
        space_unused=space[1][num_small:],
        time_unused=time[1][num_small_t:],
    )


def _draw_group(
    rng: np.random.Generator, axes: Sequence[_Axis], num_large: int, num_small: int, rule: str
) -> tuple[Rows, Rows]:
    def draw(windows: Sequence[int]) -> list[int]:
        row = []
        for axis, window in zip(axes, windows, strict=True):
            start = int(rng.integers(_num_places(axis.size, window, rule)))
            row += [start, start + window]
        return row

    large, small = [], []
    if num_terms(num_large, num_small):
        for _ in range(num_large):
            large.append(draw([axis.large for axis in axes]))
            small += [draw([axis.small for axis in axes]) for _ in range(num_small)]
    return _rows(large, axes), _rows(small, axes)


def _num_places(size: int, window: int, rule: str) -> int:
    return size - window + (rule == "inclusive")


def _rows(rows: Sequence[Sequence[int]], axes: Sequence[_Axis]) -> Rows:
    return np.array(rows, np.int64).reshape(-1, 2 * len(axes))


def support(map_size: MapSize, *, rule: str = "released") -> FeatureBoxes:
    """Every box that `draw_boxes` can draw on a map of (T', H', W'), each once."""
    check_choice(f"feature crops '{rule}'", rule, RULES)

    def every(axes: Sequence[_Axis], windows: Sequence[int]) -> Rows:
        def spans() -> Iterator[list[tuple[int, int]]]:
            for axis, window in zip(axes, windows, strict=True):
                starts = range(_num_places(axis.size, window, rule))
                yield [(start, start + window) for start in starts]

        return _rows([sum(row, ()) for row in product(*spans())], axes)

    space, time = _space_axes(map_size), _time_axes(map_size)
    return FeatureBoxes(
        space_large=every(space, [axis.large for axis in space]),
        space_small=every(space, [axis.small for axis in space]),
        time_large=every(time, [axis.large for axis in time]),
        time_small=every(time, [axis.small for axis in time]),
    )
