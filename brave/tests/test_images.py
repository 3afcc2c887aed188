from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from brave.images import (
    cut,
    decode_jpeg,
    interpolation,
    jpeg_shape,
    resize_bilinear,
    resize_min,
    resized_shape,
)
from brave.sampling import Box
from numpy.typing import NDArray
from ssvideo_core.errors import DecodeError

FOLDER = Path(__file__).parent / "golden"


def picture(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5 % 256, columns * 3 % 256, (rows + columns) % 256], -1).astype(
        np.uint8
    )


def test_pixels_of_a_jpeg_are_those_of_tensorflow() -> None:
    with np.load(FOLDER / "crop_resize.npz") as stored:
        frame = decode_jpeg(stored["jpeg0"].tobytes())
        np.testing.assert_array_equal(frame, stored["jpeg_decode:frames"][0])


def test_a_grey_picture_has_three_equal_colours() -> None:
    grey = np.ascontiguousarray(picture(16, 24)[..., :1])
    data = simplejpeg.encode_jpeg(grey, quality=100, colorspace="GRAY")
    assert jpeg_shape(data) == (16, 24)
    frame = decode_jpeg(data)
    assert frame.shape == (16, 24, 3)
    assert (frame == frame[..., :1]).all()
    np.testing.assert_allclose(frame[..., :1], grey, atol=3)


def test_other_pictures_are_refused() -> None:
    inks = simplejpeg.encode_jpeg(np.zeros((8, 8, 4), np.uint8), colorspace="CMYK")
    for data, message in (
        (inks, "JPEG in YCCK; expected grey or red, green and blue"),
        (b"", "an empty picture"),
        (b"\x89PNG 123", "8 bytes that begin with 89 50 4e 47"),
    ):
        for read in (jpeg_shape, decode_jpeg):
            with pytest.raises(DecodeError, match=message):
                read(data)


def test_a_jpeg_that_ends_early_is_refused() -> None:
    data = simplejpeg.encode_jpeg(picture(64, 64))
    assert jpeg_shape(data[: len(data) // 2]) == (64, 64)
    with pytest.raises(DecodeError, match="does not decode"):
        decode_jpeg(data[: len(data) // 2])


def test_padding_between_segments_is_skipped() -> None:
    data = simplejpeg.encode_jpeg(picture(16, 16))
    padded = data[:-2] + b"\0\0\0\0" + data[-2:]
    np.testing.assert_array_equal(decode_jpeg(padded), decode_jpeg(data))


def by_hand(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear resizing with loops in float64."""
    result = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            down = (y + 0.5) * frame.shape[0] / height - 0.5
            right = (x + 0.5) * frame.shape[1] / width - 0.5
            value: Any = 0.0
            for row in (math.floor(down), math.floor(down) + 1):
                for column in (math.floor(right), math.floor(right) + 1):
                    weight = (1 - abs(down - row)) * (1 - abs(right - column))
                    inside = frame[
                        min(max(row, 0), frame.shape[0] - 1),
                        min(max(column, 0), frame.shape[1] - 1),
                    ]
                    value = value + weight * inside.astype(float)
            result[y, x] = value
    return result


@pytest.mark.parametrize("shape", [(7, 5), (20, 31), (12, 17), (13, 40)])
def test_bilinear_resizing(shape: tuple[int, int]) -> None:
    frames = np.stack([picture(12, 17), picture(12, 17)[::-1]])
    resized = resize_bilinear(frames, *shape)
    assert resized.dtype == np.float32
    for frame, got in zip(frames, resized, strict=True):
        np.testing.assert_allclose(got, by_hand(frame, *shape), atol=1e-4)


def test_places_between_pixels() -> None:
    first, second, weight = interpolation(4, 2)
    assert (first.tolist(), second.tolist(), weight.tolist()) == ([0, 2], [1, 3], [0.5, 0.5])
    first, second, _ = interpolation(2, 4)
    assert (first.tolist(), second.tolist()) == ([0, 0, 0, 1], [0, 1, 1, 1])


def test_test_pictures_are_truncated_not_rounded() -> None:
    frames = picture(20, 30)[None]
    assert resized_shape(20, 30, 13) == (13, 19)
    resized = resize_min(frames, 13)
    np.testing.assert_array_equal(resized, np.floor(resize_bilinear(frames, 13, 19)))
    assert resize_min(frames, 20) is frames


def test_a_cut_is_a_view() -> None:
    frames = picture(9, 9)[None]
    part = cut(frames, Box(2, 3, 4, 5))
    np.testing.assert_array_equal(part[0], frames[0, 2:6, 3:8])
    assert np.shares_memory(part, frames)
