"""Every input map against the formula of its description, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import DataError
from ssvideo_core.testing import fill
from ssvideo_core.testing.inputs import Builder, Template

SHAPE = (6, 5)
STORED = {
    "labels": np.array([1, 0, 4]),
    "columns": np.array([4, 2, 0, 1, 3]),
    "group:": {"a": np.arange(2)},
}
PARAMS: dict[str, Any] = {
    "gt": {"map": "integers", "tag": "gt", "shape": [6], "high": 5},
    "gt_scale": 1,
    "gt_offset": 0,
}


def builder(**params: Any) -> Builder:
    entries = {("keys.json", "net"): {"w": [2]}}
    return Builder(STORED.__getitem__, lambda f, e: entries[f, e], {**PARAMS, **params})


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return e / e.sum(axis=1)[:, None]


X = fill.inputs("x", SHAPE)
X64 = X.astype(np.float64)


def expected_label_signal() -> np.ndarray:
    x = X.copy()
    for row in range(6):
        x[row, STORED["labels"][row // 2]] += np.float32(0.8)
    return x


def expected_class_signal() -> np.ndarray:
    x = X.copy()
    for row, label in enumerate(fill.rng_for("gt").integers(0, 5, (6,))):
        x[row, (label * 7 + 3) % 5] += np.float32(1.5)
    return x


def expected_abs_centre() -> np.ndarray:
    centre = fill.inputs("c", (5, 5))
    rows = [np.abs(X[i] + np.float32(0.5) * centre[STORED["labels"][i // 2]]) for i in range(6)]
    return np.stack(rows)


def expected_impulse() -> np.ndarray:
    x = np.zeros((2, 1, 5, 4))
    x[:, :, 2, 2] = 1
    return x


D = {"tag": "x", "shape": list(SHAPE)}
MAPS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "normal": ({}, X),
    "normal scaled": ({"map": "normal", "scale": 2.0}, X * np.float32(2)),
    "affine": ({"scale": 2.0, "shift": 1.0}, np.float32(2) * X + np.float32(1)),
    "relu": ({}, np.where(X > 0, X, 0)),
    "spectrum": ({}, np.float32(2) * np.abs(X)),
    "image": ({}, np.minimum(np.maximum(np.float32(0.5) + np.float32(0.25) * X, 0), 1)),
    "unit_last_axis": ({}, X / np.sqrt((X**2).sum(1))[:, None]),
    "unit_first_axis": ({}, X / np.sqrt((X**2).sum(0))[None]),
    "zeros": ({"tag": None}, np.zeros(SHAPE)),
    "impulse": ({"tag": None, "shape": [2, 1, 5, 4]}, expected_impulse()),
    "u8": ({}, np.trunc(np.clip(X * 50 + 128, 0, 255))),
    "frames_uint8": ({}, np.clip(np.rint(X * 50 + 128), 0, 255)),
    "i16": ({"amp": 30000}, np.trunc(np.clip(X * 30000, -32768, 32767))),
    "wave_int16": ({}, np.clip(np.rint(X * 3000), -32768, 32767)),
    "pixels": ({}, (1 / (1 + np.exp(-X64))).astype(np.float32)),
    "pixels_255": ({}, np.rint(np.clip(X * 60 + 128, 0, 255))),
    "integers": ({"high": 7}, fill.rng_for("x").integers(0, 7, SHAPE)),
    "permutation": ({"shape": [9]}, fill.rng_for("x").permutation(9)),
    "mix": (
        {"tags": ["x", "y"], "weights": [0.6, 0.8]},
        np.float32(0.6) * X + np.float32(0.8) * fill.inputs("y", SHAPE),
    ),
    "softmax": ({"scale": 2.0}, softmax(2 * X64)),
    "joint": (
        {"scale": 1.5},
        softmax(1.5 * (fill.inputs("x.v", SHAPE).astype(float) + fill.inputs("x.shared", SHAPE)))
        * softmax(1.5 * (fill.inputs("x.a", SHAPE).astype(float) + fill.inputs("x.shared", SHAPE))),
    ),
    "permuted_softmax": (
        {
            "scale": 2.0,
            "columns": {"array": "columns"},
            "noise_scale": 0.2,
            "noise": {"map": "normal", "tag": "n", "shape": list(SHAPE)},
        },
        softmax(2 * X64[:, [4, 2, 0, 1, 3]] + 0.2 * fill.inputs("n", SHAPE)),
    ),
    "label_signal": (
        {"signal": 0.8, "labels": {"array": "labels"}, "repeat": 2},
        expected_label_signal(),
    ),
    "class_signal": ({"signal": 1.5, "shift": 3}, expected_class_signal()),
    "abs_centre": (
        {
            "signal": 0.5,
            "classes": {"array": "labels"},
            "repeat": 2,
            "centre": {"map": "normal", "tag": "c", "shape": [5, 5]},
        },
        expected_abs_centre(),
    ),
}  # fmt: skip
EXACT_DTYPES = {"u8": np.uint8, "frames_uint8": np.uint8, "i16": np.int16, "wave_int16": np.int16}


@pytest.mark.parametrize("name", MAPS)
def test_map(name: str) -> None:
    options, expected = MAPS[name]
    description = {**D, "map": name.split()[0], **options}
    value = builder().build({key: item for key, item in description.items() if item is not None})
    np.testing.assert_allclose(value, expected, rtol=3e-7, atol=3e-7)
    assert value.dtype == EXACT_DTYPES.get(name, value.dtype)
    float64 = ("softmax", "joint", "permuted_softmax")
    if value.dtype.kind == "f":
        assert value.dtype == (np.float64 if name in float64 else np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalised_pixels_round_their_constants_first(dtype: str) -> None:
    shape = (2, 3, 2, 2, 2)
    p = (1 / (1 + np.exp(-fill.inputs("x", shape).astype(np.float64)))).astype(np.float32)
    expected = np.empty(shape, dtype)
    for c, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        m, s = (np.dtype(dtype).type(np.float32(v)) for v in (mean, std))
        expected[:, c] = (p[:, c].astype(dtype) - m) / s
    description = {"map": "pixels_normalised", "tag": "x", "shape": list(shape)}
    value = builder(dtype=dtype).build(description)
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, expected)


def test_descriptions_are_built_at_any_depth() -> None:
    value = builder().build(
        {"state": {"file": "keys.json", "entry": "net"}, "grads": [{"array": "group:"}], "n": None}
    )
    assert value["state"] == {"w": [2]}
    np.testing.assert_array_equal(value["grads"][0]["a"], [0, 1])
    assert value["n"] is None


def test_tags_with_places_become_functions_of_them() -> None:
    description = {"map": "normal", "tag": "a{t}.rank{r}", "shape": [3]}
    template = builder().build(description)
    assert isinstance(template, Template)
    np.testing.assert_array_equal(template(t=2, r=1, v=9), fill.inputs("a2.rank1", (3,)))
    np.testing.assert_array_equal(
        builder().build(description, t=2, r=0), fill.inputs("a2.rank0", (3,))
    )
    with pytest.raises(TypeError, match=r"the tag 'a\{t\}.rank\{r\}' needs r"):
        template(t=2)


def test_strings_with_other_braces_stay() -> None:
    assert builder().build({"class_tag": "{tag}.{label}"}) == {"class_tag": "{tag}.{label}"}


def test_an_unknown_map_is_refused() -> None:
    with pytest.raises(DataError, match="input map 'cubic' is unknown; known maps: abs_centre"):
        builder().build({"map": "cubic", "tag": "x", "shape": [2]})
