from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from brave.images import decode_jpeg
from brave.training_data import TrainingRecords
from brave.views import ViewSpec
from ssvideo_core.blocks import NO_SOUND
from ssvideo_core.errors import ConfigError, DataError, NoSoundError
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records
from ssvideo_core.randomness import generator
from ssvideo_core.samples import NO_LABEL, Task, collate

from brave import records

NARROW = ViewSpec("narrow", "rgb", 4, 2, 16, "tsm_resnet")
VIDEO = ViewSpec("video", "rgb", 3, 4, 32, "tsm_resnet")
SOUND = ViewSpec("audio", "sound", 5, 4, 8, "audio_resnet")
FLOW = ViewSpec("flow", "flow", 3, 2, 16, "tsm_resnet")
ALL = (VIDEO, SOUND, FLOW)
RATE_HZ = 1000


def pictures(count: int, seed: int, size: tuple[int, int] = (72, 90)) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [
        simplejpeg.encode_jpeg(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        for _ in range(count)
    ]


def record(seed: int = 0, num_frames: int = 12) -> VideoRecord:
    wave = np.random.default_rng(seed).uniform(-1, 1, num_frames * 40).astype(np.float32)
    flow = pictures(num_frames - 1, 100 + seed)
    return VideoRecord(pictures(num_frames, seed), waveform=wave, flow=flow)


def shard(path: Path, stored: Sequence[VideoRecord]) -> str:
    write_records(path / "s", [encode_record(one) for one in stored])
    return str(path / "s")


def load(pattern: str, *broad: ViewSpec, **options: object) -> TrainingRecords:
    return TrainingRecords(pattern, NARROW, broad or ALL, audio_rate_hz=RATE_HZ, **options)


@pytest.fixture(scope="module")
def good() -> VideoRecord:
    return record()


def test_clips_are_the_stored_pixels_of_their_views(tmp_path: Path, good: VideoRecord) -> None:
    training = pickle.loads(pickle.dumps(load(shard(tmp_path, [good, record(1)]), seed=3)))
    sample = training(Task(2, 0))
    info = training.records.info(0)
    views = training.sample_views(info, generator(3, 2, 0, "views"))
    assert (sample.index, sample.label, sample.replaced) == (0, NO_LABEL, ())
    for clip, view, size in zip(sample.clips, views, (16, 32, None, 16), strict=True):
        if size is None:
            continue
        stored = good.flow if view.flow else good.frames
        decoded = np.stack([decode_jpeg(stored[min(i, len(stored) - 1)]) for i in view.frames])
        height, width = len(view.rows), len(view.columns)
        expected = decoded[:, view.rows[:, None], view.columns]
        np.testing.assert_array_equal(clip.frames[:, :height, :width], expected)
        assert not clip.frames[:, height:].any() and not clip.frames[:, :, width:].any()
        assert clip.frames.shape[1:3] in {(2 * size, 2 * size), (64, 64)}
    first = round(views[2].sound.start_s * RATE_HZ)
    looped = np.concatenate([np.tile(good.waveform, views[2].sound_repeats), np.zeros(800)])
    np.testing.assert_array_equal(sample.clips[2].sound, looped[first : first + 800])
    for got, view in zip(sample.params, views, strict=True):
        assert got.keys() == view.params.keys()


def test_each_frame_is_decoded_once(
    tmp_path: Path, good: VideoRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[bytes] = Counter()

    def counting(data: bytes) -> object:
        decoded[data] += 1
        return decode_jpeg(data)

    monkeypatch.setattr(records, "decode_jpeg", counting)
    load(shard(tmp_path, [good]))(Task(0, 0))
    assert set(decoded.values()) == {1}


def test_clips_of_a_batch_have_one_shape(tmp_path: Path, good: VideoRecord) -> None:
    training = load(shard(tmp_path, [good, record(1, num_frames=5)]))
    batch = collate([training(Task(0, index)) for index in (0, 1, 0)])
    narrow, video, sound, flow = batch.views
    assert narrow.frames.shape == (3, 4, 32, 32, 3)
    assert video.frames.shape == (3, 3, 64, 64, 3)
    assert flow.frames.shape == (3, 3, 32, 32, 3)
    assert sound.sound.shape == (3, 800)
    assert video.params["kernel"].shape == (3, 11, 11, 3, 3)


def test_draws_depend_on_seed_epoch_and_index(tmp_path: Path, good: VideoRecord) -> None:
    pattern = shard(tmp_path, [good, good])

    def sigma(seed: int, epoch: int, index: int) -> float:
        return float(load(pattern, VIDEO, seed=seed)(Task(epoch, index)).params[0]["blur_sigma"])

    base = sigma(0, 0, 0)
    assert sigma(0, 0, 0) == base
    assert len({base, sigma(1, 0, 0), sigma(0, 1, 0), sigma(0, 0, 1)}) == 4


def test_a_record_without_sound_is_replaced_and_listed(tmp_path: Path, good: VideoRecord) -> None:
    silent = [replace(good, waveform=None), replace(good, waveform=np.empty(0, np.float32))]
    training = load(shard(tmp_path, [*silent, good]))
    sample = training(Task(0, 0))
    assert sample.index == 2
    assert [(one.video_id, one.reason) for one in sample.replaced] == [
        ("s:0", NO_SOUND),
        ("s:1", NO_SOUND),
    ]
    assert load(shard(tmp_path, silent), VIDEO)(Task(0, 0)).index == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": ()}, "s, record 0: image/encoded holds no frame; expected JPEGs"),
        ({"waveform": None}, "s, record 0: no sound: WAVEFORM/feature/floats is empty"),
        ({"flow": ()}, "s, record 0: flow/encoded holds 0 pictures for 12 frames"),
        ({"frames": (b"abc",) * 12}, "3 bytes that begin with 61 62 63 .*; expected a JPEG"),
    ],
)
def test_data_that_fits_no_view_is_found_before_training(
    tmp_path: Path, good: VideoRecord, change: dict[str, object], message: str
) -> None:
    training = load(shard(tmp_path, [replace(good, **change)] * 40))
    with pytest.raises(NoSoundError if "waveform" in change else DataError, match=message):
        training.check()


def test_some_records_that_cannot_be_used_are_a_warning(
    tmp_path: Path, good: VideoRecord, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load(shard(tmp_path, [good])).check()
        assert not caplog.records
        load(shard(tmp_path, [good, replace(good, waveform=None)])).check()
    (line,) = caplog.messages
    assert line.startswith("1 of 2 records") and "s, record 1: no sound" in line


def test_sound_that_is_no_number_is_replaced(tmp_path: Path, good: VideoRecord) -> None:
    """As DMVR's generator writes it: integers whose bits are read as floats."""
    wave = np.full(480, -3, np.int32).view(np.float32)
    with pytest.warns(RuntimeWarning, match="written as integers"):
        training = load(shard(tmp_path, [replace(good, waveform=wave), good]))
        sample = training(Task(0, 0))
    assert sample.index == 1
    assert "holds NaN or infinity" in sample.replaced[0].reason
    silent = load(str(tmp_path / "s"), VIDEO)
    with pytest.warns(RuntimeWarning, match="written as integers"):
        assert silent(Task(0, 0)).index == 0


@pytest.mark.parametrize(("rate_hz", "said"), [(1000, False), (1400, False), (16000, True)])
def test_pictures_and_sound_of_different_lengths_are_a_warning(
    tmp_path: Path,
    good: VideoRecord,
    caplog: pytest.LogCaptureFixture,
    rate_hz: int,
    said: bool,
) -> None:
    pattern = shard(tmp_path, [good, record(1), replace(good, waveform=None)])
    TrainingRecords(pattern, NARROW, (SOUND,), audio_rate_hz=rate_hz).check()
    assert ("pictures last 0.48 s and sound 0.03 s" in caplog.text) == said
    assert ("Nothing is resampled" in caplog.text) == said
    caplog.clear()
    TrainingRecords(pattern, NARROW, (VIDEO,), audio_rate_hz=rate_hz).check()
    assert not caplog.text


def test_flow_of_another_size_is_named(tmp_path: Path, good: VideoRecord) -> None:
    training = load(shard(tmp_path, [replace(good, flow=pictures(12, 5, (40, 50)))]))
    with pytest.raises(DataError, match="record 0: flow of 50x40 pixels, but frame 0 has 90x72"):
        training(Task(0, 0))


def test_damaged_flow_is_named(tmp_path: Path, good: VideoRecord) -> None:
    training = load(shard(tmp_path, [replace(good, flow=[f[:-99] for f in good.flow])]), FLOW)
    with pytest.raises(DataError, match=r"s, record 0, flow frame \d+: a JPEG of"):
        training(Task(0, 0))


def test_patterns_without_files_and_shards_without_records(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="matches no file"):
        load(str(tmp_path / "none-*"))
    with pytest.raises(ConfigError, match="there are no videos to train on"):
        load(shard(tmp_path, []))
