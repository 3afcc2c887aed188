"""The clips that the evaluation takes from one video, read in a worker process.

A video crosses to the network's process as its needed frames, each once, and a list of what to cut
from them: 10 windows share most of their frames, and 3 squares share all of them.
B crops of a batch, F frames of a video that are needed, T frames of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.randomness import generator

from brave.config import TEST_SHORT_SIDE
from brave.images import Frames, resize_min
from brave.records import LabelledVideos
from brave.sampling import (
    Augmentation,
    Box,
    corner_boxes,
    draw_augmentation,
    extended_length,
    frame_numbers,
    linspace_windows,
    random_window,
    shared_frames,
    training_box,
    window_span,
)

TEMPORAL_CROPS, SPATIAL_CROPS = 10, 3
_PADDED_TO = 64  # pixels; few shapes, so that the augmentations are compiled a few times only


@dataclass(frozen=True)
class Crop:
    """One clip of a video, not cut out yet.

    frames: [F, H, W, 3] uint8, shared by the crops of the video. rows: [T], which of them.
    augmentation: None at test time.
    """

    frames: Frames
    rows: NDArray[np.int64]
    box: Box
    augmentation: Augmentation | None = None

    def cut_into(self, target: Frames) -> None:
        """Copy the clip into the top left corner of [T, H, W, 3]."""
        box = self.box
        rows, columns = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
        for frame, row in zip(target, self.rows, strict=True):
            frame[: box.height, : box.width] = self.frames[row, rows, columns]


class CropLoader(Protocol):
    """The crops of a video by its number; picklable."""

    @property
    def videos(self) -> LabelledVideos: ...

    def __call__(self, index: int) -> list[Crop]: ...


@dataclass(frozen=True)
class TrainCrops:
    """One random clip of a video for each of `epochs`: window, part of the picture, colours.

    A draw depends on the seed, the epoch and the video's place, on nothing else.
    """

    videos: LabelledVideos
    num_frames: int
    step: int
    epochs: int
    seed: int

    def __call__(self, index: int) -> list[Crop]:
        record = self.videos.read(index)
        stored = len(record.frames)
        rngs = [generator(self.seed, epoch, index, "views") for epoch in range(self.epochs)]
        length = extended_length(stored, window_span(self.num_frames, self.step))
        windows = [
            random_window(length, num_frames=self.num_frames, step=self.step, rng=rng)
            for rng in rngs
        ]
        numbers, rows = _needed(windows, stored)
        frames = self.videos.decode(index, record, numbers)
        height, width = frames.shape[1:3]
        return [
            Crop(frames, own, training_box(height, width, rng), draw_augmentation(rng))
            for own, rng in zip(rows, rngs, strict=True)
        ]


@dataclass(frozen=True)
class TestCrops:
    """Clips spread evenly over a video, and of each squares from the top left to bottom right.

    short_side: pixels to which the picture is scaled first; crop: of the squares.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    videos: LabelledVideos
    num_frames: int
    step: int
    crop: int
    short_side: int = TEST_SHORT_SIDE
    temporal: int = TEMPORAL_CROPS
    spatial: int = SPATIAL_CROPS

    def __call__(self, index: int) -> list[Crop]:
        record = self.videos.read(index)
        stored = len(record.frames)
        length = extended_length(stored, window_span(self.num_frames, self.step))
        windows = linspace_windows(
            length, count=self.temporal, num_frames=self.num_frames, step=self.step
        )
        numbers, rows = _needed(windows, stored)
        frames = resize_min(self.videos.decode(index, record, numbers), self.short_side)
        boxes = corner_boxes(*frames.shape[1:3], crop=self.crop, count=self.spatial)
        return [Crop(frames, own, box) for own in rows for box in boxes]


def stack_crops(crops: Sequence[Crop]) -> Frames:
    """The clips of a batch, [B, T, H, W, 3] uint8, each in the top left corner.

    At test time all are of one size, which is H x W. In training H x W is that of the largest
    picture, rounded up; what lies outside a clip is 0.
    """
    if crops[0].augmentation is None:
        height, width = crops[0].box.height, crops[0].box.width
    else:
        height, width = (
            -(-max(crop.frames.shape[axis] for crop in crops) // _PADDED_TO) * _PADDED_TO
            for axis in (1, 2)
        )
    batch = np.zeros((len(crops), len(crops[0].rows), height, width, 3), np.uint8)
    for crop, target in zip(crops, batch, strict=True):
        crop.cut_into(target)
    return batch


def _needed(
    windows: Sequence[range], stored: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The stored frames that any window needs, [F] ascending, and the rows of each window there."""
    return shared_frames([frame_numbers(window, stored) for window in windows])
