"""One video as one record: frames at a constant rate as JPEGs, sound and flow beside them, label.

The numbers are those of BraVe's own writer: the first 20 s at 25 frames a second, shorter side 256,
JPEGs of best quality. It wrote no sound and no flow. Needs simplejpeg (extra `tfrecord`), and for
flow OpenCV (extra `flow`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.blocks import Failure
from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.extras import optional_module
from ssvideo_core.formats.flow_frames import METHODS, flow_method, grey, quantise
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.source import VideoSource
from ssvideo_core.views import SoundSpan, VideoInfo, View


@dataclass(frozen=True)
class RecordForm:
    """What of a video becomes its record.

    rate_hz: frames a second. short_side: pixels; the other side keeps the aspect. max_seconds:
        what comes later is left out.
    quality: of the JPEGs, 1 to 100, with half the colour resolution in both directions (4:2:0).
        BraVe wrote FFmpeg's `qscale` 1; 95 has about its bytes (+1 % and +15 % on two clips) and no
        more error.
    sound_rate_hz: of the waveform; 0 leaves sound out.
    flow: how optical flow is found (`flow_frames.flow_method`); "" leaves it out.
    """

    rate_hz: float = 25
    short_side: int = 256
    max_seconds: float = 20
    quality: int = 95
    sound_rate_hz: int = 48000
    flow: str = ""

    def check(self) -> None:
        """Raise ConfigError for values that cannot be."""
        for name, low, high in (
            ("rate_hz", 0, 1000),
            ("short_side", 0, 8192),
            ("max_seconds", 0, 86400),
            ("quality", 0, 100),
            ("sound_rate_hz", -1, 384000),
        ):
            value = getattr(self, name)
            if not low < value <= high:
                raise ConfigError(f"{name} is {value}, expected more than {low} and at most {high}")
        if self.flow and self.flow not in METHODS:
            raise ConfigError(f"flow is '{self.flow}', expected {' or '.join(METHODS)}, or nothing")


def frames_at_rate(info: VideoInfo, rate_hz: float, max_seconds: float) -> NDArray[np.int64]:
    """[T] frame numbers at a constant rate: what FFmpeg's filter `fps` repeats and leaves out.

    Each stored frame is moved to the nearest multiple of 1/rate_hz after the first (halves up) and
    shown until the next one's. The video lasts until one frame after its last, at most
    `max_seconds`; T is at least 1. Where stored times are unusable, frame k lies at k/rate.
    """
    rate = Fraction(str(rate_hz))
    if info.pts is None:
        ticks, seconds = range(info.num_frames), 1 / info.rate
    else:
        ticks, seconds = (info.pts - info.pts[0]).tolist(), info.time_base
    end = min(ticks[-1] * seconds + 1 / info.rate, Fraction(str(max_seconds)))
    step = seconds * rate
    places = [_nearest(tick * step) for tick in ticks]
    wanted = np.arange(max(_nearest(end * rate), 1))
    return np.searchsorted(places, wanted, side="right").astype(np.int64) - 1


def frame_size(info: VideoInfo, short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `short_side` pixels, larger or smaller than stored.

    A longer width is rounded down and a longer height to the nearest, as FFmpeg does for BraVe.
    """
    if info.width >= info.height:
        return short_side, info.width * short_side // info.height
    return _nearest(Fraction(info.height * short_side, info.width)), short_side


def _nearest(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class EncodeVideo:
    """Makes the record of one video by its number; runs in the worker processes.

    classes: names in the order of label numbers; without, a record has its label as text alone.
    listed: errors that become a Failure; others are raised. All frames of a record are in memory
    at once: 131 MB for 500 of 256 x 341 pixels.
    """

    source: VideoSource
    classes: tuple[str, ...]
    form: RecordForm
    listed: tuple[type[DataError], ...]

    def __call__(self, video: int) -> bytes | Failure:
        entry = self.source.entry(video)
        try:
            return encode_record(self._record(video))
        except self.listed as error:
            return Failure(video, entry.video_id, str(error))

    def _record(self, video: int) -> VideoRecord:
        entry, info, form = self.source.entry(video), self.source.info(video), self.form
        if info.damage is not None:
            raise DecodeError(info.damage)  # a part would pass for the whole
        numbers = frames_at_rate(info, form.rate_hz, form.max_seconds)
        seconds = len(numbers) / Fraction(str(form.rate_hz))
        stored, places = np.unique(numbers, return_inverse=True)
        # Of Pillow's filters bicubic is nearest to FFmpeg's default, which wrote BraVe's records.
        size = frame_size(info, form.short_side)
        view = View(stored, size=size, resample="bicubic", sound=self._sound(info, seconds))
        clip = self.source.read(video, [view])[0]
        assert clip.frames is not None, "a source returns what the views name"
        jpegs = [self._jpeg(frame) for frame in clip.frames]
        shown: list[int] = places.tolist()
        numbered = entry.label is not None and self.classes
        labels = [self.classes.index(entry.label)] if numbered else []
        return VideoRecord(
            frames=[jpegs[place] for place in shown],
            waveform=clip.sound,
            flow=self._flow(clip.frames, shown) if form.flow else (),
            labels=np.array(labels, np.int64),
            label_text=[] if entry.label is None else [entry.label],
            filename=entry.video_id,
            start_us=0,
            end_us=_nearest(seconds * 1_000_000),
        )

    def _sound(self, info: VideoInfo, seconds: Fraction) -> SoundSpan | None:
        rate_hz = self.form.sound_rate_hz
        if not rate_hz or info.sound_rate_hz is None:
            return None
        return SoundSpan(0.0, _nearest(seconds * rate_hz), rate_hz)

    def _flow(self, frames: NDArray[np.uint8], shown: list[int]) -> list[bytes]:
        """A picture for each shown frame, to the next one; the last one's is that before it.

        frames: [F, H, W, 3], each shown once or several times in a row. Displacements of up to
        `flow_frames.BOUND` pixels are red (horizontal) and green (vertical), each colour pixel
        stored (4:4:4); where a frame is repeated nothing moves.
        """
        estimate = flow_method(self.form.flow)
        luma = [grey(frame) for frame in frames]
        moved = [quantise(estimate(*pair)) for pair in pairwise(luma)]
        still = quantise(np.zeros((*frames.shape[1:3], 2), np.float32))
        none = np.zeros_like(still[..., :1])
        jpegs = [self._jpeg(np.dstack([xy, none]), "444") for xy in (*moved, still)]
        pictures = [jpegs[a] if a != b else jpegs[-1] for a, b in pairwise(shown)]
        return [*pictures, *(pictures[-1:] or jpegs[-1:])]

    def _jpeg(self, frame: NDArray[np.uint8], subsampling: str = "420") -> bytes:
        encode = optional_module("simplejpeg", "tfrecord").encode_jpeg
        jpeg: bytes = encode(frame, quality=self.form.quality, colorsubsampling=subsampling)
        return jpeg
