from __future__ import annotations

import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gdt_stica.clip_looks import random_resized_box
from gdt_stica.clip_sampling import ClipSampler
from gdt_stica.geometry import scaled_size
from ssvideo_core.errors import ConfigError
from ssvideo_core.randomness import generator
from ssvideo_core.views import VideoInfo, View

_spec = importlib.util.spec_from_file_location("drawn", Path(__file__).with_name("drawn.py"))
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)

INFO = drawn.video_of(30)
SOUND = {"num_sec": 1}


def draw(seed: int = 0, info: VideoInfo = INFO, **options: Any) -> list[View]:
    return ClipSampler(**options)(info, generator(seed, "views"))


def many(count: int = 400, info: VideoInfo = INFO, **options: Any) -> list[View]:
    return [view for seed in range(count) for view in draw(seed, info, **options)]


def test_views_share_frames_and_nothing_else() -> None:
    first, second = draw(**SOUND)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.box != second.box
    assert first.sound is not None
    assert second.sound is None
    assert len({tuple(v.params["jitter_factors"]) for v in many(10, color_jitter=True)}) > 10


def test_one_view_is_the_first_of_two() -> None:
    for seed in range(10):
        drawn.assert_equal_views(draw(seed, num_views=1, **SOUND)[0], draw(seed, **SOUND)[0])


def test_the_same_seed_gives_the_same_after_pickling() -> None:
    sampler = ClipSampler(num_sec=2)
    again = pickle.loads(pickle.dumps(sampler))
    pairs = (s(INFO, generator(5, "views")) for s in (sampler, again))
    for a, b in zip(*pairs, strict=True):
        drawn.assert_equal_views(a, b)


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        ("color_jitter", ("jitter_order", "jitter_factors")),
        ("grayscale", ("gray",)),
        ("gaussian", ("blur_sigma",)),
        ("volume_jitter", ("volume",)),
    ],
)
def test_an_option_changes_its_own_draws_only(option: str, changed: tuple[str, ...]) -> None:
    none = {"jitter_factors": 1, "gray": False, "blur_sigma": 0, "volume": 1}
    differed = False
    for seed in range(20):
        pairs = zip(draw(seed, **SOUND), draw(seed, **SOUND, **{option: False}), strict=True)
        for on, off in pairs:
            drawn.assert_equal_views(on, off, but=changed)
            found = {name: off.params[name] for name in changed if name in off.params}
            assert all((found[name] == none[name]).all() for name in found.keys() & none.keys())
            differed |= any((on.params[name] != found[name]).any() for name in found)
    assert differed


@pytest.mark.parametrize("random_resize_crop", [True, False])
def test_params_can_be_stacked(random_resize_crop: bool) -> None:
    views = [draw(seed, random_resize_crop=random_resize_crop, **SOUND)[0] for seed in range(6)]
    stacked = {name: drawn.values(views, name) for name in views[0].params}
    assert {name: (a.shape[1:], a.dtype.str[1:]) for name, a in stacked.items()} == {
        "source_size": ((2,), "i8"),
        "scaled_size": ((2,), "i8"),
        "crop_offset": ((2,), "i8"),
        "box_offset": ((2,), "i8"),
        "jitter_order": ((3,), "i8"),
        "jitter_factors": ((3,), "f4"),
        "flip": ((), "b1"),
        "gray": ((), "b1"),
        "blur_sigma": ((), "f4"),
        "volume": ((), "f8"),
    }


def test_ranges_of_what_is_drawn() -> None:
    views = many(600, **SOUND)
    jittered = (drawn.values(views, "jitter_factors") != 1).any(axis=1)
    sigma = drawn.values(views, "blur_sigma")
    assert 0.77 < jittered.mean() < 0.83
    assert 0.17 < drawn.values(views, "gray").mean() < 0.23
    assert 0.46 < (sigma > 0).mean() < 0.54
    assert 0.45 < drawn.values(views, "flip").mean() < 0.55
    factors = drawn.values(views, "jitter_factors")[jittered]
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert len({tuple(order) for order in drawn.values(views, "jitter_order")[jittered]}) == 6
    assert 0.1 <= sigma[sigma > 0].min() < 0.12
    assert 1.97 < sigma.max() <= 2
    volumes = drawn.values(views[::2], "volume")
    assert 0.9 <= volumes.min() < 0.905
    assert 1.095 < volumes.max() <= 1.1


def test_boxes_have_14_percent_of_the_area_or_more_and_lie_within() -> None:
    boxes = np.array([view.box for view in many(500)])
    y, x, high, wide = boxes.T
    shares = high * wide / (INFO.height * INFO.width)
    ratios = wide / high
    assert 0.135 < shares.min() < 0.15
    assert shares.max() > 0.9
    assert 0.74 < ratios.min() < 0.76
    assert 1.31 < ratios.max() < 1.35
    assert y.min() == x.min() == 0
    assert (y + high).max() == INFO.height
    assert (x + wide).max() == INFO.width
    sizes = drawn.values(many(500), "source_size")
    np.testing.assert_array_equal(sizes, boxes[:, 2:])


class Counted:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.count = rng, 0

    def uniform(self, low: float, high: float, /) -> float:
        self.count += 1
        return self.rng.uniform(low, high)

    def integers(self, stop: int, /) -> int:
        return int(self.rng.integers(stop))


@pytest.mark.parametrize(
    ("height", "width", "want"),
    [(20, 200, (0, 86, 20, 27)), (200, 20, (86, 0, 27, 20)), (30, 40, (0, 0, 30, 40))],
)
def test_the_middle_is_taken_after_ten_tries(
    height: int, width: int, want: tuple[int, ...]
) -> None:
    draws = Counted(np.random.default_rng(0))
    assert random_resized_box(height, width, draws, area_range=(1.5, 2.0)) == want
    assert draws.count == 20


@pytest.mark.parametrize("random_crop", ["released", "inclusive"])
def test_every_place_is_drawn_but_the_last_one_of_the_released_code(random_crop: str) -> None:
    views = many(
        150,
        info=replace(INFO, height=20, width=24),
        random_resize_crop=False,
        crop_size=16,
        short_side=(20, 20),
        random_crop=random_crop,
    )
    y, x = drawn.values(views, "crop_offset").T
    last = int(random_crop == "inclusive")
    assert set(y.tolist()) == set(range(4 + last))
    assert set(x.tolist()) == set(range(8 + last))


def test_the_shorter_side_is_drawn_without_random_resize_crop() -> None:
    sizes = drawn.values(many(400, random_resize_crop=False), "scaled_size")
    assert set(sizes[:, 0].tolist()) == set(range(128, 161))
    assert {scaled_size(INFO.height, INFO.width, y) for y, _ in sizes.tolist()} == {
        (y, x) for y, x in sizes.tolist()
    }


def test_starts_reach_both_ends_of_the_video() -> None:
    frames = np.stack([view.frames for view in many(700, num_views=1)])
    assert frames.min() == 1  # the first frame that begins at the start or later
    assert frames.max() == INFO.num_frames - 1
    assert 125 < frames[:, 0].mean() < 145  # of 0 to 270


def test_sound_begins_with_the_clip_and_moves_alone() -> None:
    info = replace(INFO, pts=INFO.pts + 7680, sound_start_s=0.25)
    moves = []
    for seed in range(60):
        view = draw(seed, info, num_sec=2, num_frames=60)[0]
        # The picture begins at 0.5 s, the sound ends at 10.25 s; the start is a share of a frame.
        want = min(0.5 + view.frames[0] / 30, 8.25)
        assert view.sound.start_s == pytest.approx(want, abs=1 / 29)
        assert (view.sound.num_samples, view.sound.rate_hz) == (48000, 24000)
        moved = draw(seed, info, num_sec=2, num_frames=60, temporal_jitter=True)[0]
        moves.append(moved.sound.start_s - view.sound.start_s)
        drawn.assert_equal_views(replace(moved, sound=None), replace(view, sound=None))
    assert -0.5 <= min(moves) < -0.3
    assert 0.3 < max(moves) <= 0.5


def test_without_seconds_there_is_no_sound() -> None:
    for view in draw():
        assert view.sound is None
        assert "volume" not in view.params


def test_incomplete_facts_give_frames_that_exist() -> None:
    short = {"num_frames": 3, "header_frames": 3, "duration": 1536, "pts": INFO.pts[:3]}
    for change in ({"pts": None}, {"duration": None}, {"header_frames": 5000}, short):
        info = replace(INFO, **change)
        frames = np.stack([view.frames for view in many(30, info=info)])
        assert frames.min() >= 0
        assert frames.max() < info.num_frames


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_views": 0}, "num_views 0: expected 1 or more"),
        ({"random_crop": "all"}, "random_crop 'all': expected one of released, inclusive"),
        ({"crop_size": 5}, "crop_size 5: .* with a blur, which reaches 5 pixels to each side"),
        ({"crop_size": 0, "gaussian": False}, "crop_size 0: expected 1 or more"),
        (
            {"random_resize_crop": False, "short_side": (100, 120)},
            "short_side 100 to 120: .* from the 112 of the crop on",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipSampler(**options)
