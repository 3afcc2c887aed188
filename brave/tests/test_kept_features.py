"""An evaluation that was interrupted goes on, and ends as one that was not."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from brave.crops import Crop
from brave.evaluation import embed_videos
from brave.kept_features import KeptFeatures
from brave.records import LabelledVideos
from brave.sampling import Box
from numpy.typing import NDArray
from ssvideo_core import blocks
from ssvideo_core.errors import DataError
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records
from ssvideo_core.progress import Progress

COUNT = 8


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VIDEOS", 3)


@pytest.fixture
def videos(tmp_path: Path) -> LabelledVideos:
    write_records(tmp_path / "s", [encode_record(VideoRecord([b"x"]))] * COUNT)
    return LabelledVideos(str(tmp_path / "s"))


@dataclass
class TwoCrops:
    """Crops whose pixels are functions of the video's number; stops before video `stop`."""

    videos: LabelledVideos
    stop: int = COUNT
    asked: list[int] = field(default_factory=list)

    def __call__(self, index: int) -> list[Crop]:
        if index == self.stop:
            raise KeyboardInterrupt
        self.asked.append(index)
        frames = np.full((1, 4, 4, 3), 10 * index, np.uint8)
        rows = np.zeros(1, np.int64)
        return [Crop(frames + k, rows, Box(0, 0, 4, 4)) for k in range(2)]


def embed(load: TwoCrops, kept: KeptFeatures | None, seen: list[Progress]) -> NDArray[np.float32]:
    def means(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return clips.mean((1, 2, 3)).astype(np.float32)

    return embed_videos(means, load, size=4, batch_size=4, kept=kept, progress=seen.append)


@pytest.mark.parametrize("stop", [0, 2, 3, 5, 7])
def test_going_on(videos: LabelledVideos, tmp_path: Path, stop: int) -> None:
    kept, seen = KeptFeatures(tmp_path / "kept", "a"), []
    whole = embed(TwoCrops(videos), None, [])
    with pytest.raises(KeyboardInterrupt):
        embed(TwoCrops(videos, stop), kept, [])
    rest = TwoCrops(videos)
    assert np.array_equal(embed(rest, kept, seen), whole)
    assert rest.asked == list(range(stop // 3 * 3, COUNT))
    assert (seen[-1].done, seen[-1].total, seen[-1].resumed) == (COUNT, COUNT, stop // 3 * 3)
    nothing = TwoCrops(videos)
    assert np.array_equal(embed(nothing, kept, []), whole) and not nothing.asked


def test_a_damaged_block_is_made_again(
    videos: LabelledVideos, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptFeatures(tmp_path / "kept", "a")
    whole = embed(TwoCrops(videos), kept, [])
    path = blocks.block_path(kept.folder, 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = TwoCrops(videos)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(embed(again, kept, []), whole)
    assert again.asked == [3, 4, 5]
    assert f"{path} is damaged and will be made again" in caplog.text


def test_blocks_of_another_request_are_refused(videos: LabelledVideos, tmp_path: Path) -> None:
    embed(TwoCrops(videos), KeptFeatures(tmp_path / "kept", "a"), [])
    with pytest.raises(DataError, match="request a, not b"):
        embed(TwoCrops(videos), KeptFeatures(tmp_path / "kept", "b"), [])
