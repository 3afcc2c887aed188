"""Compare a data set on disk with what it should be, before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ssvideo_core.datasets.classes import class_names
from ssvideo_core.datasets.official import OFFICIAL_COUNTS, official_videos
from ssvideo_core.datasets.splits import official_split
from ssvideo_core.errors import DataError
from ssvideo_core.loading import ordered_map
from ssvideo_core.source import VideoEntry, VideoSource, open_source

LISTED = 10  # unreadable videos that the report names


@dataclass(frozen=True)
class DataReport:
    """What was found. `str()` is the text for the user.

    expected: the tree that would be right. counts: what was counted, by name. mismatch: the first
    difference, found against expected; None without one. unreadable: video to reason; empty when
    nothing was opened. notices: what else should be known, such as ignored folders.
    """

    root: Path
    expected: str
    counts: dict[str, int]
    mismatch: str | None
    unreadable: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.mismatch is None and not self.unreadable

    def __str__(self) -> str:
        lines = [f"{self.root}", "expected:", self.expected, "found:"]
        lines += [f"  {count:>7} {name}" for name, count in self.counts.items()]
        lines += self.notices
        if self.mismatch:
            lines.append(f"first mismatch: {self.mismatch}")
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} videos cannot be read:")
            shown = list(self.unreadable.items())[:LISTED]
            lines += [f"  {video}: {reason}" for video, reason in shown]
            if len(self.unreadable) > LISTED:
                lines.append(f"  and {len(self.unreadable) - LISTED} more")
        return "\n".join([*lines, "ok" if self.ok else "not ok"])


def check_data(
    dataset: str | None, root: Path, *, decode: bool = True, workers: int = 0
) -> DataReport:
    """Look at every video of a data set.

    dataset: hmdb51 or ucf101 are compared with the official lists, as root/class/file or, for one
    of their splits, root/train/class/file and root/test/class/file. Anything else (None: without a
    name): whatever `open_source` reads; then classes of the test videos must occur in training.
    decode: open each video (one pass over its packets), with `workers` processes.
    Nothing is raised for a data set that is wrong: the report says what is.
    """
    expected = _official_tree(dataset) if dataset in OFFICIAL_COUNTS else _OWN_TREE
    try:
        source = open_source(root)
    except DataError as error:
        return DataReport(root, expected, {"videos": 0}, str(error))
    entries = [source.entry(index) for index in range(len(source))]
    if dataset in OFFICIAL_COUNTS:
        mismatch = _official_mismatch(dataset, entries)
    else:
        mismatch = _own_mismatch(entries)
    unreadable = _unreadable(source, entries, workers) if decode else {}
    return DataReport(root, expected, _count(entries), mismatch, unreadable, tuple(source.notices))


_OWN_TREE = """  ROOT/class/video, or ROOT/train/class/video and ROOT/test/class/video
  or a flat folder, ROOT/video, without labels
  or a CSV file with the column video and, where known, label, split, group"""


def _official_tree(dataset: str) -> str:
    names, videos = class_names(dataset), official_videos(dataset)
    trees = [
        f"  ROOT/{names[0]} … ROOT/{names[-1]}   {len(names)} class folders",
        f"  ROOT/{videos[0]}",
        f"  …   {len(videos)} videos",
        "  or one split:",
    ]
    for number, (train, test) in enumerate(OFFICIAL_COUNTS[dataset], start=1):
        trees.append(f"  ROOT/train/CLASS/…, ROOT/test/CLASS/…   {train}, {test} (split {number})")
    return "\n".join(trees)


def _count(entries: Iterable[VideoEntry]) -> dict[str, int]:
    entries = list(entries)
    labels = {entry.label for entry in entries if entry.label is not None}
    counts = {"videos": len(entries), "classes": len(labels)}
    for split, count in sorted(Counter(e.split for e in entries if e.split is not None).items()):
        counts[f"videos in {split}"] = count
    return counts


def _official_mismatch(dataset: str, entries: Iterable[VideoEntry]) -> str | None:
    found = {entry.video_id for entry in entries}
    if any(entry.split is not None for entry in entries):
        candidates = [_split_paths(dataset, number) for number in (1, 2, 3)]
        expected = max(candidates, key=lambda paths: len(paths & found))
    else:
        expected = set(official_videos(dataset))
    missing, unexpected = expected - found, found - expected
    if not missing and not unexpected:
        return None
    first = min(missing | unexpected)
    if first in unexpected:
        what = f"found {first}, which is not in the official list"
    elif not any(video.startswith(_folder(first)) for video in found):
        what = f"expected {first}, but the folder {_folder(first)} is not there"
    else:
        what = f"expected {first}, which is not there"
    return f"{what} ({len(missing)} of {len(expected)} missing, {len(unexpected)} unexpected)"


def _split_paths(dataset: str, number: int) -> set[str]:
    split = official_split(dataset, number)
    return {f"train/{v}" for v in split.train} | {f"test/{v}" for v in split.test}


def _folder(video_id: str) -> str:
    return video_id.rpartition("/")[0] + "/"


def _own_mismatch(entries: Iterable[VideoEntry]) -> str | None:
    train = {entry.label for entry in entries if entry.split == "train"}
    for entry in entries:
        if train and entry.split == "test" and entry.label not in train:
            return f"found {entry.video_id} of class '{entry.label}', which has no training video"
    return None


def _unreadable(source: VideoSource, entries: list[VideoEntry], workers: int) -> dict[str, str]:
    reasons = ordered_map(
        partial(_reason, source),
        range(len(entries)),
        workers=workers,
        name=lambda index: entries[index].video_id,
    )
    pairs = zip(entries, reasons, strict=True)
    return {entry.video_id: reason for entry, reason in pairs if reason is not None}


def _reason(source: VideoSource, index: int) -> str | None:
    try:
        return source.info(index).damage
    except DataError as error:
        return str(error)
