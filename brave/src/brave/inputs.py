"""From clips and sound, as encoders are given them, to what their networks see.

Axes: B clips, T frames, S pixels a side, N samples of sound.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ssvideo_core.views import ClipSpec, Samples

from brave.architecture import Architecture
from brave.flow import displacements
from brave.log_mel import log_mel


def expected_input(clip: ClipSpec) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Dtype and shape of a clip: uint8 (T, S, S, 3) of pictures and flow, float32 (N,) of sound."""
    if isinstance(clip.time, Samples):
        return np.dtype(np.float32), (clip.time.num_samples,)
    assert clip.pixels is not None, "a ClipSpec of pictures has pixels"
    return np.dtype(np.uint8), (clip.time.num_frames, clip.pixels.size, clip.pixels.size, 3)


def network_input(batch: Array, clip: ClipSpec, architecture: Architecture) -> Array:
    """What the network of the clip's modality sees of a batch of `expected_input`, float32.

    rgb: [B, T, S, S, 3] in [0, 1]. flow: [B, T, S, S, 2], see `flow_input`. sound: a log-mel
    spectrogram [B, frames, bins] (`log_mel.log_mel`).
    """
    if isinstance(clip.time, Samples):
        bins, step = architecture.num_spectrogram_bins, architecture.fft_step
        made: Array = _spectrograms(batch, rate_hz=clip.time.rate_hz, num_bins=bins, fft_step=step)
    elif clip.modality == "flow":
        assert clip.pixels is not None, "a ClipSpec of pictures has pixels"
        made = flow_input(batch, np.float32(clip.pixels.size / clip.pixels.crop))
    else:
        made = unit_range(batch)
    return made


@jax.jit
def unit_range(pictures: Array) -> Array:
    """uint8 to float32 in [0, 1]."""
    scaled: Array = pictures.astype(jnp.float32) * jnp.float32(1 / 255)
    return scaled


@jax.jit
def flow_input(pictures: Array, scale: Any) -> Array:
    """Pictures of flow [..., 3] uint8 as `formats.flow_frames` codes them, like CoCLR, to [..., 2].

    Blue is the horizontal, green the vertical displacement, which is the order of the result; DMVR,
    from whose records networks are trained, has them in red and green. Both mean -20 to 20 pixels
    by 0 to 255. Values are displacements / 20 pixels times `scale`, the factor of the resize, cut
    to [-1, 1] as in training.
    """
    flow: Array = jnp.clip(displacements(pictures[..., :0:-1]) * scale, -1.0, 1.0)
    return flow


@partial(jax.jit, static_argnames=("rate_hz", "num_bins", "fft_step"))
def _spectrograms(wave: Array, *, rate_hz: int, num_bins: int, fft_step: int) -> Array:
    return log_mel(wave, rate_hz=rate_hz, num_bins=num_bins, fft_step=fft_step)
