"""What of --videos becomes shards, and what is found wrong before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from brave.experiment import main
from brave.run import training_videos
from ssvideo_core.errors import ConfigError
from ssvideo_core.source import VideoFiles, VideoSource
from ssvideo_core.views import VideoEntry

from brave import run


@pytest.mark.parametrize(
    ("parts", "expected", "said"),
    [
        ([None, None], [0, 1], ""),
        (["train", "train"], [0, 1], ""),
        (["test", "val"], [0, 1], ""),
        (
            ["test", "train", None, "val", "train", "test"],
            [1, 4],
            "2 videos to train on; left out: 1 of no part, 2 of test, 1 of val",
        ),
    ],
)
def test_of_a_divided_source_the_training_videos_are_taken(
    caplog: pytest.LogCaptureFixture,
    parts: Sequence[str | None],
    expected: list[int],
    said: str,
) -> None:
    caplog.set_level(logging.INFO, "brave.run")
    entries = [VideoEntry(f"{index}.mp4", "a", part) for index, part in enumerate(parts)]
    assert training_videos(VideoFiles(Path(), entries)) == tuple(expected)
    assert caplog.messages == ([said] if said else [])


def listed(folder: Path, *parts: str) -> Path:
    """A CSV list of videos, one of each part, none of which can be opened."""
    lines = ["video,label,split,height"]
    for number, part in enumerate(parts):
        (folder / f"{number}.mp4").touch()
        lines.append(f"{number}.mp4,a,{part},24")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def words(videos: Path, out: Path, *more: str) -> list[str]:
    batch = "--config.experiment.global_batch_size=2"
    return ["--videos", str(videos), "--workdir", str(out), "--device", "cpu", batch, *more]


def test_only_what_is_trained_on_becomes_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brave.run")
    asked: dict[str, Any] = {}

    def convert(source: VideoSource, out: Path, **options: Any) -> None:
        asked.update(options)
        raise ConfigError("that is all")

    monkeypatch.setattr(run, "convert", convert)
    videos = listed(tmp_path, "test", "train", "train", "test", "train")
    assert main(words(videos, tmp_path / "out")) == 2
    (part,) = asked["parts"]
    assert (part.folder, part.videos, asked["num_shards"]) == ("", (1, 2, 4), 3)
    assert f"{videos}: unused columns: height" in caplog.messages
    assert "3 videos to train on; left out: 2 of test" in caplog.messages


def test_a_batch_must_fit_the_training_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = listed(tmp_path, "test", "train", "test")
    assert main(words(videos, tmp_path / "out")) == 2
    assert "global batch size is 2, expected 1 to 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "setting",
    [
        "model.input_video_sample_rate=0",
        "model.input_video_sample_rate=nan",
        "model.input_video_sample_rate=1001",
        "model.input_audio_sample_rate=400000",
        "model.image_size_narrow=8000",
    ],
)
def test_what_no_record_can_have_is_found_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    videos = listed(tmp_path, "", "")
    assert main(words(videos, tmp_path / "out", f"--config.{setting}")) == 2
    assert "expected" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
