"""`ordered_map` against torch's DataLoader on real clips: python core/benchmarks/loading.py CLIPS

Prints CSV: what is read of each video, MB a video, videos a second by each in the median round, and
their ratio (above 1: `ordered_map` is faster). Both read the same views with the same number of
workers and tasks in flight and copy each result into a batch; rounds alternate, so that other work
on the machine disturbs both; the start of the workers is not counted. Results are compared first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from ssvideo_core.loading import ordered_map
from ssvideo_core.source import VideoFiles, open_source
from ssvideo_core.video_index import VideoIndex
from ssvideo_core.views import ClipSpec, Pixels, Spread, plan
from torch.utils.data import DataLoader, Dataset

GDT = ClipSpec("rgb", Spread(30, 1.0), Pixels(112, 112, 112), "repeat_last")
CASES = {"one clip": (1, 1), "10 x 3 views": (10, 3)}
CONTEXTS = ("fork", "spawn")  # of torch: its default, and the one that ordered_map uses


def load(source: VideoFiles, views: tuple[int, int], task: int) -> NDArray[np.uint8]:
    """All views of a video, [V, T, S, S, 3]; tasks go round the videos."""
    video = task % len(source)
    wanted = plan(source.info(video), GDT, temporal=views[0], spatial=views[1])
    return np.stack([clip.frames for clip in source.read(video, wanted)])


class Videos(Dataset[torch.Tensor]):
    """The same for torch; tensors, because they cross in shared memory."""

    def __init__(self, source: VideoFiles, views: tuple[int, int], tasks: int) -> None:
        self.load, self.tasks = partial(load, source, views), tasks

    def __len__(self) -> int:
        return self.tasks

    def __getitem__(self, task: int) -> torch.Tensor:
        return torch.from_numpy(self.load(task))


def by_torch(videos: Videos, workers: int, context: str) -> Iterator[NDArray[np.uint8]]:
    loader = DataLoader(
        videos, batch_size=None, num_workers=workers, multiprocessing_context=context
    )
    return (tensor.numpy() for tensor in loader)


def rate(results: Iterable[NDArray[np.uint8]], skip: int) -> float:
    """Results a second, from the `skip`-th on."""
    batch, start, count = None, 0.0, 0
    for count, result in enumerate(results):
        if count == skip:
            start = time.perf_counter()
        batch = np.empty_like(result) if batch is None else batch
        batch[...] = result
    return (count - skip) / (time.perf_counter() - start)


def compare(source: VideoFiles, name: str, tasks: int, workers: int, rounds: int) -> None:
    """Print a line for each of torch's contexts."""
    views = CASES[name]
    videos = Videos(source, views, tasks)
    ours = partial(ordered_map, videos.load, range(tasks), workers=workers)
    for context in CONTEXTS:
        theirs = partial(by_torch, videos, workers, context)
        for first, second in zip(ours(), theirs(), strict=True):
            assert np.array_equal(first, second)
        skip = tasks // 3  # until all workers have started
        measured = [(rate(ours(), skip), rate(theirs(), skip)) for _ in range(rounds)]
        own, other = (statistics.median(column) for column in zip(*measured, strict=True))
        ratio = statistics.median(first / second for first, second in measured)
        megabytes = first.nbytes / 1e6
        print(f"{name},{megabytes:.1f},{context},{own:.2f},{other:.2f},{ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        # An index that is full from the first round on.
        source = open_source(arguments.clips, index=VideoIndex(Path(folder) / "index.sqlite"))
        measure(source, arguments.tasks, arguments.workers, arguments.rounds)


def measure(source: VideoFiles, tasks: int, workers: int, rounds: int) -> None:
    """Print all lines."""
    print(f"# torch {torch.__version__}, {os.cpu_count()} cores, {workers} workers")
    print("case,mb,torch_context,ordered_map_per_s,dataloader_per_s,ratio")
    for name in CASES:
        compare(source, name, tasks, workers, rounds)


if __name__ == "__main__":
    main()
