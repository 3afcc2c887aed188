"""Which videos of a folder or a list are trained on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.data import TrainingVideos, find_videos
from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.samples import NO_LABEL, SampleLoader, Task
from ssvideo_core.views import Clip, VideoInfo, View

from gdt_stica import data


class Facts:
    """Instead of the index of videos: a file holds its tenths of a second, of picture and sound."""

    def __init__(self, path: Path | None) -> None:
        pass

    def info(self, path: Path, video_id: str) -> VideoInfo:
        parts = path.read_text().split()
        if not parts:
            raise DecodeError(f"cannot open {path}")
        frames, second = int(parts[0]), Fraction(1, 10)
        rate_hz, sound_s = (24_000, int(parts[1]) / 10) if parts[1:] else (None, 0.0)
        return VideoInfo(
            video_id, frames, frames, 1 / second, second, frames, None, 8, 8, rate_hz, 0.0, sound_s
        )


@pytest.fixture(autouse=True)
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "VideoIndex", Facts)


def write(root: Path, videos: dict[str, str]) -> Path:
    for name, content in videos.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def used(found: TrainingVideos) -> list[str]:
    return [found.source.entry(index).video_id for index in found.indices.tolist()]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/1.mp4", "b/2.mp4"], ["a/1.mp4", "b/2.mp4"]),
        (
            ["train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4"],
            ["train/a/1.mp4", "train/b/2.mp4"],
        ),
        (["test/a/1.mp4", "val/a/2.mp4"], ["test/a/1.mp4", "val/a/2.mp4"]),
        (["1.mp4", "2.mp4"], ["1.mp4", "2.mp4"]),
    ],
)
def test_layouts(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    """Class folders, splits of class folders of which train is taken, a flat folder."""
    write(tmp_path, dict.fromkeys(names, "20 20"))
    assert used(find_videos(tmp_path)) == expected


def test_a_list_without_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AudioSet's: samples have the label -1, and only the training part of it counts."""
    write(tmp_path, {"x/1.mp4": "20 20", "x/2.mp4": "20 20", "3.mp4": "20 20"})
    listed = tmp_path / "list.csv"
    listed.write_text("video\nx/2.mp4\n3.mp4\n")
    found = find_videos(listed)
    assert used(found) == ["x/2.mp4", "3.mp4"]
    clip = Clip(np.zeros((1, 8, 8, 3), np.uint8), None)
    monkeypatch.setattr(found.source, "read", lambda index, views: [clip for _ in views])
    load = SampleLoader(
        found.source, lambda info, rng: [View(np.zeros(1, np.int64))], seed=0, indices=found.indices
    )
    assert load(Task(0, 1)).label == NO_LABEL == -1


def test_what_is_left_out(tmp_path: Path) -> None:
    """1.1 s of picture and of sound are too little; few files that cannot be opened do not stop."""
    videos = {"1.mp4": "12 12", "2.mp4": "11 30", "3.mp4": "30 11", "4.mp4": "30", "5.mp4": ""}
    found = find_videos(write(tmp_path, videos))
    assert used(found) == ["1.mp4"]
    short = "1.10 s of picture or sound"
    assert found.excluded == {
        "2.mp4": short,
        "3.mp4": short,
        "4.mp4": "no sound",
        "5.mp4": f"cannot open {tmp_path}/5.mp4",
    }


def test_the_first_usable_ones(tmp_path: Path) -> None:
    write(tmp_path, {"1.mp4": "12", "2.mp4": "20 20", "3.mp4": "20 20", "4.mp4": "20 20"})
    assert used(find_videos(tmp_path, num_data_samples=2)) == ["2.mp4", "3.mp4"]


def test_nothing_usable(tmp_path: Path) -> None:
    write(tmp_path, {"1.mp4": "20", "2.mp4": "20"})
    with pytest.raises(DataError, match=r"none of its 2 videos has picture and sound.*no sound"):
        find_videos(tmp_path)


def test_many_that_cannot_be_opened(tmp_path: Path) -> None:
    write(tmp_path, {**dict.fromkeys(("1.mp4", "2.mp4", "3.mp4", "4.mp4"), ""), "5.mp4": "20 20"})
    with pytest.raises(DataError, match="4 of 5 videos cannot be opened, more than 1 %"):
        find_videos(tmp_path)


def test_no_root_names_the_flag() -> None:
    with pytest.raises(ConfigError, match="--root_dir"):
        find_videos(None)
