"""Layers whose variables carry the published names: `w`, `b`, `scale`, `offset`, `~/mean_ema`.

Variables are float32. Layers compute in the dtype of what they are given, float32 or bfloat16, and
return it; the statistics of a batch are always computed in float32.

Axes: B clips, T frames, H, W pixels, C channels; channels come last, kernels are (H, W, in, out).
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

Average = dict[str, Array]


def initial_kernel(key: Array, shape: tuple[int, ...]) -> Array:
    """Float32 from a normal of standard deviation 1/√fan_in, cut at two of them.

    shape: the last axis is the output; fan_in is the product of the others.
    """
    return kernel_scale(shape) * jax.random.truncated_normal(key, -2, 2, shape, jnp.float32)


def kernel_scale(shape: tuple[int, ...]) -> float:
    """1/√fan_in."""
    return 1 / math.sqrt(math.prod(shape[:-1]))


class Conv(nn.Module):
    """(B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, channels); square kernel `w`, no bias.

    Padding is TensorFlow's "SAME": an odd total has its larger half at the bottom and right.
    """

    channels: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        w = self.param("w", initial_kernel, shape)
        strides = (self.stride, self.stride)
        return lax.conv_general_dilated(
            x, w.astype(x.dtype), strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class Linear(nn.Module):
    """(B, in) to (B, size): `w` is (in, size), `b` (size,)."""

    size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        w = self.param("w", initial_kernel, (x.shape[-1], self.size))
        b = self.param("b", nn.initializers.zeros, (self.size,))
        return jnp.dot(x, w.astype(x.dtype)) + b.astype(x.dtype)


class BatchNorm(nn.Module):
    """Normalise the last axis of x (..., C); scale and offset are (1, ..., 1, C).

    Training: statistics of the batch, the variance biased, as E[x²] − E[x]². With `axis_name` they
    are means over the devices of that axis, in one collective. The moving averages in
    `state/~/{mean_ema,var_ema}` advance when the collection "state" is mutable.
    Evaluation: the moving averages.

    A moving average is corrected for its start from zero: hidden ← decay · hidden + (1 − decay) ·
    value, counter += 1, average = hidden / (1 − decay^counter). flax.linen.BatchNorm does not
    correct. Before the first step `average` is that of normalised values (0 and 1), where the
    original has 0 and 0, with which an untrained network overflows; no later value depends on it.
    """

    decay: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        offset = self.param("offset", nn.initializers.zeros, shape)
        averages = self.variable("state", "~", _fresh_averages, shape)
        wide = x.astype(jnp.float32)
        if train:
            mean, variance = _statistics(wide, self.axis_name)
            if self.is_mutable_collection("state") and not self.is_initializing():
                before = averages.value
                averages.value = {
                    "mean_ema": _advance(before["mean_ema"], mean, self.decay),
                    "var_ema": _advance(before["var_ema"], variance, self.decay),
                }
        else:
            mean = averages.value["mean_ema"]["average"]
            variance = averages.value["var_ema"]["average"]
        normalised = (wide - mean) * (scale * lax.rsqrt(variance + self.epsilon)) + offset
        return normalised.astype(x.dtype)


def _statistics(x: Array, axis_name: str | None) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    moments = jnp.stack([x.mean(axes, keepdims=True), jnp.square(x).mean(axes, keepdims=True)])
    if axis_name is not None:
        moments = lax.pmean(moments, axis_name)  # type: ignore[no-untyped-call]
    return moments[0], moments[1] - jnp.square(moments[0])


def _fresh_averages(shape: tuple[int, ...]) -> dict[str, Average]:
    def average(start: Array) -> Average:
        counter = jnp.zeros((), jnp.int32)
        return {"hidden": jnp.zeros(shape), "average": start, "counter": counter}

    return {"mean_ema": average(jnp.zeros(shape)), "var_ema": average(jnp.ones(shape))}


def _advance(before: Average, value: Array, decay: float) -> Average:
    counter = before["counter"] + 1
    hidden = decay * before["hidden"] + (1 - decay) * value
    start_share = jnp.power(jnp.float32(decay), counter.astype(jnp.float32))
    return {"hidden": hidden, "average": hidden / (1 - start_share), "counter": counter}


def rematerialised(block: type[nn.Module]) -> type[nn.Module]:
    """The same module, called as block(x, train), that keeps nothing for the backward pass."""
    return nn.remat(block, static_argnums=(2,))


def max_pool(x: Array) -> Array:
    """(B, H, W, C) to (B, ⌈H/2⌉, ⌈W/2⌉, C): 3 × 3 windows, stride 2, "SAME" padding with −∞."""
    pooled: Array = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    return pooled


def temporal_shift(x: Array, *, num_frames: int, fraction: float = 0.125) -> Array:
    """Move channels to neighbouring frames: (B·T, H, W, C), clip by clip, to the same shape.

    With n = ⌊C · fraction⌋ the result of a frame is: the last n channels of the next frame, the
    middle C − 2n of its own, the first n of the previous frame; zeros past the ends of the clip.
    So the last channels come first, and published weights expect that.
    """
    first, middle, last = _shift_groups(x.reshape(-1, num_frames, *x.shape[1:]), fraction)
    still = ((0, 0),) * 3
    after = jnp.pad(last[:, 1:], ((0, 0), (0, 1), *still))
    before = jnp.pad(first[:, :-1], ((0, 0), (1, 0), *still))
    return jnp.concatenate([after, middle, before], axis=-1).reshape(x.shape)


def temporal_shift_time_major(x: Array, *, num_frames: int, fraction: float = 0.125) -> Array:
    """`temporal_shift` of frames in the order (T·B, H, W, C), through bfloat16, as on a TPU.

    No command uses it; networks of the original that were run on TPUs computed this.
    """
    clips = x.astype(jnp.bfloat16).reshape(num_frames, -1, *x.shape[1:]).swapaxes(0, 1)
    shifted = temporal_shift(
        clips.reshape(x.shape), num_frames=num_frames, fraction=fraction
    ).reshape(clips.shape)
    return shifted.swapaxes(0, 1).reshape(x.shape).astype(x.dtype)


def temporal_shift_of_images(x: Array, *, alpha: float = 0.3, fraction: float = 0.125) -> Array:
    """What stands for `temporal_shift` where each of (B, H, W, C) is an image without neighbours.

    Nothing is zero, and both groups that would come from neighbours are multiplied by alpha. No
    command uses it.
    """
    first, middle, last = _shift_groups(x, fraction)
    return jnp.concatenate([alpha * last, middle, alpha * first], axis=-1)


def _shift_groups(x: Array, fraction: float) -> tuple[Array, Array, Array]:
    """The first n channels, those between, and the last n."""
    channels = x.shape[-1]
    n = int(channels * fraction)
    return x[..., :n], x[..., n : channels - n], x[..., channels - n :]
