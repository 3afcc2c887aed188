from __future__ import annotations

import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gdt_stica.sampling import GDTSampler
from ssvideo_core.errors import ConfigError
from ssvideo_core.randomness import generator
from ssvideo_core.views import VideoInfo, View

_spec = importlib.util.spec_from_file_location("drawn", Path(__file__).with_name("drawn.py"))
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)

INFO = drawn.video_of(25)
MASKS = (2, 1, 3, 6)


def draw(seed: int = 0, info: VideoInfo = INFO, **options: Any) -> list[View]:
    options = {"copies": (0, 1, 2, 3), "num_filters": 40, "spec_augment": MASKS, **options}
    return GDTSampler(**options)(info, generator(seed, "views"))


@pytest.mark.parametrize("copies", [(0,), (1,), (0, 1), (0, 2), (2, 3), (0, 1, 2, 3)])
def test_a_copy_does_not_depend_on_which_others_are_needed(copies: tuple[int, ...]) -> None:
    every, some = draw(), draw(copies=copies)
    assert len(some) == len(copies)
    for copy, view in zip(copies, some, strict=True):
        drawn.assert_equal_pictures(view, every[copy])
    sounding = {copy // 2: every[copy // 2 * 2] for copy in copies}
    for shift, whole in sounding.items():
        mine = [view for c, view in zip(copies, some, strict=True) if c // 2 == shift]
        assert [view.sound for view in mine] == [whole.sound] + [None] * (len(mine) - 1)
        for name in ("volume", "frequency_masks", "time_masks"):
            np.testing.assert_array_equal(mine[0].params[name], whole.params[name])


def test_a_reversal_names_the_frames_backwards_and_looks_otherwise() -> None:
    v1, r1, v2, r2 = draw()
    assert v1.frames.tolist() == r1.frames.tolist()[::-1]
    assert v2.frames.tolist() == r2.frames.tolist()[::-1]
    assert v1.frames.tolist() != v2.frames.tolist()
    factors = [tuple(view.params["jitter_factors"]) for view in (v1, r1, v2, r2)]
    assert len(set(factors)) == 4


def test_the_same_seed_gives_the_same_after_pickling() -> None:
    sampler = GDTSampler(copies=(0, 2), num_filters=40)
    again = pickle.loads(pickle.dumps(sampler))
    for a, b in zip(
        sampler(INFO, generator(5, "views")), again(INFO, generator(5, "views")), strict=True
    ):
        drawn.assert_equal_pictures(a, b)
        assert a.sound == b.sound


def test_params_can_be_stacked() -> None:
    views = [view for seed in range(5) for view in draw(seed, copies=(0, 2))]
    stacked = {name: drawn.values(views, name) for name in views[0].params}
    assert {name: (a.shape[1:], a.dtype.str[1:]) for name, a in stacked.items()} == {
        "short_side": ((), "i8"),
        "crop_offset": ((2,), "i8"),
        "jitter_order": ((3,), "i8"),
        "jitter_factors": ((3,), "f4"),
        "source_size": ((2,), "i8"),
        "box_offset": ((2,), "i8"),
        "flip": ((), "b1"),
        "volume": ((), "f8"),
        "frequency_masks": ((2, 2), "i8"),
        "time_masks": ((1, 2), "i8"),
    }


@pytest.mark.parametrize("random_crop", ["released", "inclusive"])
def test_every_place_is_drawn_but_the_last_one_of_the_released_code(random_crop: str) -> None:
    info = replace(INFO, height=20, width=24)
    options = {"crop_size": 16, "short_side": (20, 20), "random_crop": random_crop}
    offsets = {
        tuple(view.params["crop_offset"].tolist())
        for seed in range(150)
        for view in draw(seed, info, **options)
    }
    last = int(random_crop == "inclusive")
    assert {y for y, _ in offsets} == set(range(4 + last))
    assert {x for _, x in offsets} == set(range(8 + last))


def test_ranges_of_what_is_drawn() -> None:
    views = [view for seed in range(400) for view in draw(seed)]
    values = {name: drawn.values(views, name) for name in views[1].params}
    assert set(values["short_side"].tolist()) == set(range(128, 161))
    assert {tuple(order) for order in values["jitter_order"]} == {
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)
    }  # fmt: skip
    assert 0.6 <= values["jitter_factors"].min() < 0.61
    assert 1.39 < values["jitter_factors"].max() <= 1.4
    assert 0.45 < values["flip"].mean() < 0.55
    sounding = [view for view in views if view.sound]
    volumes = drawn.values(sounding, "volume")
    assert 0.9 <= volumes.min() < 0.905
    assert 1.095 < volumes.max() <= 1.1
    for name, size, width in (("frequency_masks", 40, 3), ("time_masks", 99, 6)):
        masks = np.concatenate([v.params[name] for v in sounding])
        assert set(masks[:, 1].tolist()) == set(range(width))
        assert masks[:, 0].min() == 0
        assert masks.sum(axis=1).max() == size


def test_time_shifts_reach_both_ends_of_the_video() -> None:
    starts = [view.frames[0] for seed in range(600) for view in draw(seed, copies=(0, 2))]
    ends = [view.frames[-1] for seed in range(600) for view in draw(seed, copies=(0, 2))]
    assert min(starts) == 0
    assert max(ends) == 299


def test_sound_begins_with_the_clip() -> None:
    info = replace(INFO, pts=INFO.pts + 6400, sound_start_s=0.25)
    for seed in range(20):
        for view in draw(seed, info, copies=(0, 2)):
            # 25 frames a second; the picture begins at 0.5 s, the sound ends at 12.25 s
            want = min(0.5 + view.frames[0] / 25, 11.25)
            assert view.sound.start_s == pytest.approx(want, abs=1 / 24000)
            assert (view.sound.num_samples, view.sound.rate_hz) == (24000, 24000)


def test_temporal_jitter_moves_the_sound_only() -> None:
    moves = []
    for seed in range(100):
        for still, moved in zip(
            draw(seed, copies=(0, 2)), draw(seed, copies=(0, 2), temporal_jitter=True), strict=True
        ):
            drawn.assert_equal_pictures(still, moved)
            assert 0 <= moved.sound.start_s <= 11
            moves.append(moved.sound.start_s - still.sound.start_s)
    assert -0.5 <= min(moves) < -0.4
    assert 0.4 < max(moves) <= 0.5


def test_without_volume_jitter_nothing_else_changes() -> None:
    for loud, plain in zip(draw(), draw(volume_jitter=False), strict=True):
        drawn.assert_equal_pictures(
            replace(loud, params={**loud.params, "volume": plain.params.get("volume")}), plain
        )
    assert draw(volume_jitter=False)[0].params["volume"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"pts": None},
        {"duration": None},
        {"header_frames": None},
        {"header_frames": 5000},
        {"num_frames": 40, "pts": INFO.pts[:40], "damage": "it breaks off"},
        {"num_frames": 3, "header_frames": 3, "duration": 1536, "pts": INFO.pts[:3]},
    ],
)
def test_incomplete_facts_give_frames_that_exist(change: dict[str, Any]) -> None:
    info = replace(INFO, **change)
    firsts = set()
    for seed in range(30):
        for view in draw(seed, info, copies=(0, 2)):
            assert view.frames.min() >= 0
            assert view.frames.max() < info.num_frames
            assert (np.diff(view.frames) >= 0).all()
            firsts.add(int(view.frames[0]))
    assert len(firsts) > 5 or info.num_frames < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": ()}, r"copies \(\): expected some of 0, 1, 2, 3, ascending"),
        ({"copies": (1, 0)}, r"copies \(1, 0\)"),
        ({"copies": (0, 4)}, r"copies \(0, 4\)"),
        ({"short_side": (100, 120)}, "short_side 100 to 120: .* from the 112 of the crop on"),
        ({"short_side": (160, 128)}, "short_side 160 to 128"),
        ({"crop_size": 300}, "short_side 256 to 320"),
        ({"random_crop": "all"}, "random_crop 'all': expected released or inclusive"),
        ({"spec_augment": (1, 1, 41, 5)}, "wider than a spectrogram of 40 filters and 99 frames"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GDTSampler(**{"copies": (0,), "num_filters": 40, **options})
