"""Videos without files and a network without weights, for tests of everything between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import DecodeError, NoSoundError
from ssvideo_core.views import (
    Clip,
    ClipSpec,
    Pixels,
    Samples,
    SoundSpan,
    Steps,
    VideoEntry,
    VideoInfo,
    View,
)

NUM_FRAMES, RATE, HEIGHT, WIDTH = 12, 25, 6, 8
TINY_RGB = ClipSpec("rgb", Steps(2), Pixels(4, 4, 4), "loop")
TINY_SOUND = ClipSpec("sound", Samples(16, 100), None, "zeros")


@dataclass(frozen=True)
class FakeVideos:
    """A source of `count` videos whose pixels and samples are functions of their numbers.

    Of every `bad_every` videos the first cannot be read, of every `silent_every` the first has no
    sound; 0: none. Each read takes at least `delay_s` seconds.
    """

    count: int
    bad_every: int = 0
    silent_every: int = 0
    delay_s: float = 0.0

    def __len__(self) -> int:
        return self.count

    def entry(self, index: int) -> VideoEntry:
        return VideoEntry(f"{index % 5}/{index}.mp4", str(index % 5), None, None)

    def info(self, index: int) -> VideoInfo:
        silent = self.silent_every > 0 and index % self.silent_every == 0
        return VideoInfo(
            video_id=self.entry(index).video_id,
            num_frames=NUM_FRAMES,
            header_frames=NUM_FRAMES,
            rate=Fraction(RATE),
            time_base=Fraction(1, RATE),
            duration=NUM_FRAMES,
            pts=np.arange(NUM_FRAMES),
            height=HEIGHT,
            width=WIDTH,
            sound_rate_hz=None if silent else 100,
            sound_start_s=0.0,
            sound_duration_s=0.0 if silent else NUM_FRAMES / RATE,
        )

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        time.sleep(self.delay_s)
        if self.bad_every and index % self.bad_every == 0:
            raise DecodeError(f"{self.entry(index).video_id}: a fake that cannot be read")
        return [self._read(index, view) for view in views]

    def _read(self, index: int, view: View) -> Clip:
        frames = None if view.frames is None else _pixels(index, view)
        if view.sound is None:
            return Clip(frames, None)
        info = self.info(index)
        if info.sound_rate_hz is None:
            raise NoSoundError(f"{info.video_id} has no sound")
        sound, missing = _samples(index, view.sound, info.sound_duration_s)
        return Clip(frames, sound, missing)


def _pixels(index: int, view: View) -> NDArray[np.uint8]:
    assert view.frames is not None
    y, x, height, width = view.box or (0, 0, HEIGHT, WIDTH)
    out_height, out_width = view.size or (height, width)
    rows = y + np.arange(out_height) * height // out_height
    columns = x + np.arange(out_width) * width // out_width
    t, i, j, c = np.ix_(view.frames, rows, columns, np.arange(3))
    return ((index * 37 + t * 11 + i * 5 + j * 3 + c * 101) % 256).astype(np.uint8)


def _samples(index: int, span: SoundSpan, duration_s: float) -> tuple[NDArray[np.float32], int]:
    at = span.start_s + np.arange(span.num_samples) / span.rate_hz
    stored = (at >= 0) & (at < duration_s)
    sound = np.where(stored, np.sin(at * (10 + index % 17)), 0).astype(np.float32)
    return sound, int(np.sum(~stored))


@dataclass
class FakeEncoder:
    """A fixed random projection.

    neighbours: how much of the mean of its batch is added to every row. No good encoder does that;
    here it makes visible which clips shared a batch.
    """

    clip: ClipSpec = TINY_RGB
    feature_size: int = 6
    fingerprint: str = "f" * 64
    neighbours: float = 0.0

    def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        kind = np.float32 if self.clip.modality == "sound" else np.uint8
        if clips.dtype != kind:
            raise ValueError(f"clips are {clips.dtype}, expected {np.dtype(kind)}")
        flat = clips.reshape(len(clips), -1).astype(np.float64)
        weights = np.random.default_rng(0).normal(size=(flat.shape[1], self.feature_size))
        rows = np.einsum("bi,id->bd", flat, weights)
        return np.asarray(rows + self.neighbours * rows.mean(axis=0), np.float32)
