"""Peak memory of `extract` over fake videos: python core/benchmarks/extract_memory.py [VIDEOS ...]

Prints CSV: videos, seconds, peak resident memory in MB while extracting, and after the finished
folder was opened (which holds the names of all videos). A line for each number of videos, each
measured in a process of its own; 1000 and 30,000 without arguments. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from ssvideo_core.extract import extract
from ssvideo_core.progress import Progress
from ssvideo_core.testing.benchmarks import peak_mb, publish
from ssvideo_core.testing.fake_videos import FakeEncoder, FakeVideos
from ssvideo_core.views import ClipSpec, Pixels, Steps


def measure(num_videos: int) -> tuple[object, ...]:
    """Extract `num_videos` one-frame clips into a temporary folder."""
    encoder = FakeEncoder(ClipSpec("rgb", Steps(1), Pixels(2, 2, 2), "loop"))
    request = {"method": "fake", "weights": "random", "backbone": "none"}
    extracting = [0.0]

    def note_peak(progress: Progress) -> None:
        if progress.done % 1000 == 0 or progress.done == progress.total:
            extracting[0] = peak_mb()

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        features = extract(
            encoder,
            FakeVideos(num_videos, bad_every=200, silent_every=3),
            Path(folder),
            request=request,
            temporal=1,
            spatial=1,
            batch_size=256,
            progress=note_peak,
        )
    assert features is not None and len(features.video_ids) == num_videos
    seconds = time.monotonic() - start
    return num_videos, f"{seconds:.0f}", f"{extracting[0]:.1f}", f"{peak_mb():.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("videos", type=int, nargs="*", default=[1000, 30_000])
    arguments = parser.parse_args()

    def rows() -> Iterator[tuple[object, ...]]:
        for num_videos in arguments.videos:
            # A fresh process each: a peak is never forgotten.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                yield process.submit(measure, num_videos).result()

    columns = ("videos", "seconds", "extracting_mb", "opened_mb")
    publish("extract_memory", columns, rows(), packages=["numpy", "safetensors"])


if __name__ == "__main__":
    main()
