"""Log-mel spectrograms as the sound network sees them, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from brave.mel import LOWER_HZ, UPPER_HZ, hann_window, mel_matrix

FRAME_LENGTH = 320
GAIN = 10_000.0


def log_mel(
    wave: Array,
    *,
    rate_hz: int,
    num_bins: int = 80,
    fft_step: int = 160,
    fft_length: int = FRAME_LENGTH,
    lower_hz: float = LOWER_HZ,
    upper_hz: float = UPPER_HZ,
    gain: float = GAIN,
) -> Array:
    """ln(1 + gain · mel) of the magnitudes of a short-time Fourier transform.

    wave: [..., N] float32, about [-1, 1]. Returns [..., ceil(N / fft_step), num_bins] float32, 0 or
    more. A frame is fft_length samples under a periodic Hann window; behind the end are zeros.

    At 48 kHz and 320 samples 16 of 80 bins are always 0, because FFT bins are 150 Hz apart, further
    than low mel bins; the published networks were trained so. A longer `fft_length` fills them.
    """
    num_samples = wave.shape[-1]
    num_frames = -(-num_samples // fft_step)
    behind = max((num_frames - 1) * fft_step + fft_length - num_samples, 0)
    padded = jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, behind)])
    places = np.arange(num_frames)[:, None] * fft_step + np.arange(fft_length)
    frames = padded[..., places] * hann_window(fft_length).astype(np.float32)
    magnitudes = jnp.abs(jnp.fft.rfft(frames))
    matrix = mel_matrix(num_bins, fft_length // 2 + 1, rate_hz, lower_hz, upper_hz)
    # The GPU's default would round to 10 bits, which the logarithm shows.
    mel = jnp.matmul(magnitudes, matrix.astype(np.float32), precision=jax.lax.Precision.HIGHEST)
    return jnp.log1p(gain * mel)
