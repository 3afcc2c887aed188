"""Pictures on the processor: JPEG decoding and resizing with TensorFlow's values.

T frames, H rows, W columns, 3 colours; red, green, blue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray
from ssvideo_core.errors import DecodeError

from brave.sampling import Box

Frames = NDArray[np.uint8]


def jpeg_shape(data: bytes) -> tuple[int, int]:
    """(height, width) of a grey or colour JPEG from its header.

    Raises DecodeError for other data, and for a picture in four inks (CMYK).
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DecodeError(f"{_about(data)} ({error}); expected a JPEG") from None
    if colours not in ("YCbCr", "RGB", "Gray"):
        raise DecodeError(
            f"a JPEG in {colours}; expected grey or red, green and blue. Write the record again"
        )
    return height, width


def decode_jpeg(data: bytes) -> Frames:
    """Decode a JPEG to [H, W, 3] uint8; a grey one has three equal colours.

    With libjpeg-turbo's fast integer cosine transform and smooth chroma upsampling, which are
    TensorFlow's defaults; the published numbers were made with them. The original, too, takes grey
    pictures in training, but fails on them in its test part. Raises DecodeError, also for data that
    ends early.
    """
    jpeg_shape(data)
    try:
        return simplejpeg.decode_jpeg(data, fastdct=True)  # type: ignore[no-any-return]
    except ValueError as error:
        # Some encoders pad between segments; libjpeg skips that without loss.
        if "extraneous bytes" in str(error):
            return simplejpeg.decode_jpeg(data, fastdct=True, strict=False)  # type: ignore[no-any-return]
        raise DecodeError(
            f"a JPEG of {len(data)} bytes does not decode ({error}); write the record again"
        ) from None


def resized_shape(height: int, width: int, min_side: int) -> tuple[int, int]:
    """(height, width) after the shorter side is scaled to `min_side`, the longer one truncated."""
    return max(min_side, height * min_side // width), max(min_side, width * min_side // height)


def resize_min(frames: Frames, min_side: int) -> Frames:
    """Scale the shorter side to `min_side` (test time).

    frames: [T, H, W, 3] uint8. Returns uint8, truncated and not rounded, as released; the same
    frames when the size is right already.
    """
    height, width = frames.shape[1:3]
    shape = resized_shape(height, width, min_side)
    if shape == (height, width):
        return frames
    return _resize(frames, *shape, np.uint8)


def resize_bilinear(
    frames: NDArray[np.uint8] | NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """TensorFlow's `tf.image.resize`: bilinear, half-pixel centres, no antialiasing, float32.

    frames: [T, H, W, 3]. Returns [T, height, width, 3], not rounded. The order of the operations is
    TensorFlow's (columns first), so values are equal, not close.
    """
    return _resize(frames, height, width, np.float32)


def interpolation(
    size: int, new_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of `new_size` places: the two neighbours among `size`, and the second's weight.

    Returns (first [N] int64, second [N] int64, weight [N] float32).
    """
    scale = np.float32(size) / np.float32(new_size)
    place = (np.arange(new_size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    below = np.floor(place)
    first = np.maximum(below.astype(np.int64), 0)
    second = np.minimum(np.ceil(place).astype(np.int64), size - 1)
    return first, second, place - below


def cut(frames: Frames, box: Box) -> Frames:
    """A view of [T, H, W, 3] frames inside `box`."""
    return frames[:, box.y : box.y + box.height, box.x : box.x + box.width]


def _resize(frames: NDArray[Any], height: int, width: int, dtype: type[Any]) -> NDArray[Any]:
    left, right, along_x = interpolation(frames.shape[2], width)
    top, bottom, along_y = interpolation(frames.shape[1], height)
    resized = np.empty((len(frames), height, width, frames.shape[3]), dtype)
    # One frame at a time stays in the cache: 5 times as fast as the whole clip.
    for frame, target in zip(frames, resized, strict=True):
        x = frame.astype(np.float32)
        rows = _mix(x[:, left], x[:, right], along_x[:, None])
        target[:] = _mix(rows[top], rows[bottom], along_y[:, None, None])
    return resized


def _mix(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    second -= first
    second *= weight
    second += first
    return second


def _about(data: bytes) -> str:
    return f"{len(data)} bytes that begin with {data[:4].hex(' ')}" if data else "an empty picture"
