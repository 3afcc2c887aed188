"""What the networks see: clips and sound on the scales of the pre-training.

Axes: B batch, T frames, S pixels per side, N samples, F filters.
"""

from __future__ import annotations

import torch
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread
from ssvideo_torch.pixels import to_clips
from torch import Tensor

from gdt_stica.architecture import Architecture
from gdt_stica.spectrograms import spectrograms

PIXEL_MEAN, PIXEL_STD = 0.45, 0.225
SOUND_RATE_HZ = 24_000
FRAME_RATE_HZ = 30
STICA_FRAMES = {4: 30, 8: 60, 12: 90, 15: 120}  # tokens to frames of the published settings
FINE_TUNED_FRAMES = 32


def default_clip(architecture: Architecture, modality: str) -> ClipSpec:
    """The input of the pre-training; of the fine-tuning for a fine-tuned network.

    A network with STiCA's transformer takes as long a clip as it has tokens: 30 frames of a second
    for 4, 60 for 8, 90 for 12, 120 for 15, and its sound lasts as long.
    """
    if architecture.has_transformer:
        tokens = architecture.transformer_time_dim
        num_frames = STICA_FRAMES.get(tokens, 8 * tokens)
    else:
        num_frames = FINE_TUNED_FRAMES if architecture.model == "finetune" else 30
    span_s = num_frames / FRAME_RATE_HZ
    if modality == "sound":
        return ClipSpec(
            "sound", Samples(round(span_s * SOUND_RATE_HZ), SOUND_RATE_HZ), None, "zeros"
        )
    size = 128 if architecture.model == "finetune" else 112
    return ClipSpec("rgb", Spread(num_frames, span_s), Pixels(size, size, size), "repeat_last")


def video_input(frames: Tensor, architecture: Architecture, device: torch.device) -> Tensor:
    """uint8 (B, T, S, S, 3) to float32 (B, 3, T, S, S): (pixels / 255 - 0.45) / 0.225.

    Only divided by 255 for networks that were trained with texts, as that training did.
    """
    if architecture.model == "vid_text_gdt":
        return to_clips(frames, device=device)
    return to_clips(frames, mean=PIXEL_MEAN, std=PIXEL_STD, device=device)


def sound_input(sound: Tensor, architecture: Architecture, *, sample_rate_hz: int) -> Tensor:
    """float32 (B, N) in [-1, 1] to log filter bank energies (B, 1, F, frames)."""
    return spectrograms(
        sound,
        {},
        sample_rate_hz=sample_rate_hz,
        num_filters=architecture.num_filters,
        z_normalize=architecture.z_normalize,
    )
