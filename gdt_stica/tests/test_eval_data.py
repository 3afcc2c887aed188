"""Folds of a folder of videos."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.eval_data import Fold, find_folds, repeated, select
from ssvideo_core.datasets.splits import read_splits
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.testing.synthetic_scenes import CLASSES


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Path]:
    """videos/CLASS/file and splits/CLASS_test_split1.txt."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSVIDEO_CACHE", str(folder / "cache"))
        yield write_dataset(folder / "embedded", num_train=16, num_test=16, size=32, num_frames=4)


def ids(fold: Fold, videos: np.ndarray) -> list[str]:
    return [fold.source.entry(int(video)).video_id for video in videos]


def in_parts(data: Path, root: Path, number: str = "1") -> Path:
    """ROOT/train/CLASS/file and ROOT/test/CLASS/file, of one fold."""
    split = read_splits(data / "splits", dataset="hmdb51")[number]
    for part in ("train", "test"):
        for video in getattr(split, part):
            target = root / part / video
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(data / "videos" / video)
    return root


def ucf101_lists(data: Path, folder: Path) -> Path:
    """The same splits in UCF101's form."""
    folder.mkdir()
    for number, split in read_splits(data / "splits", dataset="ucf101").items():
        for part in ("train", "test"):
            lines = [f"{video} 1" if part == "train" else video for video in getattr(split, part)]
            (folder / f"{part}list0{number}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_folds_are_the_lists(data: Path) -> None:
    folds = find_folds(data / "videos", "hmdb51", (1, 3), lists=data / "splits")
    splits = read_splits(data / "splits", dataset="hmdb51")
    assert [fold.name for fold in folds] == ["1", "3"]
    for fold in folds:
        split = splits[fold.name]
        assert sorted(ids(fold, fold.train)) == sorted(split.train)
        assert sorted(ids(fold, fold.test)) == sorted(split.test)
        assert list(fold.classes) == sorted(
            p.name for p in (data / "videos").iterdir() if p.is_dir()
        )
        labels = fold.labels(fold.test)
        classes = [fold.classes[label] for label in labels]
        assert classes == [video.partition("/")[0] for video in ids(fold, fold.test)]
    assert folds[0].data_hash != folds[1].data_hash


def test_a_slash_at_the_end_and_ucf101s_lists_change_nothing(data: Path, tmp_path: Path) -> None:
    lists = ucf101_lists(data, tmp_path / "lists")
    (wanted,) = find_folds(data / "videos", "hmdb51", (2,), lists=data / "splits")
    for root in (data / "videos", Path(f"{data / 'videos'}/")):
        (found,) = find_folds(root, "ucf101", (2,), lists=lists)
        assert ids(found, found.train) == ids(wanted, wanted.train)
        assert ids(found, found.test) == ids(wanted, wanted.test)


@pytest.mark.parametrize("number", [1, 2])
def test_the_lists_decide_where_videos_lie_in_parts(
    data: Path, tmp_path: Path, number: int
) -> None:
    """Fold 2 of a folder that was laid out for fold 1 is fold 2."""
    root = in_parts(data, tmp_path / "parts")
    (found,) = find_folds(root, "hmdb51", (number,), lists=data / "splits")
    (wanted,) = find_folds(data / "videos", "hmdb51", (number,), lists=data / "splits")
    for part in ("train", "test"):
        names = [video.split("/", 1)[1] for video in ids(found, getattr(found, part))]
        assert sorted(names) == sorted(ids(wanted, getattr(wanted, part)))
    assert found.classes == wanted.classes


def test_the_first_training_videos(data: Path) -> None:
    (fold,) = find_folds(data / "videos", "hmdb51", (1,), lists=data / "splits", num_data_samples=5)
    (whole,) = find_folds(data / "videos", "hmdb51", (1,), lists=data / "splits")
    np.testing.assert_array_equal(fold.train, whole.train[:5])
    np.testing.assert_array_equal(fold.test, whole.test)
    assert fold.classes == whole.classes


def test_a_video_that_cannot_be_opened(data: Path, tmp_path: Path) -> None:
    """It is not trained on, stays in the test list, and is named."""
    root = tmp_path / "videos"
    shutil.copytree(data / "videos", root)
    (before,) = find_folds(root, "hmdb51", (1,), lists=data / "splits")
    broken = [ids(before, before.train)[3], ids(before, before.test)[0]]
    for video in broken:
        (root / video).write_bytes(b"no video")
    (fold,) = find_folds(root, "hmdb51", (1,), lists=data / "splits")
    assert list(fold.excluded) == broken[:1]
    assert ids(fold, fold.train) == [v for v in ids(before, before.train) if v != broken[0]]
    assert ids(fold, fold.test) == ids(before, before.test)
    assert "1 left out" in str(fold)


def test_without_training_only_the_test_videos_are_needed(data: Path, tmp_path: Path) -> None:
    """Classes keep their numbers, also where one of them has no test video."""
    table, root = tmp_path / "lists.csv", tmp_path / "videos"
    split = read_splits(data / "splits", dataset="hmdb51")["1"]
    test = [video for video in split.test if not video.startswith(f"{CLASSES[1]}/")]
    rows = [f"{video},train" for video in split.train] + [f"{video},test" for video in test]
    table.write_text("\n".join(["video,split1", *rows]) + "\n")
    (whole,) = find_folds(data / "videos", "hmdb51", (1,), lists=table)
    (wanted,) = find_folds(data / "videos", "hmdb51", (1,), lists=table, training=False)
    for video in test:
        (root / video).parent.mkdir(parents=True, exist_ok=True)
        (root / video).symlink_to(data / "videos" / video)
    (fold,) = find_folds(root, "hmdb51", (1,), lists=table, training=False)
    assert CLASSES[1] in fold.classes
    assert fold.classes == wanted.classes == whole.classes
    assert ids(fold, fold.test) == ids(whole, whole.test)
    np.testing.assert_array_equal(fold.labels(fold.test), whole.labels(whole.test))
    assert len(fold.train) == len(fold.excluded) == 0
    assert fold.data_hash == wanted.data_hash != whole.data_hash
    assert str(fold) == f"hmdb51 fold 1: {len(test)} test videos, 8 classes"
    with pytest.raises(DataError, match="training videos: 16 of the 16 that are listed are not"):
        find_folds(root, "hmdb51", (1,), lists=table)
    (root / test[0]).unlink()
    with pytest.raises(DataError, match=f"test videos: 1 of the {len(test)} that are listed"):
        find_folds(root, "hmdb51", (1,), lists=table, training=False)


def test_names_that_repeat_are_all_taken() -> None:
    files = ["/a/c0/x.avi", "/a/c1/x.avi", "/b/c0/x.avi", "/a/c0/y.avi"]
    assert select(files, ["c0/x.avi"]).tolist() == [0, 2]
    assert repeated(np.array([4, 7]), 3).tolist() == [4, 7, 4, 7, 4, 7]


def test_what_does_not_fit_is_said(data: Path, tmp_path: Path) -> None:
    videos, lists = data / "videos", data / "splits"
    with pytest.raises(ConfigError, match="--root_dir"):
        find_folds(None, "hmdb51", (1,))
    with pytest.raises(DataError, match="does not exist; expected the lists"):
        find_folds(videos, "hmdb51", (1,), lists=tmp_path / "none")
    with pytest.raises(DataError, match="no split named 4"):
        find_folds(videos, "hmdb51", (4,), lists=lists)
    with pytest.raises(DataError, match="3570 of the 3570 that are listed are not there"):
        find_folds(videos, "hmdb51", (1,))
    with pytest.raises(DataError, match="none does not exist"):
        find_folds(tmp_path / "none", "hmdb51", (1,), lists=lists)


def test_a_video_that_is_missing_or_there_twice(data: Path, tmp_path: Path) -> None:
    root = in_parts(data, tmp_path / "parts")
    video = next((root / "train").glob("*/*"))
    again = root / "test" / video.parent.name / video.name
    again.symlink_to(video.resolve())
    with pytest.raises(DataError, match=f"{video.name} lie in several folders"):
        find_folds(root, "hmdb51", (1,), lists=data / "splits")
    again.unlink()
    video.unlink()
    with pytest.raises(DataError, match=r"1 of the 16 that are listed are not there"):
        find_folds(root, "hmdb51", (1,), lists=data / "splits")


def test_a_class_that_is_only_tested(data: Path, tmp_path: Path) -> None:
    train, test = (sorted((data / "videos" / name).glob("*.mp4")) for name in CLASSES[:2])
    table = tmp_path / "lists.csv"
    rows = [(train[0], "train"), (train[1], "test"), (test[0], "test")]
    lines = [f"{path.parent.name}/{path.name},{part}" for path, part in rows]
    table.write_text("\n".join(["video,split1", *lines]) + "\n")
    with pytest.raises(DataError, match=f"1 classes occur only in the test, {CLASSES[1]}"):
        find_folds(data / "videos", "hmdb51", (1,), lists=table)
