from __future__ import annotations

import numpy as np
import pytest
import torch
from gdt_stica.architecture import from_options
from gdt_stica.inputs import sound_input
from gdt_stica.sampling import GDTSampler, sound_params
from gdt_stica.spectrograms import masked, spectrograms
from ssvideo_torch.filterbank import log_filter_bank
from torch import Tensor

EMPTY = np.zeros((0, 2), np.int64)
OPTIONS = {"sample_rate_hz": 24000, "num_filters": 40, "z_normalize": True}


def stack(*params) -> dict[str, Tensor]:
    return {n: torch.from_numpy(np.stack([p[n] for p in params])) for n in params[0]}


def noise(clips: int, samples: int = 6000) -> Tensor:
    x = 0.1 * np.random.default_rng(0).standard_normal((clips, samples))
    return torch.from_numpy(x.astype(np.float32))


@pytest.mark.parametrize("z_normalize", [True, False])
def test_a_batch_equals_plain_clips(z_normalize: bool) -> None:
    sound = noise(3)
    volumes, rows, columns = (1.1, 0.9, 1.0), ([3, 2], [0, 0], [38, 2]), ([0, 5], [9, 4], [20, 1])
    params = [
        sound_params(v, np.array([r]), np.array([c]))
        for v, r, c in zip(volumes, rows, columns, strict=True)
    ]
    got = spectrograms(sound, stack(*params), **{**OPTIONS, "z_normalize": z_normalize})
    assert got.dtype == torch.float32
    for clip, x, volume, row, column in zip(got, sound, volumes, rows, columns, strict=True):
        steps = volume * np.round(x.double().numpy() * 32768)
        want = log_filter_bank(torch.from_numpy(steps)[None], sample_rate_hz=24000, num_filters=40)
        want = ((want[0].double() - 1.93) / 17.89 if z_normalize else want[0]).numpy()
        want[row[0] : row[0] + row[1]] = 0
        want[:, column[0] : column[0] + column[1]] = 0
        np.testing.assert_allclose(clip[0].numpy(), want, rtol=1e-5, atol=1e-6)


def test_without_draws_it_is_what_encoders_hear() -> None:
    sound = noise(2)
    architecture = from_options({"aud_spec_type": 1, "z_normalize": True})
    plain = stack(*[sound_params(1.0, EMPTY, EMPTY)] * 2)
    got = spectrograms(sound, plain, **OPTIONS)
    want = sound_input(sound, architecture, sample_rate_hz=24000)
    np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_samples_are_those_of_a_16_bit_file_before_the_volume_changes() -> None:
    steps = np.array([[-40000, -32768, -0.4, 0.4, 2.6, 32767, 40000] * 100])
    stored = np.clip(np.round(steps), -32768, 32767)
    params = stack(sound_params(0.95, EMPTY, EMPTY))
    got, want = (
        spectrograms(torch.from_numpy(x / 32768).float(), params, **OPTIONS)
        for x in (steps, stored)
    )
    np.testing.assert_array_equal(got.numpy(), want.numpy())
    quiet = torch.full((1, 6000), 0.4 / 32768)
    silence = spectrograms(quiet, params, **{**OPTIONS, "z_normalize": False})
    np.testing.assert_allclose(silence.numpy(), np.log(2.220446049250313e-16), rtol=1e-6)


def test_masks_of_each_clip_are_its_own() -> None:
    frequency = torch.tensor([[[0, 2], [5, 1]], [[3, 0], [4, 2]]])
    got = masked(torch.ones(2, 6, 4), frequency, torch.tensor([[[1, 1]], [[0, 0]]]))
    want = np.ones((2, 6, 4))
    want[0, [0, 1, 5]] = 0
    want[0, :, 1] = 0
    want[1, 4:] = 0
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize(("rate", "seconds"), [(24000, 1), (24000, 2), (22050, 1), (48000, 3)])
def test_the_sampler_knows_the_size(rate: int, seconds: int) -> None:
    sampler = GDTSampler(copies=(0,), num_filters=40, num_sec=seconds, sound_rate_hz=rate)
    sound = torch.zeros(1, rate * seconds)
    got = spectrograms(sound, {}, sample_rate_hz=rate, num_filters=40, z_normalize=False)
    assert got.shape == (1, 1, *sampler.spectrogram_size)
