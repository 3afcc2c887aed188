from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from brave.log_mel import log_mel
from brave.mel import mel_matrix

_spec = importlib.util.spec_from_file_location(
    "plain_augmentations", Path(__file__).with_name("plain_augmentations.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

# Of 80 bins at 48 kHz: no frequency of a 320-point transform falls into them.
EMPTY = [0, 3, 4, 5, 6, 9, 10, 11, 14, 15, 18, 19, 22, 25, 28, 31]


@pytest.mark.parametrize(
    ("samples", "rate_hz", "bins", "step", "length"),
    [(900, 16_000, 80, 160, 320), (641, 48_000, 40, 200, 320), (320, 22_050, 10, 100, 256)],
)
def test_each_value_is_a_sum_over_triangles(
    samples: int, rate_hz: int, bins: int, step: int, length: int
) -> None:
    wave = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    got = log_mel(wave, rate_hz=rate_hz, num_bins=bins, fft_step=step, fft_length=length)
    expected = plain.log_mel(wave, rate_hz, bins, step, length)
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "expected"), [((624_000,), (3900, 80)), ((3, 5, 48_000), (3, 5, 300, 80))]
)
def test_shapes(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    made = jax.eval_shape(
        lambda wave: log_mel(wave, rate_hz=48_000), jax.ShapeDtypeStruct(shape, np.float32)
    )
    assert made.shape == expected and made.dtype == np.float32


def test_bins_without_a_frequency() -> None:
    def empty(rate_hz: int, fft_length: int) -> list[int]:
        matrix = mel_matrix(80, fft_length // 2 + 1, rate_hz)
        return np.flatnonzero(~matrix.any(axis=0)).tolist()

    assert empty(48_000, 320) == EMPTY
    assert empty(16_000, 320) == []
    assert empty(48_000, 2048) == []


def test_silence_is_zero() -> None:
    np.testing.assert_array_equal(log_mel(np.zeros(330, np.float32), rate_hz=48_000), 0.0)
