"""What the originals do for each clip: python_speech_features 0.6, written again in NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def log_filter_bank(sound: NDArray[np.int16], rate: int, num_filters: int) -> NDArray[np.float32]:
    """[N] to [num_filters, frames]; the filters are made anew for every clip, as there."""
    frame, hop, nfft = int(0.02 * rate), int(0.01 * rate), 1024
    x = np.append(sound[0], sound[1:] - 0.97 * sound[:-1])
    count = 1 if len(x) <= frame else 1 + math.ceil((len(x) - frame) / hop)
    padded = np.concatenate([x, np.zeros((count - 1) * hop + frame - len(x))])
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    power = np.square(np.absolute(np.fft.rfft(frames, nfft))) / nfft
    energies = power @ make_filters(rate, num_filters, nfft).T
    energies = np.where(energies == 0, np.finfo(float).eps, energies)
    return np.log(energies).T.astype(np.float32)


def make_filters(rate: int, num_filters: int, nfft: int) -> NDArray[np.float64]:
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700.0), num_filters + 2)
    corners = np.floor((nfft + 1) * 700 * (10 ** (mels / 2595.0) - 1) / rate)
    filters = np.zeros([num_filters, nfft // 2 + 1])
    for j in range(num_filters):
        for i in range(int(corners[j]), int(corners[j + 1])):
            filters[j, i] = (i - corners[j]) / (corners[j + 1] - corners[j])
        for i in range(int(corners[j + 1]), int(corners[j + 2])):
            filters[j, i] = (corners[j + 2] - i) / (corners[j + 2] - corners[j + 1])
    return filters
