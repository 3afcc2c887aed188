from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssvideo_core.errors import ConfigError, NoSoundError
from ssvideo_core.video import probe
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread, Steps, VideoInfo, plan

SMALL = Pixels(112, 112, 112)
SPECS = {  # of the five methods
    "brave": ClipSpec("rgb", Steps(32, 2, 25), Pixels(256, 224, 224), "loop"),
    "brave sound": ClipSpec("sound", Samples(491520, 48000), None, "zeros"),
    "gdt": ClipSpec("rgb", Spread(30, 1.0), SMALL, "repeat_last"),
    "gdt sound": ClipSpec("sound", Samples(24000, 24000), None, "zeros"),
    "stica": ClipSpec("rgb", Spread(60, 2.0), SMALL, "repeat_last"),
    "stica sound": ClipSpec("sound", Samples(48000, 24000), None, "zeros"),
    "vicc": ClipSpec("rgb", Steps(32), Pixels(240, 224, 128, "bicubic"), "pad_first"),
    "vicc flow": ClipSpec("flow", Steps(32), Pixels(240, 224, 128, "bicubic"), "pad_first"),
    "sce 8": ClipSpec("rgb", Spread(8, 2.56), Pixels(256, 256, 256), "repeat_last"),
    "sce 16": ClipSpec("rgb", Spread(16, 2.56), Pixels(256, 256, 256), "repeat_last"),
}
CLIPS = [
    "k400_R6llTwEh07w.mp4",  # 30 fps, 10.1 s
    "k400_SOX5yA1l24A.mp4",  # 30000/1001
    "hmdb51_TrumanShow_wave_f_nm_np1_fr_med_26.avi",  # without times, 48 frames
    "ucf101_with_audio_mpeg4_mp3.avi",
    "flipping_a_pancake_opus.mkv",  # milliseconds
    "odd_321x241_vp9.mp4",  # 25 frames: short for most
    "rotated90_nasa.mp4",  # 17 frames, upright
]


def video(
    num_frames: int = 100,
    rate: Fraction = Fraction(30),
    *,
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1),
    size: tuple[int, int] = (240, 320),
    sound: tuple[float, float] | None = None,
) -> VideoInfo:
    return VideoInfo(
        video_id="a.mp4",
        num_frames=num_frames if pts is None else len(pts),
        header_frames=None,
        rate=rate,
        time_base=time_base,
        duration=None,
        pts=None if pts is None else np.array(pts),
        height=size[0],
        width=size[1],
        sound_rate_hz=None if sound is None else 44100,
        sound_start_s=0.0 if sound is None else sound[0],
        sound_duration_s=0.0 if sound is None else sound[1],
    )


def rgb(time: Steps | Spread, when_short: str = "repeat_last") -> ClipSpec:
    return ClipSpec("rgb", time, None, when_short)


def frames(info: VideoInfo, clip: ClipSpec, temporal: int = 1) -> list[list[int]]:
    return [view.frames.tolist() for view in plan(info, clip, temporal=temporal, spatial=1)]


# A plain version: every time is compared with every frame.


def plain_times(info: VideoInfo) -> list[Fraction]:
    if info.pts is None:
        return [k / info.rate for k in range(info.num_frames)]
    return [int(t - info.pts[0]) * info.time_base for t in info.pts]


def plain_frames(info: VideoInfo, clip: ClipSpec, share: Fraction) -> list[int]:
    time, starts = clip.time, plain_times(info)
    lasts = starts[-1] + 1 / info.rate
    if isinstance(time, Spread):
        length = Fraction(str(time.span_s))
        step = max(length - 1 / info.rate, Fraction(0)) / (time.num_frames - 1)
    elif time.rate_hz is not None:
        step = Fraction(time.stride) / Fraction(str(time.rate_hz))
        length = ((time.num_frames - 1) * time.stride + 1) / Fraction(str(time.rate_hz))
    else:  # frames are their own clock
        starts, lasts = [Fraction(k) for k in range(info.num_frames)], Fraction(info.num_frames)
        step, length = Fraction(time.stride), Fraction((time.num_frames - 1) * time.stride + 1)
    chosen = []
    for j in range(time.num_frames):
        wanted = j * step
        if length <= lasts:
            wanted += share * (lasts - length)
        elif clip.when_short == "loop":
            while wanted >= lasts:
                wanted -= lasts
        elif clip.when_short == "pad_first":
            wanted -= length - lasts
        begun = [k for k, start in enumerate(starts) if start <= wanted]
        chosen.append(begun[-1] if begun else 0)
    return chosen


def plain_shares(temporal: int) -> list[Fraction]:
    return (
        [Fraction(1, 2)] if temporal == 1 else [Fraction(i, temporal - 1) for i in range(temporal)]
    )


@pytest.mark.parametrize("temporal", [1, 2, 10])
@pytest.mark.parametrize("spec", [name for name in SPECS if "sound" not in name])
@pytest.mark.parametrize("name", CLIPS)
def test_frames_of_real_clips(clips: Path, name: str, spec: str, temporal: int) -> None:
    info, clip = probe(clips / name), SPECS[spec]
    views = plan(info, clip, temporal=temporal, spatial=3)
    assert len(views) == 3 * temporal
    for number, share in enumerate(plain_shares(temporal)):
        for view in views[3 * number : 3 * number + 3]:
            assert view.frames.dtype == np.int64
            assert view.frames.tolist() == plain_frames(info, clip, share)
            assert view.size == (clip.pixels.size, clip.pixels.size)
            assert (view.resample, view.sound) == (clip.pixels.resample, None)


@settings(max_examples=150, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 40), min_size=0, max_size=40),
    first=st.integers(-50, 50),
    timed=st.booleans(),
    rate=st.sampled_from([Fraction(30), Fraction(30000, 1001), Fraction(25), Fraction(7, 3)]),
    time=st.one_of(
        st.builds(Steps, st.integers(1, 9), st.integers(1, 4)),
        st.builds(Steps, st.integers(1, 9), st.integers(1, 4), st.sampled_from([25, 12.5, 29.97])),
        st.builds(Spread, st.integers(2, 9), st.sampled_from([0.5, 1.0, 2.56, 1 / 3])),
    ),
    when_short=st.sampled_from(["loop", "repeat_last", "pad_first"]),
    temporal=st.integers(1, 4),
)
def test_frames_of_any_video(gaps, first, timed, rate, time, when_short, temporal) -> None:
    pts = np.cumsum([first, *gaps]).tolist()
    info = video(len(pts), rate, pts=pts if timed else None, time_base=Fraction(1, 90))
    clip = rgb(time, when_short)
    assert frames(info, clip, temporal) == [
        plain_frames(info, clip, share) for share in plain_shares(temporal)
    ]


# By hand.


def test_steps_at_the_stored_rate() -> None:
    info = video(10)
    assert frames(info, rgb(Steps(4)), 4) == [
        [0, 1, 2, 3],  # 6 frames are free: starts 0, 2, 4, 6
        [2, 3, 4, 5],
        [4, 5, 6, 7],
        [6, 7, 8, 9],
    ]
    assert frames(info, rgb(Steps(4, 3))) == [[0, 3, 6, 9]]
    assert frames(info, rgb(Steps(3, 2))) == [[2, 4, 6]]  # half of 5 free frames, rounded down
    assert frames(info, rgb(Steps(1)), 3) == [[0], [4], [9]]


def test_steps_at_another_rate() -> None:
    # 32 frames a stride of 2 apart at 25 Hz: 2.52 s of 4 s are needed, 1.48 s are free.
    info = video(100, Fraction(25))
    assert frames(info, SPECS["brave"], 2) == [list(range(0, 63, 2)), list(range(37, 100, 2))]
    # At 30 fps the wanted times 0, 0.08, 0.16, … fall into the frames 0, 2.4, 4.8, …
    assert frames(video(100), SPECS["brave"], 2)[0][:6] == [0, 2, 4, 7, 9, 12]


def test_thirty_frames_of_a_second_are_each_frame_once() -> None:
    info = video(pts=list(range(0, 300 * 512, 512)), time_base=Fraction(1, 15360))
    first, middle, last = frames(info, SPECS["gdt"], 3)
    assert first == list(range(30))
    assert middle == list(range(135, 165))
    assert last == list(range(270, 300))


def test_spread_over_frames_of_another_rate() -> None:
    # 25 fps: 8 frames over 2.56 s = 64 frames, from 0 to 63 in steps of 9.
    info = video(64, Fraction(25))
    assert frames(info, SPECS["sce 8"]) == [[0, 9, 18, 27, 36, 45, 54, 63]]
    # A single frame is the first of the span, here in the middle.
    assert frames(video(90), rgb(Spread(1, 1.0))) == [[30]]
    # A span below one frame.
    assert frames(video(90), rgb(Spread(3, 0.01))) == [[44, 44, 44]]


def test_uneven_times_count() -> None:
    info = video(pts=[1000, 1033, 1133, 1166, 1266], rate=Fraction(15), time_base=Fraction(1, 1000))
    # Wanted: 0, 0.1, 0.2, 0.3 of 0.266 + 1/15 s.
    assert frames(info, rgb(Steps(4, 1, 10)), 2)[0] == [0, 1, 3, 4]


def test_a_border_between_frames_is_exact() -> None:
    # 0.1 s is no float; frame 3 begins exactly at 3/30 s.
    info = video(pts=[0, 1, 2, 3, 4, 5], time_base=Fraction(1, 30))
    assert frames(info, rgb(Steps(2, 1, 10)), 2)[0] == [0, 3]
    assert frames(video(6), rgb(Steps(2, 1, 10)), 2)[0] == [0, 3]


def test_short_videos() -> None:
    info = video(5)
    assert frames(info, rgb(Steps(8), "loop"), 2) == [[0, 1, 2, 3, 4, 0, 1, 2]] * 2
    assert frames(info, rgb(Steps(8), "repeat_last")) == [[0, 1, 2, 3, 4, 4, 4, 4]]
    assert frames(info, rgb(Steps(8), "pad_first")) == [[0, 0, 0, 0, 1, 2, 3, 4]]
    assert frames(info, rgb(Steps(4, 2), "pad_first")) == [[0, 0, 2, 4]]
    assert frames(info, rgb(Steps(4, 2), "loop")) == [[0, 2, 4, 1]]
    assert frames(info, rgb(Steps(4, 2, 30), "pad_first")) == [[0, 0, 2, 4]]
    assert frames(info, rgb(Steps(4, 2, 30), "loop")) == [[0, 2, 4, 1]]
    assert frames(info, rgb(Spread(12, 0.4), "repeat_last")) == [[0, 1, 2, 3, *[4] * 8]]
    assert frames(video(1), SPECS["gdt"], 2) == [[0] * 30] * 2


def test_a_clip_of_exactly_the_video_is_not_short() -> None:
    for when_short in ("loop", "repeat_last", "pad_first"):
        assert frames(video(8), rgb(Steps(8), when_short), 2) == [list(range(8))] * 2


@pytest.mark.parametrize(
    ("size", "pixels", "boxes"),
    [
        # All of the shorter side.
        ((256, 340), SMALL, [(0, 0, 256, 256), (0, 42, 256, 256), (0, 84, 256, 256)]),
        ((480, 270), SMALL, [(0, 0, 270, 270), (105, 0, 270, 270), (210, 0, 270, 270)]),
        # 224 of 240 and of 256; odd rests are rounded down.
        (
            (240, 321),
            Pixels(240, 224, 128),
            [(8, 0, 224, 224), (8, 48, 224, 224), (8, 97, 224, 224)],
        ),
        (
            (240, 320),
            Pixels(256, 224, 224),
            [(15, 0, 210, 210), (15, 55, 210, 210), (15, 110, 210, 210)],
        ),
        # 241 x 7/8 = 210.875; 12 x 7/8 = 10.5 goes to the even 10, 20 x 7/8 = 17.5 to 18.
        (
            (241, 241),
            Pixels(256, 224, 224),
            [(15, 0, 211, 211), (15, 15, 211, 211), (15, 30, 211, 211)],
        ),
        ((12, 20), Pixels(256, 224, 224), [(1, 0, 10, 10), (1, 5, 10, 10), (1, 10, 10, 10)]),
        ((30, 20), Pixels(256, 224, 224), [(0, 1, 18, 18), (6, 1, 18, 18), (12, 1, 18, 18)]),
        ((1, 3), Pixels(100, 10, 8), [(0, 0, 1, 1), (0, 1, 1, 1), (0, 2, 1, 1)]),
    ],
)
def test_boxes(
    size: tuple[int, int], pixels: Pixels, boxes: list[tuple[int, int, int, int]]
) -> None:
    clip = ClipSpec("rgb", Steps(4), pixels, "loop")
    views = plan(video(size=size), clip, temporal=2, spatial=3)
    assert [view.box for view in views] == boxes * 2
    assert [view.frames[0] for view in views] == [0] * 3 + [96] * 3
    (centre,) = plan(video(size=size), clip, temporal=1, spatial=1)
    assert centre.box == boxes[1]


def test_without_pixels_views_are_whole_frames() -> None:
    views = plan(video(), rgb(Steps(4)), temporal=2)
    assert [(view.box, view.size) for view in views] == [(None, None)] * 2


@pytest.mark.parametrize("spec", [name for name in SPECS if "sound" in name])
@pytest.mark.parametrize("name", ["k400_R6llTwEh07w.mp4", "flipping_a_pancake_opus.mkv"])
def test_sound_of_real_clips(clips: Path, name: str, spec: str) -> None:
    info, time = probe(clips / name), SPECS[spec].time
    free_s = max(0.0, info.sound_duration_s - time.num_samples / time.rate_hz)
    views = plan(info, SPECS[spec])
    assert [view.frames for view in views] == [None] * 10
    for number, view in enumerate(views):
        assert (view.sound.num_samples, view.sound.rate_hz) == (time.num_samples, time.rate_hz)
        assert view.sound.start_s == pytest.approx(number / 9 * free_s, abs=1e-12)


def test_sound_has_its_own_clock() -> None:
    late = video(sound=(0.5, 3.0))
    starts = [view.sound.start_s for view in plan(late, SPECS["gdt sound"], temporal=3, spatial=1)]
    assert starts == [0.5, 1.5, 2.5]
    (middle,) = plan(late, SPECS["gdt sound"], temporal=1)
    assert middle.sound.start_s == 1.5
    short = plan(video(sound=(-0.25, 0.5)), SPECS["gdt sound"], temporal=2)
    assert [view.sound.start_s for view in short] == [-0.25, -0.25]


def test_sound_of_a_video_without_it() -> None:
    with pytest.raises(NoSoundError, match=r"a\.mp4: no sound"):
        plan(video(), SPECS["gdt sound"])


@pytest.mark.parametrize(
    ("clip", "views", "message"),
    [
        (SPECS["gdt"], (0, 1), "0 clips over time are asked for"),
        (SPECS["gdt"], (1, 2), "2 crops of a clip are asked for, expected 1 or 3"),
        (rgb(Steps(4), "zeros"), (1, 1), "a clip of Steps is 'zeros' when short; expected 'zeros'"),
        (replace(SPECS["gdt sound"], when_short="loop"), (1, 1), "a clip of Samples is 'loop'"),
        (rgb(Steps(0)), (1, 1), "num_frames of a clip is 0, expected more than 0"),
        (rgb(Steps(4, -1)), (1, 1), "stride of a clip is -1"),
        (rgb(Steps(4, 1, 0.0)), (1, 1), "rate_hz of a clip is 0.0"),
        (rgb(Spread(4, float("nan"))), (1, 1), "span_s of a clip is nan"),
        (rgb(Spread(4, float("inf"))), (1, 1), "span_s of a clip is inf"),
        (replace(SPECS["gdt"], pixels=Pixels(0, 1, 1)), (1, 1), "short_side of a clip is 0"),
    ],
)
def test_plans_that_are_wrong(clip: ClipSpec, views: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(video(sound=(0.0, 1.0)), clip, temporal=views[0], spatial=views[1])
