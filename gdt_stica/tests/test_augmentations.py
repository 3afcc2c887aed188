from __future__ import annotations

import numpy as np
import pytest
import torch
from gdt_stica.augmentations import augment, jitter
from gdt_stica.geometry import scaled_size, source_box
from gdt_stica.sampling import Look, video_params
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gdt_stica import augmentations

BGR, RGB = (0.114, 0.587, 0.299), (0.299, 0.587, 0.114)


def plain_jitter(clip: np.ndarray, look: Look, how: str, weights=BGR) -> np.ndarray:
    """(3, T, H, W) float64, one operation at a time, with the gray clip written out."""
    for operation, a in zip(look.jitter_order, look.jitter_factors, strict=True):
        gray = np.zeros_like(clip)
        if how == "per_frame":
            gray[:] = sum(w * clip[c] for c, w in enumerate(weights))
        else:
            gray[:, :3] = sum(w * clip[:, t] for t, w in enumerate(weights))[:, None]
        axes = (0, 2, 3) if how == "per_frame" else (1, 2, 3)
        other = [0 * clip, np.broadcast_to(gray.mean(axes, keepdims=True), clip.shape), gray]
        clip = a * clip + (1 - a) * other[operation]
    return clip


def plain_augment(frames: np.ndarray, look: Look, crop: int, how: str) -> np.ndarray:
    """(T, H, W, 3) uint8, in float64: interpolate the whole frames, crop, flip, jitter."""
    clip = torch.from_numpy(frames / 255).permute(3, 0, 1, 2)
    size = scaled_size(*frames.shape[1:3], look.short_side)
    clip = functional.interpolate(clip, size=size, mode="bilinear", align_corners=False)
    y, x = look.crop_offset
    clip = clip[:, :, y : y + crop, x : x + crop]
    clip = clip.flip(-1) if look.flip else clip
    return (plain_jitter(clip.numpy(), look, how) - 0.45) / 0.225


def draw_look(rng: np.random.Generator, height: int, width: int, crop: int) -> Look:
    short_side = int(rng.integers(crop, 40))
    y, x = (int(rng.integers(n - crop + 1)) for n in scaled_size(height, width, short_side))
    order, factors = rng.permutation(3).tolist(), (1 + rng.uniform(-0.4, 0.4, 3)).tolist()
    return Look(short_side, (y, x), bool(rng.integers(2)), tuple(order), tuple(factors))


def collate(
    videos: list[np.ndarray], looks: list[Look], crop: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Boxes in one batch, filled up with 255 to show that nothing is read there."""
    boxes = [
        source_box(
            *video.shape[1:3],
            short_side=look.short_side,
            crop_offset=look.crop_offset,
            crop_size=crop,
        )
        for video, look in zip(videos, looks, strict=True)
    ]
    sizes = np.array([box[2:] for box in boxes])
    batch = np.full((len(videos), len(videos[0]), *sizes.max(axis=0), 3), 255, np.uint8)
    for clip, video, (y, x, h, w) in zip(batch, videos, boxes, strict=True):
        clip[:, :h, :w] = video[:, y : y + h, x : x + w]
    params = [
        video_params(look, source_size=video.shape[1:3], box_offset=box[:2])
        for video, look, box in zip(videos, looks, boxes, strict=True)
    ]
    stacked = {n: torch.from_numpy(np.stack([p[n] for p in params])) for n in params[0]}
    return torch.from_numpy(batch), torch.from_numpy(sizes), stacked


@pytest.mark.parametrize("cached", [1, 5_000, 10**9])
@pytest.mark.parametrize("how", ["released", "per_frame"])
def test_a_batch_equals_plain_clips(how, cached, monkeypatch) -> None:
    monkeypatch.setattr(augmentations, "CACHED_VALUES", cached)
    rng = np.random.default_rng(0)
    crop = 16
    shapes = [(30, 41), (41, 30), (17, 60), (24, 24), (90, 55), (31, 33)]
    videos = [rng.integers(0, 256, (5, *shape, 3), dtype=np.uint8) for shape in shapes]
    looks = [draw_look(rng, *shape, crop) for shape in shapes]
    frames, sizes, params = collate(videos, looks, crop)
    before = frames.clone()
    got = augment(frames, sizes, params, crop_size=crop, color_jitter=how)
    assert got.dtype == torch.float32
    assert got.shape == (len(videos), 3, 5, crop, crop)
    np.testing.assert_array_equal(frames.numpy(), before.numpy())
    for clip, video, look in zip(got, videos, looks, strict=True):
        want = plain_augment(video, look, crop, how)
        np.testing.assert_allclose(clip.numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("gray", "weights"), [("bgr", BGR), ("rgb", RGB)])
@pytest.mark.parametrize("how", ["released", "per_frame"])
def test_jitter_of_clips_with_other_orders(how, gray, weights) -> None:
    rng = np.random.default_rng(1)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    looks = [Look(0, (0, 0), False, o, tuple(rng.uniform(0.6, 1.4, 3))) for o in orders]
    clips = rng.uniform(0, 1, (len(orders), 3, 6, 4, 5))
    order = torch.tensor([look.jitter_order for look in looks])
    factors = torch.tensor([look.jitter_factors for look in looks], dtype=torch.float64)
    got = jitter(torch.from_numpy(clips.copy()), order, factors, how=how, gray=gray).numpy()
    want = [plain_jitter(c, look, how, weights) for c, look in zip(clips, looks, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_three_frames_are_enough_for_the_released_jitter_and_two_are_not() -> None:
    order, factors = torch.tensor([[2, 1, 0]]), torch.tensor([[0.7, 1.2, 0.9]])
    clip = np.random.default_rng(2).uniform(0, 1, (3, 3, 4, 4))
    look = Look(0, (0, 0), False, (2, 1, 0), (0.7, 1.2, 0.9))
    got = jitter(torch.from_numpy(clip[None]).float(), order, factors)[0].numpy()
    np.testing.assert_allclose(got, plain_jitter(clip, look, "released"), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="clips have 2 frames, expected at least 3"):
        jitter(torch.zeros(1, 3, 2, 4, 4), order, factors)


class NoTransfers(TorchFunctionMode):
    """Fails on what makes a device wait: reading a value, or a size that depends on one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        assert name not in {"item", "tolist", "__bool__", "__int__", "__float__", "__index__"}, name
        assert name not in {"nonzero", "cpu", "numpy", "to", "masked_select", "unique"}, name
        return func(*args, **(kwargs or {}))


def test_no_value_is_read_back_from_the_device() -> None:
    rng = np.random.default_rng(3)
    videos = [rng.integers(0, 256, (4, 30, 40, 3), dtype=np.uint8) for _ in range(2)]
    looks = [draw_look(rng, 30, 40, 16) for _ in videos]
    frames, sizes, params = collate(videos, looks, 16)
    with NoTransfers():
        released = augment(frames, sizes, params, crop_size=16)
        augment(frames, sizes, params, crop_size=16, color_jitter="per_frame")
        with pytest.raises(AssertionError, match="item"):
            released.sum().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("how", ["released", "per_frame"])
def test_a_gpu_gives_the_same_and_does_not_wait(how) -> None:
    rng = np.random.default_rng(4)
    videos = [rng.integers(0, 256, (8, 60, 80, 3), dtype=np.uint8) for _ in range(4)]
    looks = [draw_look(rng, 60, 80, 32) for _ in videos]
    frames, sizes, params = collate(videos, looks, 32)
    here = augment(frames, sizes, params, crop_size=32, color_jitter=how)
    frames, sizes = frames.cuda(), sizes.cuda()
    params = {name: value.cuda() for name, value in params.items()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu = augment(frames, sizes, params, crop_size=32, color_jitter=how)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    np.testing.assert_allclose(on_gpu.cpu().numpy(), here.numpy(), rtol=1e-5, atol=1e-5)
