"""Optical flow beside the frames of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError
from ssvideo_core.formats.flow_frames import BOUND, flow_method, grey
from ssvideo_core.formats.sequence_examples import VideoRecord, parse_record
from ssvideo_core.formats.video_records import EncodeVideo, RecordForm
from ssvideo_core.testing.fake_videos import FakeVideos
from ssvideo_core.views import Clip, VideoInfo, View

pytest.importorskip("cv2", reason="needs opencv-contrib-python-headless")

SIZE, SPEED = 64, 3
FORM = RecordForm(short_side=SIZE, sound_rate_hz=0, flow="dis")


def moving(num_frames: int) -> NDArray[np.uint8]:
    """A smooth texture that moves SPEED pixels to the right from frame to frame."""
    rows, columns = np.mgrid[:SIZE, : SIZE + SPEED * num_frames]
    texture = 127 + 60 * np.sin(rows / 3.1) * np.cos(columns / 4.3) + 60 * np.sin(columns / 7)
    starts = SPEED * np.arange(num_frames)[::-1]
    frames = np.stack([texture[:, start : start + SIZE] for start in starts])
    return np.repeat(frames[..., None], 3, axis=-1).astype(np.uint8)


@dataclass(frozen=True)
class MovingVideos(FakeVideos):
    """One video of `num_frames` frames, `rate` a second."""

    count: int = 1
    num_frames: int = 4
    rate: int = 25

    def info(self, index: int) -> VideoInfo:
        facts = replace(super().info(index), num_frames=self.num_frames, rate=Fraction(self.rate))
        return replace(facts, time_base=1 / facts.rate, height=SIZE, width=SIZE, pts=None)

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        frames = moving(self.num_frames)
        return [Clip(frames[view.frames], None) for view in views]


def record_of(videos: FakeVideos, form: RecordForm = FORM) -> VideoRecord:
    data = EncodeVideo(videos, tuple("01234"), form, ())(0)
    assert isinstance(data, bytes)
    return parse_record(data)


def displacements(jpegs: Sequence[bytes]) -> NDArray[np.float64]:
    """[T, H, W, 3] in pixels, as the format says."""
    levels = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs])
    return (levels * (2 / 255) - 1) * BOUND


def test_a_picture_for_each_frame() -> None:
    record = record_of(MovingVideos())
    assert len(record.flow) == len(record.frames) == 4
    assert record.flow[3] == record.flow[2]
    found = displacements(record.flow)
    assert simplejpeg.decode_jpeg_header(record.flow[0])[3] == "444"
    luma = [grey(frame) for frame in moving(4)]
    for number in range(3):
        wanted = flow_method("dis")(luma[number], luma[number + 1])
        error = np.abs(found[number, ..., :2] - wanted)
        assert error.mean() < 0.15 and np.abs(np.median(wanted[..., 0]) - SPEED) < 0.1
    assert found[..., 2].max() < 3 * BOUND / 255 - BOUND


def test_between_repeated_frames_nothing_moves() -> None:
    record = record_of(MovingVideos(num_frames=3), replace(FORM, rate_hz=50))
    assert len(record.flow) == 6
    moved = np.abs(displacements(record.flow)[..., 0]).mean(axis=(1, 2))
    assert (moved[::2] < 0.2).all() and (moved[1:4:2] > 2).all()
    assert record.flow[5] == record.flow[4]


def test_one_frame_does_not_move() -> None:
    record = record_of(MovingVideos(num_frames=1))
    assert len(record.flow) == 1
    assert np.abs(displacements(record.flow)[..., :2]).max() < 0.3


def test_without_flow_and_with_another_method() -> None:
    assert record_of(MovingVideos(), replace(FORM, flow="")).flow == ()
    with pytest.raises(ConfigError, match=r"flow is 'hs', expected tvl1 or dis, or nothing"):
        replace(FORM, flow="hs").check()
