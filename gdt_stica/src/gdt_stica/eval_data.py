"""What is trained on and what is tested: official splits over a folder of videos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.datasets.splits import Split, find_splits, group_of
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.features import Row
from ssvideo_core.results import canonical_json
from ssvideo_core.source import FoundVideos, open_source
from ssvideo_core.video_index import VideoIndex, default_index_path
from ssvideo_core.views import VideoInfo

from gdt_stica.data import Problem, TrainingVideos, usable_videos

LISTED = 3


@dataclass(frozen=True)
class Fold:
    """One split of a data set on disk.

    name: "1", "2", "3". train, test: [N] int64 numbers of videos in `source`, in its order; of the
    training videos those that can be opened, none where nothing is trained. classes: sorted names
    of the class folders; the place of a name is its number. excluded: training video to the reason
    why it is left out.
    """

    dataset: str
    name: str
    source: FoundVideos = field(repr=False)
    train: NDArray[np.int64] = field(repr=False)
    test: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...]
    excluded: Mapping[str, str]

    def __str__(self) -> str:
        left_out = f", {len(self.excluded)} left out" if self.excluded else ""
        trained = f"{len(self.train)} training videos{left_out}, " if len(self.train) else ""
        return (
            f"{self.dataset} fold {self.name}: {trained}{len(self.test)} test videos, "
            f"{len(self.classes)} classes"
        )

    def labels(self, videos: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the classes of videos of `source`."""
        number = {name: place for place, name in enumerate(self.classes)}
        return np.array([number[str(self.source.entry(int(v)).label)] for v in videos], np.int64)

    def rows(self, videos: NDArray[np.int64]) -> list[Row]:
        """Id, class and group of each. Videos of other names than the data set's have no group."""
        entries = [self.source.entry(int(video)) for video in videos]
        return [
            (entry.video_id, entry.label, _group(self.dataset, entry.video_id) or entry.group)
            for entry in entries
        ]

    @property
    def data_hash(self) -> str:
        """sha256 of ids, labels and groups of both parts."""
        parts = {"train": self.rows(self.train), "test": self.rows(self.test)}
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def find_folds(
    root: Path | None,
    dataset: str,
    numbers: Sequence[int],
    *,
    lists: Path | None = None,
    training: bool = True,
    num_data_samples: int | None = None,
    workers: int = 0,
) -> list[Fold]:
    """The folds `numbers` of the videos below `root`; every video is opened once.

    root: ROOT/CLASS/video or ROOT/SPLIT/CLASS/video, with or without a slash at its end, or a CSV
    list with labels. The lists decide what is trained on and what is tested, also where the videos
    lie in folders train and test. lists: what `ssvideo_core.datasets.splits.read_splits` reads;
    None: the official ones of `dataset`. training: whether training videos are used; otherwise the
    lists tell their classes, and they need not be there. num_data_samples: the first so many
    training videos.

    Raises ConfigError without a root; DataError for videos without a class, listed videos that are
    not there or there twice, folds that the lists do not have, classes that occur only in the test,
    and more than 1 % (and more than 3) of a part's videos that cannot be opened.
    """
    if root is None:
        raise ConfigError("which videos? Give --root_dir, a folder of class folders")
    if lists is not None and not lists.exists():
        raise DataError(f"{lists} does not exist; expected the lists of the splits of {dataset}")
    splits = find_splits(dataset, names=[str(number) for number in numbers], files=lists)
    source = open_source(root, index=VideoIndex(default_index_path()))
    if not training:
        return [_find_test(root, source, split, dataset, workers) for split in splits]
    return [_find_fold(root, source, split, dataset, num_data_samples, workers) for split in splits]


def select(video_ids: Sequence[str], listed: Iterable[str]) -> NDArray[np.int64]:
    """Numbers of the videos that are listed, known by class folder and file name.

    What lies before the class, a root or the name of a split, does not matter. A name that stands
    there several times is taken several times.
    """
    wanted = {_class_and_file(video) for video in listed}
    return np.array(
        [i for i, video in enumerate(video_ids) if _class_and_file(video) in wanted], np.int64
    )


def repeated(videos: NDArray[np.int64], times: int) -> NDArray[np.int64]:
    """All of them, then all of them again: another video follows each, to stand in for it."""
    return np.tile(videos, times)


def _find_fold(
    root: Path,
    source: FoundVideos,
    split: Split,
    dataset: str,
    num_data_samples: int | None,
    workers: int,
) -> Fold:
    train = _select_part(root, source, split, dataset, "training")
    test = _select_part(root, source, split, dataset, "test")
    trained, tested = (_classes(source, videos) for videos in (train, test))
    if unseen := sorted(tested - trained):
        raise DataError(
            f"{root}, {dataset} fold {split.name}: {len(unseen)} classes occur only in the test, "
            f"{_some(unseen)}; nothing can be learned of them"
        )
    opened = _open(root, source, train, workers)
    _open(root, source, test, workers)
    return Fold(
        dataset=dataset,
        name=split.name,
        source=source,
        train=opened.indices[:num_data_samples],
        test=test,
        classes=tuple(sorted(trained)),
        excluded=opened.excluded,
    )


def _find_test(root: Path, source: FoundVideos, split: Split, dataset: str, workers: int) -> Fold:
    """A fold of which nothing is trained. Classes without a test video are called as listed."""
    test = _select_part(root, source, split, dataset, "test")
    folders = {PurePosixPath(video).parent.name for video in split.test}
    untested = {PurePosixPath(video).parent.name for video in split.train} - folders
    _open(root, source, test, workers)
    return Fold(
        dataset=dataset,
        name=split.name,
        source=source,
        train=np.array([], np.int64),
        test=test,
        classes=tuple(sorted(_classes(source, test) | untested)),
        excluded={},
    )


def _select_part(
    root: Path, source: FoundVideos, split: Split, dataset: str, part: str
) -> NDArray[np.int64]:
    """The videos of "training" or "test", each listed one once."""
    listed = split.train if part == "training" else split.test
    ids = [source.entry(index).video_id for index in range(len(source))]
    found = select(ids, listed)
    what = f"{root}, {dataset} fold {split.name}: {part} videos"
    _check_part(what, [ids[i] for i in found], listed)
    if any(source.entry(int(video)).label is None for video in found):
        raise DataError(f"{what} without a class; expected folders CLASS/video")
    return found


def _classes(source: FoundVideos, videos: NDArray[np.int64]) -> set[str]:
    return {str(source.entry(int(video)).label) for video in videos}


def _open(
    root: Path, source: FoundVideos, videos: NDArray[np.int64], workers: int
) -> TrainingVideos:
    """Those that can be opened. Test videos that cannot stay in the list, and count as failed."""
    return usable_videos(
        source,
        videos.tolist(),
        _accepted,
        where=root,
        expected="frames",
        num_data_samples=None,
        workers=workers,
    )


def _check_part(what: str, found: Sequence[str], listed: Sequence[str]) -> None:
    counts = Counter(map(_class_and_file, found))
    twice = [video for video, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{what}: {_some(twice)} lie in several folders; expected each class/file once"
        )
    if absent := [video for video in listed if _class_and_file(video) not in counts]:
        raise DataError(
            f"{what}: {len(absent)} of the {len(listed)} that are listed are not there, "
            f"{_some(absent)}; expected CLASS/video or SPLIT/CLASS/video below the folder. Compare "
            "it with `python -m gdt_stica check-data`, or give lists of what is there"
        )


def _accepted(info: VideoInfo) -> Problem | None:
    return None


def _class_and_file(video: str) -> str:
    return "/".join(PurePosixPath(video).parts[-2:])


def _group(dataset: str, video_id: str) -> str | None:
    try:
        return group_of(dataset, video_id)
    except DataError:
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
