"""What is drawn for one sample of video and text: a caption, a time within it, a square.

Facts of a video and a generator in, `View`s out. A sample has the copies V1, R1, V2, R2 = 0 to 3: a
clip with its text, both backwards, another clip of the same video with its own text, both
backwards. The two clips are drawn independently of each other.

Axes: T frames of a clip, W words of a text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import VideoInfo, View

from gdt_stica.captions import Caption, CaptionFiles, candidate_numbers, window
from gdt_stica.data import duration_s

BASE_FPS = 32  # frames a second that a stride of 1 takes


@dataclass(frozen=True, kw_only=True)
class CaptionSampler:
    """Draws the views of one sample: `sampler(info, rng)` is one View for each of `clips`.

    Both clips are drawn whatever is needed, so that one does not depend on the other. A clip: a
    caption of those that `captions.of` gives, each as likely; a whole second of its `window`, early
    enough for the clip, within the video; a square of the shorter side's pixels, anywhere or in the
    middle.

    copies: of 0 to 3, ascending. num_frames: T. sample_rate: frames are sample_rate / 32 s apart.
    num_candidates: captions, next to each other in time, whose words make one text.

    A view's frames are those of `shown_frames`, its box is the square. Its params: `words`
    [20 num_candidates] int64 and `num_shown` () int64, the frames from which on a clip is black.
    Raises DataError for a video without a usable caption.
    """

    copies: tuple[int, ...]
    captions: CaptionFiles
    num_frames: int = 30
    sample_rate: int = 2
    center_crop: bool = False
    num_candidates: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", tuple(self.copies))
        if not self.copies or list(self.copies) != sorted({0, 1, 2, 3} & set(self.copies)):
            raise ConfigError(f"copies {self.copies}: expected some of 0, 1, 2, 3, ascending")

    @property
    def clips(self) -> tuple[int, ...]:
        """Which of the clips 0 and 1 are read; a reversal is its clip, backwards."""
        return tuple(sorted({copy // 2 for copy in self.copies}))

    @property
    def fps(self) -> Fraction:
        """Frames a second of a clip."""
        return Fraction(BASE_FPS, self.sample_rate)

    def __call__(self, info: VideoInfo, rng: np.random.Generator) -> list[View]:
        """One view for each of `clips`, in their order."""
        captions = self.captions.of(info)
        views = [self._draw(info, captions, rng) for _ in range(2)]
        return [views[clip] for clip in self.clips]

    def _draw(self, info: VideoInfo, captions: list[Caption], rng: np.random.Generator) -> View:
        row = int(rng.integers(len(captions)))
        first_s, end_s = window(captions[row])
        latest_s = max(first_s, math.floor(end_s - self.num_frames / self.fps))
        latest_s = min(latest_s, math.floor(duration_s(info)))
        start_s = int(rng.integers(first_s, latest_s, endpoint=True))
        place = (0.5, 0.5) if self.center_crop else tuple(rng.uniform(size=2).tolist())
        frames, num_shown = shown_frames(info, start_s, num_frames=self.num_frames, fps=self.fps)
        numbers = candidate_numbers(
            captions, row, self.captions.vocabulary, num_candidates=self.num_candidates
        )
        params = {"words": numbers.reshape(-1), "num_shown": np.array(num_shown, np.int64)}
        return View(frames, box=square(info.height, info.width, place), params=params)


def square(height: int, width: int, place: tuple[float, ...]) -> tuple[int, int, int, int]:
    """(y, x, side, side) of the largest square. place: shares of the free rows and columns."""
    side = min(height, width)
    return int((height - side) * place[0]), int((width - side) * place[1]), side, side


def shown_frames(
    info: VideoInfo, start_s: int, *, num_frames: int, fps: Fraction
) -> tuple[NDArray[np.int64], int]:
    """The stored frames [T] of a clip at fps frames a second, and how many of them are in time.

    As FFmpeg's filter `fps` takes them after a seek to start_s, seconds from the first frame:
    frames before it are not there; a stored frame goes to the place nearest to its time, the later
    one of two places if it lies between; a place shows the last frame that went there or before,
    and the first frame if there is none. From where the video ends on, its last frame is named but
    nothing is to be shown. A start behind the last frame moves to the second that it is in.
    """
    ticks, tick_s = _times(info)
    start_s = min(start_s, math.floor(int(ticks[-1]) * tick_s))
    first = int(np.searchsorted(ticks, math.ceil(start_s / tick_s)))
    stop = int(np.searchsorted(ticks, math.ceil((start_s + num_frames / fps) / tick_s)))
    places = _rounded(ticks[first : max(stop, first + 1)], tick_s * fps, start_s * fps)
    latest = np.searchsorted(places, np.arange(num_frames), side="right") - 1
    end_s = int(ticks[-1]) * tick_s + 1 / info.rate
    in_time = math.floor((end_s - start_s) * fps + Fraction(1, 2))
    return first + np.maximum(latest, 0), min(max(in_time, 1), num_frames)


def _times(info: VideoInfo) -> tuple[NDArray[np.int64], Fraction]:
    """Times of all frames in ticks from the first, and the seconds of a tick."""
    if info.pts is None:
        return np.arange(info.num_frames), 1 / info.rate
    return info.pts - info.pts[0], info.time_base


def _rounded(ticks: NDArray[np.int64], step: Fraction, shift: Fraction) -> NDArray[np.int64]:
    """ticks x step - shift, to the nearest whole number, up from the middle between two."""
    shift -= Fraction(1, 2)
    scale = math.lcm(step.denominator, shift.denominator)
    return (ticks * int(step * scale) - int(shift * scale)) // scale
