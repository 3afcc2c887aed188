"""Labelled videos in DMVR's shards: what a record holds, checked, and its frames, decoded.

Every message names a video by its shard and its place there, counted from 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError, DecodeError
from ssvideo_core.formats.sequence_examples import VideoRecord, parse_record
from ssvideo_core.formats.tfrecord import RecordFiles, find_shards

from brave.images import Frames, decode_jpeg, jpeg_shape


@dataclass(frozen=True)
class RecordFacts:
    """What is known of a video without decoding it.

    label: class index, 0 or more. filename: of the video the record was made from, where it says.
    """

    label: int
    num_frames: int
    height: int
    width: int
    filename: str | None = None


class LabelledVideos:
    """Random access to the videos of shards; picklable, so that worker processes read by index.

    patterns: globs of shard files, in sorted order. Raises DataError when one matches nothing.
    """

    def __init__(self, patterns: str | Sequence[str]) -> None:
        self._records = RecordFiles(find_shards(patterns))
        self._folder = os.path.commonpath([p.absolute().parent for p in self._records.paths])

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        """The shard and the place of a video there, for messages."""
        shard, _, place = self._records.key(index).rpartition(":")
        return f"{self._folder}/{shard}, record {place}"

    def key(self, index: int) -> str:
        """A name that does not depend on where the shards lie: "FILE:RECORD"."""
        return self._records.key(index)

    def facts(self, index: int) -> RecordFacts:
        """Read one record and check all that can be checked without decoding.

        Raises DataError for a record without frames or without exactly one label, DecodeError for
        a frame that `images.jpeg_shape` refuses or of another size than the first.
        """
        record = self.read(index)
        if record.labels.shape != (1,) or record.labels[0] < 0:
            raise DataError(
                f"{self.name(index)}: clip/label/index holds {record.labels.tolist()}; expected "
                "one class number from 0. Write the shards with labels"
            )
        first = None
        for number, data in enumerate(record.frames):
            with self._frame(index, number):
                shape = jpeg_shape(data)
                first = first or shape
                if shape != first:
                    raise DecodeError(f"{_size(shape)} pixels, but frame 0 has {_size(first)}")
        if first is None:
            raise DataError(f"{self.name(index)}: image/encoded holds no frame; expected JPEGs")
        return RecordFacts(int(record.labels[0]), len(record.frames), *first, record.filename)

    def read(self, index: int) -> VideoRecord:
        """The record itself, its frames still as JPEG. Raises DataError for a damaged one."""
        return parse_record(self._records.read(index), name=self.name(index))

    def decode(
        self, index: int, record: VideoRecord, numbers: NDArray[np.int64], *, flow: bool = False
    ) -> Frames:
        """Frames `numbers` of a record that `read` gave, [N, H, W, 3] uint8; or those of its flow.

        Raises DecodeError for data that is damaged inside.
        """
        jpegs, kind = (record.flow, "flow frame") if flow else (record.frames, "frame")
        frames = np.empty((0, 0, 0, 3), np.uint8)
        for place, number in enumerate(numbers.tolist()):
            with self._frame(index, number, kind):
                frame = decode_jpeg(jpegs[number])
                if not place:
                    frames = np.empty((len(numbers), *frame.shape), np.uint8)
                if frame.shape != frames.shape[1:]:
                    raise DecodeError("its size is not that of the other frames")
                frames[place] = frame
        return frames

    @contextmanager
    def _frame(self, index: int, number: int, kind: str = "frame") -> Iterator[None]:
        """Errors of this frame say where it is."""
        try:
            yield
        except DecodeError as error:
            raise DecodeError(f"{self.name(index)}, {kind} {number}: {error}") from None


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]}"
