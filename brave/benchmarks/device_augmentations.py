"""Training clips a second, batched or one by one: python brave/benchmarks/device_augmentations.py

From the stored pixels of a crop of 256 x 341 to what the network sees: the narrow view (16 frames
of 224 x 224) and the broad one (64 of 112 x 112, with random convolution). Plain takes each clip
through each step (plain_device_augmentations.py). Ours is one program for the batch. `vmap` is the
same program, batched over clips instead of looping over them. Equality is asserted first. Prints
CSV: medians over rounds that alternate, in time of the processor with one thread for all (on a GPU
give --wall). The last line is the whole of a sample's way: decoding the JPEGs of both views is the
same on both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ssvideo_core.testing.benchmarks import publish

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import numpy as np
import plain_device_augmentations as plain
import simplejpeg  # type: ignore[import-untyped]
from brave.device_augmentations import augment_clip, augment_view
from brave.images import decode_jpeg
from brave.sampling import Box, training_box
from brave.view_sampling import picture_params, resize_plan
from brave.views import ViewSpec
from numpy.typing import NDArray
from ssvideo_core.randomness import generator

HEIGHT, WIDTH = 256, 341
SPECS = (
    ViewSpec("narrow", "rgb", 16, 2, 224, "tsm_resnet"),
    ViewSpec("video", "rgb", 64, 4, 112, "tsm_resnet"),
)
Clips = NDArray[np.float32]


def make_batch(
    spec: ViewSpec, batch_size: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8], dict[str, NDArray[Any]]]:
    """The crops one by one, and the batch that workers make of them with its draws."""
    rng = np.random.default_rng(0)
    crops, rows = [], []
    shape = (min(HEIGHT, 2 * spec.image_size), min(384, 2 * spec.image_size))
    batch = np.zeros((batch_size, spec.num_frames, *shape, 3), np.uint8)
    for index in range(batch_size):
        draws = generator(0, 0, index, "views")
        box = training_box(HEIGHT, WIDTH, draws)
        video = smooth_video(spec.num_frames, rng)
        crops.append(cut(video, box))
        lines, columns, grid = resize_plan(box, spec.image_size)
        batch[index, :, : len(lines), : len(columns)] = video[:, lines[:, None], columns]
        rows.append({**grid, **picture_params(spec, box, draws)})
    return crops, batch, {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def smooth_video(num_frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (num_frames, 32, 43, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :HEIGHT, :WIDTH]


def cut(video: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return video[:, box.y : box.y + box.height, box.x : box.x + box.width]


def one_by_one(
    crops: list[NDArray[np.uint8]], params: dict[str, NDArray[Any]], size: int
) -> list[Clips]:
    return [
        plain.augment(crop, {name: values[i] for name, values in params.items()}, size)
        for i, crop in enumerate(crops)
    ]


def decode_seconds(num_frames: int) -> float:
    """Of the frames of one sample."""
    frames = smooth_video(num_frames, np.random.default_rng(1))
    jpegs = [simplejpeg.encode_jpeg(frame, quality=95, colorsubsampling="420") for frame in frames]
    return seconds(lambda: [decode_jpeg(jpeg) for jpeg in jpegs], time.process_time)[0]


def seconds(call: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    start = clock()
    result = jax.block_until_ready(call())
    return clock() - start, result


def compare(
    spec: ViewSpec, batch_size: int, rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Seconds a clip of plain, ours and vmap."""
    crops, batch, params = make_batch(spec, batch_size)
    mapped = jax.jit(jax.vmap(partial(augment_clip, spec=spec)))
    ways: list[Callable[[], Any]] = [
        lambda: one_by_one(crops, params, spec.image_size),
        lambda: augment_view(batch, params, spec=spec),
        lambda: mapped(batch, params),
    ]
    expected, got, other = (np.stack(np.asarray(way())) for way in ways)
    np.testing.assert_allclose(got, expected, atol=2e-4)
    np.testing.assert_allclose(other, got, atol=1e-5)
    times = [[seconds(way, clock)[0] / batch_size for way in ways] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def measure(
    batch_size: int, rounds: int, clock: Callable[[], float]
) -> Iterator[tuple[object, ...]]:
    """A row for each view, and one for a sample's whole way."""
    whole = [0.0, 0.0, 0.0]
    for spec in SPECS:
        costs = compare(spec, batch_size, rounds, clock)
        yield row(spec.name, costs)
        whole = [total + cost for total, cost in zip(whole, costs, strict=True)]
    decoding = decode_seconds(sum(spec.num_frames for spec in SPECS))
    yield row("both with decoding", [total + decoding for total in whole])


def row(name: str, costs: list[float]) -> tuple[object, ...]:
    other, own, mapped = costs
    rates = 1 / other, 1 / own, other / own, 1 / mapped
    return name, *(f"{rate:.2f}" for rate in rates), jax.devices()[0].device_kind


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--wall", action="store_true", help="measure the clock on the wall")
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.wall else time.process_time
    columns = (
        "view",
        "plain_clips_per_s",
        "ours_clips_per_s",
        "ratio",
        "vmap_clips_per_s",
        "device",
    )
    rows = measure(arguments.batch, arguments.rounds, clock)
    publish("device_augmentations", columns, rows, packages=["jax", "numpy", "simplejpeg"])


if __name__ == "__main__":
    main()
