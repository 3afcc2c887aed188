"""ResNet-50 V2 of log-mel spectrograms: a pre-activation ResNet of one picture.

What Haiku's constructors made lies under "~" in the published names, and so it does here.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from brave.architecture import STEM_CHANNELS, UNIT_BLOCKS, UNIT_CHANNELS
from brave.networks.layers import BatchNorm, Conv, max_pool, rematerialised


class BlockConvs(nn.Module):
    """The convolutions of a block; the stride is that of the 3 × 3 one and of the shortcut."""

    channels: int
    stride: int
    first: bool

    def setup(self) -> None:
        if self.first:
            self.shortcut_conv = Conv(self.channels, 1, self.stride)
        self.conv_0 = Conv(self.channels // 4, 1)
        self.conv_1 = Conv(self.channels // 4, 3, self.stride)
        self.conv_2 = Conv(self.channels, 1)


class Block(nn.Module):
    """(B, H, W, in) to (B, ⌈H/stride⌉, ⌈W/stride⌉, channels): a bottleneck.

    first: of its group, so the shortcut is a convolution.
    """

    channels: int
    stride: int = 1
    first: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        convs = BlockConvs(self.channels, self.stride, self.first, name="~")
        residual = self._normalised(x, "batch_norm", train)
        shortcut = convs.shortcut_conv(residual) if self.first else x
        residual = self._normalised(convs.conv_0(residual), "batch_norm_1", train)
        residual = self._normalised(convs.conv_1(residual), "batch_norm_2", train)
        output: Array = shortcut + convs.conv_2(residual)
        return output

    def _normalised(self, x: Array, name: str, train: bool) -> Array:
        norm = BatchNorm(axis_name=self.axis_name, name=name)
        return nn.relu(norm(x, train=train))


class BlockGroup(nn.Module):
    """Blocks of one resolution; the first has the stride."""

    channels: int
    num_blocks: int
    stride: int
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        make = rematerialised(Block) if self.remat else Block
        for i in range(self.num_blocks):
            stride = self.stride if i == 0 else 1
            block = make(self.channels, stride, i == 0, self.axis_name, name=f"block_{i}")
            x = block(x, train)
        return x


class Trunk(nn.Module):
    """(B, H, W, 1) to (B, ⌈H/32⌉, ⌈W/32⌉, 2048 · width), not yet normalised."""

    width: float
    axis_name: str | None
    remat: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = max_pool(Conv(int(STEM_CHANNELS * self.width), 7, 2, name="initial_conv")(x))
        for i, (channels, num_blocks) in enumerate(zip(UNIT_CHANNELS, UNIT_BLOCKS, strict=True)):
            group = BlockGroup(
                int(channels * self.width),
                num_blocks,
                stride=1 if i == 0 else 2,
                axis_name=self.axis_name,
                remat=self.remat,
                name=f"block_group_{i}",
            )
            x = group(x, train=train)
        return x


class AudioResNet(nn.Module):
    """Spectrograms (B, frames, bins) float32 to (B, 2048 · width) float32; any frames and bins.

    Variables: collections "params" and "state", under the names that follow `res_net_v2/` in the
    published files. Training updates "state" when it is mutable.

    axis_name, width, remat, dtype: as in `tsm_resnet.TSMResNet`; the published width is 1.
    """

    axis_name: str | None = None
    width: float = 1.0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, spectrograms: Array, *, train: bool = False) -> Array:
        x = spectrograms[..., None].astype(self.dtype)
        x = Trunk(self.width, self.axis_name, self.remat, name="~")(x, train=train)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="batch_norm")(x, train=train))
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))
