"""10 clips of one video against open-and-seek for each: python core/benchmarks/clips.py

Prints CSV, a line a file and number of crops: milliseconds for all views of a video when each one
opens the file, seeks and decodes (`plain_clips`), by one pass (`read_views`), and the median of the
rounds' ratios (target: 3). Then what one pass cannot do without: decoding the file once, and
converting, cropping and resizing the wanted frames once, by the same libraries; and the ratio that
would be left if it did nothing else (`bound`).

Views of GDT's encoder: 30 frames over 1 s, 112 x 112 pixels. Of a video of 10 s at 30 frames a
second, 10 such clips want all frames, so of 10 x 1 views neither side spares pictures: only the
plain way's decoding from the last key frame, again for each clip, is saved. Where key frames are
frequent that is little, and the bound is below the target. The last line is the first file 18 times
over, 3 minutes, where one pass leaves out long gaps that hold a key frame.

One decoder thread each; milliseconds are of the processor, so that other work disturbs little; the
file is in memory and its facts are known; rounds alternate. Results are compared first. Without
arguments the mp4 files of core/tests/data/clips with sound are read.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import plain_clips
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from ssvideo_core.testing.benchmarks import publish, timed
from ssvideo_core.video import crop, probe, read_views
from ssvideo_core.views import ClipSpec, Pixels, Spread, View, plan

GDT = ClipSpec("rgb", Spread(30, 1.0), Pixels(112, 112, 112), "repeat_last")
LONG = 18
CLIPS = Path(__file__).parents[1] / "tests/data/clips"


def decode(path: Path) -> Iterator[VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)


def repeated(path: Path, times: int, out: Path) -> Path:
    """The video stream again and again, without encoding it."""
    with av.open(str(out), "w") as target, av.open(str(path)) as source:
        stored = list(source.demux(source.streams.video[0]))[:-1]  # the last one flushes
        times_of = [(packet.pts or 0, packet.dts or 0, packet.duration or 0) for packet in stored]
        length = max(pts + duration for pts, _, duration in times_of)
        stream = target.add_stream_from_template(source.streams.video[0])
        for number in range(times):
            for packet, (pts, dts, _) in zip(stored, times_of, strict=True):
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.stream = stream
                target.mux(packet)
    return out


def make_pictures(frames: Mapping[int, VideoFrame], views: Sequence[View]) -> None:
    """Every distinct pair of a frame and a box, once."""
    wanted: dict[int, dict[object, View]] = {}
    for view in views:
        assert view.frames is not None
        for number in view.frames.tolist():
            wanted.setdefault(number, {})[view.box] = view
    reformatter = VideoReformatter()
    for number, boxes in wanted.items():
        converted = reformatter.reformat(frames[number], format="rgb24", threads=1).to_ndarray()
        for view in boxes.values():
            crop(converted, view)


def compare(path: Path, spatial: int, rounds: int) -> tuple[object, ...]:
    info = probe(path)
    views = plan(info, GDT, temporal=10, spatial=spatial)
    clips = read_views(path, info, views)
    for ours, theirs in zip(clips, plain_clips.read_views(path, info, views), strict=True):
        assert np.array_equal(ours.frames, theirs)
    del clips
    wanted = {number for view in views for number in view.frames.tolist()}
    frames = {number: frame for number, frame in enumerate(decode(path)) if number in wanted}
    ways: list[Callable[[], object]] = [
        partial(plain_clips.read_views, path, info, views),
        partial(read_views, path, info, views),
        lambda: sum(1 for _ in decode(path)),
        partial(make_pictures, frames, views),
    ]
    measured = np.array([[1000 * timed(way, threads=1)[0] for way in ways] for _ in range(rounds)])
    plain, own, decoding, pictures = measured.T
    ratio, bound = np.median(plain / own), np.median(plain / (decoding + pictures))
    medians = (f"{statistics.median(column):.0f}" for column in measured.T)
    return path.name, f"10x{spatial}", *medians, f"{ratio:.1f}", f"{bound:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    files = arguments.files or sorted(CLIPS.glob("k400_[A-Z]*.mp4"))

    def rows() -> Iterator[tuple[object, ...]]:
        for path in files:
            for spatial in (1, 3):
                yield compare(path, spatial, arguments.rounds)
        with tempfile.TemporaryDirectory() as folder:
            long = repeated(files[0], LONG, Path(folder) / f"{LONG}-times-{files[0].name}")
            yield compare(long, 1, arguments.rounds)

    ways = ("open_and_seek_ms", "one_pass_ms", "decode_once_ms", "pictures_once_ms")
    columns = ("file", "views", *ways, "ratio", "bound")
    publish("clips", columns, rows(), packages=["av", "pillow", "numpy"])


if __name__ == "__main__":
    main()
