"""Which videos are for training and which for test, and which belong together.

A video is named `class/file`, the POSIX path from the root of the data set.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ssvideo_core.datasets.official import OFFICIAL_COUNTS, packaged_list
from ssvideo_core.errors import DataError

_TRAIN, _TEST, _UNUSED = "train", "test", "unused"
_TAGS = {"0": _UNUSED, "1": _TRAIN, "2": _TEST}
_CSV_VALUES = {
    **_TAGS,
    **{name: name for name in (_TRAIN, _TEST, _UNUSED)},
    **dict.fromkeys(("", "val", "validation"), _UNUSED),
}
_HMDB51_FILE = re.compile(r"(?P<class_name>.+)_test_split(?P<split>\d+)\.txt")
_UCF101_FILE = re.compile(r"(?P<part>train|test)list0*(?P<split>\d+)\.txt")
_UCF101_GROUP = re.compile(r".+_(?P<group>g\d+)_c\d+$")
# <source>_<class>_<body part>_<camera motion>_np<people>_<view>_<quality>_<number>
_HMDB51_TAIL = r"_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+$"

Assignment = tuple[str, str]  # video id, one of train, test, unused


@dataclass(frozen=True)
class Split:
    """Videos for training and for test, in the order of their list; no video is in both.

    name: "1", "2", "3" of several splits, "all" of a single one.
    """

    dataset: str
    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@cache
def official_split(dataset: str, number: int) -> Split:
    """An official split of hmdb51 or ucf101, from the lists in this package.

    number: 1, 2 or 3. Ids are `class/file.avi`. Raises DataError for another data set or number,
    and when the packaged list does not have the official counts.
    """
    if dataset not in OFFICIAL_COUNTS or number not in (1, 2, 3):
        raise DataError(
            f"there is no split {number} of '{dataset}' in this package; there are splits 1, 2, 3 "
            "of hmdb51 and ucf101. Give your own lists with --split-files"
        )
    split = _from_csv(packaged_list(dataset), f"{dataset}.csv", dataset)[str(number)]
    found, expected = (len(split.train), len(split.test)), OFFICIAL_COUNTS[dataset][number - 1]
    if found != expected:
        raise DataError(
            f"the packaged list of {dataset}, split {number}, is damaged: {found[0]} training and "
            f"{found[1]} test videos, expected {expected[0]} and {expected[1]}. Install it again"
        )
    return split


def read_splits(path: Path, *, dataset: str) -> dict[str, Split]:
    """Splits from files of your own, by name.

    path, one of
    - a folder of HMDB51's form: `<class>_test_split<k>.txt`, each line a file name and 1 (train),
      2 (test) or 0 (unused); "test" in the name of the file means nothing;
    - a folder of UCF101's form: `trainlist<k>.txt` and `testlist<k>.txt`, each line `class/file`,
      with or without a number after it;
    - a CSV file with a column `video` and a column `split`, or columns `split1`, `split2`, …, with
      train, test, or unused (also 1, 2, 0; val, validation or nothing count as unused);
    - the root of a data set with folders train/class and test/class.

    Classes and counts are free. Raises DataError, with file and line, for anything else, for a
    video that is listed twice in a split, and for a split without training or without test videos.
    """
    if path.is_file():
        return _from_csv(_read(path), str(path), dataset)
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if any(_HMDB51_FILE.fullmatch(name) for name in names):
        assignments = _from_hmdb51_files(path, names)
    elif any(_UCF101_FILE.fullmatch(name) for name in names):
        assignments = _from_ucf101_files(path, names)
    elif {_TRAIN, _TEST} <= set(names):
        assignments = {"all": _from_split_folders(path)}
    else:
        raise DataError(
            f"{path} holds no splits: expected a CSV file with columns video and split, or a "
            "folder with <class>_test_split1.txt files, with trainlist01.txt and testlist01.txt, "
            "or with videos in train/class and test/class"
        )
    return {name: _split(rows, str(path), dataset, name) for name, rows in assignments.items()}


def find_splits(
    dataset: str, *, names: Sequence[str] = (), files: Path | None = None
) -> list[Split]:
    """The splits a command asks for: from `files`, else the official ones of `dataset`.

    names: which of them; all if empty. Raises DataError when there are none or a name is unknown.
    """
    if files is not None:
        found = read_splits(files, dataset=dataset or files.stem)
    elif dataset in OFFICIAL_COUNTS:
        found = {str(number): official_split(dataset, number) for number in (1, 2, 3)}
    else:
        raise DataError(
            f"the splits of '{dataset}' are not in this package (it has hmdb51 and ucf101); "
            "give them with --split-files"
        )
    if unknown := [name for name in names if name not in found]:
        raise DataError(
            f"{files or dataset} has no split named {', '.join(unknown)}; "
            f"there is {', '.join(found)}"
        )
    return [found[name] for name in names or found]


def group_of(dataset: str, video_id: str) -> str | None:
    """What a video was cut from: videos of one group are not independent.

    ucf101: class and group number, "Biking/g07". The class is the folder: the files of
    HandstandPushups say HandStandPushups. hmdb51: class and source, the part of the file name
    before the class, "wave/TrumanShow"; sources occur in several classes, but no (class, source)
    pair is in training and test of an official split. None for any other data set. Raises DataError
    for a name that is not of the data set's form.
    """
    if dataset not in OFFICIAL_COUNTS:
        return None
    class_name, _, file = video_id.rpartition("/")
    class_name, stem = class_name.rpartition("/")[2], file.rpartition(".")[0]
    if dataset == "ucf101":
        pattern, form = _UCF101_GROUP, "v_Class_gNN_cNN"
    else:
        pattern = re.compile(f"(?P<group>.+)_{re.escape(class_name)}{_HMDB51_TAIL}")
        form = "source_class_body_motion_npN_view_quality_N"
    match = pattern.fullmatch(stem) if class_name else None
    if match is None:
        raise DataError(f"'{video_id}' is no name of {dataset}: expected class/{form}.avi")
    return f"{class_name}/{match['group']}"


def _from_hmdb51_files(folder: Path, names: Iterable[str]) -> dict[str, list[Assignment]]:
    splits: dict[str, list[Assignment]] = {}
    for name in names:
        if match := _HMDB51_FILE.fullmatch(name):
            rows = splits.setdefault(str(int(match["split"])), [])
            for place, line in _lines(folder / name):
                video, _, tag = line.rpartition(" ")
                if not video.strip() or tag not in _TAGS:
                    raise DataError(f"{place}: found '{line}', expected a file name and 0, 1 or 2")
                rows.append((f"{match['class_name']}/{video.strip()}", _TAGS[tag]))
    return dict(sorted(splits.items(), key=lambda item: int(item[0])))


def _from_ucf101_files(folder: Path, names: Iterable[str]) -> dict[str, list[Assignment]]:
    splits: dict[str, list[Assignment]] = {}
    for name in names:
        if match := _UCF101_FILE.fullmatch(name):
            rows = splits.setdefault(str(int(match["split"])), [])
            for place, line in _lines(folder / name):
                video = re.sub(r"\s+\d+$", "", line)
                if "/" not in video:
                    raise DataError(f"{place}: found '{line}', expected class/file")
                rows.append((video, match["part"]))
    return dict(sorted(splits.items(), key=lambda item: int(item[0])))


def _from_split_folders(root: Path) -> list[Assignment]:
    from ssvideo_core.source import open_source

    source = open_source(root)
    entries = (source.entry(index) for index in range(len(source)))
    return [(entry.video_id, _CSV_VALUES[entry.split or ""]) for entry in entries]


def _from_csv(text: str, place: str, dataset: str) -> dict[str, Split]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        columns = [name for name in header if re.fullmatch(r"split\d*", name)]
        if "video" not in header or not columns:
            raise DataError(
                f"{place} has columns {', '.join(header) or 'none'}; expected video and split, or "
                "video and split1, split2, …"
            )
        splits: dict[str, list[Assignment]] = {column: [] for column in columns}
        for cells in filter(None, reader):
            row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            for column, rows in splits.items():
                rows.append(_assignment(row, column, f"{place}, line {reader.line_num}"))
    except csv.Error as error:
        raise DataError(f"{place}, line {reader.line_num}: {error}; expected CSV") from None
    named = {column.removeprefix("split") or "all": rows for column, rows in splits.items()}
    return {name: _split(rows, place, dataset, name) for name, rows in named.items()}


def _assignment(row: Mapping[str, str], column: str, place: str) -> Assignment:
    video, value = row.get("video"), row.get(column)
    if not video or value not in _CSV_VALUES:
        raise DataError(
            f"{place}: found video '{video}' and {column} '{value}', expected a video and train, "
            "test or unused"
        )
    return PurePosixPath(video).as_posix(), _CSV_VALUES[value]


def _split(rows: Sequence[Assignment], place: str, dataset: str, name: str) -> Split:
    seen: dict[str, str] = {}
    for video, part in rows:
        if video in seen:
            raise DataError(
                f"{place}, split {name}: '{video}' is listed twice, for {seen[video]} and {part}"
            )
        seen[video] = part
    train, test = (tuple(v for v, part in rows if part == wanted) for wanted in (_TRAIN, _TEST))
    if not train or not test:
        raise DataError(
            f"{place}, split {name}: {len(train)} training and {len(test)} test videos among "
            f"{len(rows)}; expected some of both"
        )
    return Split(dataset, name, train, test)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(file and line for messages, text without outer spaces), without empty lines."""
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from None
