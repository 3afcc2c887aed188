"""Peak memory of `extract` over fake videos: python core/benchmarks/extract_memory.py 1000000

Prints CSV: videos, seconds, peak resident memory in MB while extracting, and after the finished
folder was opened (which holds the names of all videos).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from ssvideo_core.extract import extract
from ssvideo_core.progress import Progress
from ssvideo_core.testing.fake_videos import FakeEncoder, FakeVideos
from ssvideo_core.views import ClipSpec, Pixels, Steps


def peak_mb() -> float:
    """Peak resident memory of this process so far; Linux only."""
    # Not getrusage: its value starts at the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1024


def main(num_videos: int) -> None:
    """Extract `num_videos` one-frame clips into a temporary folder and print a line."""
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
    print(f"{num_videos},{seconds:.0f},{extracting[0]:.1f},{peak_mb():.1f}")


if __name__ == "__main__":
    print("videos,seconds,extracting_mb,opened_mb")
    main(int(sys.argv[1]))
