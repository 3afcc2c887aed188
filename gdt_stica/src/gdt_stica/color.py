"""Brightness, contrast, saturation and grayscale of frames, as three numbers a clip.

Each operation blends a picture x with black, with the mean of its gray picture, or with its gray
picture. The gray picture of gray is itself, so whatever is done in whatever order, every frame is

    own x + gray g + mean m,    g the weighted sum of x's channels, m the mean of g over the frame

Axes: B batch, T frames, H, W pixels, C = 3 channels (RGB).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

GrayWeights = Literal["bgr", "rgb"]

CONTRAST, SATURATION = 1, 2  # 0 is brightness, for which there is nothing to blend with
# Of the first, second and third channel. The released code takes RGB for BGR.
GRAY_WEIGHTS: Mapping[GrayWeights, tuple[float, float, float]] = {
    "bgr": (0.114, 0.587, 0.299),
    "rgb": (0.299, 0.587, 0.114),
}


class Mix(NamedTuple):
    """How much of itself, of its gray picture and of the mean of that each frame is: (B,) each."""

    own: Tensor
    gray: Tensor
    mean: Tensor

    @property
    def total(self) -> Tensor:
        """What a frame of ones becomes."""
        return self.own + self.gray + self.mean

    def of(self, clips: slice) -> Mix:
        """The same for some of the clips."""
        return Mix(*(part[clips] for part in self))

    def blended(self, operation: Tensor, factor: Tensor) -> Mix:
        """factor times this and 1 - factor times what the operation blends with; (B,) each."""
        with_mean = self.total.where(operation == CONTRAST, 0.0)
        with_gray = (self.own + self.gray).where(operation == SATURATION, 0.0)
        gray_mean = self.mean.where(operation == SATURATION, 0.0)
        return Mix(
            factor * self.own,
            with_gray.lerp(self.gray, factor),
            (with_mean + gray_mean).lerp(self.mean, factor),
        )


def compose(order: Tensor, factors: Tensor) -> Mix:
    """The operations of every clip as one.

    order: (B, 3) int64, 0 brightness, 1 contrast, 2 saturation, the first applied first; factors:
        (B, 3), a of the k-th applied. Each is a x + (1 - a) other; other is 0, the mean of the
        frame's gray picture, the gray picture. Nothing is clamped.
    """
    nothing = torch.zeros_like(factors[:, 0])
    mix = Mix(torch.ones_like(nothing), nothing, nothing)
    for operation, factor in zip(order.T, factors.T, strict=True):
        mix = mix.blended(operation, factor)
    return mix


def mixed(
    frames: Tensor, mix: Mix, weights: GrayWeights, *, constant: Tensor | None = None
) -> Tensor:
    """own x + gray g + mean m + constant of every frame: (B, 3, T, H, W) float to the same.

    weights: .299, .587, .114 of R, G, B ("rgb"), or as in the released code of B, G, R ("bgr").
    constant: (B,), zeros if None.
    """
    own, gray, mean = (part.view(-1, 1, 1, 1, 1) for part in mix)
    grayed = weighted_sum(frames, 1, GRAY_WEIGHTS[weights])
    flat = mean * grayed.mean((3, 4), keepdim=True)
    if constant is not None:
        flat = flat + constant.view(-1, 1, 1, 1, 1)
    return torch.addcmul(torch.addcmul(flat, grayed, gray), frames, own)


def weighted_sum(x: Tensor, axis: int, weights: tuple[float, ...]) -> Tensor:
    """Over the first three places of an axis, which stays with length 1."""
    first, *rest = (x.narrow(axis, place, 1) for place in range(len(weights)))
    out = first * weights[0]
    for part, weight in zip(rest, weights[1:], strict=True):
        out = out.add_(part, alpha=weight)
    return out
