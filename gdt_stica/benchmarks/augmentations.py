"""Augmented clips per second: python gdt_stica/benchmarks/augmentations.py [--device cuda]

From 30 decoded frames of 256 x 340 pixels to 112 x 112, for GDT and for STiCA. Plain: each clip by
itself, as the original does in its workers. Ours: cutting the boxes out, collating them, one call
for the batch. Equality is asserted first. Prints CSV; one thread for both, seconds of that thread
on a processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from gdt_stica.augmentations import augment
from gdt_stica.clip_augmentations import augment_clips
from gdt_stica.clip_looks import ClipLook
from gdt_stica.clip_sampling import ClipSampler
from gdt_stica.sampling import GDTSampler, Look
from measuring import median_seconds, start
from plain_augmentations import augment as plain_gdt
from plain_augmentations import augment_stica as plain_stica
from ssvideo_core.testing.benchmarks import publish
from ssvideo_core.views import VideoInfo, View
from ssvideo_torch.loader import TorchView
from torch import Tensor

FRAMES, HEIGHT, WIDTH, CROP = 30, 256, 340, 112
REPEATS = 7
INFO = VideoInfo(
    video_id="benchmark",
    num_frames=300,
    header_frames=300,
    rate=Fraction(30),
    time_base=Fraction(1, 30),
    duration=300,
    pts=np.arange(300),
    height=HEIGHT,
    width=WIDTH,
    sound_rate_hz=24_000,
    sound_start_s=0.0,
    sound_duration_s=10.0,
)


SAMPLERS = {
    "gdt": GDTSampler(copies=(0,), num_filters=40),
    "stica": ClipSampler(num_views=1, crop_size=CROP),
}


def plain_clip(method: str, frames: Tensor, view: View, dtype: torch.dtype) -> Tensor:
    names = (Look if method == "gdt" else ClipLook)._fields
    drawn = {name: view.params[name].tolist() for name in names}
    if method == "gdt":
        return plain_gdt(frames, Look(**drawn), CROP, dtype)
    drawn["jitter_factors"] = tuple(drawn["jitter_factors"])
    return plain_stica(frames, view.box, ClipLook(**drawn), CROP, dtype)


def batch_call(method: str, frames: Tensor, sizes: Tensor, params: dict[str, Tensor]) -> Tensor:
    if method == "gdt":
        return augment(frames, sizes, params, crop_size=CROP)
    return augment_clips(TorchView(frames, sizes, None, sizes[:, 0], params), crop_size=CROP)


def collated(frames: Tensor, views: list[View]) -> tuple[Tensor, Tensor]:
    """The boxes of clips (B, T, H, W, 3), zeros after each, and their sizes."""
    boxes = [view.box for view in views if view.box is not None]
    sizes = torch.tensor([box[2:] for box in boxes])
    high, wide = sizes.amax(dim=0).tolist()
    batch = torch.zeros(len(boxes), frames.shape[1], high, wide, 3, dtype=torch.uint8)
    for clip, whole, (y, x, height, width) in zip(batch, frames, boxes, strict=True):
        clip[:, :height, :width] = whole[:, y : y + height, x : x + width]
    return batch, sizes


def compare(method: str, clips: int, device: str) -> tuple[float, float, float]:
    """Clips per second: plain, ours with collating, ours without."""
    rng = np.random.default_rng(0)
    views = [SAMPLERS[method](INFO, rng)[0] for _ in range(clips)]
    shape = (clips, FRAMES, HEIGHT, WIDTH, 3)
    frames = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    names = views[0].params
    params = {n: torch.from_numpy(np.stack([v.params[n] for v in views])) for n in names}
    ready = [x.to(device) for x in collated(frames, views)]
    drawn = {name: value.to(device) for name, value in params.items()}

    def plain(dtype: torch.dtype = torch.float32) -> Tensor:
        pairs = zip(frames, views, strict=True)
        return torch.stack([plain_clip(method, clip, view, dtype) for clip, view in pairs])

    def ours() -> Tensor:
        batch, sizes = (x.to(device) for x in collated(frames, views))
        return batch_call(method, batch, sizes, drawn)

    def alone() -> Tensor:
        return batch_call(method, ready[0], ready[1], drawn)

    # In float64: where a place lies between two pixels, interpolate rounds to about 1e-5 pixels.
    expected = plain(torch.float64).float()
    torch.testing.assert_close(ours().cpu(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone().cpu(), expected, rtol=1e-5, atol=1e-5)
    return (
        clips / median_seconds(plain, repeats=REPEATS, device="cpu"),
        clips / median_seconds(ours, repeats=REPEATS, device=device),
        clips / median_seconds(alone, repeats=REPEATS, device=device),
    )


def rows(device: str) -> Iterator[list[object]]:
    for method in SAMPLERS:
        for clips in (1, 8, 16):
            plain, ours, alone = compare(method, clips, device)
            speeds = (f"{plain:.0f}", f"{ours:.0f}", f"{ours / plain:.1f}", f"{alone:.0f}")
            yield [method, clips, *speeds]


def main() -> None:
    device, hardware = start(__doc__)
    columns = ("method", "clips", "plain_per_s", "ours_per_s", "ratio", "without_collating_per_s")
    publish(f"augmentations{hardware}", columns, rows(device), packages=("torch", "numpy"))


if __name__ == "__main__":
    main()
