"""What is known of a video without its pixels, and what is wanted from it.

`VideoInfo` holds facts, `View` names frames and sound to read, `ClipSpec` says what an encoder
was made for, and `plan` turns a ClipSpec into the views of the common protocol.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError, NoSoundError

Modality = Literal["rgb", "flow", "sound"]
WhenShort = Literal["loop", "repeat_last", "pad_first", "zeros"]


@dataclass(frozen=True)
class VideoEntry:
    """A video of a data set before it is opened; video_id: POSIX path from the root."""

    video_id: str
    label: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class VideoInfo:
    """Facts of one video file, from one demux pass; no pixels.

    num_frames: frames that decode, in output order. header_frames: what the container claims.
    rate: average frames per second. time_base: seconds per tick of `pts` and `duration`.
    pts: [num_frames] int64 presentation times in ticks, ascending; None where the stored times
        cannot be trusted (avi with B-frames) and frames can only be counted from the start.
    height, width: of the upright picture (after the stored rotation), pixels.
    damage: what ends the video early, where decoding showed it; None for an intact file.
    sound_rate_hz: None without a sound stream; sound_start_s is on the video's clock.
    """

    video_id: str
    num_frames: int
    header_frames: int | None
    rate: Fraction
    time_base: Fraction
    duration: int | None
    pts: NDArray[np.int64] | None
    height: int
    width: int
    sound_rate_hz: int | None
    sound_start_s: float
    sound_duration_s: float
    damage: str | None = None


@dataclass(frozen=True)
class SoundSpan:
    """A stretch of sound: start on the video's clock; missing samples are zeros, counted."""

    start_s: float
    num_samples: int
    rate_hz: int


@dataclass(frozen=True)
class View:
    """What one read returns: frames, sound, or both.

    frames: [T] int64 frame numbers in output order; looping or padding is repeated numbers.
    box: (y, x, height, width) on the upright frame; None is the whole frame.
    size: (height, width) after an optional resize with `resample`.
    params: the draws of the augmentation that runs later on the device.
    """

    frames: NDArray[np.int64] | None
    box: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None
    resample: str = "bilinear"
    sound: SoundSpan | None = None
    params: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """What was read for one View.

    frames: [T, h, w, 3] uint8 RGB, upright. sound: [num_samples] float32, about [-1, 1] (decoded
    values may exceed it). missing_samples: how many of them are zeros because no sound was stored.
    """

    frames: NDArray[np.uint8] | None
    sound: NDArray[np.float32] | None
    missing_samples: int = 0


@dataclass(frozen=True)
class Steps:
    """num_frames frames, `stride` apart at `rate_hz`; rate None is the stored rate."""

    num_frames: int
    stride: int = 1
    rate_hz: float | None = None


@dataclass(frozen=True)
class Spread:
    """num_frames frames evenly over span_s seconds."""

    num_frames: int
    span_s: float


@dataclass(frozen=True)
class Samples:
    """num_samples of sound at rate_hz."""

    num_samples: int
    rate_hz: int


@dataclass(frozen=True)
class Pixels:
    """Shorter side scaled to short_side, square crop, resized to size; all in pixels."""

    short_side: int
    crop: int
    size: int
    resample: str = "bilinear"


@dataclass(frozen=True)
class ClipSpec:
    """The input an encoder was made for."""

    modality: Modality
    time: Steps | Spread | Samples
    pixels: Pixels | None
    when_short: WhenShort


def plan(info: VideoInfo, clip: ClipSpec, *, temporal: int = 10, spatial: int = 3) -> list[View]:
    """The views of the common protocol: `temporal` clips over time, each with `spatial` crops.

    Returns temporal x spatial views, the crops of the first clip first. Sound, and clips without
    `pixels`, have no crops: `temporal` views.

    Time. The video lasts from its first frame to one frame (1/rate) after its last; where times are
    unusable, frame k lies at k/rate. Clip i of T starts at i/(T-1) of the time that a clip leaves
    free, T = 1 in the middle. A wanted time becomes the last frame that began by then. Arithmetic
    is exact; floats of the ClipSpec count as the decimals they are written as.

    Steps           every stride-th stored frame; the start is rounded down to a frame.
    Steps(rate_hz)  start + j stride / rate_hz; a clip lasts ((num_frames-1) stride + 1) / rate_hz.
    Spread          start + j (span_s - 1/rate) / (num_frames-1): the frames of the span, each once
                    when there are num_frames of them at exact times. Stored times that
                    were rounded up (milliseconds in mkv) can repeat the frame before.
    Samples         over the duration of the sound, from its own start.

    Of a video shorter than the clip: "loop" begins again, "repeat_last" stays on the last frame,
    "pad_first" lets the clip end with the video and fills its front with the first frame, "zeros"
    (sound) leaves samples missing.

    Space. The box is a square of crop/short_side of the shorter side, to the nearest pixel (halves
    to even), resized to `size`. spatial = 1 centres it (halves down), 3 puts it at the start, the
    centre and the end of the longer side.

    Raises NoSoundError for sound of a video without it; ConfigError for other numbers of crops, a
    `when_short` that does not fit, and values of the ClipSpec that are not positive.
    """
    check_clip(clip)
    if temporal < 1:
        raise ConfigError(f"{temporal} clips over time are asked for, expected 1 or more")
    ends = max(temporal - 1, 1)
    shares = [Fraction(i, ends) for i in range(temporal)] if temporal > 1 else [Fraction(1, 2)]
    if isinstance(clip.time, Samples):
        return [View(None, sound=span) for span in _sound_spans(info, clip.time, shares)]
    clips = [_frames(info, clip, clip.time, share) for share in shares]
    if clip.pixels is None:
        return [View(frames) for frames in clips]
    size, resample = (clip.pixels.size, clip.pixels.size), clip.pixels.resample
    boxes = _boxes(info, clip.pixels, spatial)
    return [View(frames, box, size, resample) for frames in clips for box in boxes]


def check_clip(clip: ClipSpec) -> None:
    """Raise ConfigError for a clip that cannot be: sizes that are not above 0, an unfit
    `when_short`.
    """
    if (clip.when_short == "zeros") != isinstance(clip.time, Samples):
        raise ConfigError(
            f"a clip of {type(clip.time).__name__} is '{clip.when_short}' when short; expected "
            "'zeros' for Samples, 'loop', 'repeat_last' or 'pad_first' for Steps and Spread"
        )
    for part in filter(None, (clip.time, clip.pixels)):
        for name, value in vars(part).items():
            if isinstance(value, int | float) and not 0 < value < math.inf:
                raise ConfigError(f"{name} of a clip is {value}, expected more than 0")


def _frames(
    info: VideoInfo, clip: ClipSpec, time: Steps | Spread, share: Fraction
) -> NDArray[np.int64]:
    """Frame numbers [T] of the clip that begins at `share` of the free time."""
    count = range(time.num_frames)
    if isinstance(time, Steps) and time.rate_hz is None:
        steps = [Fraction(j * time.stride) for j in count]
        available = Fraction(info.num_frames)
        wanted = _place(steps, steps[-1] + 1, available, share, clip.when_short)
        return np.array([min(math.floor(n), info.num_frames - 1) for n in wanted], np.int64)
    if isinstance(time, Steps):
        rate = _exact(time.rate_hz or 0)
        steps = [j * time.stride / rate for j in count]
        length = steps[-1] + 1 / rate
    else:
        length = _exact(time.span_s)
        reach = max(length - 1 / info.rate, Fraction(0))
        steps = [j * reach / max(time.num_frames - 1, 1) for j in count]
    lasts = 1 / info.rate + _time_of(info, info.num_frames - 1)
    times = _place(steps, length, lasts, share, clip.when_short)
    return np.array([_frame_at(info, time_s) for time_s in times], np.int64)


def _place(
    steps: Sequence[Fraction],
    length: Fraction,
    available: Fraction,
    share: Fraction,
    when_short: WhenShort,
) -> list[Fraction]:
    """Where the steps of a clip of `length` fall in what is available; all in one unit."""
    if length <= available:
        return [share * (available - length) + step for step in steps]
    if when_short == "loop":
        return [step % available for step in steps]
    if when_short == "pad_first":
        return [max(available - length + step, Fraction(0)) for step in steps]
    return list(steps)  # what lies behind the end becomes the last frame


def _time_of(info: VideoInfo, number: int) -> Fraction:
    """Seconds from the first frame to frame `number`."""
    if info.pts is None:
        return number / info.rate
    return int(info.pts[number] - info.pts[0]) * info.time_base


def _frame_at(info: VideoInfo, time_s: Fraction) -> int:
    """The last frame that began by `time_s`, 0 or more seconds after the first."""
    if info.pts is None:
        return min(math.floor(time_s * info.rate), info.num_frames - 1)
    # Stored times are whole ticks, so that the wanted one may be rounded down to one.
    ticks = int(info.pts[0]) + math.floor(time_s / info.time_base)
    return int(np.searchsorted(info.pts, ticks, side="right")) - 1


def _exact(value: float) -> Fraction:
    """2.56 as 64/25, not as the nearest float."""
    return Fraction(str(value))


def _sound_spans(info: VideoInfo, time: Samples, shares: Sequence[Fraction]) -> list[SoundSpan]:
    if info.sound_rate_hz is None:
        raise NoSoundError(f"{info.video_id}: no sound: the video has no sound stream")
    first, length = Fraction(info.sound_start_s), Fraction(time.num_samples, time.rate_hz)
    free = max(Fraction(info.sound_duration_s) - length, Fraction(0))
    starts = [float(first + share * free) for share in shares]
    return [SoundSpan(start, time.num_samples, time.rate_hz) for start in starts]


def _boxes(info: VideoInfo, pixels: Pixels, spatial: int) -> list[tuple[int, int, int, int]]:
    shorter = min(info.height, info.width)
    side = round(Fraction(shorter * pixels.crop, pixels.short_side))
    side = min(max(side, 1), shorter)
    down, right = info.height - side, info.width - side
    if spatial == 1:
        return [(down // 2, right // 2, side, side)]
    if spatial != 3:
        raise ConfigError(f"{spatial} crops of a clip are asked for, expected 1 or 3")
    if info.height > info.width:
        return [(y, right // 2, side, side) for y in (0, down // 2, down)]
    return [(down // 2, x, side, side) for x in (0, right // 2, right)]
