from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from ssvideo_core.blocks import (
    Block,
    DamagedBlockError,
    Failure,
    block_path,
    block_span,
    num_blocks,
    read_block,
    write_block,
)
from ssvideo_core.errors import DataError

REQUEST = "r" * 64
FAILURES = (Failure(257, "b/ü.mp4", "cannot open"), Failure(260, "c.mp4", "no sound", bad=False))


def some_block() -> Block:
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    video = np.array([256, 256, 258, 258, 259, 259])
    view = np.array([0, 1, 0, 1, 0, 1], np.int32)
    return Block(1, values, video, view, FAILURES, missing_samples=7)


def test_spans_cover_every_video_once() -> None:
    for total in (1, 255, 256, 257, 512, 1000):
        spans = [block_span(number, total) for number in range(num_blocks(total))]
        assert [video for span in spans for video in span] == list(range(total))
        assert all(len(span) == 256 for span in spans[:-1])


def test_a_block_comes_back_equal_and_says_what_it_is(tmp_path: Path) -> None:
    block = some_block()
    write_block(tmp_path, block, REQUEST)
    read = read_block(tmp_path, 1, REQUEST, num_videos=261)
    for name, kind in (("values", "<f4"), ("video", "<i8"), ("view", "<i4")):
        np.testing.assert_array_equal(getattr(read, name), getattr(block, name), strict=True)
        assert getattr(read, name).dtype == np.dtype(kind)
    assert (read.number, read.failures, read.missing_samples) == (1, FAILURES, 7)


def test_any_safetensors_reader_can_read_a_block(tmp_path: Path) -> None:
    write_block(tmp_path, some_block(), REQUEST)
    path = tmp_path / "block-000001.safetensors"
    assert sorted(load_file(path)) == ["values", "video", "view"]
    with safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["ssvideo-block"])
    assert (record["request"], record["block"]) == (REQUEST, 1)


def test_a_block_of_failures_alone(tmp_path: Path) -> None:
    empty = Block(
        1,
        np.empty((0, 3), np.float32),
        np.empty(0, np.int64),
        np.empty(0, np.int32),
        (Failure(256, "a", "x"), Failure(257, "b", "y")),
    )
    write_block(tmp_path, empty, REQUEST)
    assert read_block(tmp_path, 1, REQUEST, num_videos=258).values.shape == (0, 3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_byte_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    write_block(folder, some_block(), REQUEST)
    path = block_path(folder, 1)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read = read_block(folder, 1, REQUEST, num_videos=261)
    except DataError:
        return
    # Only the blanks that fill up the file's head may be other blanks.
    assert chr(content[at]) in " \t\n\r"
    for name in ("values", "video", "view"):
        np.testing.assert_array_equal(getattr(read, name), getattr(some_block(), name))
    assert (read.failures, read.missing_samples) == (FAILURES, 7)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_block_is_damaged(tmp_path: Path, keep: int) -> None:
    write_block(tmp_path, some_block(), REQUEST)
    path = block_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedBlockError, match=r"block-000001.*damaged.*computes it anew"):
        read_block(tmp_path, 1, REQUEST, num_videos=261)


def test_a_missing_block(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"block-000004\.safetensors is missing"):
        read_block(tmp_path, 4, REQUEST, num_videos=2000)


def test_foreign_blocks_are_no_damaged_blocks(tmp_path: Path) -> None:
    write_block(tmp_path, some_block(), "another")
    with pytest.raises(DataError, match="request another, not rrr") as raised:
        read_block(tmp_path, 1, REQUEST, num_videos=261)
    assert not isinstance(raised.value, DamagedBlockError)
    block_path(tmp_path, 1).rename(block_path(tmp_path, 2))
    with pytest.raises(DataError, match="with block 1, not 2"):
        read_block(tmp_path, 2, "another", num_videos=2000)
    save_file({"values": np.zeros((1, 3), np.float32)}, block_path(tmp_path, 3))
    with pytest.raises(DataError, match="no block of features: it does not belong here"):
        read_block(tmp_path, 3, REQUEST, num_videos=2000)


@pytest.mark.parametrize(
    "video", [[256, 258, 258], [256, 259], [258, 256, 259], [256, 257, 258, 259]], ids=str
)
def test_rows_and_failures_must_be_the_span(tmp_path: Path, video: list[int]) -> None:
    rows = np.ones((len(video), 3), np.float32)
    block = Block(1, rows, np.array(video), np.zeros(len(video), np.int32), FAILURES)
    write_block(tmp_path, block, REQUEST)
    with pytest.raises(DataError, match="expected videos 256 to 260 once each"):
        read_block(tmp_path, 1, REQUEST, num_videos=261)
