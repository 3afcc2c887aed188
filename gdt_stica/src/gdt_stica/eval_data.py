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

from gdt_stica.data import Problem, usable_videos

LISTED = 3


@dataclass(frozen=True)
class Fold:
    """One split of a data set on disk.

    name: "1", "2", "3". train, test: [N] int64 numbers of videos in `source`, in its order; of the
    training videos those that can be opened. classes: sorted names of the class folders; the place
    of a name is its number. excluded: training video to the reason why it is left out.
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
        return (
            f"{self.dataset} fold {self.name}: {len(self.train)} training videos{left_out}, "
            f"{len(self.test)} test videos, {len(self.classes)} classes"
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
    num_data_samples: int | None = None,
    workers: int = 0,
) -> list[Fold]:
    """The folds `numbers` of the videos below `root`; every video is opened once.

    root: ROOT/CLASS/video or ROOT/SPLIT/CLASS/video, with or without a slash at its end, or a CSV
    list with labels. The lists decide what is trained on and what is tested, also where the videos
    lie in folders train and test. lists: what `ssvideo_core.datasets.splits.read_splits` reads;
    None: the official ones of `dataset`. num_data_samples: the first so many training videos.

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
    ids = [source.entry(index).video_id for index in range(len(source))]
    where = f"{root}, {dataset} fold {split.name}"
    chosen = {}
    for part, listed in (("training", split.train), ("test", split.test)):
        chosen[part] = select(ids, listed)
        _check_part(f"{where}: {part} videos", [ids[i] for i in chosen[part]], listed)
    _check_labels(where, source, chosen)
    # Test videos that cannot be opened stay in the list, and will be counted as failed.
    opened = {
        part: usable_videos(
            source,
            videos.tolist(),
            _accepted,
            where=root,
            expected="frames",
            num_data_samples=None,
            workers=workers,
        )
        for part, videos in chosen.items()
    }
    train = opened["training"]
    videos = np.concatenate([*chosen.values()])
    return Fold(
        dataset=dataset,
        name=split.name,
        source=source,
        train=train.indices[:num_data_samples],
        test=chosen["test"],
        classes=tuple(sorted({str(source.entry(int(i)).label) for i in videos})),
        excluded=train.excluded,
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


def _check_labels(where: str, source: FoundVideos, chosen: Mapping[str, NDArray[np.int64]]) -> None:
    labels = {
        part: {source.entry(int(video)).label for video in videos}
        for part, videos in chosen.items()
    }
    if None in labels["training"] | labels["test"]:
        raise DataError(f"{where}: videos without a class; expected folders CLASS/video")
    if unseen := sorted(map(str, labels["test"] - labels["training"])):
        raise DataError(
            f"{where}: {len(unseen)} classes occur only in the test, {_some(unseen)}; nothing can "
            "be learned of them"
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
