"""Scaling of clips with texts, against FFmpeg's own filter."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from gdt_stica.text_clips import text_clips

ROUNDING = 0.6  # of the filter's whole numbers, and of its weights of 14 bits


def picture(seed: int, side: int) -> np.ndarray:
    """[side, side] uint8, smooth enough that no sum leaves the range of bytes on the way."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(70, 186, (side // 2 + 1, side // 2 + 1))
    return np.kron(coarse, np.ones((2, 2)))[:side, :side].astype(np.uint8)


def filtered(frame: np.ndarray, size: int) -> np.ndarray:
    graph = av.filter.Graph()
    side = frame.shape[0]
    source = graph.add_buffer(width=side, height=side, format="gray", time_base="1/1")
    scale = graph.add("scale", f"{size}:{size}:flags=bicubic+accurate_rnd")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(sink)
    graph.configure()
    graph.push(av.VideoFrame.from_ndarray(frame, format="gray"))
    return graph.pull().to_ndarray()


def gray(frame: np.ndarray, side: int) -> torch.Tensor:
    """(1, side, side, 3) uint8, the frame in its corner and bytes of 255 around it."""
    filled = np.full((1, side, side, 3), 255, np.uint8)
    filled[0, : len(frame), : len(frame)] = frame[..., None]
    return torch.from_numpy(filled)


@pytest.mark.parametrize(
    ("side", "size"), [(64, 24), (90, 24), (200, 112), (50, 49), (24, 24), (24, 40)]
)
def test_as_the_filter_scales(side: int, size: int) -> None:
    frame = picture(side, side)
    found = text_clips(
        gray(frame, side)[None], torch.tensor([[side, side]]), torch.tensor([1]), size=size
    )
    assert found.shape == (1, 3, 1, size, size)
    for channel in found[0, :, 0]:
        assert np.abs(channel.numpy() * 255 - filtered(frame, size)).max() < ROUNDING


def test_what_fills_up_a_batch_is_not_seen() -> None:
    """Clips of different sizes in one batch are as each alone."""
    sides = (30, 64)
    clips = torch.stack([gray(picture(side, side), 64) for side in sides])
    sizes = torch.tensor([[side, side] for side in sides])
    found = text_clips(clips, sizes, torch.tensor([1, 1]), size=24)
    for side, clip in zip(sides, found, strict=True):
        alone = text_clips(
            gray(picture(side, side), side)[None],
            torch.tensor([[side, side]]),
            torch.tensor([1]),
            size=24,
        )
        torch.testing.assert_close(clip, alone[0], rtol=0, atol=1e-6)


def test_channels_frames_and_the_end() -> None:
    """Each frame by itself, range [0, 1], zeros from num_shown on."""
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(0, 256, (2, 5, 20, 20, 3), dtype=np.uint8))
    sizes, shown = torch.full((2, 2), 20), torch.tensor([5, 2])
    found = text_clips(frames, sizes, shown, size=20)
    wanted = frames.permute(0, 4, 1, 2, 3).float() / 255  # a scale of 1 changes nothing
    wanted[1, :, 2:] = 0
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    smaller = text_clips(frames, sizes, shown, size=9)
    assert smaller.min() >= 0 and smaller.max() <= 1
    backwards = text_clips(frames[:1].flip(1), sizes[:1], shown[:1], size=9)
    torch.testing.assert_close(backwards.flip(2), smaller[:1])
