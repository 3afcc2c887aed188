from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.formats import convert_flow
from ssvideo_core.formats.convert_flow import FlowForm, extract_flow, flow_main, video_folder
from ssvideo_core.formats.flow_frames import encode_flow, flow_method, grey, quantise, resized
from ssvideo_core.formats.frame_folders import FrameFolders
from ssvideo_core.progress import Progress
from ssvideo_core.testing.fake_videos import FakeVideos
from ssvideo_core.views import Clip, VideoEntry, VideoInfo, View

pytest.importorskip("cv2", reason="needs opencv-contrib-python-headless")


@dataclass(frozen=True)
class CountedVideos(FakeVideos):
    """reads: the numbers of the videos that were read, in this process."""

    reads: list[int] = field(default_factory=list)

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        self.reads.append(index)
        return super().read(index, views)


@dataclass(frozen=True)
class NamedVideos(FakeVideos):
    """Videos with these ids."""

    count: int = 0
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def entry(self, index: int) -> VideoEntry:
        return VideoEntry(self.ids[index])


@dataclass(frozen=True)
class ShortVideos(FakeVideos):
    """Video 1 has one frame, video 2 is damaged."""

    def info(self, index: int) -> VideoInfo:
        info = super().info(index)
        if index == 1:
            return replace(info, num_frames=1)
        return replace(info, damage="cut off in the middle") if index == 2 else info


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def record(out: Path) -> Any:
    return json.loads((out / "flow.json").read_text())


class Stop(Exception):
    pass


def stop_after(count: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.done == count:
            raise Stop

    return report


@pytest.mark.parametrize("short_side", [0, 4])
def test_the_pictures_are_those_of_consecutive_frames(tmp_path: Path, short_side: int) -> None:
    source, out = FakeVideos(2), tmp_path / "out"
    extract_flow(source, out, form=FlowForm(short_side=short_side))
    (clip,) = source.read(1, [View(np.arange(12))])
    assert clip.frames is not None
    frames = [resized(frame, short_side) if short_side else frame for frame in clip.frames]
    estimate = flow_method("tvl1")
    for number in range(1, 12):
        flow = estimate(grey(frames[number - 1]), grey(frames[number]))
        stored = (out / "1" / "1" / f"flow_{number:05d}.jpg").read_bytes()
        assert stored == encode_flow(quantise(flow))
    assert len(list((out / "1" / "1").iterdir())) == 11


def test_what_lies_beside_the_pictures(tmp_path: Path) -> None:
    import cv2

    out = tmp_path / "out"
    made = extract_flow(FakeVideos(3), out, form=FlowForm(short_side=5))
    assert (made.num_videos, made.kept, made.failures) == (3, 0, {})
    assert record(out) == {
        "method": "tvl1",
        "short_side": 5,
        "bound": 20,
        "quality": 100,
        "opencv": [cv2.__version__],
        "complete": True,
    }
    assert (out / "failures.csv").read_text() == "video_id,reason\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "0",
        "1",
        "2",
        "failures.csv",
        "flow.json",
    ]


def test_frame_folders_read_them(tmp_path: Path) -> None:
    extract_flow(FakeVideos(7), tmp_path)
    source = FrameFolders(tmp_path, ending=".mp4")
    assert [source.entry(number).video_id for number in range(7)] == sorted(
        FakeVideos(7).entry(number).video_id for number in range(7)
    )
    assert source.info(0).num_frames == 11
    assert (source.info(0).height, source.info(0).width) == (6, 8)


@pytest.mark.parametrize("workers", [1, 2])
def test_pixels_do_not_depend_on_workers(tmp_path: Path, workers: int) -> None:
    source = FakeVideos(7, bad_every=5)
    extract_flow(source, tmp_path / "alone")
    extract_flow(source, tmp_path / "together", workers=workers)
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")


def test_frames_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract_flow(FakeVideos(2), tmp_path / "whole")
    monkeypatch.setattr(convert_flow, "_PART_BYTES", 5 * 6 * 8 * 3)
    source = CountedVideos(2)
    extract_flow(source, tmp_path / "parts")
    assert source.reads == [0, 0, 0, 1, 1, 1]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_finished_videos_are_kept(tmp_path: Path) -> None:
    extract_flow(FakeVideos(6), tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(Stop):
        extract_flow(FakeVideos(6), out, progress=stop_after(4))
    assert record(out)["complete"] is False
    source, seen = CountedVideos(6), []
    made = extract_flow(source, out, progress=seen.append)
    assert source.reads == [4, 5] and made.kept == 4
    assert [(progress.done, progress.resumed, progress.total) for progress in seen] == [
        (5, 4, 6),
        (6, 4, 6),
    ]
    assert contents(out) == contents(tmp_path / "whole")


SCRIPT = """
import sys
from pathlib import Path
from ssvideo_core.formats.convert_flow import extract_flow
from ssvideo_core.testing.fake_videos import FakeVideos
if __name__ == "__main__":
    extract_flow(FakeVideos(60), Path(sys.argv[1]))
"""


def test_a_kill_leaves_no_part_of_a_video(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=os.environ)
    until = time.monotonic() + 30
    while not (out / "1").exists() and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for video in out.glob("*/[0-9]*"):
        assert len(list(video.iterdir())) == 11
    draft = out / "4" / ".59.tmp"
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "flow_00001.jpg").write_bytes(b"half")
    made = extract_flow(FakeVideos(60), out)
    assert 0 < made.kept < 60
    assert not list(out.rglob(".*"))
    assert len(list(out.rglob("*.jpg"))) == 60 * 11


def test_failed_videos_are_listed_and_tried_again(tmp_path: Path) -> None:
    made = extract_flow(FakeVideos(7, bad_every=5), tmp_path)
    reason = "a fake that cannot be read"
    assert made.failures == {f"0/{n}.mp4": f"0/{n}.mp4: {reason}" for n in (0, 5)}
    assert made.num_videos == 5
    lines = (tmp_path / "failures.csv").read_text().splitlines()
    assert lines == ["video_id,reason", *(f"0/{n}.mp4,0/{n}.mp4: {reason}" for n in (0, 5))]
    assert not (tmp_path / "0" / "0").exists()
    source = CountedVideos(7)
    made = extract_flow(source, tmp_path)
    assert source.reads == [0, 5] and (made.num_videos, made.kept) == (7, 5)
    assert (tmp_path / "failures.csv").read_text() == "video_id,reason\n"


def test_videos_without_flow(tmp_path: Path) -> None:
    made = extract_flow(ShortVideos(4), tmp_path)
    assert made.failures == {
        "1/1.mp4": "1/1.mp4: flow needs 2 frames or more, found 1",
        "2/2.mp4": "cut off in the middle",
    }


@pytest.mark.parametrize(("count", "bad_every"), [(8, 2), (2, 1)])
def test_too_many_failures(tmp_path: Path, count: int, bad_every: int) -> None:
    with pytest.raises(DataError, match=f"of {count} videos failed, 3 are allowed"):
        extract_flow(FakeVideos(count, bad_every=bad_every), tmp_path)
    listed = (tmp_path / "failures.csv").read_text().splitlines()[1:]
    assert len(listed) == min(4, count)
    assert record(tmp_path)["complete"] is False


def test_another_form_is_refused(tmp_path: Path) -> None:
    extract_flow(FakeVideos(1), tmp_path)
    for form in (FlowForm("dis"), FlowForm(short_side=5)):
        with pytest.raises(ConfigError, match=r"was begun with .*'tvl1'.*choose another folder"):
            extract_flow(FakeVideos(1), tmp_path, form=form)
    assert record(tmp_path)["complete"] is True


def test_versions_of_opencv_are_added(tmp_path: Path) -> None:
    import cv2

    extract_flow(FakeVideos(1), tmp_path)
    stored = record(tmp_path) | {"opencv": ["4.5.5"]}
    (tmp_path / "flow.json").write_text(json.dumps(stored))
    extract_flow(FakeVideos(2), tmp_path)
    assert record(tmp_path)["opencv"] == ["4.5.5", cv2.__version__]


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    with pytest.raises(ConfigError, match=r"is not empty and has no flow\.json"):
        extract_flow(FakeVideos(1), tmp_path)
    for text in ("[]", '{"method": "tvl1"}', "no json"):
        (tmp_path / "flow.json").write_text(text)
        with pytest.raises(ConfigError, match=r"flow\.json is not the record of flow"):
            extract_flow(FakeVideos(1), tmp_path)


@pytest.mark.parametrize(
    ("form", "message"),
    [(FlowForm("raft"), "'raft'"), (FlowForm(short_side=-1), "-1, expected 0 to 8192")],
)
def test_wrong_options_make_nothing(tmp_path: Path, form: FlowForm, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        extract_flow(FakeVideos(1), tmp_path / "out", form=form)
    assert not (tmp_path / "out").exists()


def test_without_opencv_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"'ssvideo-core\[flow\]'"):
        extract_flow(FakeVideos(1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_videos() -> None:
    for video_id, folder in {
        "class/v_x_g01_c01.avi": "class/v_x_g01_c01",
        "class/a.b.MP4": "class/a.b",
        "class/frames.of [1]": "class/frames.of [1]",
        "flat.mkv": "flat",
    }.items():
        assert video_folder(video_id) == PurePosixPath(folder)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("a/x.mp4", "a/x.avi"), r"a/x\.avi and a/x\.mp4 would share a folder"),
        (("a/b/c.mp4", "a/b.mp4"), r"a/b/c\.mp4 would lie in the folder of a/b\.mp4"),
    ],
)
def test_folders_that_collide(tmp_path: Path, ids: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        extract_flow(NamedVideos(ids=ids), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    video = tmp_path / "videos" / "class" / "rotated.mp4"
    video.parent.mkdir(parents=True)
    shutil.copy(clips / "rotated90_nasa.mp4", video)
    out = tmp_path / "out"
    words = ["--videos", str(video.parents[1]), "--out", str(out), "--method", "dis"]
    assert flow_main([*words, "--short-side", "40"]) == 0
    assert "flow of 1 videos, 0 of them from before, 0 videos failed" in capsys.readouterr().out
    (entry,) = (path.name for path in (out / "class").iterdir())
    assert entry == "rotated" and record(out)["method"] == "dis"
    info = FrameFolders(out).info(0)
    assert info.num_frames == 16 and min(info.height, info.width) == 40
    assert flow_main([*words, "--short-side", "40"]) == 0
    assert "1 of them from before" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="was begun with"):
        flow_main(words)
    with pytest.raises(SystemExit):
        flow_main(["--videos", str(video), "--out", str(tmp_path / "new"), "--workers", "-1"])
    assert "'-1' is not a whole number from 0" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
