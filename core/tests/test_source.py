from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ssvideo_core import source as sources
from ssvideo_core.datasets.splits import official_split
from ssvideo_core.errors import DataError
from ssvideo_core.source import VideoFiles, open_source
from ssvideo_core.video import probe, read_views
from ssvideo_core.video_index import VideoIndex
from ssvideo_core.views import VideoEntry, VideoInfo, View


@pytest.fixture
def root(clips: Path, tmp_path: Path) -> Path:
    for name in ("b/rotated90_nasa.mp4", "a/odd_321x241_vp9.mp4"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(clips / Path(name).name, tmp_path / name)
    return tmp_path


def test_a_folder(root: Path) -> None:
    source = open_source(root)
    assert [source.entry(number) for number in range(len(source))] == [
        VideoEntry("a/odd_321x241_vp9.mp4", "a"),
        VideoEntry("b/rotated90_nasa.mp4", "b"),
    ]
    assert source.notices == []
    info = source.info(1)
    assert (info.video_id, info.num_frames) == ("b/rotated90_nasa.mp4", 17)
    views = [View(np.array([16, 2]), box=(0, 0, 50, 60)), View(np.array([0]))]
    expected = read_views(root / "b" / "rotated90_nasa.mp4", info, views)
    for found, clip in zip(source.read(1, views), expected, strict=True):
        assert np.array_equal(found.frames, clip.frames)


def test_all_clips_are_one_flat_folder(clips: Path) -> None:
    source = open_source(clips)
    assert len(source) == 12
    assert {source.entry(n).label for n in range(12)} == {None}
    assert "ignored 1 subfolders" in source.notices[0]
    assert "broken" in source.notices[0]


def test_a_list(root: Path) -> None:
    (root / "lists").mkdir()
    text = "video,label,split,note\nb/rotated90_nasa.mp4,x,test,\n"
    for path in (root / "own.csv", root / "lists" / "other.CSV"):
        path.write_text(text)
        source = open_source(path, root=root if path.parent != root else None)
        assert [source.entry(n) for n in range(len(source))] == [
            VideoEntry("b/rotated90_nasa.mp4", "x", "test")
        ]
        assert source.path(0) == root / "b" / "rotated90_nasa.mp4"
        assert source.info(0).num_frames == 17
        assert source.notices == [f"{path}: unused columns: note"]


def test_what_is_neither(root: Path) -> None:
    with pytest.raises(DataError, match="none does not exist; expected a folder of videos"):
        open_source(root / "none")
    with pytest.raises(DataError, match=r"nasa\.mp4 is a file of another kind; expected"):
        open_source(root / "b" / "rotated90_nasa.mp4")


@pytest.mark.parametrize("indexed", [True, False])
def test_each_video_is_probed_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    probed: list[str] = []

    def counting(path: Path, video_id: str | None = None) -> VideoInfo:
        probed.append(path.name)
        return probe(path, video_id)

    monkeypatch.setattr(
        "ssvideo_core.video_index.probe" if indexed else sources,
        *((counting,) if indexed else ("probe", counting)),
    )
    source = open_source(root, index=VideoIndex(root / "index.sqlite") if indexed else None)
    for number in (0, 1):
        source.info(number)
        source.read(number, [View(np.array([0]))])
    assert probed == ["odd_321x241_vp9.mp4", "rotated90_nasa.mp4"]
    source.info(0)
    assert len(probed) == (2 if indexed else 3)


def test_a_copy_by_pickle_reads_the_same(root: Path) -> None:
    index = VideoIndex(root / "index.sqlite")
    source = open_source(root, index=index)
    source.info(0)
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy, VideoFiles)
    assert (len(copy), copy.entry(1)) == (len(source), source.entry(1))
    views = [View(np.array([3]))]
    assert np.array_equal(copy.read(1, views)[0].frames, source.read(1, views)[0].frames)


def test_folders_of_frames_are_a_source(tmp_path: Path) -> None:
    pytest.importorskip("simplejpeg")
    for number in (1, 2):
        file = tmp_path / "jump" / "a" / f"image_{number:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (200, 0, 0)).save(file)
    source = open_source(tmp_path)
    assert [source.entry(i).video_id for i in range(len(source))] == ["jump/a"]
    info = source.info(0)
    assert (info.num_frames, info.height, info.width) == (2, 30, 40)


def write_frames(root: Path, names: list[str]) -> Path:
    for name in names:
        file = root / name / "image_00001.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (0, 200, 0)).save(file)
    return root


@pytest.mark.parametrize("form", ["folders", "database"])
@pytest.mark.parametrize("dataset", ["hmdb51", "ucf101"])
def test_frames_of_official_videos_have_the_official_ids(
    dataset: str, form: str, tmp_path: Path
) -> None:
    """Otherwise no split of the package fits the features of a database that CoCLR published."""
    pytest.importorskip("lmdb")
    from ssvideo_core.formats.lmdb_records import write_database

    ids = official_split(dataset, 1).test[:3]
    root = write_frames(tmp_path / "frames", [video.removesuffix(".avi") for video in ids])
    path = root if form == "folders" else write_database(tmp_path / "a.lmdb", root).path
    source = open_source(path)
    assert {source.entry(number).video_id for number in range(3)} == {*ids}
    assert {source.entry(number).label for number in range(3)} == {ids[0].split("/")[0]}
    assert source.notices == [f"ids end with .avi, as in the official lists of {dataset}"]
    assert source.info(2).num_frames == 1
    assert source.read(2, [View(np.array([0]))])[0].frames is not None


def test_frames_of_other_videos_keep_their_names(tmp_path: Path) -> None:
    pytest.importorskip("simplejpeg")
    official = official_split("hmdb51", 1).test[0].removesuffix(".avi")
    source = open_source(write_frames(tmp_path, [official, "wave/mine"]))
    assert {source.entry(number).video_id for number in range(2)} == {official, "wave/mine"}
    assert source.notices == []


def test_flow_that_is_not_finished_is_said(tmp_path: Path) -> None:
    pytest.importorskip("simplejpeg")
    root = write_frames(tmp_path, ["wave/mine"])
    (root / "flow.json").write_text('{"complete": false}')
    assert open_source(root).notices == [
        f"extract-flow has not finished {root}: videos may be missing"
    ]
    (root / "flow.json").write_text('{"complete": true}')
    assert open_source(root).notices == []


def test_a_database_of_frames_is_a_source(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    from ssvideo_core.formats.lmdb_records import write_database

    write_database(tmp_path / "frames.lmdb", write_frames(tmp_path / "frames", ["jump/a"]))
    source = open_source(tmp_path / "frames.lmdb")
    assert len(source) == 1
    assert source.info(0).num_frames == 1
