from __future__ import annotations

from pathlib import Path

import pytest
from ssvideo_core.errors import DataError
from ssvideo_core.formats.video_lists import read_list
from ssvideo_core.views import VideoEntry


def write(tmp_path: Path, text: str | bytes, *videos: str) -> Path:
    for video in videos:
        (tmp_path / video).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / video).touch()
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_all_columns_in_any_order(tmp_path: Path) -> None:
    text = '\ufefflabel, video ,group,split\r\n"a, b",x/1.mp4,g1,train\r\nc, "y,;#.avi",,test\r\n'
    path = write(tmp_path, text, "x/1.mp4", "y,;#.avi")
    assert read_list(path, tmp_path) == (
        [
            VideoEntry("x/1.mp4", "a, b", "train", "g1"),
            VideoEntry("y,;#.avi", "c", "test", None),
        ],
        [],
    )


def test_only_videos_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path, "video\nb.mp4\n\n./a.mp4\n", "a.mp4", "b.mp4")
    assert read_list(path, tmp_path) == ([VideoEntry("b.mp4"), VideoEntry("a.mp4")], [])


def test_unused_columns_are_said(tmp_path: Path) -> None:
    path = write(tmp_path, "video,lable,split1\na.mp4,x,train\n", "a.mp4")
    entries, notices = read_list(path, tmp_path)
    assert entries == [VideoEntry("a.mp4")]
    assert notices == [f"{path}: unused columns: lable, split1"]


def test_paths_start_from_the_root(tmp_path: Path) -> None:
    path = write(tmp_path, "video\na.mp4\n", "root/a.mp4")
    assert read_list(path, tmp_path / "root")[0] == [VideoEntry("a.mp4")]
    with pytest.raises(DataError, match=rf"line 2: 'a\.mp4' is no file below {tmp_path}"):
        read_list(path, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none; its first line must name them: video"),
        (
            "file,label\na.mp4,x\n",
            r"the columns file, label; its first line .* video\[,label\]",
        ),
        ("video,label,label\na.mp4,x,y\n", "each once"),
        ("video,label\n", "lists no videos"),
        ("video\na.mp4\nc.mp4\n", r"line 3: 'c\.mp4' is no file below"),
        ("video\na.mp4\n../a.mp4\n", r"line 3: '\.\./a\.mp4' leaves"),
        ("video\nb/../a.mp4\n", "without '..'"),
        ("video\n/etc/passwd\n", "line 2: '/etc/passwd' leaves"),
        ("video\na.mp4\n./a.mp4\n", r"line 3: 'a\.mp4' is on line 2 already"),
        ("video,label\na.mp4,x\nb.mp4,\n", "line 3: no label, as on 1 of 2 lines"),
        ("video,label\n,x\n", "line 2: the column 'video' is empty"),
        ("video,label\na.mp4\n", "line 2: found 1 cells, expected 2"),
        ("video,label\na.mp4,x,y\n", "line 2: found 3 cells, expected 2"),
        ('video,label\n"a.mp4,x\n', "is no CSV in UTF-8: unexpected end of data"),
        (b"video\ncaf\xe9.mp4\n", "is no CSV in UTF-8: 'utf-8' codec"),
        ("video\n.\n", r"line 2: '\.' is no file"),
    ],
)
def test_lists_that_are_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text, "a.mp4", "b.mp4")
    with pytest.raises(DataError, match=message) as raised:
        read_list(path, tmp_path)
    assert str(path) in str(raised.value)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'video,label\na.mp4,"two\nlines"\n\nc.mp4,x\n', "a.mp4")
    with pytest.raises(DataError, match=r"line 5: 'c\.mp4' is no file"):
        read_list(path, tmp_path)
