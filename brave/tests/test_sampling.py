from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from brave.sampling import (
    Box,
    central_box,
    corner_boxes,
    distorted_box,
    draw_augmentation,
    extended_length,
    frame_numbers,
    linspace_windows,
    random_window,
    synced_span,
    training_box,
    window_span,
)
from ssvideo_core.errors import DataError


def test_a_short_video_begins_again() -> None:
    length = extended_length(5, window_span(4, 3))
    assert length == 10
    (window,) = linspace_windows(length, count=1, num_frames=4, step=3)
    assert frame_numbers(window, 5).tolist() == [0, 3, 1, 4]


@pytest.mark.parametrize(
    ("stored", "needed", "length"),
    [(5, 5, 5), (5, 6, 10), (1, 63, 63), (62, 63, 124), (70, 63, 70)],
)
def test_extension_is_by_whole_repetitions(stored: int, needed: int, length: int) -> None:
    assert extended_length(stored, needed) == length


def test_windows_are_truncated_in_float32() -> None:
    windows = linspace_windows(250, count=10, num_frames=32, step=2)
    assert [w.start for w in windows] == [0, 20, 41, 62, 83, 103, 124, 145, 166, 187]
    assert {w.stop - w.start for w in windows} == {63}


def test_every_start_is_equally_likely() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(random_window(11, num_frames=4, step=2, rng=rng).start for _ in range(5000))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(count - 1000) < 5 * np.sqrt(800) for count in counts.values())


def test_a_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="window of 7 does not fit into 6; expected 7 or more"):
        random_window(6, num_frames=4, step=2, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="window of 224 does not fit into 200"):
        corner_boxes(256, 200, crop=224, count=3)


def test_sound_goes_with_frames() -> None:
    assert synced_span(1, 3, 5, 10) == (2, 6)
    assert synced_span(0, 9, 5, 10) == (0, 10)


def test_squares_move_along_both_axes() -> None:
    assert corner_boxes(256, 341, crop=224, count=3) == [
        Box(0, 0, 224, 224),
        Box(16, 58, 224, 224),
        Box(32, 117, 224, 224),
    ]


def test_central_box_with_nothing_left() -> None:
    assert central_box(33, 33, 16) == Box(16, 16, 1, 1)
    with pytest.raises(DataError, match=r"100x32 pixels .* above 32"):
        central_box(32, 100, 16)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (33, 90), (256, 256), (400, 40)])
def test_boxes_lie_inside_and_keep_their_limits(height: int, width: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        box = distorted_box(height, width, rng)
        assert 0 <= box.y <= height - box.height
        assert 0 <= box.x <= width - box.width
        if (box.height, box.width) != (height, width):
            assert box.height * box.width >= 0.3 * height * width
            assert 0.5 - 1 / box.height <= box.width / box.height <= 2 + 1 / box.height
            assert box.y < max(1, height - box.height)  # the last place is never drawn
            assert box.x < max(1, width - box.width)


def test_an_impossible_shape_falls_back_to_the_centre() -> None:
    rng = np.random.default_rng(0)
    # No part with an aspect of 2 or less holds 30 % of so long a picture.
    assert distorted_box(40, 1000, rng) == Box(0, 0, 40, 1000)
    assert training_box(40, 1000, rng) == Box(16, 496, 8, 8)


def test_augmentations_have_their_probabilities_and_ranges() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_augmentation(rng) for _ in range(4000)]
    for name, share in (("flip", 0.5), ("colour", 0.8), ("grey", 0.2)):
        found = np.mean([getattr(draw, name) for draw in draws])
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / 4000)
    for name, low, high in (
        ("brightness", -32 / 255, 32 / 255),
        ("saturation", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("hue", -0.2, 0.2),
    ):
        values = np.array([getattr(draw, name) for draw in draws])
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 4000)
