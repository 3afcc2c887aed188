"""Clips to features: which colours there are, and how much changes from frame to frame.

Axes: B clips, T frames, S pixels a side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.views import ClipSpec, Pixels, Spread
from ssvideo_core.weights import fingerprint

COLOURS, CHANGES = 64, 16  # 4 levels of each of red, green and blue; steps of 16 grey values


class Histograms:
    """An encoder without anything to learn: the baseline a trained network has to beat."""

    def __init__(self, clip: ClipSpec) -> None:
        self.clip = clip
        self.feature_size = COLOURS + CHANGES
        self.fingerprint = fingerprint({"bins": np.array([COLOURS, CHANGES])})

    def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        """uint8 [B, T, S, S, 3] to float32 [B, 80]: two histograms, each with sum 1.

        Raises ValueError for another dtype or shape. Clips of one frame have no change: zeros.
        """
        if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
            raise ValueError(f"expected uint8 [B, T, S, S, 3], found {clips.dtype} {clips.shape}")
        levels = clips // 64
        colours = levels[..., 0] * 16 + levels[..., 1] * 4 + levels[..., 2]
        changes = np.abs(np.diff(clips.astype(np.int16), axis=1)) // 16
        rows = [
            np.concatenate([_shares(colour, COLOURS), _shares(change, CHANGES)])
            for colour, change in zip(colours, changes, strict=True)
        ]
        return np.array(rows, np.float32).reshape(len(clips), self.feature_size)


def _shares(values: NDArray[Any], bins: int) -> NDArray[np.float64]:
    return np.bincount(values.ravel(), minlength=bins) / max(values.size, 1)


def load_encoder(
    weights: str, *, modality: str = "rgb", clip: ClipSpec | None = None, **options: Any
) -> Histograms:
    """weights: "none", or "random", which asks every method for its untrained state.

    Raises WeightsError for any other, ConfigError for what this encoder does not have.
    """
    if weights not in ("none", "random"):
        raise WeightsError(f"sixth_method has no weights '{weights}'; say --weights none")
    output = options.get("output", "embedding")
    if modality != "rgb" or output != "embedding" or options.get("architecture"):
        raise ConfigError("sixth_method has one encoder: rgb, output 'embedding', no architecture")
    return Histograms(clip or ClipSpec("rgb", Spread(8, 2.0), Pixels(64, 64, 64), "repeat_last"))
