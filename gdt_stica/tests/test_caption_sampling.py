"""What is drawn for video and text: against FFmpeg's own filter, and rule by rule."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from gdt_stica.caption_sampling import CaptionSampler, shown_frames, square
from gdt_stica.captions import CaptionFiles
from gdt_stica.words import Vocabulary
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.randomness import generator
from ssvideo_core.views import VideoInfo

WORDS = ["one", "two", "three"]


def info_of(pts: np.ndarray, time_base: Fraction, rate: Fraction) -> VideoInfo:
    count = len(pts)
    return VideoInfo(
        "x.mp4", count, count, rate, time_base, int(pts[-1]), pts, 48, 64, None, 0.0, 0.0
    )


def filtered(ticks: np.ndarray, time_base: Fraction, fps: Fraction) -> dict[int, int]:
    """Place to the number of the frame that FFmpeg's filter `fps` shows there."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=2, height=2, format="gray", time_base=time_base)
    rate, sink = graph.add("fps", f"fps={fps}"), graph.add("buffersink")
    source.link_to(rate)
    rate.link_to(sink)
    graph.configure()
    found = {}
    for number, tick in enumerate(ticks.tolist()):
        frame = av.VideoFrame(2, 2, "gray")
        frame.planes[0].update(bytes([number]) * frame.planes[0].buffer_size)
        frame.pts, frame.time_base = tick, time_base
        graph.push(frame)
        while True:
            try:
                out = graph.pull()
            except (BlockingIOError, EOFError):
                break
            found[out.pts] = int(out.to_ndarray()[0, 0])
    return found


@pytest.mark.parametrize(
    ("rate", "time_base"),
    [
        (Fraction(30), Fraction(1, 15360)),
        (Fraction(30000, 1001), Fraction(1, 30000)),
        (Fraction(24000, 1001), Fraction(1, 90000)),
        (Fraction(25), Fraction(1, 1000)),
        (Fraction(60), Fraction(1, 60)),
        (Fraction(15), Fraction(1, 15)),
        (Fraction(8), Fraction(1, 8)),
    ],
)
@pytest.mark.parametrize("fps", [Fraction(16), Fraction(32), Fraction(32, 3)])
@pytest.mark.parametrize("start_s", [0, 1])
def test_frames_are_those_of_the_filter(
    rate: Fraction, time_base: Fraction, fps: Fraction, start_s: int
) -> None:
    pts = np.array([round(k / rate / time_base) for k in range(int(4 * rate))], np.int64) + 7
    found, num_shown = shown_frames(info_of(pts, time_base, rate), start_s, num_frames=30, fps=fps)
    sought = int(start_s / time_base)  # a seek makes its moment the time 0
    first = int(np.searchsorted(pts - 7, sought))
    expected = filtered(pts[first:] - 7 - sought, time_base, fps)
    places = [place for place in range(30) if place in expected]
    assert places[-1] - places[0] + 1 == len(places) and places[0] <= 2
    assert [found[place] for place in places] == [first + expected[place] for place in places]
    assert found[: places[0]].tolist() == [first] * places[0]
    assert num_shown == 30 or fps < 16


def test_irregular_times() -> None:
    """Gaps repeat the frame before, bursts drop all but the last."""
    pts = np.array([0, 10, 20, 300, 305, 310, 900, 1200, 1900], np.int64)
    info = info_of(pts, Fraction(1, 1000), Fraction(9, 2))
    found, _ = shown_frames(info, 0, num_frames=16, fps=Fraction(8))
    expected = filtered(pts, Fraction(1, 1000), Fraction(8))
    known = [place for place in range(16) if place in expected]
    assert len(known) >= 10
    assert [found[place] for place in known] == [expected[place] for place in known]


def test_the_video_ends() -> None:
    """The last frame lasts as long as the others; after it nothing is shown."""
    info = info_of(np.arange(50, dtype=np.int64), Fraction(1, 10), Fraction(10))
    found, num_shown = shown_frames(info, 4, num_frames=8, fps=Fraction(5))
    assert num_shown == 5
    assert found.tolist() == [40, 42, 44, 46, 48, 49, 49, 49]
    assert shown_frames(info, 3, num_frames=8, fps=Fraction(5))[1] == 8


def test_a_start_behind_the_last_frame() -> None:
    info = info_of(np.arange(50, dtype=np.int64), Fraction(1, 10), Fraction(10))
    late, at_last = (shown_frames(info, s, num_frames=4, fps=Fraction(5)) for s in (9, 4))
    np.testing.assert_array_equal(late[0], at_last[0])
    assert late[1] == at_last[1]


def test_at_least_one_frame_is_shown() -> None:
    info = info_of(np.arange(61, dtype=np.int64), Fraction(1, 60), Fraction(60))
    found, num_shown = shown_frames(info, 1, num_frames=4, fps=Fraction(16))
    assert (found.tolist(), num_shown) == ([60, 60, 60, 60], 1)


def test_frames_without_times_are_counted() -> None:
    counted = replace(
        info_of(np.arange(100, dtype=np.int64), Fraction(1, 25), Fraction(25)), pts=None
    )
    timed = info_of(np.arange(100, dtype=np.int64), Fraction(1, 25), Fraction(25))
    results = [shown_frames(i, 1, num_frames=30, fps=Fraction(16)) for i in (counted, timed)]
    np.testing.assert_array_equal(results[0][0], results[1][0])


@pytest.mark.parametrize(
    ("size", "place", "box"),
    [
        ((48, 64), (0.5, 0.5), (0, 8, 48, 48)),
        ((48, 65), (0.9, 0.99), (0, 16, 48, 48)),
        ((64, 48), (0.25, 0.9), (4, 0, 48, 48)),
        ((48, 48), (0.9, 0.9), (0, 0, 48, 48)),
    ],
)
def test_square(size: tuple[int, int], place: tuple[float, ...], box: tuple[int, ...]) -> None:
    assert square(*size, place) == box


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    """20 s of video, with captions in tmp_path/x.csv."""
    rows = ["start,end,text", "0,2,one", "3.5,12.2,two one", "17,18,three", "25,26,one"]
    (tmp_path / "x.csv").write_text("\n".join(rows) + "\n")
    return info_of(np.arange(500, dtype=np.int64), Fraction(1, 25), Fraction(25))


def sampler_of(folder: Path, **options: object) -> CaptionSampler:
    values: dict[str, object] = {"copies": (0, 2), **options}
    return CaptionSampler(captions=CaptionFiles(folder, Vocabulary(WORDS)), **values)  # type: ignore[arg-type]


def test_draws_cover_all_there_is_and_no_more(info: VideoInfo, tmp_path: Path) -> None:
    """Captions within the video, starts within their windows, squares from side to side."""
    sampler = sampler_of(tmp_path)
    starts: dict[int, set[int]] = {}
    places = []
    for index in range(400):
        for view in sampler(info, generator(0, index)):
            assert view.frames is not None and view.box is not None
            starts.setdefault(int(view.params["words"][0]), set()).add(int(view.frames[0]))
            places.append(view.box[1])
            assert view.box[0] == 0 and view.box[2:] == (48, 48)
    # Windows 0 to 4, 3 to 12 and 15 to 19 s; clips last 1.875 s.
    expected = {1: range(3), 2: range(3, 11), 3: range(15, 18)}
    assert starts == {word: {25 * s for s in seconds} for word, seconds in expected.items()}
    assert set(places) == set(range(16))


def test_clips_are_independent_of_each_other_and_of_what_is_needed(
    info: VideoInfo, tmp_path: Path
) -> None:
    both = sampler_of(tmp_path, copies=(0, 1, 2, 3))
    assert both.clips == (0, 1)
    only_first = sampler_of(tmp_path, copies=(0, 1))
    assert only_first.clips == (0,)
    words = set()
    for index in range(40):
        first, second = both(info, generator(0, index))
        (alone,) = only_first(info, generator(0, index))
        np.testing.assert_array_equal(first.frames, alone.frames)
        assert first.box == alone.box
        words.add((int(first.params["words"][0]), int(second.params["words"][0])))
    assert len(words) == 9


def test_params(info: VideoInfo, tmp_path: Path) -> None:
    """20 numbers for each caption; centre crops are the middle."""
    one = sampler_of(tmp_path, center_crop=True)(info, generator(0))[0]
    three = sampler_of(tmp_path, center_crop=True, num_candidates=3)(info, generator(0))[0]
    assert one.box == (0, 8, 48, 48)
    assert one.params["words"].shape == (20,) and one.params["words"].dtype == np.int64
    assert one.params["num_shown"].shape == ()
    texts = three.params["words"].reshape(3, 20)
    np.testing.assert_array_equal(texts[:, 0], [1, 2, 3])
    assert any((text == one.params["words"]).all() for text in texts)


def test_workers_need_no_torch() -> None:
    code = "import gdt_stica.caption_sampling, sys; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert printed.stdout.split() == [b"False"]


def test_errors(info: VideoInfo, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="copies"):
        sampler_of(tmp_path, copies=(2, 0))
    (tmp_path / "x.csv").unlink()
    with pytest.raises(DataError, match=r"x\.csv: no captions"):
        sampler_of(tmp_path)(info, generator(0))
