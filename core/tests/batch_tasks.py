"""Sources, samplers and loads that tests send to worker processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ssvideo_core.errors import DecodeError
from ssvideo_core.randomness import generator
from ssvideo_core.samples import Sample, Task
from ssvideo_core.testing.fake_videos import FakeVideos
from ssvideo_core.views import Clip, SoundSpan, VideoInfo, View


def pictures(info: VideoInfo, rng: np.random.Generator) -> list[View]:
    """Two clips of drawn places and sizes; the draws are params of the first."""
    views = []
    for _ in range(2):
        start = int(rng.integers(info.num_frames - 2))
        size = (4 + int(rng.integers(3)), 4 + int(rng.integers(3)))
        params = {"start": np.array(start), "flip": rng.random(2) < 0.5}
        views.append(View(start + np.arange(2), size=size, params=params))
    return views


def pictures_and_sound(info: VideoInfo, rng: np.random.Generator) -> list[View]:
    start_s = float(rng.uniform(0, 0.4))
    return [*pictures(info, rng), View(None, sound=SoundSpan(start_s, 16, 100))]


def square(info: VideoInfo, rng: np.random.Generator) -> list[View]:
    """A clip of 3 frames and half a second of sound; videos may have other sizes."""
    frames = np.sort(rng.integers(info.num_frames, size=3))
    sound = SoundSpan(float(rng.uniform(0, 1)), 4000, 8000)
    return [View(frames, size=(24, 24)), View(frames[:1], sound=sound)]


def outside(info: VideoInfo, rng: np.random.Generator) -> list[View]:
    """A sampler with a bug."""
    raise ValueError(f"{info.video_id}: a bug")


@dataclass(frozen=True)
class SomeBad(FakeVideos):
    """FakeVideos of which those in `unknown` fail before anything is drawn, `unreadable` after."""

    unknown: tuple[int, ...] = ()
    unreadable: tuple[int, ...] = ()

    def info(self, index: int) -> VideoInfo:
        if index in self.unknown:
            raise DecodeError(f"{index} is no video")
        return super().info(index)

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        if index in self.unreadable:
            raise DecodeError(f"{index} ends early")
        return super().read(index, views)


@dataclass(frozen=True)
class Marks:
    """A load that leaves a file EPOCH-INDEX when it begins; every third takes longer."""

    folder: Path

    def __call__(self, task: Task) -> Sample:
        (self.folder / f"{task.epoch}-{task.index}").touch()
        time.sleep(0.01 if task.index % 3 == 0 else 0)
        return noise(task)


def noise(task: Task) -> Sample:
    """A sample without a video that its task determines."""
    rng = generator(5, task.epoch, task.index)
    frames = rng.integers(0, 256, (2, 3, 4, 3), np.uint8)
    return Sample(task.index, task.index % 7, (Clip(frames, None),), ({"draw": rng.random(2)},))
