"""TSM-ResNet-50 V2: a pre-activation ResNet for frames that exchanges channels between them."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from brave.architecture import STEM_CHANNELS, UNIT_BLOCKS, UNIT_CHANNELS
from brave.networks.layers import BatchNorm, Conv, max_pool, rematerialised, temporal_shift

EMBEDDING = "embedding"
UNITS = tuple(f"tsm_resnet_unit_{i}" for i in range(len(UNIT_CHANNELS)))
OUTPUTS = (EMBEDDING, *UNITS)


class Block(nn.Module):
    """(B·T, H, W, in) to (B·T, ⌈H/stride⌉, ⌈W/stride⌉, channels): a bottleneck with a shift.

    The shortcut leaves before the shift; the stride is that of the 3 × 3 convolution.
    first: of its unit, so the shortcut is a convolution.
    """

    channels: int
    num_frames: int
    stride: int = 1
    first: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        middle = self.channels // 4
        residual = self._normalised(x, "batch_norm", train)
        shortcut = x
        if self.first:
            shortcut = Conv(self.channels, 1, self.stride, name="shortcut_conv")(residual)
        residual = temporal_shift(residual, num_frames=self.num_frames)
        residual = Conv(middle, 1, name="conv_0")(residual)
        residual = self._normalised(residual, "batch_norm_1", train)
        residual = Conv(middle, 3, self.stride, name="conv_1")(residual)
        residual = self._normalised(residual, "batch_norm_2", train)
        return shortcut + Conv(self.channels, 1, name="conv_2")(residual)

    def _normalised(self, x: Array, name: str, train: bool) -> Array:
        norm = BatchNorm(axis_name=self.axis_name, name=name)
        return nn.relu(norm(x, train=train))


class Unit(nn.Module):
    """Blocks of one resolution; the first has the stride."""

    channels: int
    num_blocks: int
    num_frames: int
    stride: int
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        make = rematerialised(Block) if self.remat else Block
        for i in range(self.num_blocks):
            block = make(
                self.channels,
                self.num_frames,
                stride=self.stride if i == 0 else 1,
                first=i == 0,
                axis_name=self.axis_name,
                name=f"block_{i}",
            )
            x = block(x, train)
        return x


class TSMResNet(nn.Module):
    """Clips (B, T, H, W, 3), float32 in [0, 1], to (B, 2048 · width) float32; any T, H and W.

    Optical flow has 2 channels: the stem takes what it is given, and so must its weights.
    Variables: collections "params" and "state", under the names that follow `TSMResNetV2/` in the
    published files. Training updates "state" when it is mutable. Frames are averaged over pixels,
    then clips over frames. No normalisation follows the stem.

    width: a multiple of 1/64; 1 and 2 are published. axis_name: of the devices whose batches are
    normalised together (`layers.BatchNorm`). remat: keep only the inputs of blocks for the backward
    pass, which computes the blocks again. dtype: of the layers, float32 or bfloat16.
    """

    width: float = 1.0
    axis_name: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, clips: Array, *, train: bool = False, output: str = EMBEDDING) -> Array:
        """output: one of `OUTPUTS`; a unit's is (B, its channels), averaged over all positions.

        Raises ValueError for another output. Later units are not run.
        """
        if output not in OUTPUTS:
            raise ValueError(f"no output '{output}'; there are {', '.join(OUTPUTS)}")
        num_clips, num_frames = clips.shape[:2]
        x = clips.reshape(-1, *clips.shape[2:]).astype(self.dtype)  # (B·T, H, W, 3)
        x = Conv(int(STEM_CHANNELS * self.width), 7, 2, name="tsm_resnet_stem")(x)
        x = max_pool(x)
        for i, name in enumerate(UNITS):
            unit = Unit(
                int(UNIT_CHANNELS[i] * self.width),
                UNIT_BLOCKS[i],
                num_frames,
                stride=1 if i == 0 else 2,
                axis_name=self.axis_name,
                remat=self.remat,
                name=name,
            )
            x = unit(x, train=train)
            if name == output:
                return _pooled(x, num_clips)
        x = BatchNorm(axis_name=self.axis_name, name="batch_norm")(x, train=train)
        return _pooled(nn.relu(x), num_clips)


def _pooled(x: Array, num_clips: int) -> Array:
    """(B·T, H, W, C) to (B, C): means over pixels, then over frames."""
    frames = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
    return jnp.mean(frames.reshape(num_clips, -1, frames.shape[-1]), axis=1)
