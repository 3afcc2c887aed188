"""What the original does to each training clip, written again: one clip at a time, step by step.

Each step is an operation of its own over the whole clip, with a depthwise convolution for the blur,
as in a TensorFlow data pipeline. The draws are given, because they define the clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_evaluation as plain
from brave.sampling import Augmentation
from numpy.typing import NDArray


def augment(crop: NDArray[np.uint8], params: Mapping[str, Any], size: int) -> NDArray[np.float32]:
    """The stored pixels of one crop, [T, h, w, 3], as the network sees them, [T, S, S, 3]."""
    x = np.asarray(plain.resize(crop, size, size) * np.float32(1 / 255), np.float32)
    x = blur(x, float(params["blur_sigma"]), size // 10 // 2)
    x = x[:, :, ::-1] if params["flip"] else x
    if params["colour"]:
        x = plain.colour(x, look(params))
    if params["grey"]:
        weights = np.array([[0.2989], [0.5870], [0.1140]], np.float32)
        x = np.repeat(x @ weights, 3, axis=-1)
    if "kernel" in params:
        unused = (11 - int(params["kernel_size"])) // 2
        kernel = params["kernel"][unused : 11 - unused, unused : 11 - unused]
        x = convolve(x, kernel)
    return np.asarray(x, np.float32)


def look(params: Mapping[str, Any]) -> Augmentation:
    names = ("flip", "colour", "brightness", "saturation", "contrast", "hue", "grey")
    return Augmentation(**{name: params[name].item() for name in names})


def blur(clip: NDArray[np.float32], sigma: float, radius: int) -> NDArray[np.float32]:
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-(places**2) / (2 * sigma**2))
    line = np.repeat((weights / weights.sum()).astype(np.float32)[:, None], 3, axis=1)
    across = convolve(clip, line[None, :, None], groups=3)
    return convolve(across, line[:, None, None], groups=3)


def convolve(
    clip: NDArray[np.float32], kernel: NDArray[np.float32], groups: int = 1
) -> NDArray[np.float32]:
    result = jax.lax.conv_general_dilated(
        jnp.asarray(clip),
        jnp.asarray(kernel),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )
    return np.asarray(result)
