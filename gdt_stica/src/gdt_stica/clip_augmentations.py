"""The augmentation of STiCA and of fine-tuning for a whole batch on its device.

In order: crop and scaling, flip, standardisation, colour jitter, grayscale, blur, with the draws of
`clip_looks`. Deterministic, without a loop over clips and without a transfer back from a device.

Axes: B batch, T frames, S pixels per side of the crop, C = 3 channels (RGB).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from ssvideo_torch.loader import TorchView
from torch import Tensor

from gdt_stica.augmentations import resampled_parts, taps
from gdt_stica.clip_sampling import BLUR_REACH
from gdt_stica.color import SATURATION, GrayWeights, Mix, compose, mixed
from gdt_stica.inputs import PIXEL_MEAN, PIXEL_STD

Colours = Literal["released", "fixed"]
Blur = Literal["released", "fixed", "none"]

RELEASED_SIGMA = 2.0  # pixels, along the rows only
SHARP_SIGMA = 0.05  # so narrow that all weight is on the middle pixel


def augment_clips(
    view: TorchView, *, crop_size: int, colours: Colours = "released", blur: Blur = "released"
) -> Tensor:
    """uint8 (B, T, H, W, 3) to float32 (B, 3, T, S, S), about (x / 255 - 0.45) / 0.225.

    view: frames are the boxes that were read, filled up at the bottom and right to one size; sizes
        say what of them is picture; params are `clip_looks.clip_params`. All on one device.
        Others in params, and the sound, are ignored.
    crop_size: S.
    colours: "released": colours are changed after standardisation, so darker is closer to the mean
        gray, and gray has the weights of blue, green, red. "fixed": before it, with gray of red,
        green, blue.
    blur: of the clips whose blur_sigma is above 0. "released": always sigma 2 and along the rows,
        as the range that the released code gives was taken for a sigma of each axis. "fixed": the
        drawn sigma along both. "none": of no clip, where it is known that none is blurred.

    Scaling is bilinear, corners not aligned: `torch.nn.functional.interpolate` of the box, or to
    the drawn size and a crop of the result, to rounding. Nothing is clamped.
    """
    assert view.frames is not None, "a view without frames has nothing to augment"
    params = view.params
    rows, columns = (
        taps(
            params["source_size"][:, axis],
            params["scaled_size"][:, axis],
            params["crop_offset"][:, axis],
            params["box_offset"][:, axis],
            view.sizes[:, axis],
            crop_size,
        )
        for axis in (0, 1)
    )
    mix, constant = _standardising(params, colours)
    weights: GrayWeights = "bgr" if colours == "released" else "rgb"
    sigma = params["blur_sigma"]
    kernels = gaussian((sigma > 0) * RELEASED_SIGMA if blur == "released" else sigma)
    clips, length = view.frames.shape[:2]
    out = torch.empty(clips, 3, length, crop_size, crop_size, device=view.frames.device)
    for clip, time, pixels in resampled_parts(view.frames, rows, columns.flipped(params["flip"])):
        part = mixed(pixels, mix.of(clip), weights, constant=constant[clip])
        # Elsewhere than on a processor, to look which clips are blurred would be to wait.
        if blur != "none" and (sigma.device.type != "cpu" or sigma[clip].any()):
            part = blur_axis(part, kernels[clip], -1)
            part = blur_axis(part, kernels[clip], -2) if blur == "fixed" else part
        out[clip, :, time] = part
    return out


def _standardising(params: Mapping[str, Tensor], colours: Colours) -> tuple[Mix, Tensor]:
    """Jitter, grayscale and standardisation as a mix of bytes and a constant (B,).

    A chain of operations takes what is added to every pixel to `total` times it.
    """
    mix = compose(params["jitter_order"], params["jitter_factors"])
    gray = params["gray"]
    to_gray = torch.full_like(gray, SATURATION, dtype=torch.int64)
    mix = mix.blended(to_gray, torch.ones_like(mix.own).masked_fill(gray, 0.0))
    times = mix.total if colours == "released" else torch.ones_like(mix.total)
    return Mix(*(part / (255 * PIXEL_STD) for part in mix)), -PIXEL_MEAN / PIXEL_STD * times


def gaussian(sigma: Tensor, *, reach: int = BLUR_REACH) -> Tensor:
    """Kernels (B, 2 reach + 1) that sum to 1; sigma: (B,) pixels, at 0 all is on the middle."""
    offsets = torch.arange(-reach, reach + 1, device=sigma.device)
    return torch.softmax(-0.5 * (offsets / sigma.clamp(min=SHARP_SIGMA)[:, None]) ** 2, dim=1)


def blur_axis(x: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """(B, ...) with each clip's kernel (B, K) applied along one axis; K is odd.

    Beyond the edge the picture is mirrored, without repeating its last pixel; so the axis must be
    longer than K / 2.
    """
    size, reach = x.shape[axis], kernels.shape[1] // 2
    before = x.narrow(axis, 1, reach).flip(axis)
    after = x.narrow(axis, size - 1 - reach, reach).flip(axis)
    padded = torch.cat([before, x, after], axis)
    out = torch.zeros_like(x)
    for first, share in enumerate(kernels.view(len(x), -1, *[1] * (x.dim() - 1)).unbind(1)):
        out.addcmul_(padded.narrow(axis, first, size), share)
    return out
