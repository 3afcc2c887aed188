from __future__ import annotations

import importlib
import os
import pickle
import shutil
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ssvideo_core import video_index
from ssvideo_core.errors import ConfigError, DecodeError
from ssvideo_core.video import probe
from ssvideo_core.video_index import VideoIndex, default_index_path
from ssvideo_core.views import VideoInfo

NAMES = [  # times known, unknown, in milliseconds; sound late or absent
    "k400_SOX5yA1l24A.mp4",
    "ucf101_with_audio_mpeg4_mp3.avi",
    "flipping_a_pancake_opus.mkv",
    "rotated90_nasa.mp4",
]


def assert_same(found: VideoInfo, expected: VideoInfo) -> None:
    first, second = vars(found) | {"pts": None}, vars(expected) | {"pts": None}
    assert first == second
    assert [type(value) for value in first.values()] == [type(v) for v in second.values()]
    if expected.pts is None:
        assert found.pts is None
    else:
        assert found.pts.dtype == np.int64
        assert np.array_equal(found.pts, expected.pts)


@pytest.fixture
def worker_tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # from here to the workers' path
    return importlib.import_module("worker_tasks")


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counting(path: Path, video_id: str | None = None) -> VideoInfo:
        names.append(path.name)
        return probe(path, video_id)

    monkeypatch.setattr(video_index, "probe", counting)
    return names


@pytest.mark.parametrize("stored", [True, False])
def test_facts_are_found_again(
    clips: Path, tmp_path: Path, probed: list[str], stored: bool
) -> None:
    path = tmp_path / "new" / "index.sqlite" if stored else None
    index = VideoIndex(path)
    for _ in range(2):
        for name in NAMES:
            assert_same(index.info(clips / name), probe(clips / name))
    assert index.info(clips / NAMES[0], "other/id").video_id == "other/id"
    assert probed == NAMES
    copy = pickle.loads(pickle.dumps(index))
    assert_same(copy.info(clips / NAMES[0]), probe(clips / NAMES[0]))
    assert len(probed) == len(NAMES) + (not stored)


def test_the_same_file_by_another_path_of_the_working_directory(
    clips: Path, tmp_path: Path, probed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = VideoIndex(tmp_path / "index.sqlite")
    index.info(clips / NAMES[3])
    monkeypatch.chdir(clips)
    assert index.info(Path(NAMES[3])).num_frames == 17
    assert len(probed) == 1


def test_a_changed_file_is_probed_again(clips: Path, tmp_path: Path, probed: list[str]) -> None:
    path, index = tmp_path / "a.mp4", VideoIndex(tmp_path / "index.sqlite")
    shutil.copy(clips / "rotated90_nasa.mp4", path)
    assert index.info(path).num_frames == 17
    shutil.copy(clips / "odd_321x241_vp9.mp4", path)
    assert index.info(path).num_frames == 25
    os.utime(path, ns=(1, 1))  # equal size, another time
    assert index.info(path).num_frames == 25
    assert index.info(path).num_frames == 25
    assert len(probed) == 3


def test_failures_are_not_remembered(clips: Path, tmp_path: Path) -> None:
    index = VideoIndex(tmp_path / "index.sqlite")
    for _ in range(2):
        with pytest.raises(DecodeError, match=r"cannot open .*zero_bytes\.mp4"):
            index.info(clips / "broken" / "zero_bytes.mp4")
    with pytest.raises(DecodeError, match=r"cannot open .*none\.mp4: No such file"):
        index.info(tmp_path / "none.mp4")


def test_many_processes_share_a_file(clips: Path, tmp_path: Path, worker_tasks: ModuleType) -> None:
    paths = []
    for number in range(24):
        paths.append(tmp_path / f"{number}.mp4")
        shutil.copy(clips / ("rotated90_nasa.mp4", "odd_321x241_vp9.mp4")[number % 2], paths[-1])
    index = VideoIndex(tmp_path / "index.sqlite")
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        orders = [paths, paths[::-1], paths[12:] + paths[:12]]
        counts = list(pool.map(worker_tasks.count_frames, [index] * 3, orders))
    assert counts == [[17, 25] * 12, [25, 17] * 12, [17, 25] * 12]
    rows = sqlite3.connect(index.path).execute("SELECT count(*) FROM videos_3").fetchone()
    assert rows == (24,)


def test_a_damaged_index(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=rf"{path} cannot be used: .*not a database.*delete it"):
        VideoIndex(path).info(clips / NAMES[3])


@pytest.mark.parametrize(
    "change", ["facts = 'x'", "facts = '{}'", "pts = 'x'", "pts = X'00'", "facts = NULL"]
)
def test_a_damaged_row(clips: Path, tmp_path: Path, change: str) -> None:
    path = tmp_path / "index.sqlite"
    VideoIndex(path).info(clips / NAMES[3])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE videos_3 SET {change}")
    with pytest.raises(ConfigError, match=f"{path} cannot be used"):
        VideoIndex(path).info(clips / NAMES[3])


def test_a_place_that_cannot_be_written(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "index.sqlite", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be used: .*SSVIDEO_CACHE"):
            VideoIndex(path).info(clips / NAMES[3])


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSVIDEO_CACHE", raising=False)
    assert default_index_path() == Path.home() / ".cache" / "ssvideo" / "videos.sqlite"
    monkeypatch.setenv("SSVIDEO_CACHE", "/somewhere")
    assert default_index_path() == Path("/somewhere/videos.sqlite")
