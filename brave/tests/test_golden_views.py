"""The original code's values for the views of training (tests/golden/CASES.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brave.device_augmentations import blur, random_convolution
from brave.log_mel import log_mel
from brave.mel import hann_window, mel_matrix
from brave.sampling import extended_length, frame_numbers, synced_span, window_span
from brave.view_sampling import (
    cut_sound,
    draw_end,
    padded_kernel,
    sound_length,
    sound_start,
    view_window,
)
from brave.views import ViewSpec
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.rekey import check_renamed

KINDS = ("view_sampling", "blur", "random_conv", "log_mel", "mel_matrix", "hann_window")

golden = reference_cases("brave", KINDS)


@golden.kind("view_sampling")
def _(case: Case) -> dict[str, Any]:
    narrow = ViewSpec("narrow", "rgb", case.num_frames_narrow, case.step_narrow, 8, "tsm_resnet")
    broad = ViewSpec("video", "rgb", case.num_frames_broad, case.step_broad, 8, "tsm_resnet")
    sound = ViewSpec("audio", "sound", case.num_frames_broad, case.step_broad, 8, "audio_resnet")
    stored, wave = case.stored_frames, np.arange(1, case.stored_audio + 1, dtype=np.float32)
    first, repeats = sound_start(sound, case.start, stored, case.stored_audio)
    wanted = sound_length(sound, case.video_rate, case.audio_rate)
    cut, missing = cut_sound(wave, first=first, num_samples=wanted, repeats=repeats)
    frames = extended_length(stored, case.start + broad.num_frames * broad.step)
    end = case.start + window_span(narrow.num_frames, narrow.step)
    span = synced_span(case.start, end, frames, frames // stored * case.stored_audio)
    narrow_sound = np.tile(wave, frames // stored)[slice(*span)]
    return {
        "draw_end_index": draw_end(stored, narrow),
        "narrow": frame_numbers(view_window(narrow, case.start), stored),
        "broad": frame_numbers(view_window(broad, case.start), stored),
        "broad_audio": [len(cut), cut[0], cut[len(cut) // 2], cut[-1], missing],
        "narrow_audio": [len(narrow_sound), narrow_sound[0], narrow_sound[-1]],
    }


@golden.kind("blur")
def _(case: Case) -> dict[str, Any]:
    blurred = jax.jit(blur, static_argnames="radius")
    return {"video": blurred(case.video, case.sigma, radius=case.kernel_size // 2)}


@golden.kind("random_conv")
def _(case: Case) -> dict[str, Any]:
    video = jnp.asarray(case.video)
    drawn = random_convolution(video, case.kernel)
    padded = random_convolution(video, padded_kernel(case.kernel))
    np.testing.assert_allclose(padded, drawn, atol=1e-5)
    return {"video": drawn}


@golden.kind("log_mel")
def _(case: Case) -> dict[str, Any]:
    assert case.frame_length == case.fft_length
    features = log_mel(
        jnp.asarray(case.wave),
        rate_hz=case.sample_rate,
        num_bins=case.num_bins,
        fft_step=case.frame_step,
        fft_length=case.fft_length,
        lower_hz=case.lower_hz,
        upper_hz=case.upper_hz,
        gain=case.gain,
    )
    return {"log_mel": features}


@golden.kind("mel_matrix")
def _(case: Case) -> dict[str, Any]:
    sizes = case.num_bins, case.num_spectrogram_bins, case.sample_rate
    return {"matrix": mel_matrix(*sizes, case.lower_hz, case.upper_hz)}


@golden.kind("hann_window")
def _(case: Case) -> dict[str, Any]:
    return {"window": hann_window(case.length)}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
