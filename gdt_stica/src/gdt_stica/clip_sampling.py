"""What is drawn for a clip of STiCA and of fine-tuning: time, place, colours, blur and sound.

Facts of a video and a generator in, `View`s out; nothing is read or computed here. All randomness
of a sample is in this file; `clip_augmentations` and `spectrograms` apply what was drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import SoundSpan, VideoInfo, View

from gdt_stica.choices import check_choice
from gdt_stica.geometry import (
    Box,
    central_crop,
    crop_of_area,
    scaled_size,
    source_box,
    uniform_crop,
)
from gdt_stica.sampling import (
    COLOUR_RANGE,
    SOUND_SHIFT_S,
    VOLUME_RANGE,
    Params,
    RandomCrop,
    claimed_frames,
    clip_frames,
    short_side_range,
    sound_span,
)
from gdt_stica.timing import clip_length, clip_start

AREA_RANGE = (0.14, 1.0)  # of the frame
RATIO_RANGE = (3 / 4, 4 / 3)  # width / height
CROP_TRIES = 10
JITTER_SHARE, GRAY_SHARE, BLUR_SHARE = 0.8, 0.2, 0.5  # of the clips
SIGMA_RANGE = (0.1, 2.0)  # pixels
BLUR_REACH = 5  # pixels to each side

TestMode = Literal["deterministic", "released"]


class Place(NamedTuple):
    """Where a crop lies and how it is scaled; (y, x) or (height, width) in pixels.

    box: what is read of a frame. source_size becomes scaled_size, and the crop lies at crop_offset
    of the result. box_offset: where the box lies in the source.
    """

    box: Box
    source_size: tuple[int, int]
    scaled_size: tuple[int, int]
    crop_offset: tuple[int, int]
    box_offset: tuple[int, int]


class ClipLook(NamedTuple):
    """What else is drawn for the frames of a view; nothing is changed by default.

    jitter_order: the operations 0 brightness, 1 contrast, 2 saturation, the first applied first;
    jitter_factors: the k-th belongs to the k-th operation applied. blur_sigma: pixels, 0 for none.
    """

    flip: bool = False
    jitter_order: tuple[int, ...] = (0, 1, 2)
    jitter_factors: tuple[float, ...] = (1.0, 1.0, 1.0)
    gray: bool = False
    blur_sigma: float = 0.0


class Draws(Protocol):
    """What draws a crop: a NumPy generator, or another one that a reference was made with."""

    def uniform(self, low: float, high: float, /) -> float: ...

    def integers(self, stop: int, /) -> int: ...


@dataclass(frozen=True, kw_only=True)
class ClipSampler:
    """Draws the views of one sample: `sampler(info, rng)` is a list of `num_views` views.

    All views show the same frames, from a start drawn uniformly over the free time; each has a
    place, a flip, colours and a blur of its own. Everything is drawn whether it is used or not, so
    that an option does not change what the others find.

    num_views: 2 for STiCA, 1 for fine-tuning. num_frames, target_fps, sample_rate: frames of a
    clip, sample_rate apart at target_fps. crop_size: pixels per side. random_resize_crop: a crop of
    14 to 100 % of the area and of sides up to 3:4, scaled to the crop size; else the shorter side
    is scaled to a number of pixels drawn from short_side ((128, 160) for crops of 112 and 128, else
    (256, 320) if None) and a crop is taken, of which random_crop "released" never draws the last
    place and "inclusive" does. color_jitter: brightness, contrast and saturation of 8 clips in 10
    by up to 40 %. grayscale: 2 clips in 10. gaussian: blur half of the clips.
    num_sec: seconds of sound, which lies on view 0 and serves all; 0 for none. volume_jitter: times
    0.9 to 1.1. temporal_jitter: move it by up to half a second.

    A view's box holds the stored pixels that its crop needs. Its params are those of `clip_params`;
    with sound there is also volume () float64. Sound that would end early begins earlier; what
    still misses is zeros. Raises ConfigError for values outside of these.
    """

    num_views: int = 2
    num_frames: int = 30
    target_fps: float = 30
    sample_rate: int = 1
    crop_size: int = 112
    random_resize_crop: bool = True
    short_side: tuple[int, int] | None = None
    random_crop: RandomCrop = "released"
    color_jitter: bool = True
    grayscale: bool = True
    gaussian: bool = True
    num_sec: int = 0
    sound_rate_hz: int = 24_000
    volume_jitter: bool = True
    temporal_jitter: bool = False

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ConfigError(f"num_views {self.num_views}: expected 1 or more")
        smallest, largest = self.short_side_range
        if not self.random_resize_crop and not 0 < self.crop_size <= smallest <= largest:
            raise ConfigError(
                f"short_side {smallest} to {largest}: expected two numbers of pixels, the smaller "
                f"first, from the {self.crop_size} of the crop on"
            )
        check_choice(
            f"random_crop '{self.random_crop}'", self.random_crop, ("released", "inclusive")
        )
        if self.crop_size < 1 or (self.gaussian and self.crop_size <= BLUR_REACH):
            raise ConfigError(
                f"crop_size {self.crop_size}: expected 1 or more, and with a blur, which reaches "
                f"{BLUR_REACH} pixels to each side, more than that"
            )

    @property
    def short_side_range(self) -> tuple[int, int]:
        """Pixels between which the shorter side is drawn without random_resize_crop."""
        return self.short_side or short_side_range(self.crop_size)

    def __call__(self, info: VideoInfo, rng: np.random.Generator) -> list[View]:
        """`num_views` views, the first one with the sound."""
        length, stored = _lasts(
            info,
            num_frames=self.num_frames,
            target_fps=self.target_fps,
            sample_rate=self.sample_rate,
        )
        start = rng.uniform(0, max(stored - length, 0))
        frames, start_s = clip_frames(info, start, length=length, num_frames=self.num_frames)
        moved_s = rng.uniform(-SOUND_SHIFT_S, SOUND_SHIFT_S)
        volume = rng.uniform(*VOLUME_RANGE)
        views = []
        for _ in range(self.num_views):
            place = self._draw_place(info, rng)
            params = clip_params(place, self._draw_look(rng))
            views.append(View(frames, box=place.box, params=params))
        if self.num_sec:
            sound = self._sound(info, start_s + (moved_s if self.temporal_jitter else 0.0))
            factor = np.array(volume if self.volume_jitter else 1.0, np.float64)
            params = {**views[0].params, "volume": factor}
            views[0] = replace(views[0], sound=sound, params=params)
        return views

    def _draw_place(self, info: VideoInfo, rng: np.random.Generator) -> Place:
        if self.random_resize_crop:
            box = random_resized_box(info.height, info.width, rng)
            return resized_place(box, self.crop_size)
        short_side = round(rng.uniform(*self.short_side_range))
        places = int(self.random_crop == "inclusive")
        y, x = (
            int(rng.integers(max(side - self.crop_size + places, 1)))
            for side in scaled_size(info.height, info.width, short_side)
        )
        return cropped_place(
            info.height,
            info.width,
            short_side=short_side,
            crop_offset=(y, x),
            crop_size=self.crop_size,
        )

    def _draw_look(self, rng: np.random.Generator) -> ClipLook:
        flip = bool(rng.uniform() < 0.5)
        colours = _draw_jitter(rng, used=self.color_jitter)
        gray = bool(rng.uniform() < GRAY_SHARE) and self.grayscale
        blurred = bool(rng.uniform() < BLUR_SHARE) and self.gaussian
        sigma = rng.uniform(*SIGMA_RANGE)
        return colours._replace(flip=flip, gray=gray, blur_sigma=sigma if blurred else 0.0)

    def _sound(self, info: VideoInfo, start_s: float) -> SoundSpan:
        num_samples = self.num_sec * self.sound_rate_hz
        return sound_span(info, start_s, num_samples=num_samples, rate_hz=self.sound_rate_hz)


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
    length, stored = _lasts(
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
                look = _draw_jitter(rng, used=color_jitter)
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


def random_resized_box(
    height: int, width: int, draws: Draws, *, area_range: tuple[float, float] = AREA_RANGE
) -> Box:
    """A box of a random share of the area and width / height of 3/4 to 4/3.

    Up to ten tries of an area (uniform) and a ratio (uniform in its logarithm), then, for the first
    that fits, of y and x; the largest box in the middle where none fits, as torchvision's
    RandomResizedCrop.
    """
    log_ratios = (math.log(RATIO_RANGE[0]), math.log(RATIO_RANGE[1]))
    for _ in range(CROP_TRIES):
        size = crop_of_area(height, width, draws.uniform(*area_range), draws.uniform(*log_ratios))
        if size is not None:
            y, x = (
                int(draws.integers(n - m + 1)) for n, m in zip((height, width), size, strict=True)
            )
            return y, x, *size
    return central_crop(height, width, RATIO_RANGE)


def resized_place(box: Box, crop_size: int) -> Place:
    """A box that is scaled to the whole crop."""
    return Place(box, box[2:], (crop_size, crop_size), (0, 0), (0, 0))


def cropped_place(
    height: int, width: int, *, short_side: int, crop_offset: tuple[int, int], crop_size: int
) -> Place:
    """A crop of a frame whose shorter side is scaled first."""
    box = source_box(
        height, width, short_side=short_side, crop_offset=crop_offset, crop_size=crop_size
    )
    size = scaled_size(height, width, short_side)
    return Place(box, (height, width), size, crop_offset, box[:2])


def clip_params(place: Place, look: ClipLook) -> Params:
    """For `clip_augmentations.augment_clips`: arrays of fixed shapes.

    source_size [2], scaled_size [2], crop_offset [2], box_offset [2], jitter_order [3], all int64;
    flip (), gray () bool; jitter_factors [3], blur_sigma () float32.
    """
    whole = {**place._asdict(), "jitter_order": look.jitter_order}
    del whole["box"]
    return {
        **{name: np.array(value, np.int64) for name, value in whole.items()},
        "flip": np.array(look.flip),
        "gray": np.array(look.gray),
        "jitter_factors": np.array(look.jitter_factors, np.float32),
        "blur_sigma": np.array(look.blur_sigma, np.float32),
    }


def _draw_jitter(rng: np.random.Generator, *, used: bool) -> ClipLook:
    wanted = bool(rng.uniform() < JITTER_SHARE) and used
    order = tuple(rng.permutation(3).tolist())
    factors = tuple((1 + rng.uniform(-COLOUR_RANGE, COLOUR_RANGE, size=3)).tolist())
    return ClipLook(jitter_order=order, jitter_factors=factors) if wanted else ClipLook()


def _lasts(
    info: VideoInfo, *, num_frames: int, target_fps: float, sample_rate: int
) -> tuple[float, int]:
    """Stored frames that a clip lasts, and how many there are."""
    length = clip_length(
        float(info.rate), num_frames=num_frames, target_fps=target_fps, sample_rate=sample_rate
    )
    return length, claimed_frames(info)
