"""Videos as folders of JPEG frames, numbered one after the other.

    root/class/video/image_00001.jpg     CoCLR and ViCC; flow_00001.jpg for flow
    root/class/video/00000001.jpg        SCE, as FFmpeg writes them

Flow is stored as pictures (`flow_frames`) and read as such. Needs simplejpeg (extra `frames`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.formats.class_folders import SPLIT_NAMES, _id
from ssvideo_core.formats.jpeg_frames import Jpeg, frames_info, read_jpegs
from ssvideo_core.views import Clip, VideoEntry, VideoInfo, View

RATE_HZ = Fraction(25)  # UCF101's, for CoCLR and SCE; SCE stores HMDB51 and Kinetics at 30

_JPEG = re.compile(r"(?P<beginning>.*?)(?P<number>[0-9]*)\.jpe?g", re.IGNORECASE)
_DEPTHS = "root/video, root/class/video or root/train/class/video"


class FrameFolders:
    """A VideoSource over folders of frames. Picklable; finds videos at once, frames when asked.

    entries: the videos, those of `scan` unless given. ending: what ids have after the names of
        their folders; ".avi" makes them those of the official lists.
    prefix: how the names of frames begin, where a folder holds more than one kind.
    rate: frames per second, which no folder stores.

    Raises DataError as `scan` does and ConfigError for a rate that is not above 0.
    """

    def __init__(
        self,
        root: Path,
        entries: Sequence[VideoEntry] | None = None,
        *,
        ending: str = "",
        prefix: str | None = None,
        rate: Fraction = RATE_HZ,
    ) -> None:
        if rate <= 0:
            raise ConfigError(f"{root}: {rate} frames per second, expected more than 0")
        self.root = root
        self.notices: list[str] = []
        self._entries = scan(root, ending) if entries is None else list(entries)
        self._ending, self._prefix, self._rate = ending, prefix, rate
        self._latest: tuple[int, VideoInfo, list[str]] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, index: int) -> VideoEntry:
        return self._entries[index]

    def path(self, index: int) -> Path:
        return self.root / self._entries[index].video_id.removesuffix(self._ending)

    def info(self, index: int) -> VideoInfo:
        """Facts without decoding: the number of files, the size in the header of the first."""
        return self._facts(index)[0]

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        """One clip a view; a frame is decoded once. Raises as `jpeg_frames.read_jpegs`."""
        info, names = self._facts(index)
        folder = self.path(index)
        return read_jpegs(folder, info, views, lambda frame: _jpeg(folder / names[frame]))

    def _facts(self, index: int) -> tuple[VideoInfo, list[str]]:
        if self._latest is None or self._latest[0] != index:
            folder, video_id = self.path(index), self._entries[index].video_id
            names = frame_names(folder, self._prefix)
            info = frames_info(video_id, _jpeg(folder / names[0]), len(names), self._rate)
            self._latest = index, info, names
        return self._latest[1:]


def scan(root: Path, ending: str = "") -> list[VideoEntry]:
    """The folders of frames below `root`, sorted by name, as deep as the first one that has any.

    root/video has no labels, root/class/video is labelled by its class, and root/split/class/video
    has splits, named train, val, validation or test. A folder at that depth without frames is
    a video too, which cannot be read. Raises DataError when there are no frames, and for frames at
    another depth.
    """
    depth = frames_depth(root)
    folders = [root]
    for _ in range(depth or 0):
        folders = [child for folder in folders for child in _subfolders(folder)]
    places = [folder.relative_to(root).parts for folder in folders]
    strange = {place[0] for place in places if depth == 3} - {*SPLIT_NAMES}
    if depth not in (1, 2, 3) or strange:
        found = (
            "has no JPEG files below it" if depth is None else f"has frames {depth} folders deep"
        )
        if strange:
            found += f" in '{min(strange)}', expected {' or '.join(SPLIT_NAMES)} there"
        raise DataError(f"{root} {found}; give the folder above {_DEPTHS} of frames")
    return [
        VideoEntry(
            _id(root, folder) + ending,
            place[-2] if len(place) > 1 else None,
            place[0] if len(place) > 2 else None,
        )
        for folder, place in zip(folders, places, strict=True)
    ]


def frames_depth(root: Path) -> int | None:
    """How many folders below `root` the first numbered JPEG lies; None if none is 4 deep or less.

    Folders are looked through in the order of their names, also behind links.
    """
    for folder, folders, files in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        if any(found["number"] for name in files if (found := _JPEG.fullmatch(name))):
            return depth
        folders[:] = sorted(name for name in folders if name[0] != "." and depth < 4)
    return None


def frame_names(folder: Path, prefix: str | None = None) -> list[str]:
    """The files of a video's frames by their numbers, which count from 0 or 1 with any padding.

    prefix: only names that begin so and go on with the number. Hidden files and those that are no
    JPEGs are ignored. Raises DecodeError for a folder without frames, numbers that are missing or
    twice, and names with several beginnings or without a number.
    """
    try:
        files = sorted(file for file in os.listdir(folder) if file[0] != ".")
    except OSError as error:
        raise DecodeError(f"{folder} cannot be read: {error.strerror}") from error
    found = [match for match in map(_JPEG.fullmatch, files) if match is not None]
    if prefix is not None:
        found = [match for match in found if match["beginning"] == prefix]
    beginnings = sorted({match["beginning"] for match in found})
    if len(beginnings) != 1:
        listed = " and ".join(f"'{beginning}'" for beginning in beginnings[:3])
        begin = f"frames that begin with {listed}; name one as prefix" if listed else "no frames"
        raise DecodeError(f"{folder} has {begin}; expected {prefix or 'image_'}00001.jpg and so on")
    names: dict[int, str] = {}
    for match in found:
        number = int(match["number"] or -1)
        if number in names or number < 0:
            other = f"as {names[number]} is" if number in names else "but has no number"
            raise DecodeError(f"{folder}: {match[0]} is a frame {other}; expected each number once")
        names[number] = match[0]
    expected = range(min(1, *names), max(names) + 1)
    if missing := len(expected) - len(names):
        listed = ", ".join(str(n) for n in islice((n for n in expected if n not in names), 5))
        raise DecodeError(
            f"{folder}: {missing} frames are missing before frame {max(names)}: {listed}"
            f"{', …' * (missing > 5)}; extract the video again"
        )
    return [names[number] for number in sorted(names)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.name[0] != "." and child.is_dir())


def _jpeg(path: Path) -> Jpeg:
    try:
        return Jpeg(str(path), path.read_bytes())
    except OSError as error:
        raise DecodeError(f"{path} cannot be read: {error.strerror}") from error
