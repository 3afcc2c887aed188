from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ssvideo_torch.filterbank import log_filter_bank, mel_filters


def plain_corners(num_filters: int, nfft: int, rate: int) -> list[int]:
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = []
    for k in range(num_filters + 2):
        hertz = 700 * (10 ** (top * k / (num_filters + 1) / 2595) - 1)
        corners.append(math.floor((nfft + 1) * hertz / rate))
    return corners


def plain_filters(num_filters: int, nfft: int, rate: int) -> np.ndarray:
    corners = plain_corners(num_filters, nfft, rate)
    filters = np.zeros((num_filters, nfft // 2 + 1))
    for j in range(num_filters):
        left, centre, right = corners[j : j + 3]
        for i in range(left, centre):
            filters[j, i] = (i - left) / (centre - left)
        for i in range(centre, right):
            filters[j, i] = (right - i) / (right - centre)
    return filters


def plain_log_filter_bank(sound, *, rate, num_filters, nfft, frame, hop, preemphasis=0.97):
    """One clip, one frame, one filter at a time; frame and hop in samples."""
    x = [float(sound[0])]
    for n in range(1, len(sound)):
        x.append(float(sound[n]) - preemphasis * float(sound[n - 1]))
    count = 1
    while (count - 1) * hop + frame < len(x):
        count += 1
    x += [0.0] * ((count - 1) * hop + frame - len(x))
    filters = plain_filters(num_filters, nfft, rate)
    out = np.empty((num_filters, count))
    for t in range(count):
        spectrum = np.fft.rfft(x[t * hop : t * hop + frame], nfft)
        power = (spectrum.real**2 + spectrum.imag**2) / nfft
        for j in range(num_filters):
            energy = float(sum(power * filters[j]))
            out[j, t] = math.log(energy if energy != 0 else 2.220446049250313e-16)
    return out


@pytest.mark.parametrize(
    ("rate", "num_filters", "nfft", "frame_s", "hop_s", "frame", "hop", "samples"),
    [
        (24000, 40, 1024, 0.02, 0.01, 480, 240, 3000),
        (24000, 257, 1024, 0.02, 0.01, 480, 240, 1500),
        (48000, 40, 1024, 0.02, 0.01, 960, 480, 5000),
        (22050, 30, 512, 0.02, 0.01, 441, 221, 2000),  # 220.5 samples round up
        (16000, 26, 512, 0.025, 0.01, 400, 160, 400),
        (16000, 26, 512, 0.025, 0.01, 400, 160, 401),
        (24000, 40, 1024, 0.02, 0.01, 480, 240, 100),
    ],
)
def test_equals_loops(rate, num_filters, nfft, frame_s, hop_s, frame, hop, samples) -> None:
    rng = np.random.default_rng(samples)
    sound = np.round(3000 * rng.standard_normal((2, samples)))
    sound[1, samples // 3 :] = 0
    got = log_filter_bank(
        torch.from_numpy(sound),
        sample_rate_hz=rate,
        num_filters=num_filters,
        nfft=nfft,
        frame_s=frame_s,
        hop_s=hop_s,
    )
    options = {"rate": rate, "num_filters": num_filters, "nfft": nfft, "frame": frame, "hop": hop}
    want = np.stack([plain_log_filter_bank(clip, **options) for clip in sound])
    assert got.dtype == torch.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_filters", [40, 257])
@pytest.mark.parametrize("rate", [24000, 44100])
def test_filters_equal_loops(num_filters: int, rate: int) -> None:
    got = mel_filters(num_filters, nfft=1024, sample_rate_hz=rate)
    np.testing.assert_allclose(got, plain_filters(num_filters, 1024, rate), rtol=1e-12)


@pytest.mark.parametrize(("rate", "empty"), [(24000, 38), (44100, 54)])
def test_empty_filters_stay(rate: int, empty: int) -> None:
    filters = mel_filters(257, nfft=1024, sample_rate_hz=rate)
    assert int((filters.sum(axis=1) == 0).sum()) == empty
    sound = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2000)))
    got = log_filter_bank(sound, sample_rate_hz=rate, num_filters=257)
    rows = filters.sum(axis=1) == 0
    np.testing.assert_array_equal(got[0].numpy()[rows], np.float32(np.log(2.220446049250313e-16)))
    assert (got[0].numpy()[~rows] > -36).all()


@pytest.mark.parametrize(("num_sec", "frames"), [(1, 99), (2, 199), (3, 299)])
def test_number_of_frames(num_sec: int, frames: int) -> None:
    silence = torch.zeros(1, 24000 * num_sec)
    got = log_filter_bank(silence, sample_rate_hz=24000, num_filters=40)
    assert got.shape == (1, 40, frames)
    np.testing.assert_array_equal(got.numpy(), np.float32(-36.04365338911715))


def test_quiet_frequencies_survive_loud_ones() -> None:
    n = np.arange(4800)
    loud = 30000 * np.sin(2 * np.pi * 1500 * n / 24000)
    sound = torch.from_numpy(np.round(loud)).float()[None]
    options = {"rate": 24000, "num_filters": 40, "nfft": 1024, "frame": 480, "hop": 240}
    got = log_filter_bank(sound, sample_rate_hz=24000, num_filters=40)[0].numpy()
    want = plain_log_filter_bank(np.round(loud), **options)
    assert want.max() - want.min() > 10
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_batch_equals_single_clips() -> None:
    sound = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 5000)))
    together = log_filter_bank(sound, sample_rate_hz=24000, num_filters=40)
    alone = [log_filter_bank(s[None], sample_rate_hz=24000, num_filters=40) for s in sound]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=1e-6)


def test_what_is_not_finite_stays_so() -> None:
    sound = torch.ones(2, 600)
    sound[0, 300], sound[1, 300] = math.nan, math.inf
    got = log_filter_bank(sound, sample_rate_hz=24000, num_filters=20)
    assert not got.isfinite().any()


def test_high_end() -> None:
    filters = mel_filters(20, nfft=1024, sample_rate_hz=24000, high_hz=6000.0)
    assert np.flatnonzero(filters.any(axis=0)).max() < 1025 * 6000 / 24000


@pytest.mark.parametrize(
    ("sound", "options", "message"),
    [
        (torch.zeros(5), {}, r"sound is \(5,\), expected \(B, N\)"),
        (torch.zeros(2, 0), {}, r"sound is \(2, 0\)"),
        (torch.zeros(1, 500), {"nfft": 256}, "frames of 480 samples every 240 do not fit nfft 256"),
        (torch.zeros(1, 500), {"hop_s": 0.0}, "every 0"),
        (torch.zeros(1, 500), {"high_hz": 13000.0}, r"high_hz is 13000.0, expected up to 12000.0"),
    ],
)
def test_wrong_input(sound, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        log_filter_bank(sound, **{"sample_rate_hz": 24000, "num_filters": 40, **options})
