from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from brave.sampling import Box, window_span
from brave.view_sampling import (
    KERNEL_SIZES,
    RecordView,
    ViewSampler,
    cut_sound,
    draw_kernel,
    padded_kernel,
    picture_params,
    resize_plan,
    sound_length,
)
from brave.views import ViewSpec
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.views import VideoInfo

RATE_HZ, SOUND_RATE_HZ = 25.0, 1000
NARROW = ViewSpec("narrow", "rgb", 4, 2, 16, "tsm_resnet")
VIDEO = ViewSpec("video", "rgb", 6, 3, 8, "tsm_resnet")
SOUND = ViewSpec("audio", "sound", 5, 4, 8, "audio_resnet")
FLOW = ViewSpec("flow", "flow", 3, 5, 12, "tsm_resnet")


def facts(num_frames: int, samples: int | None = None) -> VideoInfo:
    samples = num_frames * 40 if samples is None else samples
    return VideoInfo(
        video_id="a",
        num_frames=num_frames,
        header_frames=None,
        rate=Fraction(25),
        time_base=Fraction(1, 25),
        duration=None,
        pts=None,
        height=60,
        width=80,
        sound_rate_hz=SOUND_RATE_HZ,
        sound_start_s=0.0,
        sound_duration_s=samples / SOUND_RATE_HZ,
    )


def sampler(*broad: ViewSpec, **options: object) -> ViewSampler:
    return ViewSampler(narrow=NARROW, broad=broad, audio_rate_hz=SOUND_RATE_HZ, **options)


def drawn(sample: ViewSampler, info: VideoInfo, seed: int = 0) -> list[RecordView]:
    return sample(info, np.random.default_rng(seed))


def test_views_of_a_long_video_begin_together() -> None:
    starts = set()
    for seed in range(200):
        narrow, video, sound, flow = drawn(sampler(VIDEO, SOUND, FLOW), facts(20), seed)
        start = int(narrow.frames[0])
        starts.add(start)
        np.testing.assert_array_equal(narrow.frames, start + 2 * np.arange(4))
        np.testing.assert_array_equal(video.frames, (start + 3 * np.arange(6)) % 20)
        np.testing.assert_array_equal(flow.frames, (start + 5 * np.arange(3)) % 20)
        assert round(sound.sound.start_s * SOUND_RATE_HZ) == start * 40
        assert sound.sound.num_samples == 5 * 4 * 40 and sound.sound.rate_hz == SOUND_RATE_HZ
        assert sound.sound_repeats == (1 if start == 0 else 2)
        assert (narrow.size, video.size, flow.size) == ((16, 16), (8, 8), (12, 12))
        assert flow.flow and not video.flow
    assert starts == set(range(20 - 6))


def test_a_short_video_is_looped_from_its_first_frame() -> None:
    narrow, video, sound = drawn(sampler(VIDEO, SOUND), facts(3))
    np.testing.assert_array_equal(narrow.frames, [0, 2, 1, 0])
    np.testing.assert_array_equal(video.frames, [0] * 6)
    assert sound.sound.start_s == 0 and sound.sound_repeats == 7


def test_a_narrow_view_placed_at_random_lies_within_the_longest_broad_one() -> None:
    sample = sampler(FLOW, VIDEO, narrow_placement="random")
    longest = window_span(VIDEO.num_frames, VIDEO.step)
    shifts = set()
    for seed in range(300):
        narrow, flow, video = drawn(sample, facts(1000), seed)
        assert flow.frames[0] == video.frames[0]
        shifts.add(int(narrow.frames[0] - video.frames[0]))
    assert shifts == set(range(longest - window_span(NARROW.num_frames, NARROW.step) + 1))


def test_a_broad_view_shorter_than_the_narrow_one_begins_with_it() -> None:
    short = ViewSpec("video", "rgb", 1, 1, 8, "tsm_resnet")
    for seed in range(5):
        narrow, video = drawn(sampler(short, narrow_placement="random"), facts(30), seed)
        assert narrow.frames[0] == video.frames[0]


def test_sound_is_as_long_as_one_step_more_than_the_window() -> None:
    assert sound_length(ViewSpec("a", "sound", 64, 4, 1, "audio_resnet"), 25.0, 48_000) == 491_520
    assert sound_length(ViewSpec("a", "sound", 3, 1, 1, "audio_resnet"), 30.0, 16_001) == 1600


@pytest.mark.parametrize(
    ("first", "repeats", "expected"),
    [(1, 1, [2, 3, 4, 5, 0, 0]), (3, 2, [4, 5, 1, 2, 3, 4]), (9, 2, [5, 0, 0, 0, 0, 0])],
)
def test_sound_is_looped_then_silent(first: int, repeats: int, expected: list[int]) -> None:
    wave = np.arange(1, 6, dtype=np.float32)
    cut, missing = cut_sound(wave, first=first, num_samples=6, repeats=repeats)
    np.testing.assert_array_equal(cut, expected)
    assert cut.dtype == np.float32 and missing == expected.count(0)


def test_views_have_places_and_draws_of_their_own() -> None:
    narrow, video = drawn(sampler(VIDEO), facts(50))
    assert set(video.params) - set(narrow.params) == {"kernel", "kernel_size"}
    for name in ("blur_sigma", "brightness", "hue", "saturation", "contrast"):
        assert narrow.params[name].dtype == np.float32
        assert narrow.params[name] != video.params[name]
    assert (narrow.rows[0], narrow.columns[0]) != (video.rows[0], video.columns[0])
    again = drawn(sampler(VIDEO), facts(50))[1]
    for name, value in video.params.items():
        np.testing.assert_array_equal(again.params[name], value)


def test_draws_keep_to_their_ranges() -> None:
    rng = np.random.default_rng(0)
    box = Box(0, 0, 40, 30)
    looks = [picture_params(VIDEO, box, rng) for _ in range(1000)]
    sigmas = np.array([look["blur_sigma"] for look in looks])
    assert 0.1 <= sigmas.min() < 0.12 and 1.98 < sigmas.max() <= 2.0
    sizes, counts = np.unique([look["kernel_size"] for look in looks], return_counts=True)
    assert sizes.tolist() == list(KERNEL_SIZES)
    np.testing.assert_allclose(counts, 1000 / 6, atol=4 * np.sqrt(1000 * 5 / 36))
    flow = picture_params(FLOW, box, rng)
    np.testing.assert_allclose(flow["flow_scale"], [12 / 30, 12 / 40])


@pytest.mark.parametrize("size", [1, 5, 11])
def test_kernels_are_truncated_normal(size: int) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([draw_kernel(size, rng).ravel() for _ in range(20_000 // size**2)])
    std = np.sqrt(2 / (3 * size**2))
    np.testing.assert_allclose(values.std(), std, rtol=0.01)
    np.testing.assert_allclose(values.mean(), 0, atol=0.01 * std)
    limit = 2 / 0.87962566 * std
    assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)


def test_a_padded_kernel_has_its_values_in_the_middle() -> None:
    kernel = draw_kernel(3, np.random.default_rng(0))
    padded = padded_kernel(kernel)
    assert padded.shape == (11, 11, 3, 3)
    np.testing.assert_array_equal(padded[4:7, 4:7], kernel)
    assert np.count_nonzero(padded) == kernel.size


def whole(values: NDArray[np.int64]) -> bool:
    return bool((np.diff(values) == 1).all())


def test_only_the_pixels_that_the_resize_reads_are_kept() -> None:
    rows, columns, grid = resize_plan(Box(7, 2, 100, 12), 8)
    assert len(rows) == 16 and rows.min() >= 7 and rows.max() < 107
    assert whole(columns) and columns[0] == 2 and len(columns) == 12
    for name, pixels in (("top", rows), ("bottom", rows), ("left", columns), ("right", columns)):
        assert grid[name].shape == (8,) and grid[name].max() < len(pixels)
    # 100 / 8 rows apart, half a pixel before the middle
    np.testing.assert_array_equal(rows[grid["top"]] - 7, np.floor(12.5 * np.arange(8) + 5.75))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"narrow_placement": "end"}, "narrow_placement is 'end', expected start or random"),
        ({"audio_rate_hz": 0}, "the rates are 0 samples and 25.0 frames"),
        ({"video_rate_hz": float("nan")}, "nan frames a second, expected more than 0"),
        ({"broad": ()}, "the broad views are none"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ViewSampler(**{"narrow": NARROW, "broad": (VIDEO,)} | options)


def test_a_tiny_picture_is_refused() -> None:
    info = VideoInfo(**{**vars(facts(20)), "height": 2, "width": 2})
    with pytest.raises(DataError, match="2x2 pixels"):
        for seed in range(50):
            drawn(sampler(VIDEO), info, seed)
