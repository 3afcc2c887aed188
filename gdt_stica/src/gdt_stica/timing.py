"""Which frames and which samples a clip is made of: the arithmetic of the released code.

Pure functions of numbers, in the order of operations and the precision of the original, because
rounding decides which frame is taken.

Axes: T frames of a clip, N frames of a video.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def clip_length(fps: float, *, num_frames: int, target_fps: float, sample_rate: int = 1) -> float:
    """Stored frames that a clip lasts, a fraction in general.

    The clip shows num_frames frames, `sample_rate` apart at target_fps; fps: of the video.
    """
    return sample_rate * num_frames / target_fps * fps


def clip_start(index: int, num_clips: int, *, length: float, num_source_frames: int) -> int:
    """The stored frame at which clip `index` of num_clips begins.

    index: 0 to num_clips, shares of the time that a clip of `length` frames leaves free.
    """
    return int(max(num_source_frames - length, 0) * index / num_clips)


def decode_indices(
    start: float,
    *,
    length: float,
    num_frames: int,
    num_source_frames: int,
    duration: int | None,
    pts: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Frame numbers [T] int64 of a clip, ascending; T is num_frames.

    start: the stored frame, possibly a fraction, at which the clip begins; length: stored frames
        that it lasts. They become times, duration / num_source_frames ticks a frame.
    num_source_frames: what the container claims; duration: of the stream in ticks.
    pts: [N] int64 times of the frames that decode, ascending, in ticks from the first.

    First pass: the frames from the first that begins at `start` or later to the first past the
    end. Second pass: T places evenly from 0 to length - 1 among these, rounded down. A short video
    stays on its last frame. Without duration or pts there is no first pass: places are counted
    from the first of num_source_frames frames. A clip that begins past the last frame (a container
    that claims too many) shows the last one.
    """
    if duration is None or pts is None:
        first, kept, begin = 0, num_source_frames, start
    else:
        ticks_per_frame = duration / num_source_frames
        start_pts = int(start * ticks_per_frame)
        end_pts = int((start + length - 1) * ticks_per_frame)
        first = min(int(np.searchsorted(pts, start_pts)), len(pts) - 1)
        stop = min(int(np.searchsorted(pts, end_pts, side="right")) + 1, len(pts))
        kept, begin = max(stop - first, 1), 0.0
    places = _evenly(begin, begin + length - 1, num_frames)
    return first + np.clip(places, 0, kept - 1).astype(np.int64)


def sound_slice(
    start_s: float,
    *,
    num_samples: int,
    stored_samples: int,
    rate_hz: int,
    when_short: Literal["zeros", "released"] = "zeros",
) -> slice:
    """The samples from start_s on, moved back where the sound would end before num_samples.

    start_s: seconds from the first of stored_samples samples. Fewer than num_samples remain of a
    shorter sound, all of it under "zeros" (fill the rest with them).

    "released" keeps two slips: a start before the sound, and a sound shorter than the clip, give a
    negative first sample, which a slice counts from the end. Of a sound that is longer than half a
    clip only its last num_samples - stored_samples samples remain.
    """
    latest = stored_samples - num_samples
    first = min(round(start_s * rate_hz), latest)
    if when_short == "zeros":
        first = max(first, 0)
    return slice(first, min(first + num_samples, stored_samples))


def _evenly(start: float, end: float, count: int) -> NDArray[np.float32]:
    """`count` numbers from start to end in float32 steps from the nearer end.

    PyTorch's linspace by definition; its vectors add last bits of rounding that vary by machine.
    """
    first, last = np.float32(start), np.float32(end)
    if count == 1:
        return np.array([first])
    step = (last - first) / np.float32(count - 1)
    k = np.arange(count, dtype=np.float32)
    from_last: NDArray[np.float32] = last - step * (np.float32(count - 1) - k)
    return np.where(k < count // 2, first + step * k, from_last)
