"""Logarithms of mel filter bank energies: what SeLaVi, GDT and STiCA feed to sound networks.

The originals compute them one clip at a time with python_speech_features 0.6; the numbers here are
the same (core/tests/test_filterbank.py has the rules as loops), for a whole batch on its device.

Axes: B batch, N samples, F filters, T frames.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

LOG_EPSILON = math.log(np.finfo(np.float64).eps)  # what stands for the logarithm of zero
FILTERS_AT_ONCE = 16  # on a processor; the fewer, the fewer bins in which most of them are zero
CACHED_FRAMES = 400  # whose spectra stay in a processor's cache: twice as fast as 3,000 at once


def log_filter_bank(
    sound: Tensor,
    *,
    sample_rate_hz: int,
    num_filters: int,
    nfft: int = 1024,
    frame_s: float = 0.02,
    hop_s: float = 0.01,
    preemphasis: float = 0.97,
    high_hz: float | None = None,
) -> Tensor:
    """Natural logarithm of filter bank energies: (B, N) to (B, F, T) float32.

    sound: any real dtype; published weights expect the scale of 16-bit samples, not [-1, 1].
    frame_s, hop_s: seconds, in samples rounded half up. T = 1 for N up to one frame, else
    1 + ceil((N - frame) / hop); the last frame is filled with zeros. The window is rectangular.
    high_hz: upper end of the filters, half the sampling rate if None.

    Computed in float64: rounding of a loud frequency would drown quiet ones in float32. An energy
    of exactly zero becomes ln(2.2e-16) = -36.04: silence, and filters so narrow that no bin of the
    spectrum lies in them (38 of 257 at 24 kHz); published networks were trained with those rows.
    Raises ValueError for another shape, no samples, or a frame longer than nfft.
    """
    frame, hop = _half_up(frame_s * sample_rate_hz), _half_up(hop_s * sample_rate_hz)
    if sound.ndim != 2 or sound.shape[1] == 0:
        raise ValueError(f"sound is {tuple(sound.shape)}, expected (B, N) with N of at least 1")
    if hop < 1 or not 0 < frame <= nfft:
        raise ValueError(f"frames of {frame} samples every {hop} do not fit nfft {nfft}")
    frames = _frames(_preemphasised(sound.double(), preemphasis), frame, hop)
    bands = _bands_on(
        sound.device, num_filters, nfft=nfft, sample_rate_hz=sample_rate_hz, high_hz=high_hz
    )
    at_once = len(sound) if sound.is_cuda else max(1, CACHED_FRAMES // frames.shape[1])
    logs = torch.cat([_log_energies(part, bands, nfft) for part in torch.split(frames, at_once)])
    return logs.transpose(1, 2)


def _log_energies(frames: Tensor, bands: list[_Band], nfft: int) -> Tensor:
    """(B, T, frame) float64 to (B, T, F) float32."""
    spectrum = torch.fft.rfft(frames, nfft)
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    energies = torch.cat([power[..., band.bins] @ band.weights for band in bands], dim=-1)
    return energies.log_().float().nan_to_num_(nan=math.nan, posinf=math.inf, neginf=LOG_EPSILON)


class _Band(NamedTuple):
    """Neighbouring filters and the bins outside of which they are zero.

    weights: [bins, filters] float64, divided by nfft: power is |spectrum|² / nfft.
    """

    bins: slice
    weights: Tensor


def mel_filters(
    num_filters: int, *, nfft: int, sample_rate_hz: int, high_hz: float | None = None
) -> NDArray[np.float64]:
    """Triangles over the bins of a spectrum: [num_filters, nfft // 2 + 1] float64.

    Corners are equally spaced in mel = 2595 log10(1 + f / 700) from 0 to high_hz (half the sampling
    rate if None) and moved down to whole bins, floor((nfft + 1) f / rate). Filter j rises from 0 at
    corner j to 1 at corner j + 1 and falls to 0 at corner j + 2; rows may be empty.
    Raises ValueError when high_hz is above half the sampling rate.
    """
    high = sample_rate_hz / 2 if high_hz is None else high_hz
    if not 0 < high <= sample_rate_hz / 2:
        raise ValueError(f"high_hz is {high}, expected up to {sample_rate_hz / 2}")
    mels = np.linspace(0.0, 2595 * np.log10(1 + high / 700.0), num_filters + 2)
    hertz = 700 * (10 ** (mels / 2595.0) - 1)
    corners = np.floor((nfft + 1) * hertz / sample_rate_hz)
    filters = np.zeros((num_filters, nfft // 2 + 1))
    for row, (left, centre, right) in enumerate(sliding_window_view(corners, 3)):
        rising, falling = np.arange(left, centre), np.arange(centre, right)
        filters[row, rising.astype(int)] = (rising - left) / (centre - left)
        filters[row, falling.astype(int)] = (right - falling) / (right - centre)
    return filters


@functools.lru_cache(maxsize=8)
def _bands_on(
    device: torch.device, num_filters: int, *, nfft: int, sample_rate_hz: int, high_hz: float | None
) -> list[_Band]:
    filters = mel_filters(num_filters, nfft=nfft, sample_rate_hz=sample_rate_hz, high_hz=high_hz)
    at_once = FILTERS_AT_ONCE if device.type == "cpu" else num_filters
    bands = []
    for start in range(0, num_filters, at_once):
        rows = filters[start : start + at_once]
        used = np.flatnonzero(rows.any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0)
        weights = torch.from_numpy(np.ascontiguousarray(rows[:, bins].T) / nfft)
        bands.append(_Band(bins, weights.to(device)))
    return bands


def _preemphasised(sound: Tensor, amount: float) -> Tensor:
    return torch.cat([sound[:, :1], sound[:, 1:] - amount * sound[:, :-1]], dim=1)


def _frames(sound: Tensor, frame: int, hop: int) -> Tensor:
    """(B, N) to overlapping (B, T, frame), the last one filled with zeros."""
    samples = sound.shape[1]
    count = 1 if samples <= frame else 1 + math.ceil((samples - frame) / hop)
    padded = F.pad(sound, (0, (count - 1) * hop + frame - samples))
    return padded.unfold(1, frame, hop)


def _half_up(samples: float) -> int:
    return math.floor(samples + 0.5)
