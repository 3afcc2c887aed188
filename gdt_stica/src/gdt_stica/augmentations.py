"""The video augmentation of GDT for a whole batch on its device, with the draws of `sampling`.

In order: the shorter side scaled, square crop, flip, colour jitter, standardisation. Deterministic,
without a loop over clips and without a transfer back from the device.

Axes: B batch, T frames, H, W pixels read, S pixels per side of the crop, C = 3 channels (RGB).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gdt_stica.color import (
    CONTRAST,
    GRAY_WEIGHTS,
    SATURATION,
    GrayWeights,
    compose,
    mixed,
    weighted_sum,
)
from gdt_stica.inputs import PIXEL_MEAN, PIXEL_STD

ColorJitter = Literal["released", "per_frame"]

CACHED_VALUES = 1_000_000  # floats that a part of a batch takes on a processor


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
    source = params["source_size"]
    scaled = _scaled_sizes(source, params["short_side"])
    rows, columns = (
        taps(
            source[:, axis],
            scaled[:, axis],
            params["crop_offset"][:, axis],
            params["box_offset"][:, axis],
            sizes[:, axis],
            crop_size,
        )
        for axis in (0, 1)
    )
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


def _scaled_sizes(source: Tensor, short_side: Tensor) -> Tensor:
    """(B, 2), as `geometry.scaled_size`, without reading a value back."""
    other = source.flip(1).double()
    longer = (source / other * short_side[:, None]).floor().long()
    return longer.where(source > source.flip(1), short_side[:, None])


def taps(
    source: Tensor,
    scaled: Tensor,
    crop_offset: Tensor,
    box_offset: Tensor,
    size: Tensor,
    crop_size: int,
) -> Taps:
    """Bilinear, corners not aligned: the places of a crop along one axis, all (B,) int64.

    `source` pixels become `scaled` ones, and the crop begins at `crop_offset` among these. Of the
    source, `size` pixels from `box_offset` on were read.
    """
    places = torch.arange(crop_size, device=size.device) + crop_offset[:, None]
    step = source.double() / scaled
    at = ((places + 0.5) * step[:, None] - 0.5).clamp_(min=0) - box_offset[:, None]
    before, last = at.floor().long(), size[:, None] - 1
    weight = (at - before).float()
    return Taps(before.clamp(min=0).minimum(last), (before + 1).minimum(last), weight)


def resample(frames: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """uint8 (B, T, H, W, C) at rows x columns: float32 (B, C, T, S, S), 0 to 255."""
    clips, length, _, _, channels = frames.shape
    size = rows.weight.shape[1]
    out = torch.empty(clips, channels, length, size, size, device=frames.device)
    for clip, time, pixels in resampled_parts(frames, rows, columns):
        out[clip, :, time] = pixels
    return out


def resampled_parts(
    frames: Tensor, rows: Taps, columns: Taps
) -> Iterator[tuple[slice, slice, Tensor]]:
    """`resample` of some clips and some of their frames at a time: which, and their pixels.

    First whole rows of bytes, then places within them: what the crop leaves out is not computed.
    """
    clips, length, height, width, channels = frames.shape
    size = rows.weight.shape[1]
    lines = frames.reshape(-1, width * channels)
    starts = torch.arange(0, len(lines), height, device=frames.device).view(clips, length, 1)
    planes = _planes(columns, channels)
    for clip, time in _parts(frames, size * width * channels):
        upper, lower = (
            lines.index_select(0, (starts[clip, time] + index[clip, None]).flatten())
            .view(*starts[clip, time].shape[:2], size, width * channels)
            .float()
            for index in (rows.before, rows.after)
        )
        lines_between = upper.lerp_(lower, rows.weight[clip, None, :, None])
        before, after, weight = (part[clip, None, None] for part in planes)
        shape = (*lines_between.shape[:3], channels * size)
        left, right = (lines_between.gather(3, index.expand(shape)) for index in (before, after))
        pixels = left.lerp_(right, weight).view(*shape[:3], channels, size)
        yield clip, time, pixels.permute(0, 3, 1, 2, 4)


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
    if how == "per_frame":
        return mixed(clips, compose(order, factors), gray)
    operations, by = (x.T.reshape(3, -1, 1, 1, 1, 1) for x in (order, factors))
    return _jitter_released(clips, operations, by, GRAY_WEIGHTS[gray])


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
        grayed = weighted_sum(first, 2, weights)
        mean = grayed.mean((2, 3, 4), keepdim=True) * (3 / length)
        other, flat = _other(operation, grayed, mean)
        first = other.lerp(first, factor)
        scale, shift = factor * scale, flat.lerp(shift, factor)
    clips[:, :, :3] = first
    rest.mul_(scale).add_(shift)
    return clips


def _other(operation: Tensor, gray: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """What each clip is blended with, and how much of it is the same everywhere."""
    flat = mean.where(operation == CONTRAST, 0.0)
    return gray.where(operation == SATURATION, flat), flat
