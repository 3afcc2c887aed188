"""The views of a video that a fine-tuned network is tested on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import VideoInfo, View

from gdt_stica.choices import check_choice
from gdt_stica.clip_looks import ClipLook, clip_params, cropped_place, draw_jitter
from gdt_stica.geometry import scaled_size, uniform_crop
from gdt_stica.sampling import clip_frames, clip_span, short_side_range
from gdt_stica.timing import clip_start

TestMode = Literal["deterministic", "released"]


def test_views(
    info: VideoInfo,
    *,
    temporal: int = 10,
    spatial: int = 3,
    crop_size: int = 128,
    num_frames: int = 32,
    target_fps: float = 30,
    sample_rate: int = 1,
    mode: TestMode = "deterministic",
    color_jitter: bool = True,
    rng: np.random.Generator | None = None,
) -> list[View]:
    """The temporal x spatial views that a fine-tuned network's scores are averaged over.

    Clip i of `temporal` starts at i / temporal of the free time, so the last share is never used.
    Of each clip, `spatial` crops follow each other: 3 at the start, in the middle and at the end of
    the longer side, 1 in the middle. Params as `ClipSampler`'s, without sound.

    "deterministic": the shorter side is scaled to crop_size, nothing is drawn. "released": for
    every view it is drawn as in training (128 to 160 for crops of 112 and 128, else 256 to 320),
    and with color_jitter the colours of 8 views in 10 are changed; needs rng.
    Raises ConfigError for other numbers of crops, an unknown mode, a missing rng and a crop that is
    larger than the shorter side may be.
    """
    check_choice(f"mode '{mode}'", mode, ("deterministic", "released"))
    check_choice(f"{spatial} crops of a clip", spatial, (1, 3))
    if temporal < 1:
        raise ConfigError(f"{temporal} clips of a video: expected 1 or more")
    if mode == "released" and rng is None:
        raise ConfigError("released test views are drawn: expected a generator")
    sides = short_side_range(crop_size) if mode == "released" else (crop_size, crop_size)
    if crop_size > sides[0]:
        raise ConfigError(f"crop_size {crop_size}: expected at most {sides[0]} for released views")
    length, stored = clip_span(
        info, num_frames=num_frames, target_fps=target_fps, sample_rate=sample_rate
    )
    views = []
    for index in range(temporal):
        start = clip_start(index, temporal, length=length, num_source_frames=stored)
        frames, _ = clip_frames(info, start, length=length, num_frames=num_frames)
        for crop in (0, 1, 2) if spatial == 3 else (1,):
            short_side, look = crop_size, ClipLook()
            if mode == "released" and rng is not None:
                short_side = round(rng.uniform(*sides))
                look = draw_jitter(rng, used=color_jitter)
            size = scaled_size(info.height, info.width, short_side)
            place = cropped_place(
                info.height,
                info.width,
                short_side=short_side,
                crop_offset=uniform_crop(*size, crop_size, crop),
                crop_size=crop_size,
            )
            views.append(View(frames, box=place.box, params=clip_params(place, look)))
    return views
