"""Which frames, which part of the picture, which colours: every draw of BraVe's data pipeline.

Plain functions of numbers and, where something is drawn, of one NumPy generator. A window is a
`range` of frame numbers of the extended video; `frame_numbers` leads back to the stored frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError

CROP_AREA = (0.3, 1.0)
CROP_ASPECT = (0.5, 2.0)
CROP_ATTEMPTS = 20
FALLBACK_PADDING = 16

MAX_BRIGHTNESS = 32 / 255
SATURATION = (0.6, 1.4)
CONTRAST = (0.6, 1.4)
MAX_HUE = 0.2
COLOUR_PROBABILITY = 0.8
GREY_PROBABILITY = 0.2


@dataclass(frozen=True)
class Box:
    """A part of a picture in pixels: rows y to y + height, columns x to x + width."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class Augmentation:
    """What happens to a clip after it is cut out; one draw for all of its frames.

    flip: mirror left and right. colour: whether the four changes below are made at all.
    brightness is added, saturation and contrast are factors, hue is added in turns. grey: last.
    """

    flip: bool
    colour: bool
    brightness: float
    saturation: float
    contrast: float
    hue: float
    grey: bool


def window_span(num_frames: int, step: int) -> int:
    """How many frames a clip of `num_frames`, `step` apart, reaches over, both ends included."""
    return (num_frames - 1) * step + 1


def extended_length(stored: int, needed: int) -> int:
    """Length of a sequence that is repeated whole until it has at least `needed` entries.

    stored: 1 or more. A sequence that is long enough stays as it is.
    """
    return stored * max(1, math.ceil(needed / stored))


def frame_numbers(window: range, stored: int) -> NDArray[np.int64]:
    """Numbers of the stored frames, [T] int64: behind the last one the video begins again."""
    return np.array(window, np.int64) % stored


def shared_frames(
    numbers: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """What several clips need together, so that each frame is decoded once.

    numbers: of stored frames, [T] for each clip. Returns the frames that any clip needs, [F]
    ascending, and the places of each clip's frames there, [T].
    """
    needed = np.unique(np.concatenate(numbers))
    return needed, [np.searchsorted(needed, own) for own in numbers]


def linspace_windows(length: int, *, count: int, num_frames: int, step: int) -> list[range]:
    """`count` windows spread evenly over `length` frames (test time).

    Starts are truncated, and computed in float32 as TensorFlow does: start + i * delta with the
    last one exact. One window lies at the start. Raises DataError when `length` is shorter than
    one window; extend the video first.
    """
    free = _free(length, num_frames, step)
    return [_window(start, num_frames, step) for start in spread_starts(free, count)]


def spread_starts(free: int, count: int) -> list[int]:
    """`count` whole numbers spread evenly from 0 to `free`, truncated from float32; one is 0."""
    if count == 1:
        return [0]
    delta = np.float32(free) / np.float32(count - 1)
    return [*(int(np.float32(i) * delta) for i in range(count - 1)), free]


def random_window(length: int, *, num_frames: int, step: int, rng: np.random.Generator) -> range:
    """A window that starts at any frame, each equally likely, from which it fits.

    Raises DataError as `linspace_windows` does.
    """
    free = _free(length, num_frames, step)
    return _window(int(rng.integers(0, free, endpoint=True)), num_frames, step)


def synced_span(start: int, end: int, old_length: int, new_length: int) -> tuple[int, int]:
    """The stretch of one modality that goes with frames `start` to `end` of another.

    Lengths are those of the two whole sequences, for instance frames and sound samples. Positions
    are scaled in float32 and truncated; the end stops at `new_length`.
    """
    ratio = np.float32(new_length / old_length)
    first, last = (int(np.float32(position) * ratio) for position in (start, end))
    return first, min(new_length, last)


def central_box(height: int, width: int, padding: int = 0) -> Box:
    """The square in the middle of a picture, `padding` smaller on each side.

    Raises DataError when nothing is left.
    """
    shorter = min(height, width)
    side = shorter - 2 * padding
    if side < 1:
        raise DataError(
            f"a picture of {width}x{height} pixels has no square {padding} pixels away from its "
            f"edges; its shorter side must be above {2 * padding}"
        )
    return Box((height - shorter) // 2 + padding, (width - shorter) // 2 + padding, side, side)


def corner_boxes(height: int, width: int, *, crop: int, count: int) -> list[Box]:
    """`count` squares of side `crop` from the top left to the bottom right (test time).

    They move along both axes at once, evenly, each start truncated. Raises DataError when the
    picture is smaller than the square.
    """
    down, right = (
        linspace_windows(side, count=count, num_frames=crop, step=1) for side in (height, width)
    )
    return [Box(y.start, x.start, crop, crop) for y, x in zip(down, right, strict=True)]


def training_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """A random part of a picture of `height` x `width`: 30 % of it or more, aspect 1/2 to 2.

    When none is found, or it is the whole picture, the central square 16 pixels away from the
    edges of the shorter side is taken instead. Raises DataError when that is empty.
    """
    box = distorted_box(height, width, rng)
    if (box.height, box.width) == (height, width):
        return central_box(height, width, FALLBACK_PADDING)
    return box


def distorted_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = CROP_AREA,
    aspect: tuple[float, float] = CROP_ASPECT,
    min_covered: float = CROP_AREA[0],
    attempts: int = CROP_ATTEMPTS,
) -> Box:
    """TensorFlow's `sample_distorted_bounding_box` with the whole picture as the only box.

    area: least and largest share of the picture. aspect: width / height. min_covered: share of the
    picture that must be inside. Returns the whole picture when no attempt succeeds.
    """
    for _ in range(attempts):
        size = _draw_size(height, width, rng, area, aspect)
        if size is not None and size[0] * size[1] >= min_covered * height * width:
            y, x = (_draw_offset(rng, *pair) for pair in ((height, size[0]), (width, size[1])))
            return Box(y, x, *size)
    return Box(0, 0, height, width)


def draw_augmentation(rng: np.random.Generator) -> Augmentation:
    """Flip and colours of one training clip; always the same number of draws."""
    return Augmentation(
        flip=bool(rng.random() < 0.5),
        colour=bool(rng.random() < COLOUR_PROBABILITY),
        brightness=float(rng.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)),
        saturation=float(rng.uniform(*SATURATION)),
        contrast=float(rng.uniform(*CONTRAST)),
        hue=float(rng.uniform(-MAX_HUE, MAX_HUE)),
        grey=bool(rng.random() < GREY_PROBABILITY),
    )


def _window(start: int, num_frames: int, step: int) -> range:
    return range(start, start + window_span(num_frames, step), step)


def _free(length: int, num_frames: int, step: int) -> int:
    span = window_span(num_frames, step)
    if length < span:
        raise DataError(f"a window of {span} does not fit into {length}; expected {span} or more")
    return length - span


def _draw_size(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[int, int] | None:
    """Height and width of one attempt; None when they do not meet the limits."""
    ratio = rng.uniform(*aspect)
    least, most = (share * height * width for share in area)
    min_height, max_height = (round(math.sqrt(limit / ratio)) for limit in (least, most))
    if round(max_height * ratio) > width:
        max_height = int((width + 0.5 - 1e-7) / ratio)
    max_height = min(max_height, height)
    min_height = min(min_height, max_height)
    h = int(rng.integers(min_height, max_height, endpoint=True))
    w = round(h * ratio)
    if h * w < least:
        h, w = h + 1, round((h + 1) * ratio)
    if h * w > most:
        h, w = h - 1, round((h - 1) * ratio)
    fits = 0 < h <= height and 0 < w <= width and least <= h * w <= most
    return (h, w) if fits else None


def _draw_offset(rng: np.random.Generator, full: int, part: int) -> int:
    # The last place is never drawn, as in TensorFlow.
    return int(rng.integers(0, full - part)) if part < full else 0
