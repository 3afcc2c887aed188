"""Caption files, and the stretches of time and of text that a caption stands for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.captions import (
    Caption,
    CaptionFiles,
    candidate_numbers,
    nearest_rows,
    read_captions,
    window,
)
from gdt_stica.words import Vocabulary
from ssvideo_core.errors import DataError
from ssvideo_core.views import VideoInfo

VOCABULARY = Vocabulary(["a", "b", "c"], max_words=3)


def info_of(video_id: str, duration_s: int) -> VideoInfo:
    frames = 25 * duration_s
    pts = np.arange(frames, dtype=np.int64)
    return VideoInfo(
        video_id, frames, frames, Fraction(25), Fraction(1, 25), frames, pts, 48, 64, None, 0.0, 0.0
    )


def test_files_as_published(tmp_path: Path) -> None:
    """Any further columns, in any order; quotes, commas and line breaks in texts; empty texts."""
    path = tmp_path / "id.csv"
    lines = [",start,text,end", "0,9.53,so today we're going,13.64"]
    lines += ['1,10,"cut, stir', 'and boil",14', "2,1,,2"]
    path.write_text("\n".join(lines) + "\n")
    assert read_captions(path) == [
        Caption(9.53, 13.64, "so today we're going"),
        Caption(10, 14, "cut, stir\nand boil"),
        Caption(1, 2, ""),
    ]


@pytest.mark.parametrize("line", ["x,2,a", ",2,a", "nan,2,a", "-1,2,a", "3,2,a", "1,inf,a", "1"])
def test_lines_that_are_no_stretch_of_time_are_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "id.csv"
    path.write_text(f"start,end,text\n{line}\n1,2,kept\n")
    assert read_captions(path) == [Caption(1, 2, "kept")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"start,text\n1,a\n", "its first line is 'start,text', without end;"),
        (b"", "its first line is '', without start, end, text;"),
        (b"start,end,text\n1,2,\xff\n", "no CSV in UTF-8"),
        (b"start,end,text\n1,2," + b"x" * 200_000 + b"\n", "no CSV in UTF-8"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "id.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"id.csv: .*{message}"):
        read_captions(path)


def test_of_a_video(tmp_path: Path) -> None:
    """Those that begin before its end, also without a known word."""
    (tmp_path / "-x.csv").write_text("start,end,text\n1,2,zz\n9.9,30,a b\n10,11,c\n")
    found = CaptionFiles(tmp_path, VOCABULARY).of(info_of("-x.mp4", 10))
    assert found == [Caption(1, 2, "zz"), Caption(9.9, 30, "a b")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [("10,11,a\n", "no usable caption"), ("1,2,zz\n", "no usable caption"), (None, "no captions")],
)
def test_videos_without_any(tmp_path: Path, rows: str | None, message: str) -> None:
    if rows is not None:
        (tmp_path / "x.csv").write_text(f"start,end,text\n{rows}")
    with pytest.raises(DataError, match=message):
        CaptionFiles(tmp_path, VOCABULARY).of(info_of("x.mp4", 10))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (Caption(11.0, 12.0, ""), (9, 13)),  # 9.5 to 13.5
        (Caption(0.5, 1.0, ""), (0, 4)),
        (Caption(3.2, 10.7, ""), (3, 10)),
        (Caption(7.5, 7.5, ""), (5, 9)),
    ],
)
def test_window(caption: Caption, expected: tuple[int, int]) -> None:
    assert window(caption) == expected


CAPTIONS = [Caption(s, e, t) for s, e, t in ((0, 2, "a"), (2, 3, "b"), (9, 10, "c"), (11, 12, ""))]


@pytest.mark.parametrize(
    ("row", "count", "expected"),
    [
        (1, 1, [1]),
        (1, 2, [0, 1]),  # 3 s, against 8 s with the later one
        (2, 2, [2, 3]),  # 3 s, against 8 s with the earlier one
        (0, 3, [0, 1, 2]),
        (3, 3, [1, 2, 3]),
        (1, 9, [0, 1, 2, 3]),
    ],
)
def test_nearest_rows(row: int, count: int, expected: list[int]) -> None:
    assert list(nearest_rows(CAPTIONS, row, count)) == expected


def test_of_equally_near_rows_the_later() -> None:
    captions = [Caption(s, s + 1, "") for s in (0, 2, 4)]
    assert list(nearest_rows(captions, 1, 2)) == [1, 2]


def test_too_few_captions_leave_rows_empty() -> None:
    found = candidate_numbers(CAPTIONS[:2], 1, VOCABULARY, num_candidates=3)
    np.testing.assert_array_equal(found, [[1, 0, 0], [2, 0, 0], [0, 0, 0]])
