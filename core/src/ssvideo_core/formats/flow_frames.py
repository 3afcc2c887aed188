"""Optical flow as pictures, in the coding of CoCLR and ViCC.

The published checkpoints expect TV-L1 between frames at their stored size: about 0.3 pictures a
second of 340 x 256 pixels and one core. `convert_flow` makes the pictures of a data set,
`frame_folders` reads them. Needs opencv-contrib-python-headless (extra `flow`). OpenCV 4 has the
methods too, but where motion can be followed its TV-L1 is up to 0.2 pixels from that of 5.0, which
the reference values are of; where it cannot, both are arbitrary.

Axes: H, W pixels; frames are [H, W, 3] uint8 RGB, flow is [H, W, (x, y)].
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError, DecodeError
from ssvideo_core.extras import optional_module

METHODS = ("tvl1", "dis")
RECORD = "flow.json"  # in a folder of such pictures
BOUND = 20  # pixels at the size of the frames; longer flow is cut
QUALITY = 100
# OpenCV's defaults, which the originals used; stated, so that other versions have them too.
TVL1 = {
    "Tau": 0.25,
    "Lambda": 0.15,
    "Theta": 0.3,
    "ScalesNumber": 5,
    "WarpingsNumber": 5,
    "Epsilon": 0.01,
    "InnerIterations": 30,
    "OuterIterations": 10,
    "ScaleStep": 0.8,
    "Gamma": 0.0,
    "MedianFiltering": 5,
}

FlowMethod = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def opencv() -> Any:
    """OpenCV with its contrib modules. Raises ConfigError when it is not installed."""
    module = optional_module("cv2", "flow")
    if not hasattr(getattr(module, "optflow", None), "createOptFlow_DualTVL1"):
        raise ConfigError(
            "optical flow: the module cv2 is OpenCV without its contrib modules; uninstall that "
            "package, then pip install 'ssvideo-core[flow]'"
        )
    return module


def frame_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) with the shorter side at `short_side` pixels, the longer one rounded down."""
    if width >= height:
        return short_side * width // height, short_side
    return short_side, short_side * height // width


def resized(frame: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """A frame at its `frame_size`, bilinear without smoothing, as the originals store frames."""
    height, width = frame.shape[:2]
    scaled: NDArray[np.uint8] = opencv().resize(frame, frame_size(width, height, short_side))
    return scaled


def grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W] uint8: 0.299 red, 0.587 green and 0.114 blue, which is what flow is estimated from."""
    cv2 = opencv()
    luma: NDArray[np.uint8] = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return luma


def flow_method(name: str) -> FlowMethod:
    """A function of two grey frames [H, W] uint8 of one size: float32 flow from the first to the
    second, in pixels.

    name: "tvl1", or "dis", which is about 100 times as fast and 0.2 pixels from TV-L1 on average.
    OpenCV uses one thread from here on, in the whole process: more do not help TV-L1, and the
    numbers of DIS depend on them. The function raises DecodeError for frames that are too small.
    """
    cv2 = opencv()
    cv2.setNumThreads(1)
    if name == "tvl1":
        method = cv2.optflow.createOptFlow_DualTVL1()
        for setting, value in TVL1.items():
            getattr(method, f"set{setting}")(value)
    elif name == "dis":
        method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    else:
        raise ConfigError(f"the flow method is '{name}', expected {' or '.join(METHODS)}")

    def estimate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            flow: NDArray[np.float32] = method.calc(first, second, None)
        except cv2.error as error:
            height, width = first.shape
            raise DecodeError(f"{name} of {height} x {width} pixels: {error}") from None
        return flow

    return estimate


def quantise(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """-BOUND to BOUND pixels as 0 to 255, to the nearest, halves to even: no flow is 128."""
    cut = np.clip(flow, -BOUND, BOUND) + np.float32(BOUND)
    levels: NDArray[np.uint8] = np.rint(cut * np.float32(255 / (2 * BOUND))).astype(np.uint8)
    return levels


def encode_flow(levels: NDArray[np.uint8]) -> bytes:
    """A JPEG of quantised flow [H, W, (x, y)]: red is 128, green is y, blue is x.

    Four pixels share their colour (4:2:0), so that what is read back differs by some levels, and
    red from 128; the published checkpoints were trained on that.
    """
    cv2 = opencv()
    red = np.full(levels.shape[:2], 128, np.uint8)
    # OpenCV takes blue, green, red.
    _, jpeg = cv2.imencode(".jpg", np.dstack([levels, red]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(jpeg)


def is_unfinished(out: Path) -> bool:
    """Whether `convert_flow` began this folder and has not finished it."""
    try:
        stored = json.loads((out / RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("complete") is False
