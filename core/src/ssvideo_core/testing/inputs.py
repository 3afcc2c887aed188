"""Turn the input descriptions of reference cases into arrays.

A description is `{"array": NAME}` (stored), `{"file": F, "entry": E}` (an entry of a JSON file),
or `{"map": MAP, "tag": TAG, "shape": SHAPE, ...}`: `fill.inputs(tag, shape)`, then the map.
A tag may hold the places {t} step, {s} step of the epoch, {v} view, {r} rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import DataError
from ssvideo_core.testing import fill

Array = NDArray[Any]
Spec = Mapping[str, Any]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PLACE = re.compile(r"\{([tsvr])\}")


@dataclass(frozen=True)
class Builder:
    """Builds described inputs of one case.

    read: stored value by full name. entry: (file, entry) to a member of a JSON file.
    params: the raw params of the case; three maps depend on other params (dtype, gt).
    """

    read: Callable[[str], Any]
    entry: Callable[[str, str], Any]
    params: Mapping[str, Any]

    def build(self, value: Any, **places: int) -> Any:
        """`value` with every description inside it, at any depth, replaced by what it describes.

        places: values for {t} {s} {v} {r}. A description with a place that is not given becomes
        a `Template`, a function of its places. Raises DataError for a map that is unknown.
        """
        if isinstance(value, list):
            return [self.build(item, **places) for item in value]
        if not isinstance(value, Mapping):
            return value
        if value.keys() == {"array"}:
            return self.read(value["array"])
        if value.keys() == {"file", "entry"}:
            return self.entry(value["file"], value["entry"])
        if "map" not in value or "shape" not in value:
            return {key: self.build(item, **places) for key, item in value.items()}
        if places_in(value) - places.keys():
            return Template(self, value, places)
        return self._mapped(_put(value, places))

    def _mapped(self, spec: Spec) -> Array:
        name = spec["map"]
        shape = tuple(spec["shape"])
        if name in PLAIN_MAPS:
            return PLAIN_MAPS[name](spec, shape)
        if name in LINKED_MAPS:
            return LINKED_MAPS[name](self, spec, shape)
        known = ", ".join(sorted(PLAIN_MAPS | LINKED_MAPS))
        raise DataError(f"input map '{name}' is unknown; known maps: {known}")


@dataclass(frozen=True)
class Template:
    """An input whose tag has places: `clips(t=0, r=1)` builds it. Further places are ignored."""

    builder: Builder
    spec: Spec
    places: Mapping[str, int]

    def __call__(self, **places: int) -> Array:
        places = {**self.places, **places}
        missing = sorted(places_in(self.spec) - places.keys())
        if missing:
            raise TypeError(f"the tag '{self.spec.get('tag')}' needs {', '.join(missing)}")
        return self.builder.build(self.spec, **places)  # type: ignore[no-any-return]


def places_in(value: Any) -> set[str]:
    """The places ("t", "s", "v", "r") in the strings of `value`, at any depth."""
    if isinstance(value, str):
        return set(PLACE.findall(value))
    items = value.values() if isinstance(value, Mapping) else value
    return set().union(*map(places_in, items)) if isinstance(value, Mapping | list) else set()


def _put(value: Any, places: Mapping[str, int]) -> Any:
    if isinstance(value, str):
        return PLACE.sub(lambda found: str(places[found[1]]), value)
    if isinstance(value, Mapping):
        return {key: _put(item, places) for key, item in value.items()}
    return [_put(item, places) for item in value] if isinstance(value, list) else value


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    e: NDArray[np.float64] = np.exp(x - x.max(-1, keepdims=True))
    total: NDArray[np.float64] = e.sum(-1, keepdims=True)
    return e / total


def pixels(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function in float64, rounded to float32: values in (0, 1)."""
    return (1.0 / (1.0 + np.exp(-x.astype(np.float64)))).astype(np.float32)


def normalise_pixels(p: NDArray[np.float32], dtype: str = "float32") -> Array:
    """(p − mean) / std over axis 1 of (B, 3, ...); the constants are rounded to float32 first.

    float64 training cases are chaotic: the order of rounding and arithmetic is part of the input.
    """
    along = (-1, *(1,) * (p.ndim - 2))
    mean, std = (
        np.asarray(c, np.float32).astype(dtype).reshape(along)
        for c in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (p.astype(dtype) - mean) / std  # type: ignore[no-any-return]


def _x(spec: Spec, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return fill.inputs(spec["tag"], shape)


def _scaled64(spec: Spec, shape: tuple[int, ...], part: str = "") -> NDArray[np.float64]:
    x = fill.inputs(spec["tag"] + part, shape).astype(np.float64)
    x *= spec["scale"]
    return x


def _unit(axis: int) -> Callable[[Spec, tuple[int, ...]], Array]:
    def unit(spec: Spec, shape: tuple[int, ...]) -> Array:
        x = _x(spec, shape)
        return x / np.linalg.norm(x, axis=axis, keepdims=True)  # type: ignore[no-any-return]

    return unit


def _impulse(spec: Spec, shape: tuple[int, ...]) -> Array:
    x = np.zeros(shape, np.float32)
    x[..., shape[-2] // 2, shape[-1] // 2] = 1.0
    return x


def _mix(spec: Spec, shape: tuple[int, ...]) -> Array:
    x = np.zeros(shape, np.float32)
    for tag, weight in zip(spec["tags"], spec["weights"], strict=True):
        x += np.float32(weight) * fill.inputs(tag, shape)
    return x


def _joint(spec: Spec, shape: tuple[int, ...]) -> Array:
    shared = _scaled64(spec, shape, ".shared")
    video, audio = (softmax(_scaled64(spec, shape, part) + shared) for part in (".v", ".a"))
    return video * audio


def _permuted_softmax(b: Builder, spec: Spec, shape: tuple[int, ...]) -> Array:
    noise = spec["noise_scale"] * b.build(spec["noise"]).astype(np.float64)
    return softmax(_scaled64(spec, shape)[:, b.build(spec["columns"])] + noise)


def _label_signal(b: Builder, spec: Spec, shape: tuple[int, ...]) -> Array:
    x = _x(spec, shape)
    columns = np.repeat(b.build(spec["labels"]), spec["repeat"])
    x[np.arange(shape[0]), columns] += np.float32(spec["signal"])
    return x


def _class_signal(b: Builder, spec: Spec, shape: tuple[int, ...]) -> Array:
    x = _x(spec, shape)
    classes = (b.build(b.params["gt"]) - b.params["gt_offset"]) // b.params["gt_scale"]
    x[np.arange(shape[0]), (classes * 7 + spec["shift"]) % shape[1]] += np.float32(spec["signal"])
    return x


def _abs_centre(b: Builder, spec: Spec, shape: tuple[int, ...]) -> Array:
    classes = np.repeat(b.build(spec["classes"]), spec["repeat"])
    centre = b.build(spec["centre"])[classes]
    return np.abs(_x(spec, shape) + np.float32(spec["signal"]) * centre)  # type: ignore[no-any-return]


def _pixels_normalised(b: Builder, spec: Spec, shape: tuple[int, ...]) -> Array:
    dtype = "float64" if b.params.get("dtype") == "float64" else "float32"
    return normalise_pixels(pixels(_x(spec, shape)), dtype)


PLAIN_MAPS: dict[str, Callable[[Spec, tuple[int, ...]], Array]] = {
    "normal": lambda d, s: _x(d, s) * np.float32(d.get("scale", 1.0)),
    "affine": lambda d, s: np.float32(d["scale"]) * _x(d, s) + np.float32(d["shift"]),
    "relu": lambda d, s: np.maximum(_x(d, s), 0),
    "spectrum": lambda d, s: 2 * np.abs(_x(d, s)),
    "image": lambda d, s: np.clip(0.5 + 0.25 * _x(d, s), 0, 1),
    "unit_last_axis": _unit(-1),
    "unit_first_axis": _unit(0),
    "zeros": lambda d, s: np.zeros(s, np.float32),
    "impulse": _impulse,
    "u8": lambda d, s: np.clip(_x(d, s) * 50 + 128, 0, 255).astype(np.uint8),
    "frames_uint8": lambda d, s: np.clip(np.round(50 * _x(d, s) + 128), 0, 255).astype(np.uint8),
    "i16": lambda d, s: np.clip(_x(d, s) * d["amp"], -32768, 32767).astype(np.int16),
    "wave_int16": lambda d, s: np.clip(np.round(3000 * _x(d, s)), -32768, 32767).astype(np.int16),
    "pixels": lambda d, s: pixels(_x(d, s)),
    "pixels_255": lambda d, s: np.round(np.clip(60 * _x(d, s) + 128, 0, 255)),
    "integers": lambda d, s: fill.rng_for(d["tag"]).integers(0, d["high"], s),
    "permutation": lambda d, s: fill.rng_for(d["tag"]).permutation(s[0]),
    "mix": _mix,
    "softmax": lambda d, s: softmax(_scaled64(d, s)),
    "joint": _joint,
}
LINKED_MAPS: dict[str, Callable[[Builder, Spec, tuple[int, ...]], Array]] = {
    "pixels_normalised": _pixels_normalised,
    "permuted_softmax": _permuted_softmax,
    "label_signal": _label_signal,
    "class_signal": _class_signal,
    "abs_centre": _abs_centre,
}
