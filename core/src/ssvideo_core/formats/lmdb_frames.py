"""Videos whose frames are JPEGs in one of CoCLR's databases, and the lists that go with them.

`lmdb_records` finds the bytes, in place; `jpeg_frames` decodes those of the frames that views want.
Flow is stored as pictures too and read as such. Needs lmdb and simplejpeg (extra `lmdb`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.formats.jpeg_frames import Jpeg, frames_info, read_jpegs
from ssvideo_core.formats.lmdb_records import key_of, read_contents, reading
from ssvideo_core.formats.msgpack_arrays import byte_spans
from ssvideo_core.views import Clip, VideoEntry, VideoInfo, View

RATE_HZ = Fraction(25)  # UCF101's; databases store none
MAX_DIGITS = 12  # of a number of frames


@dataclass(frozen=True)
class ListedVideo:
    """A line of a list: `class/video`, and the frames that its author counted."""

    name: str
    num_frames: int


@dataclass(frozen=True)
class _Video:
    number: int
    counted: int
    entry: VideoEntry


class LmdbFrames:
    """A VideoSource over a database. Picklable; each process opens the file itself.

    path: the file, or a folder with data.mdb. lists: a file of `read_frame_list` for each split, by
        the split's name; without lists all videos are there, in the order of their ids.
    ending: what the ids of entries have after the `class/video` of the database; ".avi" makes them
        those of the official lists.
    rate: frames per second, which no database stores. drop_uncounted: leave out the videos of which
        0 frames were counted, as CoCLR and ViCC do with names in brackets.
    notices: what a user should be told of what is missing.

    Labels are class names. info() counts the frames that are stored; `header_frames` is what the
    list says, or the database without one. Raises DataError as `read_contents` and
    `read_frame_list` do, and for listed videos that the database does not hold; ConfigError for a
    rate that is not above 0.
    """

    def __init__(
        self,
        path: Path,
        *,
        lists: Mapping[str, Path] | None = None,
        ending: str = "",
        rate: Fraction = RATE_HZ,
        drop_uncounted: bool = False,
    ) -> None:
        if rate <= 0:
            raise ConfigError(f"{path}: {rate} frames per second, expected more than 0")
        self.path = path
        self.notices: list[str] = []
        self._rate = rate
        self._latest: tuple[int, VideoInfo, NDArray[np.int64]] | None = None
        videos = _all_videos(path, ending) if lists is None else _listed(path, lists, ending)
        uncounted = [video for video in videos if not video.counted]
        if uncounted:
            what = "left out" if drop_uncounted else "kept, as more frames may be stored"
            self.notices.append(
                f"{path}: 0 frames were counted of {len(uncounted)} of {len(videos)} videos, which "
                f"are {what}; the first is {uncounted[0].entry.video_id}"
            )
        self._videos = [video for video in videos if video.counted or not drop_uncounted]

    def __len__(self) -> int:
        return len(self._videos)

    def entry(self, index: int) -> VideoEntry:
        return self._videos[index].entry

    def info(self, index: int) -> VideoInfo:
        """Facts without decoding; the size is that of the first frame's header."""
        return self._facts(index)[0]

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        """One clip a view; a frame is decoded once. Raises as `jpeg_frames.read_jpegs`."""
        video, (info, spans) = self._videos[index], self._facts(index)
        with reading(self.path) as get:
            value = get(key_of(video.number))
            return read_jpegs(
                self.path / video.entry.video_id,
                info,
                views,
                lambda frame: self._jpeg(index, frame, value, spans),
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_latest": None}

    def _facts(self, index: int) -> tuple[VideoInfo, NDArray[np.int64]]:
        """Facts, and where each frame lies in the value: [T, 2], first byte and length."""
        if self._latest is None or self._latest[0] != index:
            self._latest = index, *self._find(index)
        return self._latest[1:]

    def _find(self, index: int) -> tuple[VideoInfo, NDArray[np.int64]]:
        video = self._videos[index]
        with reading(self.path) as get:
            value = get(key_of(video.number))
            try:
                spans = byte_spans(value)
            except ValueError as error:
                raise DecodeError(f"{self._place(index)}: {error}") from None
            if not len(spans):
                raise DecodeError(
                    f"{self._place(index)}: it has no frames. Converters that take brackets in "
                    "names for patterns leave such videos empty: make the database again"
                )
            first = self._jpeg(index, 0, value, spans)
            info = frames_info(video.entry.video_id, first, len(spans), self._rate)
        return replace(info, header_frames=video.counted), spans

    def _jpeg(self, index: int, frame: int, value: memoryview, spans: NDArray[np.int64]) -> Jpeg:
        start, length = spans[frame].tolist()
        return Jpeg(f"{self._place(index)}: frame {frame}", value[start : start + length])

    def _place(self, index: int) -> str:
        video = self._videos[index]
        return f"{self.path}, key {key_of(video.number).decode()} ({video.entry.video_id})"


def read_frame_list(path: Path) -> list[ListedVideo]:
    """A list of CoCLR's: lines `PATH,FRAMES` without a line of columns.

    The last two folders of PATH are the class and the video, with or without a slash behind; the
    others are those of another machine. Raises DataError, with the line, for anything else and for
    a video that is listed twice.
    """
    videos: dict[str, ListedVideo] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            for cells in filter(None, reader):
                video = _listed_video(cells)
                if video is None or video.name in videos:
                    raise DataError(
                        f"{path}, line {reader.line_num}: found {','.join(cells)!r}, expected "
                        "'.../class/video/,number of frames', each video once"
                    )
                videos[video.name] = video
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error
    if not videos:
        raise DataError(f"{path} lists no videos; expected lines '.../class/video/,frames'")
    return list(videos.values())


def read_class_list(path: Path) -> list[str]:
    """Class names, a line each, `name` or `index,name`; the position of a name is its label.

    `datasets.classes.class_names` has the lists of UCF101 and HMDB51. Raises DataError for a name
    that is empty or repeated.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    names = [line.rpartition(",")[2].strip() for line in text.splitlines()]
    if not names or "" in names or len(set(names)) < len(names) or "\ufffd" in text:
        raise DataError(f"{path} is no list of classes in UTF-8; expected a name a line, each once")
    return names


def _listed_video(cells: Sequence[str]) -> ListedVideo | None:
    if len(cells) != 2 or not cells[1].strip().isdecimal() or len(cells[1]) > MAX_DIGITS:
        return None
    folders = cells[0].removesuffix("/").split("/")[-2:]
    if len(folders) != 2 or not all(folders):
        return None
    return ListedVideo("/".join(folders), int(cells[1]))


def _all_videos(path: Path, ending: str) -> list[_Video]:
    contents = read_contents(path)
    pairs = zip(contents.names, contents.num_frames, strict=True)
    return [_video(n, counted, name, ending, None) for n, (name, counted) in enumerate(pairs)]


def _listed(path: Path, lists: Mapping[str, Path], ending: str) -> list[_Video]:
    numbers = {name: number for number, name in enumerate(read_contents(path).names)}
    videos: dict[str, _Video] = {}
    for split, file in lists.items():
        listed = read_frame_list(file)
        if absent := [video.name for video in listed if video.name not in numbers]:
            raise DataError(
                f"{file}: {len(absent)} of {len(listed)} videos are not in {path}, the first is "
                f"{absent[0]}; give the list of this data set"
            )
        for video in listed:
            if video.name in videos:
                raise DataError(f"{file}: {video.name} is in another list too; expected one split")
            number = numbers[video.name]
            videos[video.name] = _video(number, video.num_frames, video.name, ending, split)
    return list(videos.values())


def _video(number: int, counted: int, name: str, ending: str, split: str | None) -> _Video:
    label = name.partition("/")[0]
    return _Video(number, counted, VideoEntry(f"{name}{ending}", label, split))
