"""Batches for training: a function of seed and position, whatever the number of workers.

No state of a generator or a worker exists, so none can be forgotten: after a restart `batches`
goes on at a `Position` as if it had never stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssvideo_core.blocks import NO_SOUND
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.feature_writer import allowed_failures
from ssvideo_core.loading import ordered_map
from ssvideo_core.randomness import epoch_order
from ssvideo_core.runs import append_json_line
from ssvideo_core.samples import (
    NO_LABEL,
    Batch,
    BatchView,
    Replaced,
    Sample,
    SampleLoader,
    SampleViews,
    Task,
    collate,
    num_bad,
)

__all__ = [
    "NO_LABEL",
    "BadVideos",
    "Batch",
    "BatchView",
    "Position",
    "Replaced",
    "Sample",
    "SampleLoader",
    "SampleViews",
    "Task",
    "ahead",
    "batches",
    "collate",
    "steps_left",
    "steps_per_epoch",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """How far training is: `epoch` epochs are complete, and `samples_used` samples of the next.

    Samples of all processes together, so that another number of them can go on from here. The
    position after the last batch of an epoch is (epoch + 1, 0).
    """

    epoch: int = 0
    samples_used: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        return cls(int(value["epoch"]), int(value["samples_used"]))


def steps_per_epoch(num_samples: int, global_batch_size: int) -> int:
    """Whole global batches of an epoch; its incomplete rest is dropped.

    Raises ConfigError when there is none.
    """
    if not 1 <= global_batch_size <= num_samples:
        raise ConfigError(
            f"the global batch size is {global_batch_size}, expected 1 to {num_samples}, the "
            "number of videos; use a smaller batch size or fewer processes"
        )
    return num_samples // global_batch_size


def steps_left(position: Position, *, num_samples: int, global_batch_size: int, epochs: int) -> int:
    """How many global batches `batches` gives from `position` on."""
    begun = (num_samples - position.samples_used) // global_batch_size
    whole = steps_per_epoch(num_samples, global_batch_size)
    return max(0, begun + whole * (epochs - position.epoch - 1))


def batches(
    load: Callable[[Task], Sample],
    *,
    num_samples: int,
    global_batch_size: int,
    epochs: int,
    seed: int,
    position: Position = Position(),
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    shuffle: bool = True,
) -> Generator[tuple[Position, Batch], None, None]:
    """This process' share of every global batch from `position` on, and the position after it.

    load: a SampleLoader, or what is called like one; sent to the workers once.
    shuffle: each epoch in the order `randomness.epoch_order`; else 0 to num_samples - 1.

    The process `rank` takes the rank-th contiguous slice of each global batch, so that the slices
    of all, put together, are the batches of one process. An epoch that was begun with another
    global batch size goes on where it stopped; what then does not fill a batch is dropped.

    With workers, epochs follow each other without a pause, and a thread makes the next batch while
    the current one is used. Close the iterator to end the workers before the last batch.

    Raises ConfigError for a batch size that does not fit the number of samples or of processes and
    for a position that the data cannot have; while iterating, what `load` raises.
    """
    steps_per_epoch(num_samples, global_batch_size)
    if not 0 <= rank < world_size or global_batch_size % world_size:
        raise ConfigError(
            f"a global batch of {global_batch_size} samples is shared by {world_size} processes, "
            f"this one {rank}; expected a multiple of {world_size} and a process from 0 on"
        )
    if position.epoch < 0 or not 0 <= position.samples_used <= num_samples:
        raise ConfigError(
            f"training stopped in epoch {position.epoch} after {position.samples_used} samples, "
            f"but there are {num_samples}; go on with the data it began with"
        )
    order = _Order(num_samples, global_batch_size, epochs, seed, position, shuffle)
    share = global_batch_size // world_size
    tasks = order.tasks(slice(rank * share, (rank + 1) * share))
    made = _made(load, tasks, order, share, workers)
    return ahead(made) if workers else made


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, each made by a thread while the one before is used.

    Needed because what workers give back waits in sockets that are small: they would stop while
    this process is busy, unless a thread takes it from them. Closing waits for the item in the
    making, then closes `items`.
    """
    with closing(items), ThreadPoolExecutor(1, "ahead") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


@dataclass(frozen=True)
class _Order:
    """Which samples are in which global batch."""

    num_samples: int
    global_batch_size: int
    epochs: int
    seed: int
    position: Position
    shuffle: bool

    def starts(self) -> Iterator[Position]:
        """Where each global batch begins."""
        last = self.num_samples - self.global_batch_size
        for epoch in range(self.position.epoch, self.epochs):
            first = self.position.samples_used if epoch == self.position.epoch else 0
            for used in range(first, last + 1, self.global_batch_size):
                yield Position(epoch, used)

    def after(self, start: Position) -> Position:
        used = start.samples_used + self.global_batch_size
        if used + self.global_batch_size > self.num_samples:
            return Position(start.epoch + 1)
        return Position(start.epoch, used)

    def tasks(self, own: slice) -> Iterator[Task]:
        """The tasks of the slice `own` of every global batch."""
        for epoch, starts in groupby(self.starts(), lambda start: start.epoch):
            order = np.arange(self.num_samples)
            if self.shuffle:
                order = epoch_order(self.seed, epoch, self.num_samples)
            for start in starts:
                for index in order[start.samples_used :][own].tolist():
                    yield Task(epoch, index)


def _made(
    load: Callable[[Task], Sample], tasks: Iterator[Task], order: _Order, share: int, workers: int
) -> Generator[tuple[Position, Batch], None, None]:
    name = load.name if isinstance(load, SampleLoader) else str
    # A batch besides what keeps workers busy: a slow video must not stop those after it.
    in_flight = share + 2 * workers
    loaded = ordered_map(load, tasks, workers=workers, in_flight=in_flight, name=name)
    with closing(loaded):
        for start in order.starts():
            yield order.after(start), collate(list(islice(loaded, share)))


class BadVideos:
    """The list of replaced videos of a run, RUN/bad-videos.jsonl; all its processes share it.

    num_videos: of the training data. A line is {"video": id, "reason": text}; a video stands there
    once, or once a process when several find it at the same moment. Lines that cannot be read are
    ignored: a kill can leave part of one, and its video is found again.
    """

    def __init__(self, path: Path, num_videos: int) -> None:
        self.path, self.num_videos = path, num_videos
        self._found: dict[str, Replaced] = {}
        self._read_bytes = 0
        self._catch_up()

    @property
    def num_bad(self) -> int:
        """Distinct videos that could not be read, of all processes as of the last new one."""
        return num_bad(self._found.values())

    @property
    def num_silent(self) -> int:
        """Distinct videos that had no sound where it was wanted."""
        return len(self._found) - self.num_bad

    def add(self, replaced: Iterable[Replaced]) -> None:
        """List what is new of a batch's replaced videos.

        Raises DataError when more videos are bad than `feature_writer.allowed_failures`. Those
        without sound are listed but do not count.
        """
        latest = {one.video_id: one for one in replaced}
        if latest.keys() - self._found.keys():
            self._catch_up()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for one in [one for name, one in latest.items() if name not in self._found]:
                # One write a line: those of other processes do not mix with it.
                append_json_line(self.path, {"video": one.video_id, "reason": one.reason})
                self._found[one.video_id] = one
        allowed = allowed_failures(self.num_videos)
        if latest and self.num_bad > allowed:
            last = next(one for one in reversed(self._found.values()) if one.reason != NO_SOUND)
            raise DataError(
                f"{self.path}: {self.num_bad} of {self.num_videos} videos cannot be read, "
                f"{allowed} are allowed (1 %, at least 3); the last one is {last.video_id}: "
                f"{last.reason}. Repair them and delete this file, or train on a list without them"
            )

    def _catch_up(self) -> None:
        """Read the lines that were written since the last time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            ended, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(ended) + len(newline)
        for line in ended.split(b"\n"):
            with suppress(ValueError, KeyError, TypeError):
                value = json.loads(line)
                self._found.setdefault(value["video"], Replaced(value["video"], value["reason"]))
