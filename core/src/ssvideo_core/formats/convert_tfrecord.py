"""Videos to shards of records, as BraVe's and DMVR's readers want them.

Differs from their own writers in what went wrong there: labels are positions in one list for all
parts of a data set, every frame is encoded by itself instead of cutting a stream of JPEGs, sound is
float, and an interrupted conversion goes on.

Video i of a part goes to shard i mod the number of shards; one that fails leaves only a gap. So
shards do not depend on the number of workers, nor on where a conversion was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ssvideo_core.blocks import Failure
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.datasets.official import OFFICIAL_COUNTS
from ssvideo_core.datasets.splits import Split
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.extras import optional_module
from ssvideo_core.feature_writer import allowed_failures
from ssvideo_core.files import remove_leftovers, write_text
from ssvideo_core.formats.conversion_ledger import Ledger
from ssvideo_core.formats.flow_frames import opencv
from ssvideo_core.formats.tfrecord import (
    CLASSES,
    FAILURES,
    read_record,
    record_offsets,
    shard_path,
    write_records,
)
from ssvideo_core.formats.video_records import EncodeVideo, RecordForm
from ssvideo_core.loading import ordered_map
from ssvideo_core.progress import Meter, Report
from ssvideo_core.source import VideoFiles, VideoSource

ON_BAD = ("skip", "raise")


@dataclass(frozen=True)
class Part:
    """Videos that share shards: their folder below the output ("" is itself), their numbers."""

    folder: str
    videos: tuple[int, ...]


@dataclass(frozen=True)
class Converted:
    """What a finished conversion holds. failures: reason by video id."""

    out: Path
    shards: tuple[Path, ...]
    num_records: int
    failures: Mapping[str, str]


def parts_of(source: VideoSource, splits: Sequence[Split] = ()) -> list[Part]:
    """What goes to which folder.

    With splits split_K/train and split_K/test, in the order of their lists. Without, all in the
    output itself; but the parts of a source that is divided (root/train/class, a column `split`)
    stay apart, each in a folder of its name.

    Raises DataError for videos of a split that the source does not have, and for a part whose name
    is no folder name.
    """
    entries = [source.entry(index) for index in range(len(source))]
    if not splits:
        numbers: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            numbers.setdefault(entry.split or "", []).append(index)
        if wrong := [name for name in numbers if name and not is_file_name(name)]:
            raise DataError(f"a split is named '{wrong[0]}', expected a name for a folder")
        return [Part(name, tuple(videos)) for name, videos in sorted(numbers.items())]
    known = {entry.video_id: index for index, entry in enumerate(entries)}
    parts = []
    for split in splits:
        for name, videos in (("train", split.train), ("test", split.test)):
            if absent := [video for video in videos if video not in known]:
                raise DataError(
                    f"{len(absent)} of {len(videos)} {name} videos of {split.dataset}, split "
                    f"{split.name}, are not there, the first is {absent[0]}; check-data compares a "
                    "folder with the official lists"
                )
            folder = f"split_{split.name}/{name}"
            parts.append(Part(folder, tuple(known[video] for video in videos)))
    return parts


def classes_of(source: VideoSource, dataset: str = "") -> list[str]:
    """Class names in Python's order, over all videos whatever their part; none without labels.

    The position of a name is its label. dataset: hmdb51 and ucf101 have their official names, also
    when videos of some are missing. Raises DataError for a label that is not among them.
    """
    labels = {source.entry(index).label for index in range(len(source))} - {None}
    found = sorted(label for label in labels if label is not None)
    if dataset not in OFFICIAL_COUNTS or not found:
        return found
    names = class_names(dataset, "alphabetical")
    if unknown := [label for label in found if label not in names]:
        raise DataError(f"{dataset} has no class '{unknown[0]}'; expected names as {names[0]}")
    return names


def is_file_name(name: str) -> bool:
    """Whether `name` stays in its folder and is not hidden."""
    return bool(name) and name[0] != "." and not set(name) & {"/", "\\", "\0"}


def convert(
    source: VideoSource,
    out: Path,
    *,
    name: str,
    parts: Sequence[Part],
    classes: Sequence[str] = (),
    num_shards: int = 10,
    form: RecordForm | None = None,
    workers: int = 0,
    on_bad: str = "skip",
    progress: Report | None = None,
) -> Converted:
    """Write OUT/PART/NAME-%05d-of-%05d for each part, one record a video.

    A record holds frames, sound where there is some (zeros stand for what is missing of it), flow
    where `form` asks for it, label and class name, the video's id as file name, and 0 and its
    length as times. A video of several parts is decoded for the first; the others copy its record.
    Beside them: classes.txt (a name a line, in the order of labels), failures.csv, and convert.json
    with the request and what each finished shard holds.

    on_bad: "skip" lists a video that cannot be read and goes on, up to `allowed_failures`; "raise"
    stops at the first. A folder in which the same conversion was interrupted is continued: finished
    shards are kept, except those of a video file whose size or time of change differs.
    Raises ConfigError for wrong options and a folder with another request, DataError when too many
    videos fail, and with "raise" the video's error.
    """
    form = form or RecordForm()
    _check_options(name, num_shards, form, on_bad, workers)
    shards = {
        shard_path(out / part.folder / name, shard, num_shards): part.videos[shard::num_shards]
        for part in parts
        for shard in range(num_shards)
    }
    files = {path: _files(source, videos) for path, videos in shards.items()}
    ledger = Ledger(out, _request(source, parts, classes, name, num_shards, form), files)
    pending = [path for path in shards if not ledger.is_finished(path)]
    if on_bad == "raise" and ledger.failures():
        raise DataError(f"{out / FAILURES} lists failed videos; accept them with on_bad 'skip'")
    if classes:
        write_text(out / CLASSES, "".join(f"{label}\n" for label in classes))
    encode = EncodeVideo(source, tuple(classes), form, () if on_bad == "raise" else (DataError,))
    copies = _Copies(source, shards, ledger)
    total, left = (sum(len(shards[path]) for path in paths) for paths in (shards, pending))
    meter = Meter(total, total - left, progress)
    limit = allowed_failures(len({video for part in parts for video in part.videos}))
    with closing(_encoded(encode, map(copies.own, pending), workers)) as results:
        watched = meter.watch(results)
        for path in pending:
            failures: dict[str, str] = {}
            records = _accepted(copies.merge(path, watched), failures, ledger, meter, limit)
            ledger.finish(path, write_records(path, records), failures)
    if not ledger.num_records():
        raise DataError(f"{out}: every video failed; {FAILURES} there says why")
    for folder in {path.parent for path in shards} | {out}:
        remove_leftovers(folder)
    return Converted(out, tuple(shards), ledger.num_records(), ledger.failures())


def _check_options(name: str, num_shards: int, form: RecordForm, on_bad: str, workers: int) -> None:
    if not is_file_name(name):
        raise ConfigError(f"name is '{name}', expected the beginning of a file's name")
    if num_shards < 1:
        raise ConfigError(f"num_shards is {num_shards}, expected 1 or more")
    if on_bad not in ON_BAD:
        raise ConfigError(f"on_bad is '{on_bad}', expected one of {', '.join(ON_BAD)}")
    if workers < 0:
        raise ConfigError(f"workers is {workers}, expected 0 or more")
    form.check()
    for module in ("google_crc32c", "google.protobuf", "simplejpeg"):
        optional_module(module, "tfrecord")  # found missing before anything is written
    if form.flow:
        opencv()


def _request(
    source: VideoSource,
    parts: Sequence[Part],
    classes: Sequence[str],
    name: str,
    num_shards: int,
    form: RecordForm,
) -> dict[str, Any]:
    """What decides the bytes of every shard, as JSON."""
    listed = [
        [part.folder, [[(e := source.entry(v)).video_id, e.label] for v in part.videos]]
        for part in parts
    ]
    videos = hashlib.sha256(json.dumps([listed, list(classes)]).encode()).hexdigest()
    return {"name": name, "num_shards": num_shards, **asdict(form), "videos": videos}


def _files(source: VideoSource, videos: Iterable[int]) -> str:
    """A hash of size and time of change of each video, "" where they are no files."""
    if not isinstance(source, VideoFiles):
        return ""
    facts = []
    for video in videos:
        try:
            status = source.path(video).stat()
            facts.append((status.st_size, status.st_mtime_ns))
        except OSError:  # decoding says what is wrong
            facts.append((-1, -1))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _encoded(
    encode: EncodeVideo, shards: Iterable[Sequence[int]], workers: int
) -> Generator[bytes | Failure, None, None]:
    # One pass over all shards: workers go on reading while one is written.
    videos = chain.from_iterable(shards)
    yield from ordered_map(
        encode, videos, workers=workers, name=lambda video: encode.source.entry(video).video_id
    )


def _accepted(
    results: Iterable[bytes | Failure],
    failures: dict[str, str],
    ledger: Ledger,
    meter: Meter,
    limit: int,
) -> Iterator[bytes]:
    """The records among the results of a shard; its `failures` are filled in.

    Raises DataError when more than `limit` videos of all shards have failed.
    """
    for result in results:
        meter.advance(failed=isinstance(result, Failure))
        if not isinstance(result, Failure):
            yield result
            continue
        failures[result.video_id] = result.reason
        bad = ledger.failures() | failures
        if len(bad) > limit:
            ledger.list_failures(bad)
            raise DataError(
                f"{ledger.out}: {len(bad)} videos failed, {limit} are allowed (1 %, at least 3); "
                f"the last one is {result.video_id}: {result.reason}. Repair those that {FAILURES} "
                "there lists and give the same command again: only their shards are made again; or "
                "convert a list without them into another folder"
            )


class _Copies:
    """Which shard decodes a video: the first that has it. Later ones copy its record from there."""

    def __init__(
        self, source: VideoSource, shards: Mapping[Path, Sequence[int]], ledger: Ledger
    ) -> None:
        self._source = source
        self._shards = shards
        self._ledger = ledger
        self._first: dict[int, Path] = {}
        for path, videos in shards.items():
            for video in videos:
                self._first.setdefault(video, path)
        self._places: dict[Path, dict[int, int]] = {}

    def own(self, path: Path) -> list[int]:
        """The videos that are decoded for this shard."""
        return [video for video in self._shards[path] if self._first[video] == path]

    def merge(self, path: Path, decoded: Iterator[bytes | Failure]) -> Iterator[bytes | Failure]:
        """All results of a shard in order; its own ones come from `decoded`."""
        for video in self._shards[path]:
            first = self._first[video]
            yield next(decoded) if first == path else self._copy(first, video)

    def _copy(self, path: Path, video: int) -> bytes | Failure:
        """What the finished shard has of the video. Raises DamagedRecordError."""
        if path not in self._places:
            self._places[path] = self._records(path)
        if video in self._places[path]:
            return read_record(path, self._places[path][video])
        video_id = self._source.entry(video).video_id
        return Failure(video, video_id, self._ledger.failures_of(path)[video_id])

    def _records(self, path: Path) -> dict[int, int]:
        """The byte at which the record of each video begins."""
        failed = self._ledger.failures_of(path)
        videos = self._shards[path]
        kept = [video for video in videos if self._source.entry(video).video_id not in failed]
        return dict(zip(kept, record_offsets(path)[:, 0].tolist(), strict=True))
