"""The choices that make one backbone, and what the narrow one sees, without a framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Steps

STEM_CHANNELS = 64
UNIT_CHANNELS = (256, 512, 1024, 2048)
UNIT_BLOCKS = (3, 4, 6, 3)
SOUND_OPTIONS = ("num_spectrogram_bins", "fft_step")

# The input of the paper's evaluation: every second frame of 25 a second.
CLIP = ClipSpec("rgb", Steps(32, 2, 25.0), Pixels(256, 224, 224), "loop")


@dataclass(frozen=True)
class Architecture:
    """Options of a backbone.

    width: multiplies the channels of every layer. 1 and 2 are published, of sound 1; 0.25 starts
        with 16 channels instead of 64; any multiple of 1/64.
    num_spectrogram_bins, fft_step: of what a backbone of sound sees (`log_mel.log_mel`); others do
        not use them.

    Raises ConfigError for another width, and for bins and steps that are not whole numbers from 1.
    """

    width: float = 1.0
    num_spectrogram_bins: int = 80
    fft_step: int = 160

    def __post_init__(self) -> None:
        if type(self.width) not in (int, float):
            raise ConfigError(f"architecture option width={self.width!r}: expected a number")
        feature_size(self.width)
        object.__setattr__(self, "width", float(self.width))
        for name in SOUND_OPTIONS:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"architecture option {name}={value!r}: expected a whole number from 1"
                )

    @property
    def feature_size(self) -> int:
        """Channels of the last unit, the size of the embedding."""
        return feature_size(self.width)

    def to_json(self) -> dict[str, Any]:
        """All options; `from_options` reads them."""
        return asdict(self)


def feature_size(width: float) -> int:
    """Channels of the last unit of a network, video or audio.

    Raises ConfigError when some layer would not have a whole number of channels.
    """
    channels = STEM_CHANNELS * width
    if not (math.isfinite(channels) and channels >= 1 and channels == int(channels)):
        raise ConfigError(
            f"width={width}: expected a multiple of 1/64, so that every layer has a whole "
            "number of channels; 1 and 2 are published"
        )
    return int(UNIT_CHANNELS[-1] * width)


def from_options(options: Mapping[str, Any]) -> Architecture:
    """Raises ConfigError for a name or value that is none, listing those that are."""
    unknown = sorted(options.keys() - {field.name for field in fields(Architecture)})
    if unknown:
        raise ConfigError(f"no architecture option {', '.join(unknown)}; there are: {choices()}")
    return Architecture(**options)


def choices() -> str:
    """Every option with its values, for messages."""
    return (
        "width: 1, 2 (published) or another multiple of 1/64; "
        "num_spectrogram_bins, fft_step: 80, 160 (published) or other whole numbers"
    )
