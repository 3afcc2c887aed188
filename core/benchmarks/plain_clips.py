"""Clips as loaders have them: each one opens the file, seeks, and decodes to its last frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ssvideo_core.views import VideoInfo, View


def read_views(path: Path, info: VideoInfo, views: Sequence[View]) -> list[NDArray[np.uint8]]:
    """[T, S, S, 3] a view: cropped, then resized by Pillow (bilinear)."""
    return [read_view(path, info, view) for view in views]


def read_view(path: Path, info: VideoInfo, view: View) -> NDArray[np.uint8]:
    assert view.frames is not None and view.box is not None and info.pts is not None
    wanted = info.pts[view.frames].tolist()
    found = {}
    top, left, height, width = view.box
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(min(wanted), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                box = (left, top, left + width, top + height)
                resized = picture.crop(box).resize(view.size, Image.Resampling.BILINEAR)
                found[frame.pts] = np.asarray(resized)
            if frame.pts is not None and frame.pts >= max(wanted):
                break
    return np.stack([found[pts] for pts in wanted])
