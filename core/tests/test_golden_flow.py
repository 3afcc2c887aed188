"""Optical flow and frame sizes of the original extractors.

One of the pairs moves further than TV-L1 can follow. There a single grey level of one pixel changes
half of the picture, so its values hold for the OpenCV that made them (5.0, x86-64 with AVX2);
OpenCV 4 meets the tolerances on the other pair only.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssvideo_core.formats.flow_frames import (
    BOUND,
    TVL1,
    flow_method,
    frame_size,
    grey,
    quantise,
    resized,
)
from ssvideo_core.testing.cases import Case, load_cases, reference_cases
from ssvideo_core.testing.rekey import rekey

KINDS = ["flow_tvl1", "flow_quantise", "frame_size", "frame_resize"]
vicc = reference_cases("vicc", kinds=KINDS)

SETTINGS = {
    "tau": "Tau",
    "lambda": "Lambda",
    "theta": "Theta",
    "scales": "ScalesNumber",
    "warps": "WarpingsNumber",
    "epsilon": "Epsilon",
    "inner_iterations": "InnerIterations",
    "outer_iterations": "OuterIterations",
    "scale_step": "ScaleStep",
    "gamma": "Gamma",
    "median_filtering": "MedianFiltering",
}


def needs_opencv() -> None:
    if find_spec("cv2") is None:
        pytest.skip("needs opencv-contrib-python-headless")


def rgb(bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bgr[..., ::-1])


@vicc.kind("flow_tvl1")
def _(case: Case) -> dict[str, Any]:
    needs_opencv()
    assert case.bound == BOUND
    assert {ours: case[theirs] for theirs, ours in SETTINGS.items()} == TVL1
    frames = [grey(rgb(frame)) for frame in case.frames_bgr]
    flow = flow_method("tvl1")(*frames)
    sparse = flow[:: case.stride, :: case.stride]
    return {"gray": np.stack(frames), "flow_float": sparse, "quantised": quantise(flow)}


@vicc.kind("flow_quantise")
def _(case: Case) -> dict[str, Any]:
    assert case.bound == BOUND
    return {"q": quantise(case.flow)}


@vicc.kind("frame_size")
def _(case: Case) -> dict[str, Any]:
    return {"size": frame_size(case.width, case.height, case.short_side)}


@vicc.kind("frame_resize")
def _(case: Case) -> dict[str, Any]:
    needs_opencv()
    return {"resized_bgr": rgb(resized(rgb(case.frame_bgr), case.short_side))}


test_vicc = vicc.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    if not vicc.cases:
        pytest.skip("this folder has none of these kinds")
    others = {case.kind for case in load_cases(vicc.folder)} - set(KINDS)
    moved = vicc.moved(rekey(vicc.folder, tmp_path / "moved", drop=others))
    assert len(moved.cases) == len(vicc.cases)
    for case in moved.cases:
        moved.check(case, tmp_path)
