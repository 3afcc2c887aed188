"""Lists of HowTo100M, and which of their videos are used."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from gdt_stica.captions import CaptionFiles
from gdt_stica.ht100m import find_captioned_videos, read_ids
from gdt_stica.words import Vocabulary
from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.views import VideoInfo

from gdt_stica import ht100m


class Facts:
    """Instead of the index of videos: a file's content is the number of its frames at 10 a s."""

    def __init__(self, path: Path | None) -> None:
        pass

    def info(self, path: Path, video_id: str) -> VideoInfo:
        if not path.read_text().isdecimal():
            raise DecodeError(f"cannot open {path}")
        count, second = int(path.read_text()), Fraction(1, 10)
        return VideoInfo(
            video_id, count, count, 1 / second, second, count, None, 48, 64, None, 0.0, 0.0
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """long and -longer can be used; short lasts 4.1 s; silent has no captions; bad is no video."""
    monkeypatch.setattr(ht100m, "VideoIndex", Facts)
    for name, frames in (("long", "42"), ("-longer", "90"), ("short", "41"), ("silent", "90")):
        (tmp_path / f"{name}.mp4").write_text(frames)
    (tmp_path / "bad.mp4").write_text("none")
    for name in ("long", "-longer", "short", "bad"):
        (tmp_path / f"{name}.csv").write_text("start,end,text\n1,2,cut\n")
    (tmp_path / "list").write_text("video_id\nlong\nshort\nsilent\nbad\ngone\n-longer\n")
    return tmp_path


def find(folder: Path, **options: int) -> ht100m.TrainingVideos:
    captions = CaptionFiles(folder, Vocabulary(["cut"]))
    return find_captioned_videos(folder / "list", folder, captions, **options)


def test_what_is_used_and_what_is_not(folder: Path) -> None:
    found = find(folder)
    used = [found.source.entry(index).video_id for index in found.indices.tolist()]
    assert used == ["long.mp4", "-longer.mp4"]
    assert found.excluded == {
        "gone.mp4": f"no file in {folder}",
        "short.mp4": "4.10 s, expected more than 4.1 s",
        "silent.mp4": f"{folder}/silent.csv: no captions: No such file or directory",
        "bad.mp4": f"cannot open {folder}/bad.mp4",
    }
    assert "2 videos to train on, 4 of other kinds left out" in str(found)
    assert len(find(folder, num_data_samples=1).indices) == 1


def test_nothing_to_use(folder: Path) -> None:
    (folder / "list").write_text("video_id\nsilent\nshort\n")
    message = r"none of its 2 videos has more than 4.1 s and a usable caption.*silent.csv"
    with pytest.raises(DataError, match=message):
        find(folder)
    (folder / "list").write_text("video_id\ngone\nlost\n")
    with pytest.raises(DataError, match="holds none of the 2 videos"):
        find(folder)


def test_many_that_cannot_be_opened(folder: Path) -> None:
    for number in range(4):
        (folder / f"bad{number}.mp4").write_text("none")
    (folder / "list").write_text("video_id\nlong\nbad0\nbad1\nbad2\nbad3\n")
    with pytest.raises(DataError, match="4 of 5 videos cannot be opened"):
        find(folder)


def test_no_root_names_the_flag(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--root_dir"):
        find_captioned_videos(folder / "list", None, CaptionFiles(folder, Vocabulary(["cut"])))


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("rank,video_id\n1,abc\n2,-d_e\n")
    assert read_ids(tmp_path / "a.csv") == ["abc", "-d_e"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc\ndef\n", "names of columns, video_id among them"),
        ("", "names of columns, video_id among them"),
        ("video_id\n", "lists no videos"),
        ("video_id\na\nb\na\n", "line 4: 'a' is on line 2 already"),
        ("video_id\n../a\n", "line 2: '../a' is no id"),
        ("video_id,x\n,y\n", "line 2: '' is no id"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "a.csv")
