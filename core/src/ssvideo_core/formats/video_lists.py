"""Videos in a CSV file with the columns video[,label][,split][,group]."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from ssvideo_core.errors import DataError
from ssvideo_core.views import VideoEntry

COLUMNS = ("video", "label", "split", "group")


def read_list(path: Path, root: Path) -> tuple[list[VideoEntry], list[str]]:
    """The videos of a list in its order, and what the user should be told of how it was read.

    `video` is a path relative to `root`. Empty cells are None. Other columns are ignored, and that
    is said.

    Raises DataError, with the line, for a missing column `video`, a line with more or fewer cells
    than columns, an empty or repeated video, a path that is absolute or has "..", a video that is
    no file below `root`, and for labels on some lines only.
    """
    entries: list[VideoEntry] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for cells in filter(None, reader):
                entries.append(_entry(f"{path}, line {reader.line_num}", header, cells, root))
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error
    if not entries:
        raise DataError(f"{path} lists no videos; expected a line of columns, then one a video")
    _check_all(path, entries, lines)
    unused = [name for name in header if name not in COLUMNS]
    return entries, [f"{path}: unused columns: {', '.join(unused)}"] if unused else []


def _check_header(path: Path, header: list[str]) -> None:
    if "video" not in header or len(set(header)) < len(header):
        raise DataError(
            f"{path} has the columns {', '.join(header) or 'none'}; its first line must name them: "
            "video[,label][,split][,group], each once"
        )


def _entry(place: str, header: list[str], cells: list[str], root: Path) -> VideoEntry:
    if len(cells) != len(header):
        raise DataError(f"{place}: found {len(cells)} cells, expected {len(header)}")
    row = {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)}
    video = row["video"]
    if video is None:
        raise DataError(f"{place}: the column 'video' is empty")
    inside = PurePosixPath(video)
    if inside.is_absolute() or ".." in inside.parts:
        raise DataError(f"{place}: '{video}' leaves {root}; expected a path below it, without '..'")
    if not (root / inside).is_file():
        raise DataError(f"{place}: '{video}' is no file below {root}")
    return VideoEntry(inside.as_posix(), row.get("label"), row.get("split"), row.get("group"))


def _check_all(path: Path, entries: list[VideoEntry], lines: list[int]) -> None:
    seen: dict[str, int] = {}
    for entry, line in zip(entries, lines, strict=True):
        if entry.video_id in seen:
            first = seen[entry.video_id]
            raise DataError(f"{path}, line {line}: '{entry.video_id}' is on line {first} already")
        seen[entry.video_id] = line
    unlabelled = [n for n, e in zip(lines, entries, strict=True) if e.label is None]
    if 0 < len(unlabelled) < len(entries):
        raise DataError(
            f"{path}, line {unlabelled[0]}: no label, as on {len(unlabelled)} of {len(entries)} "
            "lines; expected a label on all or on none"
        )
