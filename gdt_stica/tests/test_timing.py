from __future__ import annotations

import numpy as np
import pytest
import torch
from gdt_stica.timing import clip_length, clip_start, decode_indices, sound_slice


def plain_indices(start, length, num_frames, source, duration, pts, rounding) -> list[int]:
    """The two passes, frame by frame; rounding: added to each place before it is cut off."""
    kept = list(range(source))
    if duration is not None:
        tick = duration / source
        start_pts, end_pts = int(start * tick), int((start + length - 1) * tick)
        kept = []
        for number, time in enumerate(pts):
            if time >= start_pts:
                kept.append(number)
                if time > end_pts:
                    break
        start = 0
    places = torch.linspace(start, start + length - 1, num_frames).double() + rounding
    places = places.clamp(0, len(kept) - 1)
    return [kept[int(place)] for place in places]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("fps", [8.0, 15.0, 24000 / 1001, 25.0, 30.0, 50.0, 60.0])
def test_indices_equal_the_two_passes(fps: float, timed: bool) -> None:
    rng = np.random.default_rng(int(fps))
    for _ in range(200):
        source = int(rng.integers(1, 400))
        pts = np.cumsum(rng.integers(1, 3, size=source)) * 512
        pts -= pts[0]
        duration = int(pts[-1]) + 512 if timed else None
        num_frames = int(rng.integers(2, 65))
        length = clip_length(fps, num_frames=num_frames, target_fps=30, sample_rate=2)
        start = rng.uniform(0, max(source - length, 0))
        got = decode_indices(
            start,
            length=length,
            num_frames=num_frames,
            num_source_frames=source,
            duration=duration,
            pts=pts if timed else None,
        )
        assert got.dtype == np.int64
        # PyTorch rounds places that are whole numbers up or down, as wide as its vectors are.
        low, high = (
            plain_indices(start, length, num_frames, source, duration, pts, rounding)
            for rounding in (-1e-4, 1e-4)
        )
        assert ((low <= got) & (got <= high)).all()


def test_a_container_that_claims_too_many_frames_ends_on_the_last_one() -> None:
    got = decode_indices(
        250.0,
        length=30.0,
        num_frames=4,
        num_source_frames=300,
        duration=300,
        pts=np.arange(100),
    )
    assert got.tolist() == [99] * 4


def test_one_frame_is_the_first_of_the_clip() -> None:
    options = {"length": 10.0, "num_frames": 1, "num_source_frames": 100, "duration": 1000}
    assert decode_indices(7.0, pts=np.arange(100) * 10, **options).tolist() == [7]


def test_starts_are_shares_of_the_free_time() -> None:
    starts = [clip_start(i, 1000, length=30.0, num_source_frames=300) for i in (0, 1, 500, 1000)]
    assert starts == [0, 0, 135, 270]
    assert clip_start(700, 1000, length=30.0, num_source_frames=20) == 0


def read(stored: int, start_s: float, when_short="zeros") -> list[int]:
    """The samples 0, 1, 2, … that a clip of 10 at 10 Hz takes of `stored`."""
    part = sound_slice(
        start_s, num_samples=10, stored_samples=stored, rate_hz=10, when_short=when_short
    )
    return np.arange(stored)[part].tolist()


@pytest.mark.parametrize("when_short", ["zeros", "released"])
@pytest.mark.parametrize(("start_s", "first"), [(0.0, 0), (0.26, 3), (1.9, 15), (9.0, 15)])
def test_sound_stays_within_what_is_stored(start_s, first, when_short) -> None:
    assert read(25, start_s, when_short) == list(range(first, first + 10))


@pytest.mark.parametrize(("stored", "released"), [(4, range(4)), (5, range(5)), (7, range(4, 7))])
def test_short_sound(stored: int, released: range) -> None:
    assert read(stored, 0.3) == list(range(stored))
    assert read(stored, 0.3, "released") == list(released)


def test_sound_before_the_beginning() -> None:
    assert read(25, -0.3) == list(range(10))
    assert read(25, -0.3, "released") == []
