"""What is known of a video without its pixels, and what is wanted from it.

`VideoInfo` holds facts, `View` names frames and sound to read, `ClipSpec` says what an encoder
was made for, and `plan` turns a ClipSpec into the views of the common protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["rgb", "flow", "sound"]
WhenShort = Literal["loop", "repeat_last", "pad_first", "zeros"]


@dataclass(frozen=True)
class VideoInfo:
    """Facts of one video file, from one demux pass; no pixels.

    num_frames: frames that decode, in output order. header_frames: what the container claims.
    rate: average frames per second. time_base: seconds per tick of `pts` and `duration`.
    pts: [num_frames] int64 presentation times in ticks, ascending; None where the stored times
        cannot be trusted (avi with B-frames) and frames can only be counted from the start.
    height, width: of the upright picture (after the stored rotation), pixels.
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
