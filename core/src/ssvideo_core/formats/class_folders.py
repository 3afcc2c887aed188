"""Videos in folders: `root/class/file`, `root/split/class/file`, or all in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssvideo_core.errors import DataError
from ssvideo_core.views import VideoEntry

VIDEO_ENDINGS = frozenset(
    {".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
    | {".ts", ".ogv"}
)
SPLIT_NAMES = ("train", "val", "validation", "test")


def scan(root: Path) -> tuple[list[VideoEntry], list[str]]:
    """The videos below `root`, and what the user should be told of how it was read.

    A folder that itself holds videos is flat: no labels, its subfolders are ignored, and that is
    said. Else each subfolder is a class, labelled by its name; if all are named train, val,
    validation or test and hold no videos themselves, they are splits of class folders. Classes and
    files are sorted by name. Names that begin with a dot are hidden; other files that are no videos
    and what lies deeper than the files of a class is ignored, and that is said.

    Raises DataError when there is no video, when splits and classes lie side by side, and for
    links that lead nowhere, folders that cannot be read and names that are not UTF-8.
    """
    top = _Folder(root)
    notices: list[str] = []
    if top.videos:
        if top.folders:
            notices.append(_said(root, top.folders, "subfolders of a folder that holds videos"))
        return [VideoEntry(_id(root, video)) for video in top.videos], notices
    subfolders = [_Folder(path) for path in top.folders]
    splits = [folder for folder in subfolders if folder.path.name in SPLIT_NAMES]
    if splits and (len(splits) < len(subfolders) or any(folder.videos for folder in splits)):
        found = ", ".join(folder.path.name for folder in subfolders[:4])
        raise DataError(
            f"{root} holds {found}; expected either classes, or only splits "
            f"({', '.join(SPLIT_NAMES)}) with a folder a class in each"
        )
    classes: list[tuple[str | None, _Folder]] = [(None, folder) for folder in subfolders]
    if splits:
        classes = [(s.path.name, _Folder(path)) for s in splits for path in s.folders]
    entries = []
    for split, folder in classes:
        label = folder.path.name
        entries += [VideoEntry(_id(root, video), label, split) for video in folder.videos]
    for what, ignored in (
        ("files that are no videos", [f for folder in (top, *subfolders) for f in folder.others]),
        ("folders in class folders", [path for _, folder in classes for path in folder.folders]),
        ("class folders without videos", [f.path for _, f in classes if not f.videos]),
    ):
        if ignored:
            notices.append(_said(root, ignored, what))
    if not entries:
        raise DataError(
            f"{root} holds no videos. Expected files in the folder itself, in {root}/class or in "
            f"{root}/train/class, ending in {' '.join(sorted(VIDEO_ENDINGS))}"
        )
    return entries, notices


class _Folder:
    """What lies directly in a folder, sorted by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.videos: list[Path] = []
        self.folders: list[Path] = []
        self.others: list[Path] = []
        try:
            children = sorted(child for child in path.iterdir() if child.name[0] != ".")
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        for child in children:
            if child.is_dir():
                self.folders.append(child)
            elif child.suffix.lower() not in VIDEO_ENDINGS:
                self.others.append(child)
            elif child.is_file():
                self.videos.append(child)
            else:
                raise DataError(f"{child} is no file; expected a video, not a broken link")


def _id(root: Path, video: Path) -> str:
    video_id = video.relative_to(root).as_posix()
    if video_id.encode(errors="ignore").decode() != video_id:
        raise DataError(f"{root}: the name {video_id!r} is not UTF-8; rename the file")
    return video_id


def _said(root: Path, paths: Sequence[Path], what: str) -> str:
    names = [path.relative_to(root).as_posix() for path in paths[:3]]
    return f"{root}: ignored {len(paths)} {what}: {', '.join(names)}{', …' * (len(paths) > 3)}"
