"""The backbone of each modality: its network, and the names of its variables in files.

Names are "params/MODULE/NAME" and "state/MODULE/NAME", where MODULE begins with the modules of the
view and of its network: `narrow_video_embedding/TSMResNetV2` for rgb,
`broad_audio_embedding/res_net_v2` for sound, `broad_flow_embedding/TSMResNetV2` for flow.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import match_keys

from brave.architecture import STEM_CHANNELS, choices
from brave.networks.audio_resnet import AudioResNet
from brave.networks.initial import Shapes, draw_variables, variable_shapes
from brave.networks.tsm_resnet import TSMResNet
from brave.views import BACKBONES, CHANNELS, MODULES, NARROW, ViewSpec

Tensors = Mapping[str, NDArray[Any]]

# The view that an encoder of each modality takes its backbone from.
VIEWS: Mapping[str, str] = {"rgb": NARROW, "sound": "audio", "flow": "flow"}
MODALITIES = tuple(VIEWS)

_STEMS = {"tsm_resnet": "tsm_resnet_stem/w", "audio_resnet": "~/initial_conv/w"}


def backbone_prefix(modality: str) -> str:
    """The MODULE that all names of a backbone begin with, and "/"."""
    kind = BACKBONES[modality]
    view = ViewSpec(VIEWS[modality], modality, 1, 1, 1, kind)
    return f"{view.module}/{MODULES[kind]}/"


def stem_name(modality: str) -> str:
    """The first kernel, "MODULE/NAME"; its shape is `stem_shape` and 64 · width."""
    return backbone_prefix(modality) + _STEMS[BACKBONES[modality]]


def stem_shape(modality: str) -> tuple[int, int, int]:
    """Rows, columns, and channels of the input."""
    return 7, 7, CHANNELS[modality]


def make_network(modality: str, width: float) -> nn.Module:
    """`AudioResNet` for sound, else `TSMResNet`."""
    return AudioResNet(width=width) if modality == "sound" else TSMResNet(width)


def held_modalities(params: Tensors) -> tuple[str, ...]:
    """Those whose first kernel is among parameters "MODULE/NAME"."""
    stems = {modality: params.get(stem_name(modality)) for modality in MODALITIES}
    return tuple(m for m, w in stems.items() if w is not None and w.shape[:-1] == stem_shape(m))


def stem_width(params: Tensors, modality: str, path: Path) -> float:
    """The width that the first kernel tells.

    path: for messages. Raises WeightsError when there is no backbone of this modality, saying what
    there is.
    """
    stem = stem_name(modality)
    if stem not in params:
        raise WeightsError(
            f"{path}: no parameter is called '{stem}', so there is no backbone of {modality}; "
            f"those that are there: {', '.join(held_modalities(params)) or 'none'}; the names "
            f"start with {_starts(params)}. Architectures that can be read: {choices()}"
        )
    shape, (rows, columns, channels) = params[stem].shape, stem_shape(modality)
    if shape[:-1] != (rows, columns, channels):
        raise WeightsError(
            f"{path}: '{stem}' is {shape}, expected ({rows}, {columns}, {channels}, 64 · width). A "
            "further axis in front is that of a training snapshot's devices: keep its first entry"
        )
    return float(shape[-1] / STEM_CHANNELS)


def loadable(found: Tensors, expected: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """The tensors of a network: float32, counters int32.

    expected: name to shape. Raises WeightsError when names or shapes differ, listing them.
    """
    match_keys(found, expected).require()
    return {name: _as_loaded(found[name]) for name in expected}


def random_tensors(modality: str, width: float, seed: int) -> dict[str, NDArray[Any]]:
    """Untrained variables by name, which `seed` determines."""
    shapes = _variable_shapes(modality, width)
    return backbone_names(draw_variables(shapes, jax.random.key(seed)), modality)


def backbone_shapes(modality: str, width: float) -> Mapping[str, tuple[int, ...]]:
    """Name to shape of all variables."""
    shapes = backbone_names(_variable_shapes(modality, width), modality)
    return {name: tuple(leaf.shape) for name, leaf in shapes.items()}


def backbone_variables(tensors: Tensors, modality: str) -> dict[str, Any]:
    """What `make_network(modality, …).apply` takes, from tensors by name."""
    return variables_of(tensors, backbone_prefix(modality))


def backbone_names(variables: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """The opposite of `backbone_variables`."""
    flat = flatten_dict(variables, sep="/")  # type: ignore[no-untyped-call]
    prefix = backbone_prefix(modality)
    return {name.replace("/", f"/{prefix}", 1): leaf for name, leaf in flat.items()}


def variables_of(tensors: Tensors, prefix: str) -> dict[str, Any]:
    """Nested "params" and "state" of one module, the `prefix` of all names."""
    inner = {name.replace(f"/{prefix}", "/", 1): array for name, array in tensors.items()}
    nested: dict[str, Any] = unflatten_dict(inner, sep="/")  # type: ignore[no-untyped-call]
    return nested


def _as_loaded(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32, copy=False)


def _starts(names: Tensors) -> str:
    """The first parts of the names, for messages."""
    starts = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in names))
    return ", ".join(starts[:8]) + (", …" if len(starts) > 8 else "")


@functools.cache
def _variable_shapes(modality: str, width: float) -> Shapes:
    # They do not depend on the other sizes of an input.
    smallest = (1, 8, 8) if modality == "sound" else (1, 1, 8, 8, CHANNELS[modality])
    return variable_shapes(make_network(modality, width), jnp.zeros(smallest))
