from __future__ import annotations

import importlib.util
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.feature_crops import FeatureBoxes, check_crops, draw_boxes, num_terms, support
from ssvideo_core.errors import ConfigError

_spec = importlib.util.spec_from_file_location(
    "plain_stica", Path(__file__).with_name("plain_stica.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

ALL = {"num_large": 2, "num_small": 4, "num_large_t": 2, "num_small_t": 3}
USED = ("space_large", "space_small", "time_large", "time_small")


def named(boxes: FeatureBoxes) -> dict[str, list[list[int]]]:
    return {field.name: getattr(boxes, field.name).tolist() for field in fields(boxes)}


@pytest.mark.parametrize("duration", [4, 8, 12, 15])
@pytest.mark.parametrize(
    "numbers",
    [ALL, dict.fromkeys(ALL, 1), {**ALL, "num_small": 0}, {**ALL, "num_large_t": 0}],
)
def test_published_maps_are_cut_in_the_released_order(
    numbers: dict[str, int], duration: int
) -> None:
    found = named(draw_boxes(np.random.default_rng(3), **numbers, map_size=(duration, 7, 7)))
    rng = np.random.default_rng(3)
    wanted = plain.released_boxes(lambda n: int(rng.integers(n)), **numbers, duration=duration)
    for place, number in (("space", numbers["num_small"]), ("time", numbers["num_small_t"])):
        small = wanted.pop(f"{place}_small")
        wanted[f"{place}_small"], wanted[f"{place}_unused"] = small[:number], small[number:]
    assert found == wanted


@pytest.mark.parametrize("rule", ["released", "inclusive"])
@pytest.mark.parametrize("map_size", [(4, 7, 7), (8, 7, 7), (2, 4, 4), (3, 2, 5)])
def test_draws_are_even_over_the_support(map_size: tuple[int, int, int], rule: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_boxes(rng, **ALL, map_size=map_size, rule=rule) for _ in range(500)]
    every = support(map_size, rule=rule)
    for name in USED:
        rows, counts = np.unique(
            np.concatenate([getattr(boxes, name) for boxes in drawn]), axis=0, return_counts=True
        )
        wanted = getattr(every, name)
        np.testing.assert_array_equal(rows, np.unique(wanted, axis=0))
        assert len(rows) == len(wanted)
        mean = counts.sum() / len(rows)
        assert np.abs(counts - mean).max() <= 5 * np.sqrt(mean)


def sizes(rows: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(row) for row in (rows[:, 1::2] - rows[:, ::2]).tolist()}


@pytest.mark.parametrize(
    ("map_size", "windows"),
    [
        ((4, 7, 7), [(6, 6), (4, 4), (3,), (2,)]),
        ((15, 7, 7), [(6, 6), (4, 4), (6,), (4,)]),
        ((4, 14, 7), [(12, 6), (8, 4), (3,), (2,)]),
        ((2, 4, 4), [(3, 3), (2, 2), (1,), (1,)]),
        ((2, 2, 2), [(1, 1), (1, 1), (1,), (1,)]),
    ],
)
def test_windows_are_parts_of_the_map(
    map_size: tuple[int, int, int], windows: list[tuple[int, ...]]
) -> None:
    for rule in ("released", "inclusive"):
        boxes = support(map_size, rule=rule)
        assert [sizes(getattr(boxes, name)) for name in USED] == [{w} for w in windows]


def test_only_inclusive_crops_reach_the_end_of_the_map() -> None:
    for rule, reached in (("released", False), ("inclusive", True)):
        boxes = support((8, 7, 9), rule=rule)
        for name in USED:
            end = 8 if name.startswith("time") else 7
            assert (getattr(boxes, name)[:, 1].max() == end) == reached
        assert (boxes.space_small[:, 3].max() == 9) == reached
    # The released large crop of the published map is constant.
    assert support((4, 7, 7)).space_large.tolist() == [[0, 6, 0, 6]]
    assert support((4, 7, 7)).time_large.tolist() == [[0, 3]]


def test_crops_without_a_pair_loss_are_not_drawn() -> None:
    rng = np.random.default_rng(0)
    numbers = {"num_large": 1, "num_small": 0, "num_large_t": 0, "num_small_t": 5}
    boxes = draw_boxes(rng, **numbers, map_size=(1, 1, 1))
    assert {name: rows.shape for name, rows in vars(boxes).items()} == {
        name: (0, 4 if name.startswith("space") else 2) for name in vars(boxes)
    }
    assert rng.integers(1 << 40) == np.random.default_rng(0).integers(1 << 40)


@pytest.mark.parametrize(
    ("num_large", "num_small", "wanted"), [(0, 3, 0), (1, 0, 0), (1, 3, 3), (2, 0, 1), (2, 4, 9)]
)
def test_numbers_of_terms(num_large: int, num_small: int, wanted: int) -> None:
    assert num_terms(num_large, num_small) == wanted


def check(
    large: int, small: int, large_t: int, small_t: int, *, alpha: float = 0.5, map_size=(4, 7, 7)
) -> None:
    check_crops(
        num_large=large,
        num_small=small,
        num_large_t=large_t,
        num_small_t=small_t,
        map_size=map_size,
        alpha=alpha,
    )


def test_crops_that_can_be_trained_with_are_accepted() -> None:
    check(2, 4, 2, 1)
    check(2, 0, 0, 0)
    check(0, 0, 1, 1, map_size=(2, 1, 1))
    check(2, 2, 0, 0, map_size=(1, 2, 2))
    check(1, 0, 0, 0, alpha=1.0)
    check(1, 0, 0, 2, alpha=1.0, map_size=(1, 1, 1))


@pytest.mark.parametrize("numbers", [(1, 0, 0, 0), (0, 0, 0, 0), (0, 4, 1, 0), (0, 2, 0, 2)])
def test_numbers_that_leave_no_term_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"--num_large_crops \d .* no two crops to compare"):
        check(*numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((3, 0, 0, 0), "--num_large_crops 3: expected at most 2"),
        ((2, 0, 4, 0), "--num_large_tcrops 4: expected at most 2"),
        ((2, -1, 0, 0), "--num_small_crops -1: expected at least 0"),
        ((2, 0, 0, -2), "--num_small_tcrops -2: expected at least 0"),
    ],
)
def test_impossible_numbers_are_named(numbers: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(*numbers)


def test_maps_that_are_too_small_are_named() -> None:
    with pytest.raises(ConfigError, match="crops in space: the feature map is 4 x 1 x 7"):
        check(2, 0, 0, 0, map_size=(4, 1, 7))
    with pytest.raises(ConfigError, match="crops in time: the feature map is 1 x 7 x 7"):
        check(2, 0, 1, 1, map_size=(1, 7, 7))


def test_unknown_rules_are_named() -> None:
    message = "feature crops 'all': expected one of released, inclusive"
    with pytest.raises(ConfigError, match=message):
        draw_boxes(np.random.default_rng(0), **ALL, map_size=(4, 7, 7), rule="all")
    with pytest.raises(ConfigError, match=message):
        support((4, 7, 7), rule="all")
