"""`ordered_map` against torch's DataLoader on real clips: python core/benchmarks/loading.py [CLIPS]

Prints CSV: what is read of each video, MB a video, videos a second by each in the median round, and
the median of the rounds' ratios (above 1: `ordered_map` is faster). Both read the same views with
the same number of workers and tasks in flight and copy each result into a batch; the DataLoader has
its defaults otherwise (forked workers, tensors in shared memory). Rounds alternate, so that other
work on the machine disturbs both. The first third of each run, in which workers start, does not
count. Results are compared first. Without CLIPS the videos of core/tests/data/clips are read.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.loading import ordered_map
from ssvideo_core.source import VideoFiles, open_source
from ssvideo_core.testing.benchmarks import publish
from ssvideo_core.video_index import VideoIndex
from ssvideo_core.views import ClipSpec, Pixels, Spread, plan

if TYPE_CHECKING:
    import torch

CLIPS = Path(__file__).parents[1] / "tests/data/clips"
GDT = ClipSpec("rgb", Spread(30, 1.0), Pixels(112, 112, 112), "repeat_last")
CASES = {"one clip": (1, 1, 240), "10 x 3 views": (10, 3, 30)}  # clips, crops, videos read


def load(source: VideoFiles, views: tuple[int, int], task: int) -> NDArray[np.uint8]:
    """All views of a video, [V, T, S, S, 3]; tasks go round the videos."""
    video = task % len(source)
    wanted = plan(source.info(video), GDT, temporal=views[0], spatial=views[1])
    return np.stack([clip.frames for clip in source.read(video, wanted)])


class Videos:
    """The same as a data set of torch; tensors, because they cross in shared memory."""

    def __init__(self, source: VideoFiles, views: tuple[int, int], tasks: int) -> None:
        self.load, self.tasks = partial(load, source, views), tasks

    def __len__(self) -> int:
        return self.tasks

    def __getitem__(self, task: int) -> torch.Tensor:
        import torch

        return torch.from_numpy(self.load(task))


def by_torch(videos: Videos, workers: int) -> Iterator[NDArray[np.uint8]]:
    from torch.utils.data import DataLoader

    return (tensor.numpy() for tensor in DataLoader(videos, batch_size=None, num_workers=workers))


def rate(results: Iterable[NDArray[np.uint8]], skip: int) -> float:
    """Results a second, from the `skip`-th on."""
    batch, start, count = None, 0.0, 0
    for count, result in enumerate(results):
        if count == skip:
            start = time.perf_counter()
        batch = np.empty_like(result) if batch is None else batch
        batch[...] = result
    return (count - skip) / (time.perf_counter() - start)


def compare(source: VideoFiles, name: str, workers: int, rounds: int) -> tuple[object, ...]:
    """The line of one case."""
    *views, tasks = CASES[name]
    videos = Videos(source, (views[0], views[1]), tasks)
    ours = partial(ordered_map, videos.load, range(tasks), workers=workers)
    theirs = partial(by_torch, videos, workers)
    for first, second in zip(ours(), theirs(), strict=True):
        assert np.array_equal(first, second)
    measured = [(rate(ours(), tasks // 3), rate(theirs(), tasks // 3)) for _ in range(rounds)]
    own, other = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median(first / second for first, second in measured)
    return name, f"{first.nbytes / 1e6:.1f}", f"{own:.2f}", f"{other:.2f}", f"{ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, nargs="?", default=CLIPS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(f"# {arguments.workers} workers")
    columns = ("case", "mb", "ordered_map_per_s", "dataloader_per_s", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        # An index that is full from the first round on.
        source = open_source(arguments.clips, index=VideoIndex(Path(folder) / "index.sqlite"))
        lines = (compare(source, name, arguments.workers, arguments.rounds) for name in CASES)
        publish("loading", columns, lines, packages=["torch", "av", "numpy"])


if __name__ == "__main__":
    main()
