"""The original's files: dictionaries that NumPy saves, in both directions.

"params" and "state" are {module: {name: array}}, "config" holds the released trainer's options.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import WeightsError
from ssvideo_core.files import replacing
from ssvideo_core.weights import Record, read_weights, select_tensors

from brave.model import SHARED_HEADS

Tensors = Mapping[str, NDArray[Any]]
COLLECTIONS = ("params", "state")

# The released defaults; its reader refuses a file whose config has other keys.
RELEASED_CONFIG: Mapping[str, Any] = {
    "include_video_in_broad_view": False,
    "include_audio_in_broad_view": True,
    "num_frames_narrow": 16,
    "step_narrow": 2,
    "image_size_narrow": 224,
    "num_frames_broad": 64,
    "step_broad": 4,
    "image_size_broad": 112,
    "output_dims": 128,
    "tsm_resnet_width_multiplier": 1,
    "num_spectrogram_bins": 80,
    "fft_step": 160,
    "dataset_shards": [],
    "input_video_sample_rate": 25.0,
    "input_audio_sample_rate": 48000,
}


def read_released(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors as "params/MODULE/NAME" and "state/MODULE/NAME", and the config as JSON values.

    Runs no code of the file. The config is empty when the file has none. Raises WeightsError for a
    file that is not of this form.
    """
    tree = read_weights(path)
    missing = [c for c in COLLECTIONS if not (isinstance(tree, Mapping) and c in tree)]
    if missing:
        found = list(map(str, tree))[:10] if isinstance(tree, Mapping) else type(tree).__name__
        raise WeightsError(
            f"{path}: expected a dictionary of params, state and config, found {found}"
        )
    try:
        tensors = select_tensors({c: tree[c] for c in COLLECTIONS}, sections=(), strip=())
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    return tensors, _plain_config(tree.get("config"))


def write_released(path: Path, tensors: Tensors, config: Mapping[str, Any]) -> None:
    """The opposite of `read_released`: a pickle of plain dicts and arrays."""
    tree: dict[str, Any] = {collection: {} for collection in COLLECTIONS}
    for name, array in tensors.items():
        collection, _, rest = name.partition("/")
        module, _, parameter = rest.rpartition("/")
        tree[collection].setdefault(module, {})[parameter] = array
    tree["config"] = dict(config)
    with replacing(path) as file:
        np.save(file, np.array(tree, dtype=object), allow_pickle=True)


def released_config(names: Iterable[str], width: float) -> dict[str, Any]:
    """The released defaults, with the narrow width and the broad views of a network.

    names: of its parameters, "MODULE/NAME".
    """
    modules = {name.partition("/")[0] for name in names}
    return {
        **RELEASED_CONFIG,
        "include_video_in_broad_view": "broad_video_embedding" in modules,
        "include_audio_in_broad_view": "broad_audio_embedding" in modules,
        "tsm_resnet_width_multiplier": int(width) if width.is_integer() else width,
    }


def with_dead_heads(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """With the heads that the released trainer makes and never uses, as copies of the used ones.

    tensors: "params/MODULE/NAME" and "state/MODULE/NAME" of a model with shared heads. Each broad
    view makes two calls of the heads, and each call but the first makes heads of its own:
    shared_project_1, with two broad views also _2 and _3. Without shared heads nothing is added.
    """
    modules = {name.split("/")[1] for name in tensors}
    num_broad = sum(module.startswith("broad_") for module in modules)
    made = dict(tensors)
    for number in range(1, 2 * num_broad):
        for name, array in tensors.items():
            collection, module, rest = name.split("/", 2)
            if module == SHARED_HEADS:
                made.setdefault(f"{collection}/{SHARED_HEADS}_{number}/{rest}", array)
    return made


def _plain_config(config: Any) -> dict[str, Any]:
    """JSON values of a pickled mapping; what is none becomes text."""
    fields = _fields(config)
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=_plain, skipkeys=True))
    return plain


def _fields(config: Any) -> Mapping[Any, Any]:
    """The entries of a dict or of a ConfigDict, which keeps them in an attribute."""
    content = config.state if isinstance(config, Record) else config
    if isinstance(content, Mapping) and isinstance(content.get("_fields"), Mapping):
        content = content["_fields"]
    return content if isinstance(content, Mapping) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return _fields(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
