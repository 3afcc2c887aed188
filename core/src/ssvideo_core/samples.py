"""One video as training sees it, and many of them as arrays. What a worker does, and what follows.

Axes: B samples of a batch, T frames, H, W pixels, N samples of sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.blocks import NO_SOUND
from ssvideo_core.errors import ConfigError, DataError, NoSoundError
from ssvideo_core.feature_writer import allowed_failures
from ssvideo_core.randomness import generator
from ssvideo_core.source import VideoSource
from ssvideo_core.views import Clip, VideoInfo, View

NO_LABEL = -1
MAX_REPLACED_IN_A_ROW = 1000

SampleViews = Callable[[VideoInfo, np.random.Generator], Sequence[View]]
"""What to read of a video. Pure: all draws of a sample come from the generator it is given."""


@dataclass(frozen=True)
class Task:
    """Sample `index`, 0 to num_samples - 1, as it is in one epoch."""

    epoch: int
    index: int


@dataclass(frozen=True)
class Replaced:
    """A video that another one stands in for. reason: the error's text, or `blocks.NO_SOUND`."""

    video_id: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """One clip a view, with the draws for its augmentation.

    index: of the video that was read, which is not the task's where that one was replaced.
    label: its class, NO_LABEL (-1) without labels. replaced: the videos it stands in for, in order.
    """

    index: int
    label: int
    clips: tuple[Clip, ...]
    params: tuple[Mapping[str, NDArray[Any]], ...]
    replaced: tuple[Replaced, ...] = ()


class SampleLoader:
    """Reads the sample of a task; picklable, so that workers can.

    sample_views: a function of a module, or an object of a class of one, for pickling. Workers
        import that module: without torch or jax in it they start a second earlier.
    indices: [N] the videos of `source` that are samples 0 to N - 1; None: all of them.
    labels: [N] the class of each sample (not of each video of the source).

    Raises ConfigError for no samples, indices outside of the source, and another number of labels.
    """

    def __init__(
        self,
        source: VideoSource,
        sample_views: SampleViews,
        *,
        seed: int,
        indices: NDArray[np.int64] | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.source, self.sample_views, self.seed = source, sample_views, seed
        self.indices = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        if not len(self):
            raise ConfigError("there are no videos to train on, expected 1 or more")
        if self.indices.min() < 0 or self.indices.max() >= len(source):
            raise ConfigError(
                f"the samples are videos {self.indices.min()} to {self.indices.max()} of a source "
                f"with {len(source)} videos, expected 0 to {len(source) - 1}"
            )
        if self.labels is not None and len(self.labels) != len(self):
            raise ConfigError(
                f"there are {len(self.labels)} labels for {len(self)} samples, expected one each"
            )

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.indices)

    def name(self, task: Task) -> str:
        """The id of the video of a task."""
        return self.source.entry(int(self.indices[task.index])).video_id

    def __call__(self, task: Task) -> Sample:
        """The sample of `task`; a video that cannot be read is replaced by the next index.

        The next after the last is the first. A replacement begins with the generator of the task
        again, as if nothing had been drawn: it depends on the task alone, not on how far the bad
        video came, nor on which process read it.

        Raises DataError, with the first video's reason, when more bad videos follow each other
        than a whole run may have (`feature_writer.allowed_failures`; those without sound do not
        count), when all videos were tried, and after MAX_REPLACED_IN_A_ROW of any kind.
        """
        replaced: list[Replaced] = []
        limit = min(len(self), MAX_REPLACED_IN_A_ROW)
        while len(replaced) < limit and num_bad(replaced) <= allowed_failures(len(self)):
            index = (task.index + len(replaced)) % len(self)
            try:
                return self._read(index, task, tuple(replaced))
            except DataError as error:
                reason = NO_SOUND if isinstance(error, NoSoundError) else str(error)
                replaced.append(Replaced(self.name(Task(task.epoch, index)), reason))
        raise DataError(
            f"{len(replaced)} videos in a row of {len(self)} cannot be used; expected one that can "
            f"stand in for the first of them, {replaced[0].video_id}: {replaced[0].reason}. Check "
            "the folder of the videos, or train on a list without them"
        )

    def _read(self, index: int, task: Task, replaced: tuple[Replaced, ...]) -> Sample:
        video = int(self.indices[index])
        rng = generator(self.seed, task.epoch, task.index, "views")
        views = self.sample_views(self.source.info(video), rng)
        clips = self.source.read(video, views)
        label = NO_LABEL if self.labels is None else int(self.labels[index])
        return Sample(index, label, tuple(clips), tuple(view.params for view in views), replaced)


def num_bad(replaced: Iterable[Replaced]) -> int:
    """How many of them are bad videos: one without sound is as its maker wanted it."""
    return sum(one.reason != NO_SOUND for one in replaced)


@dataclass(frozen=True)
class BatchView:
    """One view of all samples.

    frames: [B, T, H, W, 3] uint8, zeros below and to the right of smaller ones; None without.
    sizes: [B, 2] int64 height and width of each in pixels, zeros without frames.
    sound: [B, N] float32; None without. missing_samples: [B] int64 zeros that stand for no sound.
    params: [B, ...] each.
    """

    frames: NDArray[np.uint8] | None
    sizes: NDArray[np.int64]
    sound: NDArray[np.float32] | None
    missing_samples: NDArray[np.int64]
    params: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """index, label: [B] int64, as in `Sample`. views: one for each view of the samples."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    views: tuple[BatchView, ...]
    replaced: tuple[Replaced, ...]


def collate(samples: Sequence[Sample]) -> Batch:
    """The samples as arrays, in order. Pixels are copied once and remain uint8.

    Raises ValueError when the samples differ in more than height and width: in the number of views
    or frames, in the length of the sound, in what is there, or in the names or shapes of params.
    """
    num_views = _common("views", [len(sample.clips) for sample in samples])
    views = tuple(
        _collate_view([s.clips[view] for s in samples], [s.params[view] for s in samples])
        for view in range(num_views)
    )
    index = np.array([sample.index for sample in samples], np.int64)
    label = np.array([sample.label for sample in samples], np.int64)
    return Batch(index, label, views, tuple(one for s in samples for one in s.replaced))


def _collate_view(clips: Sequence[Clip], params: Sequence[Mapping[str, NDArray[Any]]]) -> BatchView:
    names = _common("params", [sorted(one) for one in params])
    frames = [clip.frames for clip in clips if clip.frames is not None]
    sound = [clip.sound for clip in clips if clip.sound is not None]
    sizes = np.zeros((len(clips), 2), np.int64)
    if _common("frames or none", [clip.frames is not None for clip in clips]):
        sizes[:] = [clip.shape[1:3] for clip in frames]
    if _common("sound or none", [clip.sound is not None for clip in clips]):
        _common("samples of sound", [len(one) for one in sound])
    return BatchView(
        frames=_padded(frames, sizes) if frames else None,
        sizes=sizes,
        sound=np.stack(sound) if sound else None,
        missing_samples=np.array([clip.missing_samples for clip in clips], np.int64),
        params={name: np.stack([np.asarray(one[name]) for one in params]) for name in names},
    )


def _padded(frames: Sequence[NDArray[np.uint8]], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    num_frames = _common("frames", [len(clip) for clip in frames])
    height, width = sizes.max(axis=0)
    make = np.empty if (sizes == sizes[0]).all() else np.zeros
    batch = make((len(frames), num_frames, height, width, 3), np.uint8)
    for row, clip in zip(batch, frames, strict=True):
        row[:, : clip.shape[1], : clip.shape[2]] = clip
    return batch


def _common(what: str, values: Sequence[Any]) -> Any:
    """The one value that all samples of a batch have."""
    for value in values:
        if value != values[0]:
            raise ValueError(
                f"samples of one batch have {values[0]} and {value} ({what}), expected equal ones"
            )
    return values[0]
