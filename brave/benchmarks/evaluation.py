"""Clips a second against the original's way: python brave/benchmarks/evaluation.py

A video of 95 frames of 256 x 341 pixels, clips of 32 frames of 224 x 224. Plain decodes every
window again and resizes and colours each training clip on its own (plain_evaluation.py). Ours
decodes a video once and augments on JAX's device. Equality is asserted first. Prints CSV: medians
over rounds that alternate, in time of the processor with one thread for both; then how long the
network of --width takes for a clip, and the ratio with the network's time on both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ssvideo_core.testing.benchmarks import publish

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import numpy as np
import plain_evaluation as plain
import simplejpeg  # type: ignore[import-untyped]
from brave.crops import TestCrops, TrainCrops
from brave.encoders import load_encoder
from brave.evaluation import network_input
from brave.records import LabelledVideos
from numpy.typing import NDArray
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records

NUM_FRAMES, STEP, SIZE, EPOCHS, BATCH = 32, 2, 224, 10, 5
CLIP: dict[str, Any] = {"num_frames": NUM_FRAMES, "step": STEP, "size": SIZE}


def write_video(path: Path, frames: int = 95) -> LabelledVideos:
    """A shard with one smooth, moving picture with a little noise, in BraVe's JPEG quality."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :341]
    jpegs = []
    for t in range(frames):
        waves = [
            np.sin(rows / 20 + t / 5),
            np.cos(columns / 30 - t / 7),
            np.sin((rows + columns) / 40),
        ]
        noise = rng.normal(0, 4, (256, 341, 3))
        picture = np.clip(127 + 100 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
        jpegs.append(simplejpeg.encode_jpeg(picture, quality=97, colorsubsampling="420"))
    write_records(path, [encode_record(VideoRecord(jpegs, labels=np.array([0])))])
    return LabelledVideos(str(path))


def ours(videos: LabelledVideos, part: str) -> list[NDArray[Any]]:
    train = TrainCrops(videos, NUM_FRAMES, STEP, EPOCHS, 0)
    crops = (train if part == "train" else TestCrops(videos, NUM_FRAMES, STEP, SIZE))(0)
    batches = [crops[start : start + BATCH] for start in range(0, len(crops), BATCH)]
    return [jax.block_until_ready(network_input(batch, size=SIZE)) for batch in batches]


def theirs(videos: LabelledVideos, part: str) -> list[NDArray[Any]]:
    jpegs = videos.read(0).frames
    if part == "train":
        return list(plain.train_clips(jpegs, 0, seed=0, epochs=EPOCHS, **CLIP))
    return list(plain.test_clips(jpegs, **CLIP))


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(videos: LabelledVideos, part: str, rounds: int, network_s: float) -> tuple[object, ...]:
    got = np.concatenate([np.asarray(batch) for batch in ours(videos, part)])
    got = got.astype(np.float32) / 255 if got.dtype == np.uint8 else got
    expected = np.stack(theirs(videos, part))
    np.testing.assert_allclose(got, expected, atol=1e-4)
    times = [
        (seconds(lambda: ours(videos, part)), seconds(lambda: theirs(videos, part)))
        for _ in range(rounds)
    ]
    own, other = (len(expected) / statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(second / first for first, second in times)
    whole = (1 / other + network_s) / (1 / own + network_s)
    return part, *(f"{value:.2f}" for value in (other, own, ratio, network_s, whole))


def network_seconds(width: float) -> float:
    """Of one clip, by the second run."""
    encoder = load_encoder("random", architecture={"width": width})
    clips = np.zeros((1, NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    encoder.embed(clips)
    return seconds(lambda: encoder.embed(clips))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=float, default=1.0)
    arguments = parser.parse_args()

    def rows() -> Iterator[tuple[object, ...]]:
        network_s = network_seconds(arguments.width)
        with tempfile.TemporaryDirectory() as folder:
            videos = write_video(Path(folder) / "shard")
            for part in ("train", "test"):
                yield compare(videos, part, arguments.rounds, network_s)

    rates = ("part", "plain_clips_per_s", "ours_clips_per_s", "ratio", "network_s", "end_to_end")
    publish("evaluation", rates, rows(), packages=["jax", "numpy", "simplejpeg"])


if __name__ == "__main__":
    main()
