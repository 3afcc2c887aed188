from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from brave.architecture import Architecture
from brave.device_augmentations import augment_view
from brave.inputs import expected_input, flow_input, network_input
from brave.log_mel import log_mel
from brave.sampling import Box
from brave.view_sampling import resize_plan
from brave.views import ViewSpec
from ssvideo_core.formats.flow_frames import BOUND, quantise
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps

RNG = np.random.default_rng(3)
SOUND = ClipSpec("sound", Samples(700, 16000), None, "zeros")
FLOW = ClipSpec("flow", Steps(2, 1, 25.0), Pixels(32, 28, 7), "loop")
RGB = ClipSpec("rgb", Steps(2, 1, 25.0), Pixels(16, 16, 8), "loop")


def coclr(levels: np.ndarray) -> np.ndarray:
    """Pictures of quantised flow [..., (x, y)] as `flow_frames.encode_flow` colours them."""
    return np.stack([np.full_like(levels[..., 0], 128), levels[..., 1], levels[..., 0]], axis=-1)


def dmvr(levels: np.ndarray) -> np.ndarray:
    """The same as `video_records` writes them for training."""
    return np.stack([levels[..., 0], levels[..., 1], np.zeros_like(levels[..., 0])], axis=-1)


def test_expected_input() -> None:
    assert expected_input(SOUND) == (np.float32, (700,))
    assert expected_input(FLOW) == (np.uint8, (2, 7, 7, 3))


def test_flow_is_displacements() -> None:
    flow = RNG.uniform(-BOUND, BOUND, (2, 3, 5, 6, 2)).astype(np.float32)
    found = flow_input(coclr(quantise(flow)), np.float32(0.5))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.5 * flow / BOUND, atol=0.5 / 255 + 1e-6)


def test_flow_that_grows_is_cut() -> None:
    flow = np.array([[[[[-8.0, 15.0]]]]], np.float32)
    found = flow_input(coclr(quantise(flow)), np.float32(2))
    np.testing.assert_allclose(np.ravel(found), [-0.8, 1.0], atol=2 / 255)


def test_flow_is_what_training_sees() -> None:
    levels = RNG.integers(0, 256, (1, 2, 7, 7, 2), dtype=np.uint8)
    _, _, grid = resize_plan(Box(0, 0, 7, 7), 7)
    # The clip is a quarter of the picture that flow was found in, as FLOW says.
    params = {**grid, "flip": np.array(False), "flow_scale": np.full(2, 0.25, np.float32)}
    spec = ViewSpec("flow", "flow", 2, 1, 7, "tsm_resnet")
    batched = {name: value[None] for name, value in params.items()}
    want = augment_view(dmvr(levels), batched, spec=spec)
    found = network_input(jnp.asarray(coclr(levels)), FLOW, Architecture())
    assert found.shape == (1, 2, 7, 7, 2)
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-7)


def test_pictures_are_divided() -> None:
    pictures = RNG.integers(0, 256, (2, 2, 8, 8, 3), dtype=np.uint8)
    found = network_input(jnp.asarray(pictures), RGB, Architecture())
    np.testing.assert_allclose(found, pictures / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (5, 80)), ({"num_spectrogram_bins": 12, "fft_step": 100}, (7, 12))],
)
def test_sound_is_log_mel(options: dict[str, int], shape: tuple[int, int]) -> None:
    architecture = Architecture(**options)
    wave = jnp.asarray(RNG.uniform(-1, 1, (3, 700)), jnp.float32)
    found = network_input(wave, SOUND, architecture)
    assert found.shape == (3, *shape)
    bins, step = architecture.num_spectrogram_bins, architecture.fft_step
    want = log_mel(wave, rate_hz=16000, num_bins=bins, fft_step=step)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    other = log_mel(wave, rate_hz=48000, num_bins=bins, fft_step=step)
    assert np.abs(found - other).max() > 1
