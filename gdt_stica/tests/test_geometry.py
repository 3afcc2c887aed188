from __future__ import annotations

import numpy as np
import torch
from gdt_stica.geometry import scaled_size, source_box
from torch.nn import functional


def pixels_that_matter(
    height: int, width: int, scaled: tuple[int, int], y: int, x: int, crop: int
) -> np.ndarray:
    """Which source pixels have a gradient from the crop of the scaled frame: [H, W] bool."""
    frame = torch.zeros(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    larger = functional.interpolate(frame, size=scaled, mode="bilinear", align_corners=False)
    larger[..., y : y + crop, x : x + crop].sum().backward()
    assert frame.grad is not None
    return (frame.grad[0, 0] > 1e-9).numpy()


def test_box_holds_what_interpolation_reads_and_little_more() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = (int(n) for n in rng.integers(20, 70, size=2))
        short_side = int(rng.integers(16, 60))
        scaled = scaled_size(height, width, short_side)
        crop = int(rng.integers(4, short_side + 1))
        offset = (
            int(rng.integers(scaled[0] - crop + 1)),
            int(rng.integers(scaled[1] - crop + 1)),
        )
        y, x, high, wide = source_box(
            height, width, short_side=short_side, crop_offset=offset, crop_size=crop
        )
        used = pixels_that_matter(height, width, scaled, *offset, crop)
        rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
        assert 0 <= y <= rows[0] <= rows[-1] < y + high <= height
        assert 0 <= x <= columns[0] <= columns[-1] < x + wide <= width
        assert rows[0] - y <= 1
        assert y + high - 1 - rows[-1] <= 1
        assert columns[0] - x <= 1
        assert x + wide - 1 - columns[-1] <= 1
