"""10 clips of one video against open-and-seek for each: python core/benchmarks/clips.py

Prints CSV, a line a file and number of crops: milliseconds for all views of a video when each one
opens the file, seeks and decodes (`plain_clips`), by one pass (`read_views`), and the median of the
rounds' ratios (target: 3). Views of GDT's encoder: 30 frames over 1 s, 112 x 112 pixels. One
decoder thread each; the file is in memory and its facts are known; rounds alternate. Results are
compared first. Without arguments the mp4 files of core/tests/data/clips with sound are read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plain_clips
from named_csv import publish
from ssvideo_core.video import probe, read_views
from ssvideo_core.views import ClipSpec, Pixels, Spread, plan

GDT = ClipSpec("rgb", Spread(30, 1.0), Pixels(112, 112, 112), "repeat_last")
CLIPS = Path(__file__).parents[1] / "tests/data/clips"


def compare(path: Path, spatial: int, rounds: int) -> tuple[object, ...]:
    info = probe(path)
    views = plan(info, GDT, temporal=10, spatial=spatial)
    clips = read_views(path, info, views)
    for ours, theirs in zip(clips, plain_clips.read_views(path, info, views), strict=True):
        assert np.array_equal(ours.frames, theirs)
    pairs = []
    for _ in range(rounds):
        start = time.perf_counter()
        plain_clips.read_views(path, info, views)
        middle = time.perf_counter()
        read_views(path, info, views)
        pairs.append((middle - start, time.perf_counter() - middle))
    slow, fast = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(other / own for other, own in pairs)
    return path.name, f"10x{spatial}", f"{slow:.0f}", f"{fast:.0f}", f"{ratio:.1f}"


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

    columns = ("file", "views", "open_and_seek_ms", "one_pass_ms", "ratio")
    publish("clips", columns, rows(), packages=["av", "pillow", "numpy"])


if __name__ == "__main__":
    main()
