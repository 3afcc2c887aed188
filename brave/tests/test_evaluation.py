from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from brave.crops import Crop, TestCrops
from brave.evaluation import Features, Ranks, check_videos, embed_videos, evaluate, svm_ranks
from brave.records import LabelledVideos
from numpy.typing import NDArray
from ssvideo_core.errors import DataError, DecodeError, ProtocolError
from ssvideo_core.evaluate.svm import LinearClassifier
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records
from ssvideo_core.progress import Progress

from brave import evaluation


def shard(path: Path, labels: list[int]) -> LabelledVideos:
    """A video of one colour for each label, 40 x 60 pixels."""
    payloads = []
    for label in labels:
        frame = np.full((40, 60, 3), 12 * label + 10, np.uint8)
        frames = [simplejpeg.encode_jpeg(frame, quality=100)] * 5
        payloads.append(encode_record(VideoRecord(frames, labels=np.array([label]))))
    write_records(path, payloads)
    return LabelledVideos(str(path))


class Means:
    """A backbone whose features are the mean colours, in [0, 1]; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[Any, ...]] = []

    def __call__(self, clips: Any) -> NDArray[np.float32]:
        clips = np.asarray(clips)
        self.batches.append((clips.dtype, *clips.shape))
        scale = 255 if clips.dtype == np.uint8 else 1
        return np.asarray(clips.mean((1, 2, 3)) / scale, np.float32)


def test_batches_cross_videos_and_are_all_of_one_shape(tmp_path: Path) -> None:
    videos = shard(tmp_path / "s", [0, 3, 7])
    backbone, seen = Means(), []
    found = embed_videos(
        backbone, TestCrops(videos, 2, 1, 16), size=16, batch_size=7, progress=seen.append
    )
    assert backbone.batches == [(np.dtype(np.uint8), 7, 2, 16, 16, 3)] * 13
    expected = (12 * np.repeat([0, 3, 7], 30) + 10) / 255
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 3, 1), atol=1.5 / 255)
    assert isinstance(seen[-1], Progress)
    assert (seen[-1].done, seen[-1].total) == (3, 3)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_any_number_of_classes(tmp_path: Path, num_classes: int) -> None:
    classes = [3 * label for label in range(num_classes)]  # numbers with gaps
    train, test = (shard(tmp_path / part, classes) for part in ("train", "test"))
    found = evaluate(
        Means(), train, test, C=1.0, batch_size=8, num_frames=2, step=1, size=16, epochs=3
    )
    assert found.train.values.shape == (3 * num_classes, 3)
    assert found.test.labels.tolist() == np.repeat(classes, 30).tolist()
    accuracies = found.ranks.accuracies
    assert list(accuracies) == ["top_1_train", "top_5_train", "top_1_test", "top_5_test"]
    if num_classes <= 5:
        assert accuracies["top_5_train"] == accuracies["top_5_test"] == 1
    if num_classes == 2:
        assert accuracies["top_1_test"] == 1


def test_test_squares_are_cut_from_pictures_of_the_short_side(tmp_path: Path) -> None:
    """The upper quarter of the pictures is white, the rest of one colour for each class."""
    payloads = []
    for label in (0, 1):
        frame = np.full((80, 80, 3), 100 * label, np.uint8)
        frame[:20] = 255
        frames = [simplejpeg.encode_jpeg(frame, quality=100)] * 2
        payloads.append(encode_record(VideoRecord(frames, labels=np.array([label]))))
    write_records(tmp_path / "s", payloads)
    videos = LabelledVideos(str(tmp_path / "s"))
    options = {"C": 1.0, "batch_size": 8, "num_frames": 2, "step": 1, "size": 280, "epochs": 1}
    with pytest.raises(DataError, match="256"):
        evaluate(Means(), videos, videos, **options)
    found = evaluate(Means(), videos, videos, short_side=320, **options)
    # Of 320 rows 80 are white; squares of 280 begin at row 0, 20 and 40.
    white = np.array([80, 60, 40]) / 280
    np.testing.assert_allclose(found.test.values[:3], white[:, None].repeat(3, 1), atol=0.01)


def test_accuracies_count_ranks() -> None:
    ranks = Ranks(np.array([0, 1, 4, 5]), np.array([0, 0, 9]))
    assert ranks.accuracies == {
        "top_1_train": 0.25,
        "top_5_train": 0.75,
        "top_1_test": 2 / 3,
        "top_5_test": 2 / 3,
    }


def test_of_equal_decision_values_the_later_class_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    undecided = LinearClassifier(np.zeros((2, 3)), np.zeros(2), np.array([4, 9]))
    monkeypatch.setattr(evaluation, "fit_linear_svc", lambda *_, **__: undecided)
    features = Features(np.ones((2, 3), np.float32), np.array([4, 9]))
    ranks = svm_ranks(features, features, C=1.0, group=1)
    assert ranks.train.tolist() == ranks.test.tolist() == [1, 0]


def test_a_group_has_one_label() -> None:
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    train = Features(x, np.array([0, 1, 0, 1, 0, 1]))
    with pytest.raises(ProtocolError, match="3 groups of 2 rows hold more than one label"):
        svm_ranks(train, train, C=1.0, group=2)


def test_labels_without_training_examples_are_refused() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    train = Features(x, np.array([0, 2, 0, 2]))
    for label in (1, 3):
        with pytest.raises(ProtocolError, match=f"class {label} .* none of the 2 classes"):
            svm_ranks(train, Features(x[:1], np.array([label])), C=1.0, group=1)


def test_an_empty_test_part_is_refused(tmp_path: Path) -> None:
    train, test = shard(tmp_path / "train", [0, 1]), shard(tmp_path / "test", [])
    with pytest.raises(ProtocolError, match="test shards hold no video"):
        check_videos(train, test)


@dataclass(frozen=True)
class Failing:
    """A loader whose second video cannot be decoded."""

    videos: LabelledVideos

    def __call__(self, index: int) -> list[Crop]:
        if index == 1:
            raise DecodeError(f"{self.videos.name(index)}: broken")
        return TestCrops(self.videos, 2, 1, 16)(index)


def test_an_error_ends_the_work(tmp_path: Path) -> None:
    videos = shard(tmp_path / "s", [0, 1, 2])
    before = threading.active_count()
    with pytest.raises(DecodeError, match="s, record 1: broken"):
        embed_videos(Means(), Failing(videos), size=16, batch_size=64)
    assert threading.active_count() == before
