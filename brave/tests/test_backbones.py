from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from brave.backbones import (
    MODALITIES,
    backbone_names,
    backbone_prefix,
    backbone_shapes,
    backbone_variables,
    held_modalities,
    loadable,
    make_network,
    random_tensors,
    stem_name,
    stem_width,
)
from flax.traverse_util import flatten_dict
from ssvideo_core.errors import WeightsError

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 1 / 64


def published(modality: str) -> dict[str, tuple[int, ...]]:
    """Of the original's key list, the names that begin as those of the modality's view."""
    lists = json.loads((GOLDEN / "checkpoint_va_w1.json").read_text())
    view = backbone_prefix(modality).partition("/")[0]
    return {
        f"{collection}/{module}/{name}": tuple(shape)
        for collection in ("params", "state")
        for module, entries in lists[collection].items()
        for name, shape in entries.items()
        if module.startswith(f"{view}/")
    }


@pytest.mark.parametrize(("modality", "size"), [("rgb", 23_500_352), ("sound", 23_494_080)])
def test_published_names_and_shapes(modality: str, size: int) -> None:
    shapes = backbone_shapes(modality, 1.0)
    assert dict(shapes) == published(modality)
    sizes = [math.prod(shape) for name, shape in shapes.items() if name.startswith("params/")]
    assert sum(sizes) == size


def test_flow_has_the_video_network_with_two_channels() -> None:
    renamed = {
        name.replace("narrow_video_embedding", "broad_flow_embedding"): shape
        for name, shape in backbone_shapes("rgb", WIDTH).items()
    }
    stem = f"params/{stem_name('flow')}"
    assert renamed[stem] == (7, 7, 3, 1)
    assert {**renamed, stem: (7, 7, 2, 1)} == backbone_shapes("flow", WIDTH)


@pytest.mark.parametrize("modality", MODALITIES)
def test_names_and_variables(modality: str) -> None:
    tensors = random_tensors(modality, WIDTH, seed=3)
    assert {name: a.shape for name, a in tensors.items()} == backbone_shapes(modality, WIDTH)
    variables = backbone_variables(tensors, modality)
    assert variables.keys() == {"params", "state"}
    back = backbone_names(variables, modality)
    assert back.keys() == tensors.keys()
    assert all(back[name] is tensors[name] for name in tensors)
    x = np.zeros((1, 9, 8) if modality == "sound" else (1, 2, 8, 8, 2 + (modality == "rgb")), "f4")
    assert make_network(modality, WIDTH).apply(variables, x).shape == (1, 32)
    other = random_tensors(modality, WIDTH, seed=4)[f"params/{stem_name(modality)}"]
    assert np.abs(other - tensors[f"params/{stem_name(modality)}"]).max() > 0.01


def test_what_is_held() -> None:
    params = {
        name.removeprefix("params/"): a
        for modality in ("flow", "sound")
        for name, a in random_tensors(modality, 1 / 32, seed=0).items()
    }
    assert held_modalities(params) == ("sound", "flow")
    assert stem_width(params, "sound", Path("w")) == 1 / 32
    with pytest.raises(
        WeightsError, match=r"no backbone of rgb; those that are there: sound, flow;"
    ):
        stem_width(params, "rgb", Path("w"))
    params[stem_name("flow")] = np.zeros((7, 7, 3, 2), np.float32)
    assert held_modalities(params) == ("sound",)
    with pytest.raises(WeightsError, match=r"w: '.*' is \(7, 7, 3, 2\), expected \(7, 7, 2, 64"):
        stem_width(params, "flow", Path("w"))


def test_dtypes_of_what_is_loaded() -> None:
    tensors = random_tensors("sound", WIDTH, seed=0)
    assert len(flatten_dict(backbone_variables(tensors, "sound"))) == len(tensors)
    found = loadable(
        {
            name: a.astype(np.float16 if a.dtype.kind == "f" else np.int64)
            for name, a in tensors.items()
        },
        backbone_shapes("sound", WIDTH),
    )
    assert {a.dtype for name, a in found.items() if name.endswith("/counter")} == {np.dtype("i4")}
    assert {a.dtype for name, a in found.items() if "counter" not in name} == {np.dtype("f4")}
