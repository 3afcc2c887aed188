"""From the clips of `training_data` to what the networks are trained on, on the device.

Nothing is drawn here: each clip comes with its draws. B clips, T frames, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ssvideo_core.samples import Batch

from brave.augmentations import change_look, resize
from brave.flow import displacements, flip_flow
from brave.log_mel import log_mel
from brave.view_sampling import KERNEL_SIZES
from brave.views import ViewSpec

Params = Mapping[str, Any]


def batch_inputs(
    batch: Batch,
    specs: Sequence[ViewSpec],
    *,
    audio_rate_hz: int,
    num_bins: int = 80,
    fft_step: int = 160,
) -> dict[str, Array]:
    """The inputs of `model.BraVe` by name of the view.

    specs: the narrow view, then the broad ones, as those of `batch`, which comes from
    `training_data.TrainingRecords`. Pictures as `augment_view` returns them; sound as
    [B, frames, num_bins] float32 (`log_mel.log_mel`).

    Runs on the local default device. Pixels have a few different sizes, and a program is compiled
    for each, so keep this outside of the training step's.
    """
    inputs = {}
    for spec, view in zip(specs, batch.views, strict=True):
        if spec.modality == "sound":
            options = {"rate_hz": audio_rate_hz, "num_bins": num_bins, "fft_step": fft_step}
            inputs[spec.name] = _spectrograms(_present(view.sound), **options)
        else:
            inputs[spec.name] = augment_view(_present(view.frames), view.params, spec=spec)
    return inputs


@partial(jax.jit, static_argnames=("spec",))
def augment_view(frames: Array, params: Params, *, spec: ViewSpec) -> Array:
    """The clips of one view as its network sees them.

    frames: [B, T, H, W, 3] uint8, each crop in the top left corner. params: [B, ...] of
    `view_sampling.resize_plan` and `picture_params`. Returns [B, T, S, S, 3] float32, in [0, 1] for
    the narrow view; random convolutions of broad views leave that range. Flow: [B, T, S, S, 2] in
    [-1, 1].

    Clip after clip (`jax.lax.map`): a clip fills the device, and what was not drawn is not
    computed. Under `vmap` all branches and sizes would be, with one convolution a clip (see
    benchmarks/device_augmentations.py).
    """
    clips: Array = jax.lax.map(lambda one: augment_clip(*one, spec=spec), (frames, params))
    return clips


def augment_clip(clip: Array, params: Params, *, spec: ViewSpec) -> Array:
    """One clip of `augment_view`: [T, H, W, 3] uint8 to [T, S, S, 3 or 2] float32."""
    if spec.modality == "flow":
        return _flow_clip(clip, params)
    return _rgb_clip(clip, params, size=spec.image_size)


def blur_radius(size: int) -> int:
    """Pixels to each side that the blur of S x S clips reaches: a tenth of S across."""
    return size // 10 // 2


def blur(clip: Array, sigma: Array | float, *, radius: int) -> Array:
    """Gaussian blur over 2 · radius + 1 pixels, [T, H, W, C]; outside is 0, so edges darken."""
    if not radius:
        return clip
    places = np.arange(-radius, radius + 1, dtype=np.float32)
    weights = jnp.exp(-(places**2) / (2 * jnp.square(sigma)))
    weights = weights / weights.sum()
    return _along(_along(clip, weights, 2), weights, 1)


def random_convolution(clip: Array, kernel: Array) -> Array:
    """Convolve [T, H, W, 3] with [k, k, 3, 3] (rows, columns, in, out), zeros outside, k odd.

    The result is neither normalised nor clipped, as released.
    """
    result: Array = jax.lax.conv_general_dilated(
        clip,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    return result


def _rgb_clip(clip: Array, params: Params, *, size: int) -> Array:
    x = resize(clip, dict(params)) * np.float32(1 / 255)
    x = blur(x, params["blur_sigma"], radius=blur_radius(size))
    x = change_look(x, dict(params))
    return _sized_convolution(x, params) if "kernel" in params else x


def _sized_convolution(clip: Array, params: Params) -> Array:
    """Random convolution with the part of the padded kernel that was drawn."""
    largest = max(KERNEL_SIZES)

    def of_size(size: int) -> Any:
        middle = slice((largest - size) // 2, (largest + size) // 2)
        return lambda clip, kernel: random_convolution(clip, kernel[middle, middle])

    index = jnp.searchsorted(np.array(KERNEL_SIZES), params["kernel_size"])
    result: Array = jax.lax.switch(
        index, [of_size(size) for size in KERNEL_SIZES], clip, params["kernel"]
    )
    return result


def _flow_clip(clip: Array, params: Params) -> Array:
    x = displacements(resize(clip, dict(params))[..., :2]) * params["flow_scale"]
    x = jax.lax.cond(params["flip"], flip_flow, lambda x: x, x)
    return jnp.clip(x, -1.0, 1.0)


def _along(clip: Array, weights: Array, axis: int) -> Array:
    """Correlate one axis with [2r + 1] weights: a sum of shifted clips, which becomes one loop."""
    radius, length = len(weights) // 2, clip.shape[axis]
    margins = [(radius, radius) if one == axis else (0, 0) for one in range(clip.ndim)]
    padded = jnp.pad(clip, margins)
    parts = [
        jax.lax.slice_in_dim(padded, shift, shift + length, axis=axis) * weights[shift]
        for shift in range(len(weights))
    ]
    return sum(parts[1:], parts[0])


@partial(jax.jit, static_argnames=("rate_hz", "num_bins", "fft_step"))
def _spectrograms(wave: Array, *, rate_hz: int, num_bins: int, fft_step: int) -> Array:
    return log_mel(wave, rate_hz=rate_hz, num_bins=num_bins, fft_step=fft_step)


def _present(part: Any) -> Any:
    assert part is not None, "the views of a batch are those it was made for"
    return part
