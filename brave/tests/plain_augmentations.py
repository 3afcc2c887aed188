"""What happens to a training clip, written again in plain NumPy and Python; tests compare with it.

Sources: the specification of BraVe's training views; values are float64.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Clip = NDArray[np.float64]  # [T, H, W, C]


def rgb_clip(crop: NDArray[np.uint8], draw: Mapping[str, Any], size: int) -> Clip:
    """The stored pixels of a crop, [T, h, w, 3], as the network sees them, [T, size, size, 3]."""
    x = resize(crop, size) / 255
    x = blur(x, float(draw["blur_sigma"]), size // 10 // 2)
    x = x[:, :, ::-1] if draw["flip"] else x
    x = colours(x, draw) if draw["colour"] else x
    if draw["grey"]:
        x = np.repeat((x * [0.2989, 0.5870, 0.1140]).sum(-1, keepdims=True), 3, axis=-1)
    return convolve(x, draw["drawn_kernel"]) if "drawn_kernel" in draw else x


def flow_clip(crop: NDArray[np.uint8], flip: bool, size: int) -> Clip:
    """The same for flow, [T, size, size, 2]."""
    x = resize(crop, size)[..., :2] * 2 / 255 - 1
    x = x * [size / crop.shape[2], size / crop.shape[1]]
    x = x[:, :, ::-1] * [-1, 1] if flip else x
    return np.clip(x, -1, 1)


def resize(clip: NDArray[Any], size: int) -> Clip:
    """Bilinear, half-pixel centres, pixel by pixel."""
    height, width = clip.shape[1:3]
    result = np.empty((len(clip), size, size, clip.shape[3]))
    for i in range(size):
        for j in range(size):
            y, x = ((k + 0.5) * n / size - 0.5 for k, n in ((i, height), (j, width)))
            parts = []
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    inside = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
                    parts.append(share * clip[:, inside[0], inside[1]].astype(float))
            result[:, i, j] = sum(parts)
    return result


def blur(clip: Clip, sigma: float, radius: int) -> Clip:
    weights = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-radius, radius + 1)]
    line = np.array(weights) / sum(weights)
    kernel = np.outer(line, line)[:, :, None, None] * np.eye(clip.shape[-1])
    return convolve(clip, kernel)


def convolve(clip: Clip, kernel: NDArray[Any]) -> Clip:
    """Correlation with [k, k, in, out], zeros outside."""
    size, (height, width) = len(kernel), clip.shape[1:3]
    margin = (size // 2, size // 2)
    padded = np.pad(clip, ((0, 0), margin, margin, (0, 0)))
    result = np.zeros((*clip.shape[:3], kernel.shape[3]))
    for i in range(size):
        for j in range(size):
            result += padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(float)
    return result


def colours(clip: Clip, draw: Mapping[str, Any]) -> Clip:
    """As `colorsys` has them, which is meant for values that stay in [0, 1] until the contrast."""
    x = clip + float(draw["brightness"])
    x = per_pixel(x, lambda h, s, v: (h, min(s * float(draw["saturation"]), 1), v))
    mean = x.mean((1, 2), keepdims=True)
    x = (x - mean) * float(draw["contrast"]) + mean
    x = per_pixel(x, lambda h, s, v: ((h + float(draw["hue"])) % 1, s, v))
    return np.clip(x, 0, 1)


def per_pixel(clip: Clip, change: Any) -> Clip:
    pixels = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*rgb))) for rgb in clip.reshape(-1, 3)
    ]
    return np.array(pixels).reshape(clip.shape)


def log_mel(wave: NDArray[Any], rate_hz: int, num_bins: int, step: int, length: int) -> Clip:
    """[N] to [frames, num_bins], one Fourier coefficient and one triangle at a time."""
    count = math.ceil(len(wave) / step)
    padded = np.concatenate([wave.astype(float), np.zeros(length + step)])
    time = np.arange(length)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / length)
    frames = np.stack([padded[i * step :][:length] * window for i in range(count)])
    magnitudes = [
        abs(frames @ np.exp(-2j * np.pi * k * time / length)) for k in range(length // 2 + 1)
    ]
    edges = np.linspace(mel(80), mel(7600), num_bins + 2)
    result = np.zeros((count, num_bins))
    for k in range(1, length // 2 + 1):
        place = mel(k * rate_hz / length)
        for b in range(num_bins):
            low, centre, high = edges[b : b + 3]
            if low < place < high:
                side = (place - low) if place < centre else (high - place)
                result[:, b] += magnitudes[k] * side / (edges[1] - edges[0])
    return np.log(1 + 10000 * result)


def mel(hz: float) -> float:
    return 1127 * math.log(1 + hz / 700)
