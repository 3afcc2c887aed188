"""The video augmentation of GDT for a whole batch on its device, with the draws of `sampling`.

In order: the shorter side scaled, square crop, flip, colour jitter, standardisation. Deterministic,
without a loop over clips and without a transfer back from the device.

Axes: B batch, T frames, H, W pixels read, S pixels per side of the crop, C = 3 channels (RGB).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gdt_stica.inputs import PIXEL_MEAN, PIXEL_STD

ColorJitter = Literal["released", "per_frame"]
GrayWeights = Literal["bgr", "rgb"]

CONTRAST, SATURATION = 1, 2  # 0 is brightness, for which there is nothing to blend with
# Of the first, second and third channel. The released code takes RGB for BGR.
GRAY_WEIGHTS: Mapping[GrayWeights, tuple[float, float, float]] = {
    "bgr": (0.114, 0.587, 0.299),
    "rgb": (0.299, 0.587, 0.114),
}
CACHED_VALUES = 250_000  # floats that a part of a batch takes on a processor


def augment(
    frames: Tensor,
    sizes: Tensor,
    params: Mapping[str, Tensor],
    *,
    crop_size: int,
    color_jitter: ColorJitter = "released",
    gray: GrayWeights = "bgr",
) -> Tensor:
    """uint8 (B, T, H, W, 3) to float32 (B, 3, T, S, S), about (x / 255 - 0.45) / 0.225.

    frames: the boxes that were read, filled up at the bottom and right to one size; sizes: (B, 2)
        int64, what of them is picture. params: `sampling.video_params`, stacked, on the device of
        the frames. crop_size: S. color_jitter, gray: see `jitter`.

    Scaling is bilinear, corners not aligned: `torch.nn.functional.interpolate` to the drawn size
    and a crop of the result, to rounding. Nothing is clamped.
    """
    rows, columns = (_taps(params, sizes, axis, crop_size) for axis in (0, 1))
    clips = resample(frames, rows, columns.flipped(params["flip"]))
    clips = jitter(
        clips, params["jitter_order"], params["jitter_factors"], how=color_jitter, gray=gray
    )
    return clips.mul_(1 / (255 * PIXEL_STD)).sub_(PIXEL_MEAN / PIXEL_STD)


class Taps(NamedTuple):
    """Between which two pixels each place lies: (B, S) int64, int64, float32 weight of `after`."""

    before: Tensor
    after: Tensor
    weight: Tensor

    def flipped(self, which: Tensor) -> Taps:
        """The places of the clips in `which` (B,) bool in reverse order."""
        return Taps(*(torch.where(which[:, None], part.flip(1), part) for part in self))


def _taps(params: Mapping[str, Tensor], sizes: Tensor, axis: int, crop_size: int) -> Taps:
    source = params["source_size"].double()
    short_side = params["short_side"].double()
    scaled = torch.where(
        source[:, axis] > source[:, 1 - axis],
        (source[:, axis] / source[:, 1 - axis] * short_side).floor(),
        short_side,
    )
    offset = params["crop_offset"][:, axis]
    places = torch.arange(crop_size, device=sizes.device) + offset[:, None]
    at = ((places + 0.5) * (source[:, axis] / scaled)[:, None] - 0.5).clamp_(min=0)
    at -= params["box_offset"][:, axis, None]
    before, last = at.floor().long(), sizes[:, axis, None] - 1
    weight = (at - before).float()
    return Taps(before.clamp(min=0).minimum(last), (before + 1).minimum(last), weight)


def resample(frames: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """uint8 (B, T, H, W, C) at rows x columns: float32 (B, C, T, S, S) on the scale of the bytes.

    First whole rows of bytes, then places within them: what the crop leaves out is not computed.
    """
    clips, length, height, width, channels = frames.shape
    size = rows.weight.shape[1]
    lines = frames.reshape(-1, width * channels)
    starts = torch.arange(0, len(lines), height, device=frames.device).view(clips, length, 1)
    planes = _planes(columns, channels)
    out = torch.empty(clips, channels, length, size, size, device=frames.device)
    for clip, time in _parts(frames, size * width * channels):
        upper, lower = (
            lines.index_select(0, (starts[clip, time] + index[clip, None]).flatten())
            .view(*starts[clip, time].shape[:2], size, width * channels)
            .float()
            for index in (rows.before, rows.after)
        )
        mixed = upper.lerp_(lower, rows.weight[clip, None, :, None])
        before, after, weight = (part[clip, None, None] for part in planes)
        shape = (*mixed.shape[:3], channels * size)
        left, right = (mixed.gather(3, index.expand(shape)) for index in (before, after))
        pixels = left.lerp_(right, weight).view(*mixed.shape[:3], channels, size)
        out[clip, :, time] = pixels.permute(0, 3, 1, 2, 4)
    return out


def _planes(columns: Taps, channels: int) -> Taps:
    """Places (B, C S) in a line of bytes, one channel after the other, from pixels (B, S)."""
    channel = torch.arange(channels, device=columns.before.device)[:, None]
    before, after = ((x[:, None, :] * channels + channel).flatten(1) for x in columns[:2])
    return Taps(before, after, columns.weight.repeat(1, channels))


def _parts(frames: Tensor, values_per_frame: int) -> list[tuple[slice, slice]]:
    """Stretches of clips and time whose values stay in a processor's cache; elsewhere one part."""
    clips, length = frames.shape[:2]
    if frames.device.type != "cpu":
        return [(slice(clips), slice(length))]
    in_cache = max(1, CACHED_VALUES // values_per_frame)
    clips_at_once = max(1, in_cache // length)
    return [
        (slice(clip, clip + clips_at_once), slice(time, time + in_cache))
        for clip in range(0, clips, clips_at_once)
        for time in range(0, length, in_cache)
    ]


def jitter(
    clips: Tensor,
    order: Tensor,
    factors: Tensor,
    *,
    how: ColorJitter = "released",
    gray: GrayWeights = "bgr",
) -> Tensor:
    """Brightness, contrast and saturation of (B, 3, T, H, W) float; may work in place.

    order: (B, 3) int64, 0 brightness, 1 contrast, 2 saturation, the first applied first; factors:
        (B, 3), a of the k-th applied. Each is a x + (1 - a) other; other is 0, the mean of the
        gray clip, the gray clip. Nothing is clamped.

    "per_frame": gray is the weighted sum of the channels, its mean is over a frame.
    "released": the released code takes frames for channels. Gray is the weighted sum of the first
        three frames, for each channel, shown in these and 0 in all others; its mean is over the
        whole clip. So saturation only scales the frames after the third.
    gray: weights .299, .587, .114 of R, G, B, or "bgr" as released, of B, G, R (of the third,
        second and first frame).

    Raises ValueError for fewer than three frames under "released".
    """
    operations, by = (x.T.reshape(3, -1, 1, 1, 1, 1) for x in (order, factors))
    weights = GRAY_WEIGHTS[gray]
    if how == "released":
        return _jitter_released(clips, operations, by, weights)
    for operation, factor in zip(operations, by, strict=True):
        mixed = _weighted_sum(clips, 1, weights)
        other, _ = _other(operation, mixed, mixed.mean((1, 3, 4), keepdim=True))
        clips = other.lerp(clips, factor)
    return clips


def _jitter_released(
    clips: Tensor, operations: Tensor, factors: Tensor, weights: tuple[float, ...]
) -> Tensor:
    """What is done to all frames but three is a scale per clip and a shift per channel."""
    length = clips.shape[2]
    if length < len(weights):
        raise ValueError(
            f"clips have {length} frames, expected at least 3: color_jitter 'released' mixes the "
            "first three; take 'per_frame'"
        )
    first, rest = clips[:, :, :3], clips[:, :, 3:]
    scale, shift = factors.new_ones(1), factors.new_zeros(1)
    for operation, factor in zip(operations, factors, strict=True):
        mixed = _weighted_sum(first, 2, weights)
        mean = mixed.mean((2, 3, 4), keepdim=True) * (3 / length)
        other, flat = _other(operation, mixed, mean)
        first = other.lerp(first, factor)
        scale, shift = factor * scale, flat.lerp(shift, factor)
    clips[:, :, :3] = first
    rest.mul_(scale).add_(shift)
    return clips


def _weighted_sum(x: Tensor, axis: int, weights: tuple[float, ...]) -> Tensor:
    """Over the first three places of an axis, which stays with length 1."""
    parts = (x.narrow(axis, place, 1) * weight for place, weight in enumerate(weights))
    return sum(parts, start=x.new_zeros(()))


def _other(operation: Tensor, gray: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """What each clip is blended with, and how much of it is the same everywhere."""
    flat = mean.where(operation == CONTRAST, 0.0)
    return gray.where(operation == SATURATION, flat), flat
