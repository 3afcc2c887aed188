"""Reading a video: one open, one forward pass over the frames that its views want.

PyAV delivers frames as stored. Here they get their number, their upright position, their crop and
size; `containers` says when a video ends, `probing` what is known of it before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ssvideo_core.containers import decode, open_container, packets, video_stream
from ssvideo_core.errors import DecodeError
from ssvideo_core.probing import probe, quarter_turns, upright_size
from ssvideo_core.sound import read_sound
from ssvideo_core.video_index import VideoIndex, default_index_path
from ssvideo_core.views import Clip, VideoInfo, View

__all__ = ["VideoIndex", "default_index_path", "probe", "read_views"]

RESAMPLES = ("bilinear", "bicubic", "area")

# Frames between wanted ones from which a seek costs less than decoding them.
_LONG_GAP = 48

# Codecs whose frames that no other frame needs may stay undecoded: the others are equal to the bit.
_SKIPPABLE = {"h264"}


def read_views(path: Path, info: VideoInfo, views: Sequence[View]) -> list[Clip]:
    """What each view names, in order.

    info: of this file, from `probe` or a `VideoIndex`.
    Frames are [T, h, w, 3] uint8 RGB, upright, cropped to the view's box, then resized by Pillow
    if the view has a size ("bilinear", "bicubic", "area": mean of the covered pixels). They are
    equal to those of decoding the file from its beginning. Sound: see `sound.read_sound`.

    The union of all wanted frames is decoded once, forwards, from the key frame before the first
    (from the beginning where times are unusable) to the last, without long gaps in which another
    key frame lies; no other frame is converted. The file is opened once; again only to count frames
    from the beginning after sound was read, or when a key frame was no clean start.

    Raises ValueError for a view that no video can fulfil or a box outside of the frame,
    DecodeError for a frame beyond the end and for one that cannot be decoded, NoSoundError when
    sound is wanted and there is none.
    """
    pictures = _Pictures(path, info, views)
    spans = [view.sound for view in views if view.sound is not None]
    with open_container(path) as container:
        # Sound first: it must be decoded from a fresh start, and pictures can be sought.
        sounds = iter(read_sound(container, path, info, spans) if spans else [])
        if pictures.wanted and info.pts is not None:
            _read_sought(container, path, info, pictures, fresh=not spans)
        elif pictures.wanted and not spans:
            _read_forwards(container, path, info, pictures)
    if pictures.wanted:
        with open_container(path) as container:
            _read_forwards(container, path, info, pictures)
    clips = []
    for view, frames in zip(views, pictures.frames, strict=True):
        sound, missing = (None, 0) if view.sound is None else next(sounds)
        clips.append(Clip(frames, sound, missing))
    return clips


class _Place(NamedTuple):
    view: int
    position: int


class _Pictures:
    """The frames of all views, filled as decoded frames arrive.

    frames: for each view [T, h, w, 3] uint8 or None. wanted: where each frame still to come goes.
    """

    def __init__(self, path: Path, info: VideoInfo, views: Sequence[View]) -> None:
        self._path, self._info, self._views = path, info, views
        self._reformatter = VideoReformatter()
        self.frames: list[NDArray[np.uint8] | None] = []
        self.wanted: dict[int, list[_Place]] = {}
        for number, view in enumerate(views):
            check_view(path, info, view)
            if view.frames is None:
                self.frames.append(None)
                continue
            size = view.size or (view.box[2:] if view.box else (info.height, info.width))
            self.frames.append(np.empty((len(view.frames), *size, 3), np.uint8))
            for position, frame in enumerate(view.frames.tolist()):
                self.wanted.setdefault(frame, []).append(_Place(number, position))

    def put(self, number: int, frame: VideoFrame) -> None:
        """Convert a wanted frame once, crop and resize it once for all equal views."""
        if upright_size(frame) != (self._info.height, self._info.width):
            found, expected = upright_size(frame), (self._info.height, self._info.width)
            raise DecodeError(
                f"{self._path}: frame {number} is {found[0]} x {found[1]} pixels, expected "
                f"{expected[0]} x {expected[1]}; the size changes, or the file did since its probe"
            )
        converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        stored: NDArray[Any] = converted.to_ndarray()
        upright = np.rot90(stored, k=quarter_turns(frame))
        made: dict[object, NDArray[np.uint8]] = {}
        for place in self.wanted.pop(number):
            view, target = self._views[place.view], self.frames[place.view]
            assert target is not None, "only views with frames have places"
            key = view.box, view.size, view.resample
            if key not in made:
                made[key] = crop(upright, view)
            target[place.position] = made[key]


def crop(frame: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The view's box of a frame [H, W, 3] uint8, resized if the view has a size."""
    if view.box is not None:
        y, x, height, width = view.box
        frame = frame[y : y + height, x : x + width]
    if view.size is None or view.size == frame.shape[:2]:
        return frame
    from PIL import Image

    resample = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "area": Image.Resampling.BOX,
    }[view.resample]
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.resize(view.size[::-1], resample))


def check_view(path: Path, info: VideoInfo, view: View) -> None:
    """Raise what `read_views` raises for this view of this video before it is opened."""
    if view.frames is None and view.sound is None:
        raise ValueError(f"{path}: a view names neither frames nor sound")
    if view.frames is not None:
        if view.frames.ndim != 1 or view.frames.dtype.kind != "i" or not len(view.frames):
            raise ValueError(
                f"{path}: a view's frames are {view.frames.dtype} {view.frames.shape}, expected "
                "whole numbers [T]"
            )
        if view.frames.min() < 0:
            raise ValueError(f"{path}: frame {view.frames.min()} is wanted, expected 0 or more")
        if view.frames.max() >= info.num_frames:
            raise DecodeError(
                f"{path}: frame {view.frames.max()} is wanted, but the video ends after "
                f"{info.num_frames} frames"
            )
    if view.box is not None:
        y, x, height, width = view.box
        inside = y >= 0 and x >= 0 and y + height <= info.height and x + width <= info.width
        if not inside or height < 1 or width < 1:
            raise ValueError(
                f"{path}: box {view.box} (y, x, height, width) does not lie in the frame of "
                f"{info.height} x {info.width} pixels"
            )
    if view.size is not None and min(view.size) < 1:
        raise ValueError(f"{path}: size {view.size} is wanted, expected 1 pixel or more")
    if view.resample not in RESAMPLES:
        raise ValueError(
            f"{path}: resample '{view.resample}' is unknown, expected one of {', '.join(RESAMPLES)}"
        )
    if view.sound is not None and (view.sound.num_samples < 1 or view.sound.rate_hz < 1):
        raise ValueError(
            f"{path}: {view.sound} is wanted, expected 1 sample or more at 1 Hz or more"
        )


def _read_sought(
    container: InputContainer, path: Path, info: VideoInfo, pictures: _Pictures, *, fresh: bool
) -> None:
    """Read from key frames before wanted frames; may leave frames unread.

    fresh: nothing has been read from the container. A key frame need not be a clean start (open
    groups of pictures), and some containers seek past it or to none. Then frames are missing, are
    flagged, or begin with one that is predicted from others (which decoders make up without a
    flag), and a pass from the beginning must decide.
    """
    assert info.pts is not None, "frames without times cannot be sought"
    stream = video_stream(container, path)
    numbers = sorted(pictures.wanted)
    with suppress(DecodeError):
        while numbers:
            if numbers[0] or not fresh:
                container.seek(int(info.pts[numbers[0]]), stream=stream)
            fresh = False
            stretch = _without_gaps(numbers, info.pts, stream)
            numbered = _numbered(container, stream, path, info, pictures)
            _read_stretch(numbered, path, pictures, last=stretch[-1])
            numbers = numbers[len(stretch) :]


def _without_gaps(
    numbers: Sequence[int], pts: NDArray[np.int64], stream: VideoStream
) -> Sequence[int]:
    """The first of these frames, up to a long gap with a key frame."""
    for count, (before, after) in enumerate(pairwise(numbers), 1):
        if after - before > _LONG_GAP:
            key = stream.index_entries.search_timestamp(int(pts[after]), backward=True)
            if key >= 0 and stream.index_entries[key].timestamp > pts[before]:
                return numbers[:count]
    return numbers


def _read_forwards(
    container: InputContainer, path: Path, info: VideoInfo, pictures: _Pictures
) -> None:
    """Decode forwards until no frame is wanted. Raises DecodeError when the video ends before."""
    for number, frame in _numbered(container, video_stream(container, path), path, info, pictures):
        if number in pictures.wanted:
            pictures.put(number, frame)
            if not pictures.wanted:
                return
    raise DecodeError(
        f"{path}: frame {min(pictures.wanted)} is wanted, but the video ends before it; "
        f"{info.num_frames} frames were expected"
    )


def _read_stretch(
    numbered: Iterator[tuple[int, VideoFrame]], path: Path, pictures: _Pictures, *, last: int
) -> None:
    """Take wanted frames up to `last`. Raises DecodeError for a start that is not whole."""
    for count, (number, frame) in enumerate(numbered):
        if count == 0 and frame.pict_type != PictureType.I:
            raise DecodeError(f"{path}: decoding does not begin with a whole picture")
        if number in pictures.wanted:
            pictures.put(number, frame)
        if number >= last:
            return


def _numbered(
    container: InputContainer, stream: VideoStream, path: Path, info: VideoInfo, pictures: _Pictures
) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their numbers; some that are not wanted may be left out.

    Without times, frames are counted, so the container must be at its beginning.
    """
    wanted_pts: set[int] = set()
    if info.pts is not None and stream.codec_context.codec.canonical_name in _SKIPPABLE:
        wanted_pts = set(info.pts[list(pictures.wanted)].tolist())
    for count, frame in enumerate(_frames(container, stream, path, wanted_pts)):
        yield count if info.pts is None else _number(frame, info.pts, path), frame


def _frames(
    container: InputContainer, stream: VideoStream, path: Path, wanted_pts: set[int]
) -> Iterator[VideoFrame]:
    """Decoded frames in output order. wanted_pts: if not empty, others may be left out."""
    context = stream.codec_context
    for packet in packets(container, [stream], path):
        if wanted_pts:
            context.skip_frame = "DEFAULT" if packet.pts in wanted_pts else "NONREF"
        yield from decode(packet, path)


def _number(frame: VideoFrame, pts: NDArray[np.int64], path: Path) -> int:
    number = -1 if frame.pts is None else int(np.searchsorted(pts, frame.pts))
    if not 0 <= number < len(pts) or pts[number] != frame.pts:
        raise DecodeError(f"{path}: a frame has the time {frame.pts}, which its probe did not find")
    return number
