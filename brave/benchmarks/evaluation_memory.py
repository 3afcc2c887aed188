"""Peak memory of the paper's evaluation: python brave/benchmarks/evaluation_memory.py

A video of 95 frames of 256 x 341 pixels in a shard, clips of 32 x 224 x 224 in batches of 8, an
untrained network of full width on the CPU, float32. Each part in a process of its own, which
decodes too. Train: random clips, coloured on the device; test: squares. Prints CSV: peak resident
memory in MB before the video (libraries, network), after two batches, and the difference for a clip
of a batch; seconds of the clock, compiling included. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from brave.architecture import Architecture
from brave.crops import TestCrops, TrainCrops
from brave.encoders import NarrowBackbone
from brave.evaluation import embed_videos
from brave.networks.initial import initial_variables
from brave.networks.tsm_resnet import TSMResNet
from brave.records import LabelledVideos
from evaluation import NUM_FRAMES, SIZE, STEP, write_video
from ssvideo_core.testing.benchmarks import peak_mb, publish

BATCHES = 2  # nothing accumulates from batch to batch but features


def measure(part: str, pattern: str, batch: int, width: float) -> tuple[object, ...]:
    """Embed the first clips of the video; a row of the table."""
    videos = LabelledVideos(pattern)
    clips = BATCHES * batch
    train = TrainCrops(videos, NUM_FRAMES, STEP, clips, seed=0)
    test = TestCrops(videos, NUM_FRAMES, STEP, SIZE, temporal=clips, spatial=1)
    backbone = NarrowBackbone(initial_variables(TSMResNet(width), 0), Architecture(width))
    before, start = peak_mb(), time.perf_counter()
    load = train if part == "train" else test
    features = embed_videos(backbone, load, size=SIZE, batch_size=batch)
    assert features.shape == (clips, backbone.feature_size)
    after, seconds = peak_mb(), time.perf_counter() - start
    numbers = before, after, (after - before) / batch, seconds
    return part, batch, width, *(f"{number:.0f}" for number in numbers)


def rows(batch: int, width: float) -> Iterator[tuple[object, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        pattern = str(Path(folder) / "shard")
        write_video(Path(pattern))
        for part in ("train", "test"):
            # A fresh process each: a peak is never forgotten.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                yield process.submit(measure, part, pattern, batch, width).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    publish(
        "evaluation_memory",
        ("part", "batch", "width", "before_mb", "peak_mb", "mb_a_clip", "seconds"),
        rows(options.batch, options.width),
        packages=["jax", "flax", "numpy"],
    )


if __name__ == "__main__":
    main()
