from __future__ import annotations

import colorsys
from dataclasses import replace

import jax
import numpy as np
import pytest
from brave.augmentations import augment, resize_grid, stack
from brave.images import resize_bilinear
from brave.sampling import Augmentation, draw_augmentation
from numpy.typing import NDArray

from brave import augmentations

NOTHING = Augmentation(
    flip=False, colour=False, brightness=0.1, saturation=1.3, contrast=0.7, hue=0.15, grey=False
)
SIZES = [(20, 30), (16, 9), (24, 31)]
S = 13


@pytest.fixture(scope="module")
def clips() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (2, *size, 3), dtype=np.uint8) for size in SIZES]


def padded(clips: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    batch = np.full((len(clips), 2, 24, 32, 3), 77, np.uint8)
    for clip, target in zip(clips, batch, strict=True):
        target[:, : clip.shape[1], : clip.shape[2]] = clip
    return batch


def run(clips: list[NDArray[np.uint8]], draws: list[Augmentation]) -> NDArray[np.float32]:
    return np.asarray(augment(padded(clips), resize_grid(SIZES, S), stack(draws)))


def hsv(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([colorsys.rgb_to_hsv(*v) for v in values.reshape(-1, 3).astype(float)])


def rgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([colorsys.hsv_to_rgb(*v) for v in values])


def test_resizing_on_the_device_is_that_on_the_processor(clips: list[NDArray[np.uint8]]) -> None:
    got = run(clips, [NOTHING] * 3)
    assert got.dtype == np.float32
    for clip, one in zip(clips, got, strict=True):
        np.testing.assert_allclose(one, resize_bilinear(clip, S, S) / 255, atol=1e-6)


def test_each_clip_has_its_own_draws(clips: list[NDArray[np.uint8]]) -> None:
    plain = run(clips, [NOTHING] * 3)
    flipped, coloured, grey = run(
        clips,
        [replace(NOTHING, flip=True), replace(NOTHING, colour=True), replace(NOTHING, grey=True)],
    )
    np.testing.assert_array_equal(flipped, plain[0][:, :, ::-1])
    draw = {name: values[0] for name, values in stack([NOTHING]).items()}
    expected = augmentations.change_colours(plain[1], draw)
    np.testing.assert_allclose(coloured, expected, atol=1e-5)
    assert coloured.min() >= 0 and coloured.max() <= 1
    weighted = plain[2] @ np.array([0.2989, 0.5870, 0.1140])
    np.testing.assert_allclose(grey, np.repeat(weighted[..., None], 3, -1), atol=1e-6)


@pytest.mark.parametrize("factor", [0.6, 1.4, 0.0])
def test_saturation(factor: float) -> None:
    values = np.random.default_rng(0).random((50, 3), np.float32)
    expected = hsv(values)
    expected[:, 1] = np.clip(expected[:, 1] * factor, 0, 1)
    got = augmentations.change_saturation(values, factor)
    np.testing.assert_allclose(got, rgb(expected), atol=1e-6)


@pytest.mark.parametrize("turn", [-0.2, 0.2, 0.5])
def test_hue(turn: float) -> None:
    values = np.random.default_rng(1).random((50, 3), np.float32)
    expected = hsv(values)
    expected[:, 0] = (expected[:, 0] + turn) % 1
    np.testing.assert_allclose(augmentations.change_hue(values, turn), rgb(expected), atol=1e-6)


def test_grey_and_black_pixels_stay() -> None:
    values = np.array([[0.5, 0.5, 0.5], [0, 0, 0], [1, 1, 1]], np.float32)
    np.testing.assert_array_equal(augmentations.change_saturation(values, 1.4), values)
    np.testing.assert_array_equal(augmentations.change_hue(values, 0.3), values)


def test_a_pixel_without_light_becomes_its_largest_colour() -> None:
    values = np.array([[-0.1, -0.2, -0.3]], np.float32)
    np.testing.assert_allclose(augmentations.change_saturation(values, 1.0), [[-0.1] * 3])


def test_contrast_is_about_the_mean_of_each_frame_and_colour() -> None:
    clip = np.random.default_rng(2).random((2, 4, 5, 3), np.float32)
    got = np.asarray(augmentations.change_contrast(clip, 0.7))
    np.testing.assert_allclose(got.mean((1, 2)), clip.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(got.std((1, 2)), 0.7 * clip.std((1, 2)), rtol=1e-5)


def test_a_clip_does_not_depend_on_its_batch(clips: list[NDArray[np.uint8]]) -> None:
    rng = np.random.default_rng(3)
    draws = [draw_augmentation(rng) for _ in clips]
    together = run(clips, draws)
    batch = padded(clips)
    for i, draw in enumerate(draws):
        alone = augment(batch[i : i + 1], resize_grid(SIZES[i : i + 1], S), stack([draw]))
        np.testing.assert_allclose(alone[0], together[i], atol=2e-6)


def test_nothing_is_drawn_on_the_device() -> None:
    jaxpr = str(
        jax.make_jaxpr(augment)(
            np.zeros((1, 1, 8, 8, 3), np.uint8), resize_grid([(8, 8)], 4), stack([NOTHING])
        )
    )
    assert "random" not in jaxpr and "threefry" not in jaxpr
