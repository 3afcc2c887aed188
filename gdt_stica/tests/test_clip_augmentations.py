from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.clip_augmentations import augment_clips, blur_axis, gaussian
from gdt_stica.clip_looks import ClipLook, Place, clip_params, cropped_place, resized_place
from gdt_stica.geometry import scaled_size
from ssvideo_torch.loader import TorchView

from gdt_stica import augmentations


def load(name: str) -> ModuleType:
    """A file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = load("plain_clips")
NoTransfers = load("test_augmentations").NoTransfers

CROP = 16
OPERATIONS = ("brightness", "contrast", "saturation")
SHAPES = [(30, 41), (41, 30), (17, 40), (24, 24), (50, 35), (20, 21)]
GRAYS = [False, True, False, True, False, False]
SIGMAS = [0.0, 0.1, 0.7, 2.0, 0.0, 2.0]


def draw_place(rng: np.random.Generator, height: int, width: int, *, resized: bool) -> Place:
    if resized:
        high, wide = (int(rng.integers(1, side + 1)) for side in (height, width))
        y, x = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        return resized_place((y, x, high, wide), CROP)
    short_side = int(rng.integers(CROP, 32))
    y, x = (int(rng.integers(n - CROP + 1)) for n in scaled_size(height, width, short_side))
    return cropped_place(height, width, short_side=short_side, crop_offset=(y, x), crop_size=CROP)


def draw_look(rng: np.random.Generator, gray: bool, sigma: float) -> ClipLook:
    return ClipLook(
        flip=bool(rng.integers(2)),
        jitter_order=tuple(rng.permutation(3).tolist()),
        jitter_factors=tuple((1 + rng.uniform(-0.4, 0.4, 3)).tolist()),
        gray=gray,
        blur_sigma=sigma,
    )


def plain_draws(place: Place, look: ClipLook, short_side: int | None) -> dict[str, Any]:
    jitter = [
        (OPERATIONS[operation], factor)
        for operation, factor in zip(look.jitter_order, look.jitter_factors, strict=True)
    ]
    draws = {"flip": look.flip, "jitter": jitter, "gray": look.gray, "sigma": look.blur_sigma}
    if short_side is None:
        return {**draws, "box": place.box}
    return {**draws, "short_side": short_side, "crop": place.crop_offset}


def collate(videos: list[np.ndarray], places: list[Place], looks: list[ClipLook]) -> TorchView:
    """Boxes in one batch, filled up with 255 to show that nothing is read there."""
    sizes = np.array([place.box[2:] for place in places])
    batch = np.full((len(videos), len(videos[0]), *sizes.max(axis=0), 3), 255, np.uint8)
    for clip, video, place in zip(batch, videos, places, strict=True):
        y, x, high, wide = place.box
        clip[:, :high, :wide] = video[:, y : y + high, x : x + wide]
    params = [clip_params(*pair) for pair in zip(places, looks, strict=True)]
    return TorchView(
        frames=torch.from_numpy(batch),
        sizes=torch.from_numpy(sizes),
        sound=None,
        missing_samples=torch.zeros(len(videos), dtype=torch.int64),
        params={n: torch.from_numpy(np.stack([p[n] for p in params])) for n in params[0]},
    )


def moved(view: TorchView, device: str) -> TorchView:
    assert view.frames is not None
    params = {name: value.to(device) for name, value in view.params.items()}
    return replace(view, frames=view.frames.to(device), sizes=view.sizes.to(device), params=params)


def example(rng: np.random.Generator, *, resized: bool) -> tuple[list[np.ndarray], Any, Any]:
    videos = [rng.integers(0, 256, (3, *shape, 3), dtype=np.uint8) for shape in SHAPES]
    places = [draw_place(rng, *shape, resized=resized) for shape in SHAPES]
    looks = [draw_look(rng, gray, sigma) for gray, sigma in zip(GRAYS, SIGMAS, strict=True)]
    return videos, places, looks


@pytest.mark.parametrize("cached", [1, 10_000, 10**9])
@pytest.mark.parametrize(
    ("colours", "blur"), [("released", "released"), ("fixed", "released"), ("released", "fixed")]
)
@pytest.mark.parametrize("resized", [True, False])
def test_a_batch_equals_plain_clips(resized, colours, blur, cached, monkeypatch) -> None:
    monkeypatch.setattr(augmentations, "CACHED_VALUES", cached)
    videos, places, looks = example(np.random.default_rng(0), resized=resized)
    view = collate(videos, places, looks)
    assert view.frames is not None
    before = view.frames.clone()
    got = augment_clips(view, crop_size=CROP, colours=colours, blur=blur)
    assert got.dtype == torch.float32
    assert got.shape == (len(videos), 3, 3, CROP, CROP)
    assert torch.equal(view.frames, before)
    for clip, video, place, look in zip(got, videos, places, looks, strict=True):
        short_side = None if resized else min(place.scaled_size)
        want = plain.augment(
            video,
            plain_draws(place, look, short_side),
            crop_size=CROP,
            colours=colours,
            blur=blur,
        )
        np.testing.assert_allclose(clip.numpy(), want, rtol=1e-5, atol=1e-5)


def test_nothing_drawn_is_scaling_and_standardisation() -> None:
    rng = np.random.default_rng(1)
    video = rng.integers(0, 256, (4, CROP, CROP, 3), dtype=np.uint8)
    view = collate([video], [resized_place((0, 0, CROP, CROP), CROP)], [ClipLook()])
    got = augment_clips(view, crop_size=CROP)[0].numpy()
    want = ((video / 255 - 0.45) / 0.225).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_without_blur_the_drawn_sigma_is_ignored() -> None:
    videos, places, looks = example(np.random.default_rng(2), resized=True)
    sharp = [look._replace(blur_sigma=0.0) for look in looks]
    want = augment_clips(collate(videos, places, sharp), crop_size=CROP)
    got = augment_clips(collate(videos, places, looks), crop_size=CROP, blur="none")
    assert torch.equal(got, want)


def test_the_released_blur_is_the_same_for_every_sigma_and_along_rows_only() -> None:
    stripes = np.zeros((1, CROP, CROP, 3), np.uint8)
    stripes[:, ::2] = 200  # rows differ, columns do not
    place = resized_place((0, 0, CROP, CROP), CROP)
    views = [collate([stripes], [place], [ClipLook(blur_sigma=s)]) for s in (0.0, 0.3, 2.0)]
    sharp, *others = (augment_clips(view, crop_size=CROP) for view in views)
    for other in others:
        np.testing.assert_allclose(other, sharp, rtol=1e-5, atol=1e-5)
    wide = [
        augment_clips(replace(v, frames=v.frames.transpose(2, 3).contiguous()), crop_size=CROP)
        for v in views
    ]
    assert torch.equal(wide[1], wide[2])
    assert (wide[1] - wide[0]).abs().min() > 0.5


def test_blur_keeps_constants_and_mixes_no_clips() -> None:
    x = torch.zeros(2, 3, 8, 9)
    x[1] = 1
    for axis in (-1, -2):
        got = blur_axis(x, gaussian(torch.tensor([1.5, 0.4])), axis)
        np.testing.assert_allclose(got, x, rtol=1e-6)


@pytest.mark.parametrize("resized", [True, False])
def test_no_value_is_read_back_from_the_device(resized) -> None:
    """Only a processor looks which clips are blurred."""
    view = collate(*example(np.random.default_rng(3), resized=resized))
    with NoTransfers():
        clips = augment_clips(view, crop_size=CROP, blur="none")
        blurred = blur_axis(clips, gaussian(view.params["blur_sigma"]), -1)
        with pytest.raises(AssertionError, match="item"):
            blurred.sum().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("how", ["released", "fixed"])
@pytest.mark.parametrize("resized", [True, False])
def test_a_gpu_gives_the_same_and_does_not_wait(resized, how) -> None:
    view = collate(*example(np.random.default_rng(4), resized=resized))
    here = augment_clips(view, crop_size=CROP, colours=how, blur=how)
    there = moved(view, "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu = augment_clips(there, crop_size=CROP, colours=how, blur=how)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    np.testing.assert_allclose(on_gpu.cpu().numpy(), here.numpy(), rtol=1e-5, atol=1e-5)
