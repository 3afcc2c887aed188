"""What is drawn for one training sample: when and where its views are, and how they will look.

Facts of a record and a generator in, `RecordView`s out: all randomness of a sample is in this file.
Clips are read by `training_data` and changed on the device by `device_augmentations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import SoundSpan, VideoInfo, View

from brave.images import interpolation
from brave.sampling import (
    Box,
    draw_augmentation,
    extended_length,
    frame_numbers,
    random_window,
    synced_span,
    training_box,
    window_span,
)
from brave.views import NARROW, ViewSpec, check_views

BLUR_SIGMA = (0.1, 2.0)
KERNEL_SIZES = (1, 3, 5, 7, 9, 11)
_TRUNCATED_STD = 0.87962566103423978  # of a standard normal without what is beyond 2

Placement = Literal["start", "random"]
Params = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RecordView(View):
    """What one view reads of a record.

    size: of the resize, which the device makes. flow: pictures are those of the optical flow.
    rows, columns: of the stored picture, ascending, those that the resize reads: at most 2S of
    each. sound_repeats: how often the stored sound is played before the zeros begin; `sound` may
    reach into any repetition.
    """

    flow: bool = False
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    columns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    sound_repeats: int = 1


@dataclass(frozen=True, kw_only=True)
class ViewSampler:
    """Draws the views of one sample: `sampler(info, rng)` is the narrow one, then the broad ones.

    audio_rate_hz, video_rate_hz: of the stored data. narrow_placement: "start", as released, begins
    all views at the same frame. "random" begins the narrow view anywhere within the longest broad
    one; starting together makes the task too easy when the broad view is video (the paper's
    ablation).

    A view of pictures has params that `device_augmentations.augment_view` takes, those of
    `picture_params`; sound has none. Raises ConfigError for views that do not go together, rates
    that are not positive and another placement.
    """

    narrow: ViewSpec
    broad: tuple[ViewSpec, ...]
    audio_rate_hz: int = 48_000
    video_rate_hz: float = 25.0
    narrow_placement: Placement = "start"

    def __post_init__(self) -> None:
        check_views(self.narrow, self.broad)
        if self.audio_rate_hz < 1 or not self.video_rate_hz > 0:
            raise ConfigError(
                f"the rates are {self.audio_rate_hz} samples and {self.video_rate_hz} frames a "
                "second, expected more than 0"
            )
        if self.narrow_placement not in ("start", "random"):
            raise ConfigError(
                f"narrow_placement is '{self.narrow_placement}', expected start or random"
            )

    def __call__(self, info: VideoInfo, rng: np.random.Generator) -> list[RecordView]:
        form = {"num_frames": self.narrow.num_frames, "step": self.narrow.step}
        start = random_window(draw_end(info.num_frames, self.narrow), rng=rng, **form).start
        shift = self._shift(rng)
        views = [self._pictures(self.narrow, info, start + shift, rng)]
        for spec in self.broad:
            if spec.modality == "sound":
                views.append(self._sound(spec, info, start))
            else:
                views.append(self._pictures(spec, info, start, rng))
        return views

    def _shift(self, rng: np.random.Generator) -> int:
        """Frames from the start of the broad views to that of the narrow one."""
        if self.narrow_placement == "start":
            return 0
        narrow = window_span(self.narrow.num_frames, self.narrow.step)
        longest = max(window_span(spec.num_frames, spec.step) for spec in self.broad)
        return int(rng.integers(0, max(longest - narrow, 0), endpoint=True))

    def _pictures(
        self, spec: ViewSpec, info: VideoInfo, start: int, rng: np.random.Generator
    ) -> RecordView:
        box = training_box(info.height, info.width, rng)
        rows, columns, grid = resize_plan(box, spec.image_size)
        return RecordView(
            frame_numbers(view_window(spec, start), info.num_frames),
            size=(spec.image_size, spec.image_size),
            params={**grid, **picture_params(spec, box, rng)},
            flow=spec.modality == "flow",
            rows=rows,
            columns=columns,
        )

    def _sound(self, spec: ViewSpec, info: VideoInfo, start: int) -> RecordView:
        stored = round(info.sound_duration_s * self.audio_rate_hz)
        first, repeats = sound_start(spec, start, info.num_frames, stored)
        wanted = sound_length(spec, self.video_rate_hz, self.audio_rate_hz)
        span = SoundSpan(first / self.audio_rate_hz, wanted, self.audio_rate_hz)
        return RecordView(None, sound=span, sound_repeats=repeats)


def draw_end(stored: int, narrow: ViewSpec) -> int:
    """The narrow window is drawn from frames 0 to this - 1; those behind `stored` are looped."""
    return max(stored, window_span(narrow.num_frames, narrow.step))


def view_window(spec: ViewSpec, start: int) -> range:
    """The frames of a view that begins at frame `start` of the looped video."""
    return range(start, start + window_span(spec.num_frames, spec.step), spec.step)


def sound_length(spec: ViewSpec, video_rate_hz: float, audio_rate_hz: int) -> int:
    """Samples of a view of sound: as long as num_frames · step frames, one step more than a window.

    491520 for 64 frames, 4 apart, of 25 a second at 48 kHz.
    """
    return int(spec.num_frames * spec.step / video_rate_hz * audio_rate_hz)


def sound_start(
    spec: ViewSpec, start: int, stored_frames: int, stored_samples: int
) -> tuple[int, int]:
    """The first sample of a view of sound that begins at frame `start`, and how often sound plays.

    Frames and sound are repeated together until there are start + num_frames · step frames; sound
    that ends before its view does is followed by zeros. The place is that of float32 arithmetic,
    truncated.
    """
    frames = extended_length(stored_frames, start + spec.num_frames * spec.step)
    repeats = frames // stored_frames
    first, _ = synced_span(start, frames, frames, repeats * stored_samples)
    return first, repeats


def cut_sound(
    wave: NDArray[np.float32], *, first: int, num_samples: int, repeats: int
) -> tuple[NDArray[np.float32], int]:
    """`num_samples` from sample `first` on of sound that is played `repeats` times.

    wave: [N] float32. Returns [num_samples] float32, zeros after the end, and how many those are.
    """
    end = min(first + num_samples, repeats * len(wave))
    sound = np.zeros(num_samples, np.float32)
    found = max(end - first, 0)
    sound[:found] = wave[np.arange(first, first + found) % len(wave)]
    return sound, num_samples - found


def resize_plan(box: Box, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Params]:
    """What a resize of `box` to size x size needs of the stored picture.

    Returns its rows, its columns (ascending), and of the pixels that are left the grid that
    `augmentations.resize` takes.
    """
    grid: dict[str, NDArray[Any]] = {}
    kept = []
    axes = (
        (box.y, box.height, ("top", "bottom", "along_y")),
        (box.x, box.width, ("left", "right", "along_x")),
    )
    for offset, length, names in axes:
        first, second, weight = interpolation(length, size)
        needed = np.unique(np.concatenate([first, second]))
        places = [np.searchsorted(needed, one).astype(np.int32) for one in (first, second)]
        grid |= dict(zip(names, (*places, weight), strict=True))
        kept.append(offset + needed)
    return kept[0], kept[1], grid


def picture_params(spec: ViewSpec, box: Box, rng: np.random.Generator) -> Params:
    """The draws for the pictures of one view; always the same number for one spec.

    rgb: those of `sampling.Augmentation` and `blur_sigma`, scalars, float32 or bool; of broad views
    also `kernel_size` int32 and `kernel` [11, 11, 3, 3] float32, of which the middle is not 0.
    flow: `flip`, and `flow_scale` [2] float32, by which the resize changes the horizontal and the
    vertical displacements.
    """
    if spec.modality == "flow":
        scale = np.array([spec.image_size / box.width, spec.image_size / box.height], np.float32)
        return {"flip": np.array(rng.random() < 0.5), "flow_scale": scale}
    look = asdict(draw_augmentation(rng))
    params: dict[str, NDArray[Any]] = {
        name: np.array(value, bool if isinstance(value, bool) else np.float32)
        for name, value in look.items()
    }
    params["blur_sigma"] = np.array(rng.uniform(*BLUR_SIGMA), np.float32)
    if spec.name != NARROW:
        size = int(rng.choice(KERNEL_SIZES))
        params["kernel_size"] = np.array(size, np.int32)
        params["kernel"] = padded_kernel(draw_kernel(size, rng))
    return params


def draw_kernel(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """[size, size, 3, 3] float32, rows, columns, colours in and out: He's normal, truncated.

    What is beyond 2 standard deviations is drawn again; the variance after that is 2 / (3 size²).
    """
    values = rng.standard_normal((size, size, 3, 3))
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    scale = np.sqrt(2 / (3 * size**2)) / _TRUNCATED_STD
    return np.asarray(values * scale, np.float32)


def padded_kernel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel of odd size in the middle of one of the largest size: the same convolution."""
    margin = (max(KERNEL_SIZES) - len(kernel)) // 2
    return np.pad(kernel, ((margin, margin), (margin, margin), (0, 0), (0, 0)))
