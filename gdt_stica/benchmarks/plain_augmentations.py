"""What the released GDT does to each clip: written again, one clip and one copy at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gdt_stica.geometry import scaled_size
from gdt_stica.sampling import Look
from torch import Tensor


def augment(
    frames: Tensor, look: Look, crop_size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Whole frames, uint8 (T, H, W, 3), to (3, T, S, S)."""
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
