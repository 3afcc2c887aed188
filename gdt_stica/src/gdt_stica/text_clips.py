"""Clips of videos with texts as the networks see them: scaled, from 0 to 1, black after the end.

Axes: B batch, T frames, H, W pixels read, S pixels per side of the result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CUBIC = -0.6  # FFmpeg's: slope of the kernel at distance 1


def text_clips(frames: Tensor, sizes: Tensor, num_shown: Tensor, *, size: int) -> Tensor:
    """uint8 (B, T, H, W, 3) to float32 (B, 3, T, S, S) in [0, 1]; S is `size`.

    frames: the boxes that were read, filled up at the bottom and right to one size; sizes: (B, 2)
        int64, what of them is picture. num_shown: (B,) int64; later frames become zeros.

    Scaled as FFmpeg's filter `scale` does by default, by a cubic kernel that grows with the step
    between pixels; but not rounded to whole numbers. Nothing else is done to the colours, as in
    the original (specification b).
    """
    clips = torch.stack([
        _scaled(clip, *_weights(clip, picture, size))
        for clip, picture in zip(frames, sizes, strict=True)
    ])  # fmt: skip
    shown = torch.arange(frames.shape[1], device=frames.device) < num_shown[:, None]
    return clips.clamp_(0, 255).div_(255) * shown[:, None, :, None, None]


def _scaled(frames: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(T, H, W, 3), (S, H), (S, W) to (3, T, S, S)."""
    length, height, width, channels = frames.shape
    lines = frames.permute(1, 0, 3, 2).float().reshape(height, -1)  # (H, T 3 W)
    mixed = (rows @ lines).view(-1, length, channels, width)  # (S, T, 3, W)
    return (mixed @ columns.T).permute(2, 1, 0, 3)


def _weights(frames: Tensor, picture: Tensor, size: int) -> tuple[Tensor, Tensor]:
    height, width = frames.shape[1:3]
    return _cubic(picture[0], height, size), _cubic(picture[1], width, size)


def _cubic(source: Tensor, stored: int, size: int) -> Tensor:
    """(S, stored) float32: how much of each stored pixel a place is made of.

    source: () int64, the pixels from the first on that are picture. Pixels outside of it count as
    the nearest one inside.
    """
    step = source.double() / size
    reach = math.ceil(2 * max(stored / size, 1))
    places = torch.arange(size, device=source.device, dtype=torch.float64)[:, None]
    pixels = torch.arange(-reach, stored + reach, device=source.device)
    weights = _kernel((pixels - ((places + 0.5) * step - 0.5)).abs() / step.clamp(min=1))
    weights /= weights.sum(1, keepdim=True)
    first, last = pixels == 0, pixels == source - 1
    inside = weights * ((pixels >= 0) & (pixels < source))
    inside += (weights * (pixels < 0)).sum(1, keepdim=True) * first
    inside += (weights * (pixels >= source)).sum(1, keepdim=True) * last
    return inside[:, reach : reach + stored].float()


def _kernel(x: Tensor) -> Tensor:
    """Keys' cubic convolution at distances x >= 0."""
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x**2 + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return near.where(x < 1, far.where(x < 2, 0.0))
