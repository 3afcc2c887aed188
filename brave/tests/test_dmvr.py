from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from brave.dmvr import resample, spectrogram, synced_crop
from brave.dmvr_reading import (
    AudioReading,
    FlowReading,
    ImageReading,
    LabelReading,
    read_batches,
)
from brave.flow import resize_min_flow
from ssvideo_core.errors import DataError
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records

GREY = simplejpeg.encode_jpeg(np.full((8, 8, 3), 128, np.uint8))
GOOD = VideoRecord([GREY] * 3, labels=np.array([1, 1, 3]), label_text=["a"])
IMAGE = ImageReading(num_frames=2, min_resize=8, crop_size=10)


def shard(folder: Path, *records: VideoRecord) -> str:
    write_records(folder / "s", [encode_record(record) for record in records])
    return str(folder / "s")


def test_labels_are_summed(tmp_path: Path) -> None:
    unlabelled = replace(GOOD, labels=np.empty(0, np.int64))
    reading = read_batches(
        shard(tmp_path, GOOD, unlabelled, GOOD), batch_size=2, label=LabelReading(num_classes=4)
    )
    first, last = reading
    np.testing.assert_array_equal(first["label"], [[0, 2, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(last["label"], [[0, 2, 0, 1]])
    assert first["label"].dtype == np.float32


def test_a_small_picture_lies_in_zeros(tmp_path: Path) -> None:
    (batch,) = read_batches(shard(tmp_path, GOOD), batch_size=1, image=IMAGE)
    expected = np.zeros((1, 2, 10, 10, 3), np.float32)
    expected[:, :, 1:9, 1:9] = np.float32(128 / 255)
    np.testing.assert_allclose(batch["image"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("record", "wanted", "message"),
    [
        (VideoRecord(), {"image": IMAGE}, "image/encoded holds no picture"),
        (GOOD, {"flow": FlowReading()}, "flow/encoded holds no picture"),
        (GOOD, {"audio": AudioReading()}, "WAVEFORM/feature/floats is empty"),
        (GOOD, {"label": LabelReading()}, r"holds \[1, 1, 3\], expected one number"),
        (GOOD, {"label": LabelReading(num_classes=3)}, r"holds \[1, 1, 3\], expected 0 to 2"),
        (
            replace(GOOD, label_text=[]),
            {"label": LabelReading(num_classes=4, add_name=True)},
            r"clip/label/text holds \[\], expected one name",
        ),
    ],
)
def test_what_a_record_lacks_is_named(
    tmp_path: Path, record: VideoRecord, wanted: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=f"s, record 0: .*{message}"):
        list(read_batches(shard(tmp_path, record), batch_size=1, **wanted))


def test_a_synced_crop_stays_in_the_picture() -> None:
    frames = np.arange(2 * 5 * 6 * 3, dtype=np.uint8).reshape(2, 5, 6, 3)
    got = synced_crop(frames, 4, 4, proportions=(0.0, 0.6, 0.9, 0.0))
    np.testing.assert_array_equal(got, frames[:, 1:5, 2:6])


def test_resampling_keeps_a_low_tone() -> None:
    time = np.arange(480)
    wave = (0.5 * np.sin(2 * np.pi * 10 * time / 480)).astype(np.float32)
    np.testing.assert_allclose(resample(wave, 48_000, 16_000), wave[::3], atol=1e-6)
    np.testing.assert_allclose(resample(wave[::3], 16_000, 48_000), wave, atol=1e-6)


def test_features_of_clips_are_those_of_each() -> None:
    waves = np.random.default_rng(0).normal(size=(2, 3, 300)).astype(np.float32)
    form = {"frame_length": 64, "frame_step": 32, "num_bins": 5}
    options = {**form, "normalize": True, "preemphasis": 0.9, "kind": "mfcc", "num_mfcc": 4}
    together = spectrogram(waves, **options)
    assert together.shape == (2, 3, 10, 4)
    np.testing.assert_allclose(together[1, 2], spectrogram(waves[1, 2], **options), atol=1e-5)


def test_flow_of_the_right_size_is_as_it_was() -> None:
    flow = np.ones((1, 4, 6, 2), np.float32)
    assert resize_min_flow(flow, 4) is flow
    np.testing.assert_allclose(resize_min_flow(flow, 8), np.full((1, 8, 12, 2), 2.0))
