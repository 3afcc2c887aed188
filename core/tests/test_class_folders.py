from __future__ import annotations

import os
from pathlib import Path

import pytest
from ssvideo_core.errors import DataError
from ssvideo_core.formats.class_folders import scan
from ssvideo_core.views import VideoEntry


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_classes(tmp_path: Path) -> None:
    awkward = "wave/a!#&([x];~)_[1].AVI"
    touch(tmp_path, "wave/b.mp4", awkward, "b a/1.MkV", "b/1.webm", "wave/.hidden.mp4", ".x/1.mp4")
    entries, notices = scan(tmp_path)
    assert entries == [
        VideoEntry("b/1.webm", "b"),
        VideoEntry("b a/1.MkV", "b a"),
        VideoEntry(awkward, "wave"),
        VideoEntry("wave/b.mp4", "wave"),
    ]
    assert notices == []


def test_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/b/1.mp4", "train/a/1.mp4", "test/a/1.mp4", "validation/a/2.mp4")
    entries, notices = scan(tmp_path)
    assert entries == [
        VideoEntry("test/a/1.mp4", "a", "test"),
        VideoEntry("train/a/1.mp4", "a", "train"),
        VideoEntry("train/b/1.mp4", "b", "train"),
        VideoEntry("validation/a/2.mp4", "a", "validation"),
    ]
    assert notices == []


def test_a_folder_with_videos_is_flat_and_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.mp4", "c1/x.mp4", "c2/x.mp4", "c3/x.mp4", "c4/x.mp4")
    entries, notices = scan(tmp_path)
    assert entries == [VideoEntry("a.mp4"), VideoEntry("b.mp4")]
    assert notices == [
        f"{tmp_path}: ignored 4 subfolders of a folder that holds videos: c1, c2, c3, …"
    ]


def test_what_is_ignored_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/notes.txt", "list.csv", "a/deeper/2.mp4", "b/empty.txt")
    entries, notices = scan(tmp_path)
    assert entries == [VideoEntry("a/1.mp4", "a")]
    assert notices == [
        f"{tmp_path}: ignored 3 files that are no videos: list.csv, a/notes.txt, b/empty.txt",
        f"{tmp_path}: ignored 1 folders in class folders: a/deeper",
        f"{tmp_path}: ignored 1 class folders without videos: b",
    ]


def test_endings(tmp_path: Path) -> None:
    endings = ["mp4", "avi", "mkv", "webm", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "ts"]
    endings += ["ogv", "MP4", "Avi"]
    touch(tmp_path, "a.txt", "mp4", "a.mp4.part", *(f"{n:02}.{e}" for n, e in enumerate(endings)))
    found = [entry.video_id.rpartition(".")[2] for entry in scan(tmp_path)[0]]
    assert found == endings


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["notes.txt"], "holds no videos. Expected files in the folder itself, in .*/class"),
        (["a/b/c/d.mp4"], "holds no videos"),
        (["train/a/1.mp4", "wave/1.mp4"], "holds train, wave; expected either classes, or only"),
        (["train/1.mp4", "test/2.mp4"], "holds test, train; expected either classes, or only"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        scan(tmp_path)


def test_links(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "x.mp4", "class/y.mp4")
    root = tmp_path / "root"
    touch(root, "a/1.mp4")
    (root / "a" / "2.mp4").symlink_to(tmp_path / "elsewhere" / "x.mp4")
    (root / "b").symlink_to(tmp_path / "elsewhere" / "class")
    assert [entry.video_id for entry in scan(root)[0]] == ["a/1.mp4", "a/2.mp4", "b/y.mp4"]
    (root / "a" / "3.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with pytest.raises(DataError, match=r"a/3\.mp4 is no file; expected a video, not a broken"):
        scan(root)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    with pytest.raises(DataError, match="is not UTF-8; rename the file"):
        scan(tmp_path)
