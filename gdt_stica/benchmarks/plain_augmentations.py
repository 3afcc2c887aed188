"""What the released code does to each clip: written again, one clip and one copy at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gdt_stica.clip_looks import ClipLook
from gdt_stica.geometry import Box, scaled_size
from gdt_stica.sampling import Look
from torch import Tensor


def augment(
    frames: Tensor, look: Look, crop_size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """What the released GDT does to each copy: whole frames, uint8, to (3, T, S, S)."""
    clip = (frames.to(dtype) / 255).permute(3, 0, 1, 2)
    size = scaled_size(clip.shape[2], clip.shape[3], look.short_side)
    clip = F.interpolate(clip, size=size, mode="bilinear", align_corners=False)
    y, x = look.crop_offset
    clip = clip[:, :, y : y + crop_size, x : x + crop_size]
    clip = clip.flip(-1) if look.flip else clip
    for operation, factor in zip(look.jitter_order, look.jitter_factors, strict=True):
        clip = blend(clip, operation, factor)
    return (clip - 0.45) / 0.225


def blend(clip: Tensor, operation: int, factor: float) -> Tensor:
    other = torch.zeros_like(clip)
    if operation > 0:
        gray = 0.299 * clip[:, 2] + 0.587 * clip[:, 1] + 0.114 * clip[:, 0]
        other[:, 0] = other[:, 1] = other[:, 2] = gray
    if operation == 1:
        other[:] = other.mean(dim=(1, 2, 3), keepdim=True)
    return clip * factor + (1 - factor) * other


def augment_stica(
    frames: Tensor,
    box: Box,
    look: ClipLook,
    crop_size: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """What the released STiCA does to each view: whole frames, uint8, to (3, T, S, S)."""
    clip = ((frames.to(dtype) / 255 - 0.45) / 0.225).permute(0, 3, 1, 2)
    y, x, height, width = box
    clip = clip[:, :, y : y + height, x : x + width]
    clip = F.interpolate(clip, size=(crop_size, crop_size), mode="bilinear", align_corners=False)
    clip = clip.flip(-1) if look.flip else clip
    if look.jitter_factors != (1.0, 1.0, 1.0):
        for operation, factor in zip(look.jitter_order, look.jitter_factors, strict=True):
            clip = blend_frames(clip, operation, factor)
    clip = gray_frames(clip) if look.gray else clip
    clip = blur_frames(clip) if look.blur_sigma else clip
    return clip.transpose(0, 1)


def gray_frames(clip: Tensor) -> Tensor:
    gray = 0.299 * clip[:, 2] + 0.587 * clip[:, 1] + 0.114 * clip[:, 0]
    return torch.stack([gray, gray, gray], dim=1)


def blend_frames(clip: Tensor, operation: int, factor: float) -> Tensor:
    other = gray_frames(clip) if operation > 0 else torch.zeros_like(clip)
    if operation == 1:
        other[:] = other.mean(dim=(1, 2, 3), keepdim=True)
    return clip * factor + (1 - factor) * other


def blur_frames(clip: Tensor) -> Tensor:
    """A kernel of 11 x 11, sigma 0.1 down and 2 across."""
    squares = torch.arange(-5, 6, dtype=clip.dtype) ** 2
    down, across = (torch.exp(-squares / (2 * sigma**2)) for sigma in (0.1, 2.0))
    kernel = (down / down.sum())[:, None] * (across / across.sum())
    padded = F.pad(clip, (5, 5, 5, 5), mode="reflect")
    return F.conv2d(padded, kernel.expand(3, 1, 11, 11), groups=3)
