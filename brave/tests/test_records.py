from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from brave.images import decode_jpeg
from brave.records import LabelledVideos, RecordFacts
from ssvideo_core.errors import DataError, DecodeError
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records


def jpegs(count: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [
        simplejpeg.encode_jpeg(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
        for _ in range(count)
    ]


@pytest.fixture
def shards(tmp_path: Path) -> str:
    for shard in range(2):
        records = [
            VideoRecord(jpegs(3 + n, 10 * shard + n), labels=np.array([n]), filename=f"{shard}{n}")
            for n in range(2)
        ]
        write_records(tmp_path / f"s-{shard}", [encode_record(record) for record in records])
    return str(tmp_path / "s-*")


def test_facts_and_names(shards: str, tmp_path: Path) -> None:
    videos = pickle.loads(pickle.dumps(LabelledVideos(shards)))
    assert len(videos) == 4
    assert [videos.facts(i) for i in range(4)] == [
        RecordFacts(n, 3 + n, 16, 24, f"{shard}{n}") for shard in range(2) for n in range(2)
    ]
    assert videos.name(3) == f"{tmp_path}/s-1, record 1"


def test_frames_are_decoded_by_number(shards: str) -> None:
    videos = LabelledVideos(shards)
    record = videos.read(3)
    frames = videos.decode(3, record, np.array([2, 0, 2]))
    assert frames.shape == (3, 16, 24, 3)
    for frame, number in zip(frames, (2, 0, 2), strict=True):
        np.testing.assert_array_equal(frame, decode_jpeg(jpegs(4, 11)[number]))


def test_a_negative_class_is_refused(tmp_path: Path) -> None:
    record = VideoRecord(jpegs(1, 0), labels=np.array([-1]))
    write_records(tmp_path / "s", [encode_record(record)])
    with pytest.raises(DataError, match=r"s, record 0: clip/label/index holds \[-1\]"):
        LabelledVideos(str(tmp_path / "s")).facts(0)


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    frames = jpegs(3, 0)
    frames[1] = frames[1][:-100]
    write_records(tmp_path / "s", [encode_record(VideoRecord(frames, labels=np.array([1])))])
    videos = LabelledVideos(str(tmp_path / "s"))
    assert videos.facts(0).num_frames == 3
    with pytest.raises(DecodeError, match=r"s, record 0, frame 1: a JPEG of .* does not decode"):
        videos.decode(0, videos.read(0), np.arange(3))


def test_a_payload_that_is_no_video_is_named(tmp_path: Path) -> None:
    write_records(tmp_path / "s", [b"\x01\x02"])
    with pytest.raises(DataError, match="s, record 0"):
        LabelledVideos(str(tmp_path / "s")).facts(0)
