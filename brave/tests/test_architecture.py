from __future__ import annotations

import pytest
from brave.architecture import CLIP, Architecture, from_options
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Steps


def test_defaults_are_the_published_network() -> None:
    assert from_options({}) == Architecture(width=1.0, num_spectrogram_bins=80, fft_step=160)
    assert ClipSpec("rgb", Steps(32, 2, 25.0), Pixels(256, 224, 224), "loop") == CLIP


@pytest.mark.parametrize(("width", "size"), [(1, 2048), (2, 4096), (0.25, 512), (1 / 64, 32)])
def test_feature_size(width: float, size: int) -> None:
    assert Architecture(width).feature_size == size


def test_round_trip() -> None:
    architecture = Architecture(width=0.25, num_spectrogram_bins=40, fft_step=320)
    assert from_options(architecture.to_json()) == architecture


def test_whole_width_is_a_number() -> None:
    assert from_options({"width": 1}) == Architecture()
    assert type(Architecture(width=2).width) is float


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 1.0}, r"no architecture option widht; there are: width: 1, 2 \(published\) or"),
        (
            {"fft": 1},
            r"no architecture option fft; there are: .* num_spectrogram_bins, fft_step: 80",
        ),
        ({"fft_step": 0}, r"fft_step=0: expected a whole number from 1"),
        ({"num_spectrogram_bins": 80.0}, r"num_spectrogram_bins=80.0: expected a whole number"),
        ({"fft_step": True}, r"fft_step=True: expected a whole number"),
        ({"width": "small"}, r"width='small': expected a number"),
        ({"width": True}, r"width=True: expected a number"),
        ({"width": 0.01}, r"width=0.01: expected a multiple of 1/64"),
        ({"width": 0.3}, r"width=0.3: expected a multiple of 1/64"),
        ({"width": 0}, r"width=0: expected a multiple of 1/64"),
        ({"width": -1}, r"width=-1: expected a multiple of 1/64"),
        ({"width": float("nan")}, r"width=nan: expected a multiple of 1/64"),
        ({"width": float("inf")}, r"width=inf: expected a multiple of 1/64"),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        from_options(options)
