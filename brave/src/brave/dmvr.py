"""DMVR's default processing of videos: which frames, which pixels, which sound features.

BraVe's own pipeline is another one (`view_sampling`); only the format of records is DMVR's. These
are the steps that other programs take on the same records (`dmvr_reading` puts them together).
T frames, H rows, W columns, C colours or displacements, N samples of sound; NumPy.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brave.images import Frames
from brave.mel import LOWER_HZ, UPPER_HZ, hann_window, mel_matrix
from brave.sampling import spread_starts

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


def looped(offset: int, length: int, *, num_frames: int, stride: int) -> Indices:
    """num_frames places from `offset` on, `stride` apart; behind the last the first comes again."""
    return (offset + stride * np.arange(num_frames)) % length


def middle_offset(length: int, *, num_frames: int, stride: int) -> int:
    """Where the clip in the middle begins, 0 in short sequences; it counts num_frames · stride."""
    return max(0, (length - num_frames * stride) // 2)


def spread_offsets(length: int, count: int, *, num_frames: int, stride: int) -> list[int]:
    """Where `count` clips begin that are spread evenly, truncated from float32."""
    return spread_starts(max(0, length - num_frames * stride), count)


def num_random_offsets(length: int, *, num_frames: int, stride: int) -> int:
    """A training clip begins at 0 to this - 1, each equally likely."""
    return max(length - (num_frames - 1) * stride, 1)


def synced_offset(proportion: float, length: int) -> int:
    """Where a second modality begins: a share of its own length, halves to the even neighbour."""
    return int(np.rint(np.float32(proportion) * np.float32(length)))


def crop_or_pad(frames: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The middle of [T, H, W, C]; zeros around it where the picture is smaller."""
    found = frames.shape[1:3]
    top, left = (max(f - w, 0) // 2 for f, w in zip(found, (height, width), strict=True))
    cut = frames[:, top : top + height, left : left + width]
    margins = [(0, 0)]
    for side, wanted in zip(cut.shape[1:3], (height, width), strict=True):
        margins.append(((wanted - side) // 2, wanted - side - (wanted - side) // 2))
    return np.pad(cut, [*margins, (0, 0)])


def synced_crop(
    frames: Frames, height: int, width: int, *, proportions: tuple[float, ...]
) -> Frames:
    """The part of [T, H, W, C] that begins at shares of its shape; only H and W are cut.

    proportions: of all four axes. A part that would leave the picture is moved back into it, which
    DMVR does not do.
    """
    _, full_height, full_width, _ = frames.shape
    y = min(synced_offset(proportions[1], full_height), full_height - height)
    x = min(synced_offset(proportions[2], full_width), full_width - width)
    return frames[:, y : y + height, x : x + width]


def resample(wave: Floats, rate_in: int, rate_out: int) -> Floats:
    """[N] at another rate, clipped to [-1, 1]: the low part of the spectrum, or zeros above it."""
    length = int(len(wave) * rate_out / rate_in)
    spectrum = np.fft.rfft(wave.astype(np.float64))
    if length > len(wave) and len(wave) % 2 == 0:
        spectrum[-1] /= 2  # it stood for two frequencies of the longer spectrum
    changed = np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(wave))
    return np.clip(changed, -1.0, 1.0).astype(np.float32)


def spectrogram(
    wave: Floats,
    *,
    kind: Literal["spectrogram", "logmf", "mfcc"] = "logmf",
    rate_hz: int = 48_000,
    frame_length: int = 2048,
    frame_step: int = 1024,
    fft_length: int | None = None,
    num_bins: int = 80,
    num_mfcc: int = 13,
    lower_hz: float = LOWER_HZ,
    upper_hz: float = UPPER_HZ,
    log_offset: float = 1e-6,
    preemphasis: float | None = None,
    normalize: bool = False,
) -> Floats:
    """Features of sound, [..., N] to [..., ceil(N / frame_step), bins].

    kind: "spectrogram" the first num_bins magnitudes; "logmf" ln(mel + log_offset); "mfcc" its
    first num_mfcc cosine coefficients. fft_length: frame_length unless given. normalize: divide by
    the peak, before preemphasis, x[t] - preemphasis · x[t - 1] with the first sample as it is.
    """
    x = wave.astype(np.float64)
    if normalize:
        x = x / (np.abs(x).max(axis=-1, keepdims=True) + 1e-8)
    if preemphasis is not None:
        x = np.concatenate([x[..., :1], x[..., 1:] - preemphasis * x[..., :-1]], axis=-1)
    size = fft_length or frame_length
    magnitudes = np.abs(np.fft.rfft(_framed(x, frame_length, frame_step), size))
    if kind == "spectrogram":
        return np.asarray(magnitudes[..., :num_bins], np.float32)
    mel = magnitudes @ mel_matrix(num_bins, size // 2 + 1, rate_hz, lower_hz, upper_hz)
    features = np.log(mel + log_offset)
    if kind == "mfcc":
        features = features @ _cosines(num_bins, num_mfcc)
    return np.asarray(features, np.float32)


def _framed(wave: NDArray[np.float64], length: int, step: int) -> NDArray[np.float64]:
    """Windowed frames [..., ceil(N / step), length], zeros behind the end."""
    count = -(-wave.shape[-1] // step)
    behind = max((count - 1) * step + length - wave.shape[-1], 0)
    padded = np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, behind)])
    places = step * np.arange(count)[:, None] + np.arange(length)
    return np.asarray(padded[..., places] * hann_window(length))


def _cosines(num_bins: int, count: int) -> NDArray[np.float64]:
    """[num_bins, count] of the second cosine transform, as TensorFlow scales it."""
    place, order = np.arange(num_bins)[:, None] + 0.5, np.arange(count)
    return np.asarray(2 * np.cos(np.pi * place * order / num_bins) / np.sqrt(2 * num_bins))
