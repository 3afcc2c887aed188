"""What the originals do for each sample: unpack the whole video, decode the wanted frames."""

from __future__ import annotations

import io

import msgpack
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def unpack_all(value: bytes) -> list[bytes]:
    """Every frame's bytes, copied."""
    frames: list[bytes] = msgpack.unpackb(value, raw=True)
    return frames


def by_pillow(jpeg: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"))
