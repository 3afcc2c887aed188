"""The ten clips of three crops that a network is tested on."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gdt_stica.geometry import scaled_size, uniform_crop
from gdt_stica.timing import clip_start
from ssvideo_core.errors import ConfigError
from ssvideo_core.randomness import generator
from ssvideo_core.views import VideoInfo, View

from gdt_stica import eval_views

_spec = importlib.util.spec_from_file_location("drawn", Path(__file__).with_name("drawn.py"))
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)

INFO = drawn.video_of(30)


def views_of(info: VideoInfo = INFO, **options: Any) -> list[View]:
    options = {"crop_size": 112, "num_frames": 30, **options}
    return eval_views.test_views(info, **options)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (200, 200)])
def test_test_views_are_tenths_of_the_free_time_and_three_crops(height: int, width: int) -> None:
    info = replace(INFO, height=height, width=width)
    views = views_of(info)
    assert len(views) == 30
    scaled = scaled_size(height, width, 112)
    for number, view in enumerate(views):
        clip, crop = divmod(number, 3)
        start = clip_start(clip, 10, length=30, num_source_frames=300)
        assert start == 27 * clip
        np.testing.assert_array_equal(view.frames, np.arange(start, start + 30))
        assert tuple(view.params["crop_offset"]) == uniform_crop(*scaled, 112, crop)
        assert tuple(view.params["scaled_size"]) == scaled
        assert not view.params["flip"]
        assert not view.params["gray"]
        assert view.params["blur_sigma"] == 0
        assert (view.params["jitter_factors"] == 1).all()
    edges = [(view.box[0], view.box[1]) for view in views[:3]]
    assert edges[0] == (0, 0)
    last = views[2].box
    assert (last[0] + last[2], last[1] + last[3]) == (height, width)


def test_one_crop_is_the_middle_one() -> None:
    for one, three in zip(views_of(temporal=4, spatial=1), views_of(temporal=4)[1::3], strict=True):
        drawn.assert_equal_views(one, three)


def test_released_test_views_are_drawn() -> None:
    rngs = [generator(seed, "test") for seed in range(20)]
    views = [view for rng in rngs for view in views_of(mode="released", rng=rng)]
    sizes = drawn.values(views, "scaled_size")
    assert set(sizes[:, 0].tolist()) == set(range(128, 161))
    for number, view in enumerate(views):
        size = view.params["scaled_size"].tolist()
        assert tuple(view.params["crop_offset"]) == uniform_crop(*size, 112, number % 3)
    assert 0.75 < (drawn.values(views, "jitter_factors") != 1).any(axis=1).mean() < 0.85
    assert not drawn.values(views, "flip").any()
    plain = views_of(mode="released", rng=generator(0, "test"), color_jitter=False)
    assert (drawn.values(plain, "jitter_factors") == 1).all()
    np.testing.assert_array_equal(drawn.values(plain, "scaled_size"), sizes[:30])
    for view, fixed in zip(views, views_of() * 20, strict=True):
        np.testing.assert_array_equal(view.frames, fixed.frames)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "random"}, "mode 'random': expected one of deterministic, released"),
        ({"mode": "released"}, "released test views are drawn: expected a generator"),
        (
            {"mode": "released", "rng": generator(0, "test"), "crop_size": 300},
            "crop_size 300: expected at most 256 for released views",
        ),
        ({"spatial": 2}, "2 crops of a clip: expected one of 1, 3"),
        ({"temporal": 0}, "0 clips of a video: expected 1 or more"),
    ],
)
def test_wrong_test_views(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        views_of(**options)
