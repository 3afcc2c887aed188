"""What is drawn for one sample of GDT: times, places, colours and sound of up to four copies.

Facts of a video and a generator in, `View`s out; nothing is read or computed here. All randomness
of a sample is in this file; `augmentations` and `spectrograms` apply what was drawn.

A sample has the copies V1, R1, V2, R2 = 0 to 3: a clip at the first time shift, its reversal, a
clip at the second time shift, its reversal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import SoundSpan, VideoInfo, View

from gdt_stica.geometry import scaled_size, source_box
from gdt_stica.timing import clip_length, clip_start, decode_indices, sound_slice

COPIES = ("V1", "R1", "V2", "R2")
NUM_TIME_SHIFTS = 1000  # a shift is a whole number of thousandths of the free time
COLOUR_RANGE = 0.4  # brightness, contrast and saturation change by up to this share
SOUND_SHIFT_S = 0.5
VOLUME_RANGE = (0.9, 1.1)

Params = Mapping[str, NDArray[Any]]
RandomCrop = Literal["released", "inclusive"]


class Look(NamedTuple):
    """What is drawn for the frames of one copy.

    short_side: pixels that the shorter side is scaled to. crop_offset: (y, x) on the scaled frame.
    jitter_order: the operations 0 brightness, 1 contrast, 2 saturation, the first applied first;
    jitter_factors: the k-th belongs to the k-th operation applied.
    """

    short_side: int
    crop_offset: tuple[int, int]
    flip: bool
    jitter_order: tuple[int, ...]
    jitter_factors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class GDTSampler:
    """Draws the views of one sample: `sampler(info, rng)` is one View for each of `copies`.

    Everything is drawn for all four copies in one order, so that a copy does not depend on which
    others are needed. Each has a place, a flip and colours of its own; a reversal names its frames
    backwards. The sound of a time shift serves both its copies and lies on the view of the first
    that is needed; a reversal's is the spectrogram flipped in time.

    copies: of 0 to 3, ascending. num_frames, target_fps, sample_rate: frames of a clip, sample_rate
    apart at target_fps. crop_size: pixels per side. short_side: range in pixels, (128, 160) for
    crops of 112 and 128, else (256, 320) if None. num_sec: seconds of sound. temporal_jitter: move
    it by up to half a second. volume_jitter: times 0.9 to 1.1. spec_augment: numbers of frequency
    and of time masks, then what their widths stay below. num_filters: of the spectrogram.
    random_crop: "released" never draws the last place of a crop, "inclusive" does.

    A view's box holds the stored pixels that scaling and crop read. Its params are those of
    `video_params`, and with sound those of `sound_params`. Sound that would end early begins
    earlier; what still misses is zeros. Raises ConfigError for values outside of these.
    """

    copies: tuple[int, ...]
    num_filters: int
    num_frames: int = 30
    target_fps: float = 30
    sample_rate: int = 1
    crop_size: int = 112
    short_side: tuple[int, int] | None = None
    num_sec: int = 1
    sound_rate_hz: int = 24_000
    temporal_jitter: bool = False
    volume_jitter: bool = True
    spec_augment: tuple[int, int, int, int] | None = None
    random_crop: RandomCrop = "released"

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", tuple(self.copies))
        if not self.copies or list(self.copies) != sorted({0, 1, 2, 3} & set(self.copies)):
            raise ConfigError(f"copies {self.copies}: expected some of 0, 1, 2, 3, ascending")
        smallest, largest = self.short_side_range
        if not 0 < self.crop_size <= smallest <= largest:
            raise ConfigError(
                f"short_side {smallest} to {largest}: expected two numbers of pixels, the smaller "
                f"first, from the {self.crop_size} of the crop on"
            )
        if self.random_crop not in ("released", "inclusive"):
            raise ConfigError(f"random_crop '{self.random_crop}': expected released or inclusive")
        filters, frames = self.spectrogram_size
        _, _, frequency_width, time_width = self.spec_augment or (0, 0, 0, 0)
        if frequency_width > filters or time_width > frames:
            raise ConfigError(
                f"spec_augment {self.spec_augment}: its masks are wider than a spectrogram of "
                f"{filters} filters and {frames} frames"
            )

    @property
    def short_side_range(self) -> tuple[int, int]:
        """Pixels between which the shorter side is drawn."""
        return self.short_side or short_side_range(self.crop_size)

    @property
    def spectrogram_size(self) -> tuple[int, int]:
        """Filters and frames; frames last 20 ms, every 10 ms, the last one filled up."""
        frame, hop = (math.floor(s * self.sound_rate_hz + 0.5) for s in (0.02, 0.01))
        samples = self.num_sec * self.sound_rate_hz
        return self.num_filters, 1 + math.ceil((samples - frame) / hop)

    def __call__(self, info: VideoInfo, rng: np.random.Generator) -> list[View]:
        """One view for each of `copies`, in their order."""
        shifts = rng.integers(0, NUM_TIME_SHIFTS + 1, size=2).tolist()
        looks = [self._draw_look(info, rng) for _ in COPIES]
        moves_s = rng.uniform(-SOUND_SHIFT_S, SOUND_SHIFT_S, size=2)
        volumes = rng.uniform(*VOLUME_RANGE, size=2)
        masks = [self._draw_masks(rng) for _ in shifts]

        views: list[View] = []
        sounding: set[int] = set()
        for copy in self.copies:
            shift = copy // 2
            frames, start_s = self._clip(info, shifts[shift])
            view = self._view(info, frames[::-1].copy() if copy % 2 else frames, looks[copy])
            if shift not in sounding:
                sounding.add(shift)
                moved_s = start_s + (moves_s[shift] if self.temporal_jitter else 0.0)
                volume = volumes[shift] if self.volume_jitter else 1.0
                params = {**view.params, **sound_params(volume, *masks[shift])}
                sound = sound_span(
                    info,
                    moved_s,
                    num_samples=self.num_sec * self.sound_rate_hz,
                    rate_hz=self.sound_rate_hz,
                )
                view = replace(view, sound=sound, params=params)
            views.append(view)
        return views

    def _draw_look(self, info: VideoInfo, rng: np.random.Generator) -> Look:
        short_side = round(rng.uniform(*self.short_side_range))
        places = int(self.random_crop == "inclusive")
        y, x = (
            int(rng.integers(max(side - self.crop_size + places, 1)))
            for side in scaled_size(info.height, info.width, short_side)
        )
        flip = bool(rng.uniform() < 0.5)
        order = tuple(rng.permutation(3).tolist())
        factors = tuple((1 + rng.uniform(-COLOUR_RANGE, COLOUR_RANGE, size=3)).tolist())
        return Look(short_side, (y, x), flip, order, factors)

    def _draw_masks(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Frequency and time masks, rows (first, width)."""
        frequency_masks, time_masks, *widths = self.spec_augment or (0, 0, 0, 0)
        frequency, time = (
            [_draw_mask(size, width, rng) for _ in range(count)]
            for count, size, width in zip(
                (frequency_masks, time_masks), self.spectrogram_size, widths, strict=True
            )
        )
        return np.array(frequency, np.int64).reshape(-1, 2), np.array(time, np.int64).reshape(-1, 2)

    def _clip(self, info: VideoInfo, shift: int) -> tuple[NDArray[np.int64], float]:
        """Frames of a clip and the second on the video's clock at which it begins."""
        length, stored = clip_span(
            info,
            num_frames=self.num_frames,
            target_fps=self.target_fps,
            sample_rate=self.sample_rate,
        )
        start = clip_start(shift, NUM_TIME_SHIFTS, length=length, num_source_frames=stored)
        return clip_frames(info, start, length=length, num_frames=self.num_frames)

    def _view(self, info: VideoInfo, frames: NDArray[np.int64], look: Look) -> View:
        box = source_box(
            info.height,
            info.width,
            short_side=look.short_side,
            crop_offset=look.crop_offset,
            crop_size=self.crop_size,
        )
        params = video_params(look, source_size=(info.height, info.width), box_offset=box[:2])
        return View(frames, box=box, params=params)


def claimed_frames(info: VideoInfo) -> int:
    """Frames that clips are laid out on: what the container claims, where that can be trusted."""
    if info.header_frames and _times_are_trusted(info):
        return info.header_frames
    return info.num_frames


def clip_span(
    info: VideoInfo, *, num_frames: int, target_fps: float, sample_rate: int
) -> tuple[float, int]:
    """Stored frames that a clip lasts, and how many it is laid out on."""
    length = clip_length(
        float(info.rate), num_frames=num_frames, target_fps=target_fps, sample_rate=sample_rate
    )
    return length, claimed_frames(info)


def clip_frames(
    info: VideoInfo, start: float, *, length: float, num_frames: int
) -> tuple[NDArray[np.int64], float]:
    """Frame numbers [num_frames] of a clip and the second on the video's clock at which it begins.

    start, length: in stored frames, of `claimed_frames`; see `timing.decode_indices`.
    """
    frames = decode_indices(
        start,
        length=length,
        num_frames=num_frames,
        num_source_frames=claimed_frames(info),
        duration=info.duration if _times_are_trusted(info) else None,
        pts=None if info.pts is None else info.pts - info.pts[0],
    )
    first_s = 0.0 if info.pts is None else float(info.pts[0] * info.time_base)
    return np.minimum(frames, info.num_frames - 1), first_s + start / float(info.rate)


def _times_are_trusted(info: VideoInfo) -> bool:
    return info.pts is not None and info.damage is None


def sound_span(info: VideoInfo, start_s: float, *, num_samples: int, rate_hz: int) -> SoundSpan:
    """Sound from start_s on the video's clock, begun earlier where it would end early."""
    part = sound_slice(
        start_s - info.sound_start_s,
        num_samples=num_samples,
        stored_samples=math.floor(info.sound_duration_s * rate_hz),
        rate_hz=rate_hz,
    )
    return SoundSpan(info.sound_start_s + part.start / rate_hz, num_samples, rate_hz)


def short_side_range(crop_size: int) -> tuple[int, int]:
    """Pixels between which the released code draws the shorter side for a crop."""
    return (128, 160) if crop_size in (112, 128) else (256, 320)


def video_params(
    look: Look, *, source_size: tuple[int, int], box_offset: tuple[int, int]
) -> Params:
    """A look for `augmentations.augment`: arrays of fixed shapes.

    short_side (), crop_offset [2], jitter_order [3], source_size [2] (height and width of the whole
    frame), box_offset [2] (y and x of what was read of it), all int64; flip () bool;
    jitter_factors [3] float32.
    """
    whole = {
        "short_side": look.short_side,
        "crop_offset": look.crop_offset,
        "jitter_order": look.jitter_order,
        "source_size": source_size,
        "box_offset": box_offset,
    }
    return {
        **{name: np.array(value, np.int64) for name, value in whole.items()},
        "flip": np.array(look.flip),
        "jitter_factors": np.array(look.jitter_factors, np.float32),
    }


def sound_params(
    volume: float, frequency_masks: NDArray[np.int64], time_masks: NDArray[np.int64]
) -> Params:
    """For `spectrograms.spectrograms`: volume () float64, masks [M, 2] int64 (first, width)."""
    return {
        "volume": np.array(volume, np.float64),
        "frequency_masks": frequency_masks,
        "time_masks": time_masks,
    }


def _draw_mask(size: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
    """(first, width) of one mask over `size` places, narrower than `width`."""
    drawn = int(rng.uniform(0, width))
    return int(rng.integers(0, size - drawn, endpoint=True)), drawn
