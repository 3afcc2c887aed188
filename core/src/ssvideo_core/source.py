"""Where videos come from: folders and lists behind one small interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from ssvideo_core.datasets.official import OFFICIAL_COUNTS, official_videos
from ssvideo_core.errors import DataError
from ssvideo_core.formats import class_folders, video_lists
from ssvideo_core.video import probe, read_views
from ssvideo_core.video_index import VideoIndex
from ssvideo_core.views import Clip, VideoEntry, VideoInfo, View

__all__ = ["FoundVideos", "VideoEntry", "VideoFiles", "VideoSource", "open_source"]


class VideoSource(Protocol):
    """Videos by number, 0 to len - 1. Picklable: each process opens what it needs itself."""

    def __len__(self) -> int: ...

    def entry(self, index: int) -> VideoEntry: ...

    def info(self, index: int) -> VideoInfo:
        """Facts without pixels. Raises DecodeError."""
        ...

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        """One clip a view; the file is opened once. Raises DecodeError."""
        ...


class FoundVideos(VideoSource, Protocol):
    """A VideoSource that something was noticed about when it was opened, in words for the user."""

    notices: list[str]


class VideoFiles:
    """A VideoSource over files below one root; the id of a video is its path from there.

    index: where facts are kept between runs; None probes a file whenever another one was asked for
    in between. notices: what a user should be told of how the videos were found.
    """

    def __init__(
        self,
        root: Path,
        entries: Sequence[VideoEntry],
        *,
        index: VideoIndex | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.notices = list(notices)
        self._entries = list(entries)
        self._index = index
        self._latest: tuple[int, VideoInfo] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, index: int) -> VideoEntry:
        return self._entries[index]

    def path(self, index: int) -> Path:
        return self.root / self._entries[index].video_id

    def info(self, index: int) -> VideoInfo:
        latest = self._latest
        if latest is None or latest[0] != index:
            find = probe if self._index is None else self._index.info
            latest = self._latest = index, find(self.path(index), self._entries[index].video_id)
        return latest[1]

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        return read_views(self.path(index), self.info(index), views)


def open_source(
    path: Path, *, root: Path | None = None, index: VideoIndex | None = None
) -> FoundVideos:
    """The videos of a folder or a list, or of folders or a database of frames.

    These are `formats.class_folders`, `video_lists`, `frame_folders` and `lmdb_frames`. Frames of
    which all videos are of HMDB51 or of UCF101 have the ids of the official lists, with .avi behind
    the name, so that they fit splits and features of the files themselves; a notice says so.
    root: what the paths of a list start from, the list's own folder unless given. index: where
    facts of files are kept between runs. No video is opened. Raises DataError when `path` is
    none of them, and as the formats do.
    """
    if path.suffix == ".lmdb" or (path / "data.mdb").is_file():
        from ssvideo_core.formats.lmdb_frames import LmdbFrames

        return _with_official_ids(partial(LmdbFrames, path))
    if path.is_dir():
        return _open_folder(path, index)
    if path.suffix.lower() != ".csv" or not path.is_file():
        found = "is a file of another kind" if path.exists() else "does not exist"
        raise DataError(f"{path} {found}; expected a folder of videos or a list of them (.csv)")
    root = path.parent if root is None else root
    entries, notices = video_lists.read_list(path, root)
    return VideoFiles(root, entries, index=index, notices=notices)


def _open_folder(path: Path, index: VideoIndex | None) -> FoundVideos:
    try:
        entries, notices = class_folders.scan(path)
    except DataError:
        from ssvideo_core.formats.flow_frames import is_unfinished
        from ssvideo_core.formats.frame_folders import FrameFolders, frames_depth

        if frames_depth(path) is None:
            raise
        frames = _with_official_ids(partial(FrameFolders, path))
        if is_unfinished(path):
            frames.notices.append(f"extract-flow has not finished {path}: videos may be missing")
        return frames
    return VideoFiles(path, entries, index=index, notices=notices)


def _with_official_ids(open_frames: Callable[..., FoundVideos]) -> FoundVideos:
    source = open_frames()
    ids = {f"{source.entry(index).video_id}.avi" for index in range(len(source))}
    for dataset in OFFICIAL_COUNTS:
        if ids and ids.issubset(official_videos(dataset)):
            renamed = open_frames(ending=".avi")
            renamed.notices.append(f"ids end with .avi, as in the official lists of {dataset}")
            return renamed
    return source
