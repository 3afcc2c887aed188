from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ssvideo_core.datasets.check import check_data
from ssvideo_core.datasets.official import official_videos
from ssvideo_core.datasets.splits import official_split


def touch(root: Path, videos: tuple[str, ...] | list[str]) -> Path:
    """Empty files: enough for everything but opening them."""
    for folder in {video.rpartition("/")[0] for video in videos}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for video in videos:
        (root / video).touch()
    return root


@pytest.fixture(scope="module")
def hmdb51(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return touch(tmp_path_factory.mktemp("hmdb51"), official_videos("hmdb51"))


def test_a_complete_copy_is_ok(hmdb51: Path) -> None:
    report = check_data("hmdb51", hmdb51, decode=False)
    assert report.ok and report.mismatch is None
    assert report.counts == {"videos": 6766, "classes": 51}
    text = str(report)
    assert "ROOT/brush_hair … ROOT/wave   51 class folders" in text
    assert "…   6766 videos" in text and "ROOT/test/CLASS/…   3570, 1530 (split 1)" in text
    assert text.endswith("\nok")


def test_the_first_mismatch_of_an_incomplete_copy_is_named(hmdb51: Path) -> None:
    first, *_, last = sorted(official_videos("hmdb51"))
    folder = hmdb51 / "wave"
    (hmdb51 / last).unlink()
    try:
        report = check_data("hmdb51", hmdb51, decode=False)
        assert report.mismatch == (
            f"expected {last}, which is not there (1 of 6766 missing, 0 unexpected)"
        )
        (hmdb51 / "brush_hair" / "A.avi").touch()
        report = check_data("hmdb51", hmdb51, decode=False)
        assert report.mismatch == (
            "found brush_hair/A.avi, which is not in the official list "
            "(1 of 6766 missing, 1 unexpected)"
        )
        assert report.counts["videos"] == 6766 and not report.ok
        assert str(report).endswith("not ok")
        (hmdb51 / "brush_hair" / "A.avi").unlink()
        (hmdb51 / "brush_hair").rename(hmdb51 / "zz_brush_hair")
        report = check_data("hmdb51", hmdb51, decode=False)
        assert report.mismatch is not None
        assert report.mismatch.startswith(f"expected {first}, but the folder brush_hair/ is not")
    finally:
        if (hmdb51 / "zz_brush_hair").exists():
            (hmdb51 / "zz_brush_hair").rename(hmdb51 / "brush_hair")
        (folder / last.split("/")[1]).touch()


def test_one_split_as_train_and_test_folders(tmp_path: Path) -> None:
    split = official_split("hmdb51", 2)
    paths = [f"train/{v}" for v in split.train] + [f"test/{v}" for v in split.test]
    report = check_data("hmdb51", touch(tmp_path, paths), decode=False)
    assert report.ok
    assert report.counts == {
        "videos": 5100,
        "classes": 51,
        "videos in test": 1530,
        "videos in train": 3570,
    }
    (tmp_path / paths[0]).rename(tmp_path / paths[0].replace("train/", "test/", 1))
    report = check_data("hmdb51", tmp_path, decode=False)
    assert report.mismatch == (
        f"found test/{split.train[0]}, which is not in the official list "
        "(1 of 5100 missing, 1 unexpected)"
    )


def test_a_root_that_is_not_there_or_empty(tmp_path: Path) -> None:
    for root in (tmp_path / "absent", tmp_path):
        for dataset in ("ucf101", None):
            report = check_data(dataset, root)
            assert not report.ok
            assert report.counts == {"videos": 0}
            assert report.mismatch is not None and str(root) in report.mismatch
    assert "13320 videos" in str(check_data("ucf101", tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_videos_that_cannot_be_read_are_listed(tmp_path: Path, clips: Path, workers: int) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    shutil.copy(clips / "odd_321x241_vp9.mp4", tmp_path / "good")
    shutil.copy(clips / "k400_noaudio_armwrestling.mp4", tmp_path / "good")
    shutil.copy(clips / "broken" / "zero_bytes.mp4", tmp_path / "bad")
    shutil.copy(clips / "broken" / "random_bytes.mp4", tmp_path / "bad")
    report = check_data(None, tmp_path, workers=workers)
    assert list(report.unreadable) == ["bad/random_bytes.mp4", "bad/zero_bytes.mp4"]
    assert all(name in reason for name, reason in report.unreadable.items())
    assert report.mismatch is None and not report.ok
    assert "2 videos cannot be read:\n  bad/random_bytes.mp4: " in str(report)
    assert check_data(None, tmp_path, decode=False).ok


def test_a_long_list_of_unreadable_videos_is_cut(tmp_path: Path) -> None:
    touch(tmp_path, [f"a/{number}.mp4" for number in range(13)])
    report = check_data(None, tmp_path)
    assert len(report.unreadable) == 13
    assert str(report).splitlines()[-2:] == ["  and 3 more", "not ok"]


def test_own_classes_must_occur_in_training(tmp_path: Path) -> None:
    touch(tmp_path, ["train/run/a.mp4", "test/run/b.mp4", "test/sit/c.mp4"])
    report = check_data("mine", tmp_path, decode=False)
    assert report.mismatch == "found test/sit/c.mp4 of class 'sit', which has no training video"
    (tmp_path / "train" / "sit").mkdir()
    (tmp_path / "train" / "sit" / "d.mp4").touch()
    assert check_data("mine", tmp_path, decode=False).ok


def test_notices_of_the_source_are_printed(tmp_path: Path) -> None:
    touch(tmp_path, ["a.mp4", "ignored/b.mp4"])
    report = check_data(None, tmp_path, decode=False)
    assert report.counts == {"videos": 1, "classes": 0}
    assert len(report.notices) == 1 and report.notices[0] in str(report)


def test_damaged_videos_are_unreadable_also_when_remembered(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "wave"
    folder.mkdir(parents=True)
    for name in ("truncated_half.avi", "corrupt_middle.mp4"):
        shutil.copy(clips / "broken" / name, folder)
    for _ in range(2):
        report = check_data(None, tmp_path / "videos")
        assert not report.ok
        assert "ends after 120 frames" in report.unreadable["wave/truncated_half.avi"]
        assert "ends after 154 frames" in report.unreadable["wave/corrupt_middle.mp4"]
