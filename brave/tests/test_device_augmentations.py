from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from brave.device_augmentations import augment_view, batch_inputs
from brave.log_mel import log_mel
from brave.sampling import Box
from brave.view_sampling import draw_kernel, padded_kernel, picture_params, resize_plan
from brave.views import ViewSpec
from numpy.typing import NDArray
from ssvideo_core.samples import Sample, collate
from ssvideo_core.views import Clip

_spec = importlib.util.spec_from_file_location(
    "plain_augmentations", Path(__file__).with_name("plain_augmentations.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

S, T = 20, 2
NARROW = ViewSpec("narrow", "rgb", T, 2, S, "tsm_resnet")
VIDEO = ViewSpec("video", "rgb", T, 4, S, "tsm_resnet")
FLOW = ViewSpec("flow", "flow", T, 4, S, "tsm_resnet")
SOUND = ViewSpec("audio", "sound", T, 4, S, "audio_resnet")
BOXES = [Box(0, 0, 17, 30), Box(3, 5, 24, 13), Box(2, 1, 20, 20), Box(0, 4, 57, 51)]
FLAGS = [
    {"flip": True, "colour": False, "grey": False},
    {"flip": False, "colour": True, "grey": False},
    {"flip": False, "colour": False, "grey": True},
    {"flip": True, "colour": True, "grey": True},
]
LOOK = {"brightness": 0.1, "saturation": 0.7, "contrast": 1.3, "hue": -0.15}
KERNELS = [1, 3, 11, 7]


@pytest.fixture(scope="module")
def video() -> NDArray[np.uint8]:
    # Not too bright nor dark: the plain colours are those of values in [0, 1].
    return np.random.default_rng(0).integers(1, 200, (T, 60, 60, 3), dtype=np.uint8)


def crop(video: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return video[:, box.y : box.y + box.height, box.x : box.x + box.width]


def draws(spec: ViewSpec) -> list[dict[str, Any]]:
    made = []
    for number, (box, flags, size) in enumerate(zip(BOXES, FLAGS, KERNELS, strict=True)):
        rng = np.random.default_rng(number)
        drawn = dict(picture_params(spec, box, rng))
        if spec.modality == "rgb":
            values = {name: np.array(value) for name, value in (LOOK | flags).items()}
            drawn |= {name: value.astype(drawn[name].dtype) for name, value in values.items()}
        if "kernel" in drawn:
            drawn["drawn_kernel"] = draw_kernel(size, rng)
            drawn["kernel"] = padded_kernel(drawn["drawn_kernel"])
            drawn["kernel_size"] = np.array(size, np.int32)
        made.append(drawn)
    return made


def batch(
    video: NDArray[np.uint8], drawn: list[dict[str, Any]], fill: int = 0
) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
    clips = np.full((len(BOXES), T, 2 * S, 2 * S, 3), fill, np.uint8)
    params = []
    for clip, box, draw in zip(clips, BOXES, drawn, strict=True):
        rows, columns, grid = resize_plan(box, S)
        clip[:, : len(rows), : len(columns)] = video[:, rows[:, None], columns]
        params.append({**grid, **{k: v for k, v in draw.items() if k != "drawn_kernel"}})
    return clips, {name: np.stack([one[name] for one in params]) for name in params[0]}


@pytest.mark.parametrize("spec", [NARROW, VIDEO], ids=["narrow", "broad"])
def test_clips_are_those_of_the_plain_version(spec: ViewSpec, video: NDArray[np.uint8]) -> None:
    drawn = draws(spec)
    got = augment_view(*batch(video, drawn), spec=spec)
    assert got.shape == (len(BOXES), T, S, S, 3) and got.dtype == np.float32
    for clip, box, draw in zip(got, BOXES, drawn, strict=True):
        np.testing.assert_allclose(clip, plain.rgb_clip(crop(video, box), draw, S), atol=2e-5)


def test_flow_is_that_of_the_plain_version(video: NDArray[np.uint8]) -> None:
    drawn = draws(FLOW)
    assert {bool(draw["flip"]) for draw in drawn} == {True, False}
    got = augment_view(*batch(video, drawn), spec=FLOW)
    assert got.shape == (len(BOXES), T, S, S, 2)
    for clip, box, draw in zip(got, BOXES, drawn, strict=True):
        expected = plain.flow_clip(crop(video, box), bool(draw["flip"]), S)
        np.testing.assert_allclose(clip, expected, atol=1e-5)


def test_a_clip_depends_neither_on_its_batch_nor_on_what_lies_outside(
    video: NDArray[np.uint8],
) -> None:
    drawn = draws(VIDEO)
    got = np.asarray(augment_view(*batch(video, drawn), spec=VIDEO))
    frames, params = batch(video, drawn, fill=77)
    order = [2, 0, 3, 1]
    other = augment_view(frames[order], {k: v[order] for k, v in params.items()}, spec=VIDEO)
    np.testing.assert_array_equal(other, got[order])


def test_nothing_is_drawn_on_the_device(video: NDArray[np.uint8]) -> None:
    for spec in (NARROW, VIDEO):
        frames, params = batch(video, draws(spec))
        jaxpr = str(jax.make_jaxpr(partial(augment_view, spec=spec))(frames, params))
        assert "random" not in jaxpr and "threefry" not in jaxpr


def test_inputs_of_a_batch_are_named_as_its_views(video: NDArray[np.uint8]) -> None:
    sound = np.random.default_rng(1).normal(size=800).astype(np.float32)
    frames, params = batch(video, draws(NARROW))
    samples = [
        Sample(
            index,
            0,
            (Clip(frames[index], None), Clip(None, sound * (index + 1))),
            ({name: values[index] for name, values in params.items()}, {}),
        )
        for index in range(len(BOXES))
    ]
    made = collate(samples)
    inputs = batch_inputs(made, [NARROW, replace(SOUND, name="noise")], audio_rate_hz=16_000)
    assert list(inputs) == ["narrow", "noise"]
    np.testing.assert_array_equal(inputs["narrow"], augment_view(frames, params, spec=NARROW))
    assert inputs["noise"].shape == (len(BOXES), 5, 80)
    expected = log_mel(made.views[1].sound, rate_hz=16_000)
    np.testing.assert_allclose(inputs["noise"], expected, atol=1e-4)
