"""From stored pictures to a network's input: the one place where layout and range change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_clips(
    frames: NDArray[np.uint8] | Tensor,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """uint8 [B, T, H, W, C] to float32 (B, C, T, H, W) on `device`: (pixels / 255 - mean) / std.

    mean, std: one number, or one per channel, on the scale [0, 1]. Bytes cross to the device,
    floats are made there. Raises ValueError for another dtype or number of axes.
    """
    stored = frames if isinstance(frames, Tensor) else from_numpy(frames)
    if stored.dtype != torch.uint8 or stored.ndim != 5:
        raise ValueError(
            f"frames are {stored.dtype} {tuple(stored.shape)}, expected torch.uint8 (B, T, H, W, C)"
        )
    clips = stored.to(device).permute(0, 4, 1, 2, 3).float().contiguous().div_(255)
    return clips.sub_(_per_channel(mean, clips)).div_(_per_channel(std, clips))


def from_numpy(array: NDArray[np.generic]) -> Tensor:
    """A tensor over the same memory where that is possible, else over a copy.

    Copies arrays that are read-only (shared memory of a worker) or have negative steps.
    """
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _per_channel(values: float | Sequence[float], clips: Tensor) -> Tensor:
    per_channel = torch.as_tensor(values, dtype=clips.dtype, device=clips.device)
    return per_channel.reshape(-1, 1, 1, 1)
