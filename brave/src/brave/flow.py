"""Optical flow as DMVR stores it: JPEGs with the displacements in their colours.

Colour 0 is the horizontal displacement, 1 the vertical one, 2 nothing; value v stands for
v · 2/255 - 1. Plain arithmetic, for arrays of NumPy and of JAX alike. T frames, H rows, W columns,
C displacements, 2 or the 3 colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brave.images import resize_bilinear, resized_shape


def displacements(frames: Any) -> Any:
    """[..., C] values 0 to 255, uint8 or float32, as float32 in [-1, 1]."""
    return frames * np.float32(2 / 255) - np.float32(1)


def flip_flow(flow: Any) -> Any:
    """Mirror [..., W, C] left and right: what moved to the left moves to the right."""
    signs = np.ones(flow.shape[-1], np.float32)
    signs[0] = -1
    return flow[..., ::-1, :] * signs


def resize_min_flow(flow: NDArray[np.float32], min_side: int) -> NDArray[np.float32]:
    """Scale the shorter side of [T, H, W, C] to `min_side`, and displacements as the height is."""
    height, width = flow.shape[1:3]
    shape = resized_shape(height, width, min_side)
    if shape == (height, width):
        return flow
    return resize_bilinear(flow, *shape) * np.float32(shape[0] / height)
