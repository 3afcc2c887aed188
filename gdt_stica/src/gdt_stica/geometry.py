"""Where crops lie: sizes, offsets and boxes in whole pixels, as in the released code."""

from __future__ import annotations

import math

Box = tuple[int, int, int, int]  # y, x, height, width


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side scaled to short_side, the longer one rounded down."""
    if width < height:
        return math.floor(height / width * short_side), short_side
    return short_side, math.floor(width / height * short_side)


def uniform_crop(height: int, width: int, size: int, spatial_idx: int) -> tuple[int, int]:
    """(y, x) of the square crop `spatial_idx`: at the start, middle or end of the longer side.

    spatial_idx: 0, 1 or 2. The middle is rounded up, and is taken along the shorter side.
    """
    y, x = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if spatial_idx == 1:
        return y, x
    if height > width:
        return (0 if spatial_idx == 0 else height - size), x
    return y, (0 if spatial_idx == 0 else width - size)


def source_box(
    height: int, width: int, *, short_side: int, crop_offset: tuple[int, int], crop_size: int
) -> Box:
    """The pixels of a frame that scaling to short_side and the square crop at crop_offset read.

    Bilinear, corners not aligned: place p of s scaled ones lies at (p + 1/2) source / s - 1/2 and
    mixes the pixels before and after it.
    """
    scaled = scaled_size(height, width, short_side)
    y, stop_y = _span(height, scaled[0], crop_offset[0], crop_size)
    x, stop_x = _span(width, scaled[1], crop_offset[1], crop_size)
    return y, x, stop_y - y, stop_x - x


def _span(source: int, scaled: int, offset: int, size: int) -> tuple[int, int]:
    step = source / scaled
    first = max((offset + 0.5) * step - 0.5, 0.0)
    last = max((offset + size - 0.5) * step - 0.5, 0.0)
    return math.floor(first), min(math.floor(last) + 2, source)


def crop_of_area(height: int, width: int, area: float, log_ratio: float) -> tuple[int, int] | None:
    """(height, width) of a crop with a share `area` of the frame, or None where it does not fit.

    log_ratio: natural logarithm of the crop's width / height.
    """
    pixels, ratio = area * height * width, math.exp(log_ratio)
    high, wide = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
    return (high, wide) if 0 < high <= height and 0 < wide <= width else None


def central_crop(height: int, width: int, ratios: tuple[float, float]) -> Box:
    """The largest box in the middle whose width / height lies within `ratios`."""
    lowest, highest = ratios
    high, wide = height, width
    if width / height < lowest:
        high = round(width / lowest)
    elif width / height > highest:
        wide = round(height * highest)
    return (height - high) // 2, (width - wide) // 2, high, wide
