"""What is drawn for a training clip of STiCA and of fine-tuning: time, place, look and sound.

Facts of a video and a generator in, `View`s out; nothing is read or computed here. All randomness
of a sample is in this file and `clip_looks`; `clip_augmentations` and `spectrograms` apply what was
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import SoundSpan, VideoInfo, View

from gdt_stica.choices import check_choice
from gdt_stica.clip_looks import (
    ClipLook,
    Place,
    clip_params,
    cropped_place,
    draw_jitter,
    random_resized_box,
    resized_place,
)
from gdt_stica.geometry import scaled_size
from gdt_stica.sampling import (
    SOUND_SHIFT_S,
    VOLUME_RANGE,
    RandomCrop,
    clip_frames,
    clip_span,
    short_side_range,
    sound_span,
)

GRAY_SHARE, BLUR_SHARE = 0.2, 0.5  # of the clips
SIGMA_RANGE = (0.1, 2.0)  # pixels
BLUR_REACH = 5  # pixels to each side


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
        length, stored = clip_span(
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
        colours = draw_jitter(rng, used=self.color_jitter)
        gray = bool(rng.uniform() < GRAY_SHARE) and self.grayscale
        blurred = bool(rng.uniform() < BLUR_SHARE) and self.gaussian
        sigma = rng.uniform(*SIGMA_RANGE)
        return colours._replace(flip=flip, gray=gray, blur_sigma=sigma if blurred else 0.0)

    def _sound(self, info: VideoInfo, start_s: float) -> SoundSpan:
        num_samples = self.num_sec * self.sound_rate_hz
        return sound_span(info, start_s, num_samples=num_samples, rate_hz=self.sound_rate_hz)
