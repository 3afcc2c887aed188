from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from gdt_stica.clip_sampling import ClipSampler, random_resized_box
from gdt_stica.geometry import scaled_size, uniform_crop
from gdt_stica.timing import clip_start
from ssvideo_core.errors import ConfigError
from ssvideo_core.randomness import generator
from ssvideo_core.views import VideoInfo, View

from gdt_stica import clip_sampling

INFO = VideoInfo(
    video_id="a.mp4",
    num_frames=300,
    header_frames=300,
    rate=Fraction(30),
    time_base=Fraction(1, 15360),
    duration=300 * 512,
    pts=np.arange(300) * 512,
    height=240,
    width=320,
    sound_rate_hz=44100,
    sound_start_s=0.0,
    sound_duration_s=10.0,
)
SOUND = {"num_sec": 1}


def draw(seed: int = 0, info: VideoInfo = INFO, **options: Any) -> list[View]:
    return ClipSampler(**options)(info, generator(seed, "views"))


def values(views: list[View], name: str) -> np.ndarray:
    return np.stack([view.params[name] for view in views])


def many(count: int = 400, info: VideoInfo = INFO, **options: Any) -> list[View]:
    return [view for seed in range(count) for view in draw(seed, info, **options)]


def assert_same(a: View, b: View, *, but: tuple[str, ...] = ()) -> None:
    np.testing.assert_array_equal(a.frames, b.frames)
    assert (a.box, a.sound) == (b.box, b.sound)
    assert a.params.keys() == b.params.keys()
    for name in a.params.keys() - set(but):
        np.testing.assert_array_equal(a.params[name], b.params[name], err_msg=name)


def test_views_share_frames_and_nothing_else() -> None:
    first, second = draw(**SOUND)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.box != second.box
    assert first.sound is not None
    assert second.sound is None
    assert len({tuple(v.params["jitter_factors"]) for v in many(10, color_jitter=True)}) > 10


def test_one_view_is_the_first_of_two() -> None:
    for seed in range(10):
        assert_same(draw(seed, num_views=1, **SOUND)[0], draw(seed, **SOUND)[0])


def test_the_same_seed_gives_the_same_after_pickling() -> None:
    sampler = ClipSampler(num_sec=2)
    again = pickle.loads(pickle.dumps(sampler))
    pairs = (s(INFO, generator(5, "views")) for s in (sampler, again))
    for a, b in zip(*pairs, strict=True):
        assert_same(a, b)


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
            assert_same(on, off, but=changed)
            found = {name: off.params[name] for name in changed if name in off.params}
            assert all((found[name] == none[name]).all() for name in found.keys() & none.keys())
            differed |= any((on.params[name] != found[name]).any() for name in found)
    assert differed


@pytest.mark.parametrize("random_resize_crop", [True, False])
def test_params_can_be_stacked(random_resize_crop: bool) -> None:
    views = [draw(seed, random_resize_crop=random_resize_crop, **SOUND)[0] for seed in range(6)]
    stacked = {name: values(views, name) for name in views[0].params}
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
    jittered = (values(views, "jitter_factors") != 1).any(axis=1)
    sigma = values(views, "blur_sigma")
    assert 0.77 < jittered.mean() < 0.83
    assert 0.17 < values(views, "gray").mean() < 0.23
    assert 0.46 < (sigma > 0).mean() < 0.54
    assert 0.45 < values(views, "flip").mean() < 0.55
    factors = values(views, "jitter_factors")[jittered]
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert len({tuple(order) for order in values(views, "jitter_order")[jittered]}) == 6
    assert 0.1 <= sigma[sigma > 0].min() < 0.12
    assert 1.97 < sigma.max() <= 2
    volumes = values(views[::2], "volume")
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
    sizes = values(many(500), "source_size")
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
    y, x = values(views, "crop_offset").T
    last = int(random_crop == "inclusive")
    assert set(y.tolist()) == set(range(4 + last))
    assert set(x.tolist()) == set(range(8 + last))


def test_the_shorter_side_is_drawn_without_random_resize_crop() -> None:
    sizes = values(many(400, random_resize_crop=False), "scaled_size")
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
        assert_same(replace(moved, sound=None), replace(view, sound=None))
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


def views_of(info: VideoInfo = INFO, **options: Any) -> list[View]:
    options = {"crop_size": 112, "num_frames": 30, **options}
    return clip_sampling.test_views(info, **options)


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
        assert_same(one, three)


def test_released_test_views_are_drawn() -> None:
    rngs = [generator(seed, "test") for seed in range(20)]
    views = [view for rng in rngs for view in views_of(mode="released", rng=rng)]
    sizes = values(views, "scaled_size")
    assert set(sizes[:, 0].tolist()) == set(range(128, 161))
    for number, view in enumerate(views):
        size = view.params["scaled_size"].tolist()
        assert tuple(view.params["crop_offset"]) == uniform_crop(*size, 112, number % 3)
    assert 0.75 < (values(views, "jitter_factors") != 1).any(axis=1).mean() < 0.85
    assert not values(views, "flip").any()
    plain = views_of(mode="released", rng=generator(0, "test"), color_jitter=False)
    assert (values(plain, "jitter_factors") == 1).all()
    np.testing.assert_array_equal(values(plain, "scaled_size"), sizes[:30])
    for drawn, fixed in zip(views, views_of() * 20, strict=True):
        np.testing.assert_array_equal(drawn.frames, fixed.frames)


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
