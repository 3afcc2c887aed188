"""The clips of STiCA and of fine-tuning once more: NumPy, loops, one operation after the other.

Written from what is known of the released code, not from our `src`, which never imports this. All
in float64. Frames are [T, H, W, 3].
"""

from __future__ import annotations

import math

import numpy as np

MEAN, STD = 0.45, 0.225


def augment(frames, draws, *, crop_size, colours="released", blur="released"):
    """uint8 [T, H, W, 3] to [3, T, S, S].

    draws: either box (y, x, height, width), or short_side and crop (y, x); flip; jitter, a list of
    (operation, factor); gray; sigma, 0 for none.
    """
    x = frames / 255
    if colours == "released":
        x = (x - MEAN) / STD
    if "box" in draws:
        top, left, height, width = draws["box"]
        x = scale(x[:, top : top + height, left : left + width], crop_size, crop_size)
    else:
        x = scale(x, *short_side_size(*x.shape[1:3], draws["short_side"]))
        top, left = draws["crop"]
        x = x[:, top : top + crop_size, left : left + crop_size]
    if draws["flip"]:
        x = x[:, :, ::-1]
    for operation, factor in draws["jitter"]:
        x = change(x, operation, factor, colours)
    if draws["gray"]:
        x = np.repeat(gray_of(x, colours), 3, axis=3)
    if draws["sigma"]:
        x = blur_along(x, 2, 2.0 if blur == "released" else draws["sigma"])
        if blur == "fixed":
            x = blur_along(x, 1, draws["sigma"])
    if colours == "fixed":
        x = (x - MEAN) / STD
    return x.transpose(3, 0, 1, 2)


def short_side_size(height, width, short_side):
    if width < height:
        return math.floor(height / width * short_side), short_side
    return short_side, math.floor(width / height * short_side)


def scale(x, height, width):
    """Bilinear; a pixel's middle lies at a half."""
    out = np.zeros((len(x), height, width, 3))
    for row in range(height):
        y = max((row + 0.5) * x.shape[1] / height - 0.5, 0)
        for column in range(width):
            across = max((column + 0.5) * x.shape[2] / width - 0.5, 0)
            for near_y in (math.floor(y), math.floor(y) + 1):
                for near_x in (math.floor(across), math.floor(across) + 1):
                    share = (1 - abs(y - near_y)) * (1 - abs(across - near_x))
                    near = min(near_y, x.shape[1] - 1), min(near_x, x.shape[2] - 1)
                    out[:, row, column] += share * x[:, near[0], near[1]]
    return out


def gray_of(x, colours):
    red, green, blue = (x[..., channel : channel + 1] for channel in range(3))
    if colours == "released":
        red, blue = blue, red
    return 0.299 * red + 0.587 * green + 0.114 * blue


def change(x, operation, factor, colours):
    out = np.zeros_like(x)
    for time, frame in enumerate(x):
        gray = gray_of(frame, colours)
        other = {"brightness": 0.0, "contrast": gray.mean(), "saturation": gray}[operation]
        out[time] = factor * frame + (1 - factor) * other
    return out


def blur_along(x, axis, sigma):
    """A kernel of 11, mirrored at the edges."""
    kernel = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-5, 6)]
    size = x.shape[axis]
    out = np.zeros_like(x)
    for place in range(size):
        for share, offset in zip(kernel, range(-5, 6), strict=True):
            near = abs(place + offset)
            near = 2 * (size - 1) - near if near >= size else near
            target = (slice(None),) * axis + (place,)
            out[target] += share / sum(kernel) * x[(slice(None),) * axis + (near,)]
    return out
