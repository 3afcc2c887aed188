"""Facts of a video, and what is asked of the views that are drawn for it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from ssvideo_core.views import VideoInfo, View

TICKS = 512  # between two frames


def video_of(rate: int) -> VideoInfo:
    """300 frames of 240 x 320 pixels, and sound from the first to the last."""
    return VideoInfo(
        video_id="a.mp4",
        num_frames=300,
        header_frames=300,
        rate=Fraction(rate),
        time_base=Fraction(1, TICKS * rate),
        duration=300 * TICKS,
        pts=np.arange(300) * TICKS,
        height=240,
        width=320,
        sound_rate_hz=44100,
        sound_start_s=0.0,
        sound_duration_s=300 / rate,
    )


def values(views: Sequence[View], name: str) -> np.ndarray:
    """A param of all views, along the first axis."""
    return np.stack([view.params[name] for view in views])


def assert_equal_pictures(a: View, b: View, *, but: Sequence[str] = ()) -> None:
    """Frames, boxes and the params that both have."""
    np.testing.assert_array_equal(a.frames, b.frames)
    assert a.box == b.box
    for name in (a.params.keys() & b.params.keys()) - set(but):
        np.testing.assert_array_equal(a.params[name], b.params[name], err_msg=name)


def assert_equal_views(a: View, b: View, *, but: Sequence[str] = ()) -> None:
    """Everything, sound too."""
    assert_equal_pictures(a, b, but=but)
    assert a.sound == b.sound
    assert a.params.keys() == b.params.keys()
