"""Sound as the networks hear it: log filter bank energies, in training with what was drawn.

Axes: B batch, N samples, F filters, T frames, M masks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ssvideo_torch.filterbank import log_filter_bank
from torch import Tensor

ENERGY_MEAN, ENERGY_STD = 1.93, 17.89


def spectrograms(
    sound: Tensor,
    params: Mapping[str, Tensor],
    *,
    sample_rate_hz: int,
    num_filters: int,
    z_normalize: bool,
) -> Tensor:
    """Log filter bank energies: float32 (B, N) in [-1, 1] to (B, 1, F, T).

    params: volume (B,), a factor, and frequency_masks and time_masks (B, M, 2), rows (first,
        width) whose filters and frames become 0; each may be absent. Others are ignored.
    z_normalize: (x - 1.93) / 17.89, before the masks. The spectrogram of a reversed clip is this
        one flipped: `x.flip(-1)`.

    Samples are rounded to 16 bits first, as the original's decoder did: networks have seen noise
    below half a step as silence (-36), where unrounded samples would give about 0.
    """
    steps = (sound.double() * 32768).round().clamp(-32768, 32767)
    if "volume" in params:
        steps = steps * params["volume"][:, None]
    energies = log_filter_bank(steps, sample_rate_hz=sample_rate_hz, num_filters=num_filters)
    if z_normalize:
        energies = (energies - ENERGY_MEAN) / ENERGY_STD
    if "frequency_masks" in params:
        energies = masked(energies, params["frequency_masks"], params["time_masks"])
    return energies[:, None]


def masked(energies: Tensor, frequency_masks: Tensor, time_masks: Tensor) -> Tensor:
    """SpecAugment without time warping: (B, F, T) with zeros in the rows and columns named.

    frequency_masks, time_masks: (B, M, 2) int64, rows (first, width); M may be 0.
    """
    rows = _covered(frequency_masks, energies.shape[1])
    columns = _covered(time_masks, energies.shape[2])
    return energies.masked_fill(rows[:, :, None] | columns[:, None, :], 0.0)


def _covered(masks: Tensor, size: int) -> Tensor:
    """(B, size) bool: which places lie under a mask."""
    first, width = masks.unbind(-1)
    places = torch.arange(size, device=masks.device)
    after = places >= first[..., None]
    before = places < (first + width)[..., None]
    return (after & before).any(dim=1)
