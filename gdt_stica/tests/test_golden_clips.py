"""The original code's values of clips for STiCA and fine-tuning (tests/golden/CASES.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gdt_stica.clip_augmentations import augment_clips, blur_axis, gaussian
from gdt_stica.clip_looks import (
    CROP_TRIES,
    RATIO_RANGE,
    ClipLook,
    Place,
    clip_params,
    cropped_place,
    random_resized_box,
    resized_place,
)
from gdt_stica.geometry import scaled_size, uniform_crop
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.rekey import check_renamed
from ssvideo_torch.loader import TorchView

KINDS = ("clip_augment", "random_resized_crop", "gaussian_blur")
golden = reference_cases("gdt_stica", KINDS)


class TorchDraws:
    """PyTorch's generator, as the original uses it, with its draws counted."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.count = 0

    def uniform(self, low: float, high: float, /) -> float:
        self.count += 1
        return torch.empty(1).uniform_(low, high).item()

    def integers(self, stop: int, /) -> int:
        self.count += 1
        return int(torch.randint(0, stop, (1,)).item())


@golden.kind("random_resized_crop")
def _(case: Case) -> dict[str, Any]:
    assert (case.ratio, case.tries) == (list(RATIO_RANGE), CROP_TRIES)
    boxes, counts = [], []
    for seed, height, width, *areas in case.rows:
        draws = TorchDraws(seed)
        boxes.append(random_resized_box(height, width, draws, area_range=tuple(areas)))
        counts.append(draws.count)
    return {"box": boxes, "num_draws": counts}


@golden.kind("gaussian_blur")
def _(case: Case) -> dict[str, Any]:
    assert case.border == "reflect"
    out = torch.from_numpy(case.x)
    for axis, size, sigma in zip((-2, -1), case.kernel_size, case.sigma, strict=True):
        kernels = gaussian(torch.full((len(out),), sigma), reach=size // 2)
        out = blur_axis(out, kernels, axis)
    return {"out": out.numpy()}


class Replayed:
    """Draws that were made: tries of (area, logarithm of the ratio), then y and x."""

    def __init__(self, tries: list[list[float]], offset: list[int] | None) -> None:
        self.values = iter([*(value for row in tries for value in row), *(offset or [])])

    def uniform(self, low: float, high: float, /) -> float:
        value = next(self.values)
        assert low - 1e-6 <= value <= high + 1e-6
        return value

    def integers(self, stop: int, /) -> int:
        value = int(next(self.values))
        assert 0 <= value < stop
        return value


def place_of(case: Case) -> Place:
    height, width = case.frames.shape[1:3]
    draws = case.draws
    if case.random_resized_crop:
        replayed = Replayed(draws["rrc_tries"], draws["rrc_ij"])
        areas = (case.min_scale, case.max_scale)
        box = random_resized_box(height, width, replayed, area_range=areas)
        return resized_place(box, case.crop_size)
    short_side = round(draws["short_side"])
    offset = draws["crop_yx"]
    if offset is None:
        size = scaled_size(height, width, short_side)
        offset = uniform_crop(*size, case.crop_size, case.spatial_idx)
    return cropped_place(
        height,
        width,
        short_side=short_side,
        crop_offset=tuple(offset),
        crop_size=case.crop_size,
    )


def look_of(draws: dict[str, Any]) -> ClipLook:
    """Gates that were not drawn are closed."""

    def is_open(name: str, threshold: float) -> bool:
        return draws[name] is not None and draws[name] >= threshold

    look = ClipLook(
        flip=draws["flip_u"] is not None and draws["flip_u"] < 0.5,
        gray=is_open("gray_gate_u", 0.8),
        blur_sigma=float(is_open("blur_gate_u", 0.5)),
    )
    if not is_open("jitter_gate_u", 0.2):
        return look
    factors = tuple(1 + offset for offset in draws["jitter_offsets"])
    return look._replace(jitter_order=tuple(draws["jitter_order"]), jitter_factors=factors)


@golden.kind("clip_augment")
def _(case: Case) -> dict[str, Any]:
    place = place_of(case)
    y, x, high, wide = place.box
    view = TorchView(
        frames=torch.from_numpy(case.frames[None, :, y : y + high, x : x + wide].copy()),
        sizes=torch.tensor([[high, wide]]),
        sound=None,
        missing_samples=torch.zeros(1),
        params={
            name: torch.from_numpy(value[None])
            for name, value in clip_params(place, look_of(case.draws)).items()
        },
    )
    clip = augment_clips(view, crop_size=case.crop_size)[0].numpy()
    rows, columns = case.stride
    per_frame = clip.astype(np.float64)
    return {
        "out_shape": clip.shape,
        "out_sub": clip[:, :, ::rows, ::columns],
        "out_stats_per_frame": np.stack([per_frame.mean((2, 3)), per_frame.std((2, 3))]),
    }


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
