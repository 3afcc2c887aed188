"""The constants of spectrograms, NumPy float64, made once."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

LOWER_HZ, UPPER_HZ = 80.0, 7600.0


@cache
def hann_window(length: int) -> NDArray[np.float64]:
    """[length], periodic: its next value would be the first again."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


@cache
def mel_matrix(
    num_bins: int,
    num_fft_bins: int,
    rate_hz: int,
    lower_hz: float = LOWER_HZ,
    upper_hz: float = UPPER_HZ,
) -> NDArray[np.float64]:
    """[num_fft_bins, num_bins] weights of magnitudes from 0 Hz to rate_hz / 2.

    Triangles that are linear in mel, of height 1, each from its neighbours' centres, spread evenly
    between the limits. Mel is HTK's; 0 Hz has no weight. As TensorFlow's
    `linear_to_mel_weight_matrix`.
    """
    fft_mel = _mel(np.linspace(0.0, rate_hz / 2, num_fft_bins))[:, None]
    lowest, highest = _mel(np.array([lower_hz, upper_hz])).tolist()
    edges = np.linspace(lowest, highest, num_bins + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (fft_mel - low) / (centre - low)
    falling = (high - fft_mel) / (high - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return np.asarray(weights)


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hz / 700.0))
