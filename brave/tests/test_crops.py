from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from brave.crops import Crop, TestCrops, TrainCrops, stack_crops
from brave.images import decode_jpeg
from brave.records import LabelledVideos
from brave.sampling import Augmentation, Box
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records
from ssvideo_core.loading import ordered_map

from brave import records

NUM_FRAMES = 20
FLAT = Augmentation(False, False, 0.0, 1.0, 1.0, 0.0, False)


@pytest.fixture
def videos(tmp_path: Path) -> LabelledVideos:
    rng = np.random.default_rng(0)
    frames = [
        simplejpeg.encode_jpeg(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        for _ in range(NUM_FRAMES)
    ]
    write_records(tmp_path / "s", [encode_record(VideoRecord(frames, labels=np.array([0])))] * 2)
    return LabelledVideos(str(tmp_path / "s"))


def test_each_frame_is_decoded_once(
    videos: LabelledVideos, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[bytes] = Counter()

    def counting(data: bytes) -> object:
        decoded[data] += 1
        return decode_jpeg(data)

    monkeypatch.setattr(records, "decode_jpeg", counting)
    for load in (TrainCrops(videos, 8, 2, 10, 0), TestCrops(videos, 8, 2, 32)):
        decoded.clear()
        load(0)
        assert set(decoded.values()) == {1}
        assert len(decoded) <= NUM_FRAMES


def test_draws_depend_on_seed_epoch_and_place_alone(videos: LabelledVideos) -> None:
    def drawn(load: TrainCrops, index: int) -> list[tuple[object, ...]]:
        return [(*crop.rows.tolist(), crop.box, crop.augmentation) for crop in load(index)]

    ten, three = (TrainCrops(videos, 8, 2, epochs, 0) for epochs in (10, 3))
    boxes = [crop.box for crop in ten(0)]
    assert boxes[:3] == [crop.box for crop in three(0)]
    assert len(set(boxes)) > 5
    assert drawn(ten, 0) == drawn(ten, 0)
    assert drawn(ten, 0) != drawn(ten, 1)
    assert drawn(ten, 0) != drawn(TrainCrops(videos, 8, 2, 10, 1), 0)


def test_crops_share_their_frames_across_processes(videos: LabelledVideos) -> None:
    load = TestCrops(videos, 8, 2, 32)
    (crops,) = ordered_map(load, [1], workers=1)
    assert len(crops) == 30
    assert all(crop.frames is crops[0].frames for crop in crops)
    for got, expected in zip(stack_crops(crops), stack_crops(load(1)), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_batches_of_test_crops_are_of_their_size() -> None:
    frames = np.arange(4 * 6 * 7 * 3, dtype=np.uint8).reshape(4, 6, 7, 3)
    crops = [Crop(frames, np.array([1, 3, 1]), Box(2, y, 3, 3)) for y in (0, 4)]
    batch = stack_crops(crops)
    np.testing.assert_array_equal(batch[0], frames[[1, 3, 1], 2:5, 0:3])
    np.testing.assert_array_equal(batch[1], frames[[1, 3, 1], 2:5, 4:7])


def test_batches_of_training_crops_have_few_shapes() -> None:
    small, large = np.ones((2, 50, 60, 3), np.uint8), np.ones((2, 70, 64, 3), np.uint8)
    crops = [Crop(frames, np.array([0, 1]), Box(1, 2, 30, 40), FLAT) for frames in (small, large)]
    batch = stack_crops(crops)
    assert batch.shape == (2, 2, 128, 64, 3)
    assert batch[:, :, :30, :40].min() == 1
    assert batch.sum() == 2 * 2 * 30 * 40 * 3
    assert stack_crops(crops[:1]).shape == (1, 2, 64, 64, 3)


def test_workers_do_not_import_jax() -> None:
    code = (
        "import sys, brave.crops, brave.training_data; "
        "assert not {'jax', 'flax', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
