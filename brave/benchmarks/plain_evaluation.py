"""What the original does for each clip of its evaluation, written again: one clip at a time.

Every window decodes its frames again, every training clip is resized and coloured on its own, in
NumPy. Only the draws are shared with the package, because they define the clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray
from ssvideo_core.randomness import generator

from brave import sampling

Clip = NDArray[np.float32]  # [T, S, S, 3] in [0, 1]


def train_clips(
    jpegs: Sequence[bytes],
    index: int,
    *,
    seed: int,
    epochs: int,
    num_frames: int,
    step: int,
    size: int,
) -> Iterator[Clip]:
    """One random clip an epoch of video `index`."""
    looped = loop(jpegs, (num_frames - 1) * step + 1)
    for epoch in range(epochs):
        rng = generator(seed, epoch, index, "views")
        window = sampling.random_window(len(looped), num_frames=num_frames, step=step, rng=rng)
        frames = decode([looped[number] for number in window])
        height, width = frames.shape[1:3]
        box = sampling.training_box(height, width, rng)
        draw = sampling.draw_augmentation(rng)
        frames = frames[:, box.y : box.y + box.height, box.x : box.x + box.width]
        clip = resize(frames, size, size) / np.float32(255)
        clip = clip[:, :, ::-1] if draw.flip else clip
        clip = colour(clip, draw) if draw.colour else clip
        if draw.grey:
            clip = np.repeat(clip @ np.array([[0.2989], [0.5870], [0.1140]], np.float32), 3, -1)
        yield np.ascontiguousarray(clip, np.float32)


def test_clips(
    jpegs: Sequence[bytes], *, num_frames: int, step: int, size: int, short_side: int = 256
) -> Iterator[Clip]:
    """10 windows x 3 squares of a video."""
    span = (num_frames - 1) * step + 1
    looped = loop(jpegs, span)
    for start in starts(len(looped) - span, 10):
        frames = decode(looped[start : start + span : step])
        height, width = frames.shape[1:3]
        scaled = (
            max(short_side, height * short_side // width),
            max(short_side, width * short_side // height),
        )
        if scaled != (height, width):
            frames = resize(frames, *scaled).astype(np.uint8)
        for y, x in zip(*(starts(side - size, 3) for side in frames.shape[1:3]), strict=True):
            yield frames[:, y : y + size, x : x + size].astype(np.float32) / np.float32(255)


def loop(jpegs: Sequence[bytes], needed: int) -> list[bytes]:
    return list(jpegs) * max(1, math.ceil(needed / len(jpegs)))


def decode(jpegs: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.stack([simplejpeg.decode_jpeg(jpeg, fastdct=True) for jpeg in jpegs])


def starts(free: int, count: int) -> list[int]:
    return [int(v) for v in np.linspace(0, free, count, dtype=np.float32)]


def resize(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear with half-pixel centres, [T, H, W, 3]."""
    x = frames.astype(np.float32)
    for axis, size in ((2, width), (1, height)):
        place = (np.arange(size) + 0.5) * (x.shape[axis] / size) - 0.5
        first = np.clip(np.floor(place).astype(int), 0, None)
        second = np.clip(np.floor(place).astype(int) + 1, None, x.shape[axis] - 1)
        weight = (place - np.floor(place)).astype(np.float32)
        weight = weight.reshape(-1, *(1,) * (3 - axis))
        near, far = np.take(x, first, axis), np.take(x, second, axis)
        x = near + (far - near) * weight
    return x


def colour(clip: Clip, draw: sampling.Augmentation) -> Clip:
    """Brightness, saturation, contrast, hue as in TensorFlow's `tf.image`, then clipped."""
    x = clip + np.float32(draw.brightness)
    h, s, v = to_hsv(x)
    x = from_hsv(h, np.clip(s * draw.saturation, 0, 1), v)
    mean = x.mean(axis=(1, 2), keepdims=True)
    x = (x - mean) * draw.contrast + mean
    h, s, v = to_hsv(x)
    return np.clip(from_hsv((h + draw.hue) % 1, s, v), 0, 1).astype(np.float32)


def to_hsv(x: Clip) -> tuple[Clip, Clip, Clip]:
    red, green, blue = np.moveaxis(x, -1, 0)
    v = x.max(-1)
    spread = v - x.min(-1)
    safe = np.where(spread > 0, spread, 1)
    sixths = np.select(
        [v == red, v == green],
        [(green - blue) / safe, 2 + (blue - red) / safe],
        4 + (red - green) / safe,
    )
    s = np.where(v > 0, spread / np.where(v > 0, v, 1), 0)
    return sixths / 6 % 1, s, v


def from_hsv(h: Clip, s: Clip, v: Clip) -> Clip:
    shares = [np.clip(np.abs(h * 6 - 3) - 1, 0, 1)]
    shares += [np.clip(2 - np.abs(h * 6 - centre), 0, 1) for centre in (2, 4)]
    return np.stack([((share - 1) * s + 1) * v for share in shares], axis=-1)
