"""Videos whose frames are JPEG files of their own, wherever those lie.

Only the frames that views want are decoded, by simplejpeg with the accurate transform: equal to
Pillow's to the bit, but a damaged picture is an error. Needs simplejpeg (extra `frames`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import DecodeError, NoSoundError
from ssvideo_core.extras import optional_module
from ssvideo_core.video import check_view, crop
from ssvideo_core.views import Clip, VideoInfo, View

MAX_PIXELS = 1 << 26  # of a frame: a header that claims more is refused, not believed


class Jpeg(NamedTuple):
    """One frame. place: what messages call it."""

    place: str
    data: bytes | memoryview

    def size(self) -> tuple[int, int]:
        """(height, width) as the header says. Raises DecodeError."""
        try:
            height, width, *_ = optional_module("simplejpeg", "frames").decode_jpeg_header(
                self.data
            )
        except ValueError as error:
            raise DecodeError(f"{self.place} is no JPEG: {error}") from None
        if height * width > MAX_PIXELS:
            raise DecodeError(
                f"{self.place} claims {height} x {width} pixels, expected at most {MAX_PIXELS}"
            )
        return height, width

    def decode(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 RGB. Raises DecodeError, also for another size than `size`."""
        if (found := self.size()) != size:
            raise DecodeError(
                f"{self.place} has {found[0]} x {found[1]} pixels, expected {size[0]} x {size[1]} "
                "as in the first frame of the video"
            )
        try:
            picture: NDArray[np.uint8] = optional_module("simplejpeg", "frames").decode_jpeg(
                self.data
            )
        except ValueError as error:
            raise DecodeError(f"{self.place} cannot be decoded: {error}") from None
        return picture


def frames_info(video_id: str, first: Jpeg, num_frames: int, rate: Fraction) -> VideoInfo:
    """The facts of a video without times and sound; its size is that of its first frame."""
    height, width = first.size()
    return VideoInfo(
        video_id=video_id,
        num_frames=num_frames,
        header_frames=None,
        rate=rate,
        time_base=1 / rate,
        duration=None,
        pts=None,
        height=height,
        width=width,
        sound_rate_hz=None,
        sound_start_s=0.0,
        sound_duration_s=0.0,
    )


def read_jpegs(
    place: Path, info: VideoInfo, views: Sequence[View], jpeg_of: Callable[[int], Jpeg]
) -> list[Clip]:
    """What each view names, cropped and resized as `video.read_views` does.

    place: what messages call the video. jpeg_of: the frame of a number, asked for once. Raises what
    `video.read_views` raises for views, DecodeError for frames that are damaged or of another
    size, and NoSoundError for a view with sound.
    """
    clips: list[NDArray[np.uint8]] = []
    places: dict[int, list[tuple[int, int]]] = {}
    for number, view in enumerate(views):
        check_view(place, info, view)
        if view.sound is not None or view.frames is None:
            raise NoSoundError(f"{place}: no sound: frames in JPEG files have none")
        size = view.size or (view.box[2:] if view.box else (info.height, info.width))
        clips.append(np.empty((len(view.frames), *size, 3), np.uint8))
        for position, frame in enumerate(view.frames.tolist()):
            places.setdefault(frame, []).append((number, position))
    for frame, wanted in sorted(places.items()):
        picture = jpeg_of(frame).decode((info.height, info.width))
        made: dict[object, NDArray[np.uint8]] = {}
        for number, position in wanted:
            view = views[number]
            key = view.box, view.size, view.resample
            if key not in made:
                made[key] = crop(picture, view)
            clips[number][position] = made[key]
    return [Clip(frames, None) for frames in clips]
