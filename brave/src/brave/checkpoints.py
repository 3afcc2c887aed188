"""Weights in files: what network they belong to, and both directions between the two formats.

Published files are dictionaries saved by NumPy: "params" and "state" as {module: {name: array}},
and "config". Ours are safetensors called "params/MODULE/NAME" and "state/MODULE/NAME", with
architecture, ClipSpec, fingerprint and config as metadata. `ssvideo_core.weights` reads both and
runs no code from them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.features import clip_from_json, clip_to_json
from ssvideo_core.files import replacing
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.views import ClipSpec
from ssvideo_core.weights import (
    Record,
    fingerprint,
    json_entry,
    locate,
    match_keys,
    read_safetensors,
    read_weights,
    select_tensors,
    write_safetensors,
)

from brave.architecture import CLIP, STEM_CHANNELS, Architecture, choices, from_options
from brave.method import METHOD
from brave.model import SHARED_HEADS, BraVe
from brave.networks.initial import variable_shapes
from brave.networks.tsm_resnet import TSMResNet

Tensors = Mapping[str, NDArray[Any]]
NARROW = "narrow_video_embedding/TSMResNetV2/"
STEM = f"{NARROW}tsm_resnet_stem/w"
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


@dataclass(frozen=True)
class Checkpoint:
    """Everything a file holds.

    params, state: "MODULE/NAME" to array, of all modules. clips: ClipSpec by modality, where the
    file states it. published: the record of weights that were asked for by name. config: the
    released trainer's options, JSON values; empty when the file has none.
    """

    path: Path
    params: Tensors
    state: Tensors
    architecture: Architecture
    clips: Mapping[str, ClipSpec] = field(default_factory=dict)
    published: PublishedWeights | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays as "params/MODULE/NAME" and "state/MODULE/NAME"."""
        return _joined({"params": self.params, "state": self.state})

    def narrow_tensors(self) -> dict[str, NDArray[Any]]:
        """Those of the narrow video backbone, checked against the network: float32, counters int32.

        Names begin with "params/" and "state/". Raises WeightsError when names or shapes differ,
        listing them; other modules are not looked at.
        """
        starts = tuple(f"{collection}/{NARROW}" for collection in COLLECTIONS)
        found = {name: a for name, a in self.tensors.items() if name.startswith(starts)}
        expected = narrow_shapes(self.architecture)
        try:
            match_keys(found, expected).require()
        except WeightsError as error:
            raise WeightsError(f"{self.path}, read as {self.architecture}: {error}") from None
        return {name: _as_loaded(found[name]) for name in expected}


def narrow_variables(tensors: Tensors) -> dict[str, Any]:
    """What `TSMResNet.apply` takes, from the names of `Checkpoint.narrow_tensors`."""
    inner = {name.replace(f"/{NARROW}", "/", 1): array for name, array in tensors.items()}
    nested: dict[str, Any] = unflatten_dict(inner, sep="/")  # type: ignore[no-untyped-call]
    return nested


def narrow_names(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of `narrow_variables`."""
    flat = flatten_dict(variables, sep="/")  # type: ignore[no-untyped-call]
    return {name.replace("/", f"/{NARROW}", 1): leaf for name, leaf in flat.items()}


@functools.cache
def narrow_shapes(architecture: Architecture) -> Mapping[str, tuple[int, ...]]:
    """Name to shape of the narrow video backbone's tensors."""
    shapes = variable_shapes(TSMResNet(architecture.width))
    return {name: tuple(leaf.shape) for name, leaf in narrow_names(shapes).items()}


def named(variables: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The params or the state of a model as `export` takes them: "MODULE/NAME" to NumPy array."""
    flat = flatten_dict(variables, sep="/")  # type: ignore[no-untyped-call]
    return {name: np.asarray(leaf) for name, leaf in flat.items()}


def model_variables(checkpoint: Checkpoint, model: BraVe) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params, state) of a whole model, as `BraVe.init` makes them; other modules are left out.

    Raises WeightsError when a tensor of the model is missing or has another shape, listing them.
    """
    shapes = flatten_dict(model.shapes(), sep="/")  # type: ignore[no-untyped-call]
    found = {name: a for name, a in checkpoint.tensors.items() if name in shapes}
    try:
        match_keys(found, {name: leaf.shape for name, leaf in shapes.items()}).require()
    except WeightsError as error:
        names = ", ".join(view.name for view in model.views)
        raise WeightsError(f"{checkpoint.path}, for the views {names}: {error}") from None
    loaded = {name: _as_loaded(array) for name, array in found.items()}
    nested: dict[str, Any] = unflatten_dict(loaded, sep="/")  # type: ignore[no-untyped-call]
    return nested["params"], nested["state"]


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


def _joined(collections: Mapping[str, Tensors]) -> dict[str, NDArray[Any]]:
    return {f"{c}/{name}": a for c, tensors in collections.items() for name, a in tensors.items()}


def _split(tensors: Tensors) -> dict[str, dict[str, NDArray[Any]]]:
    """The opposite of `_joined`; arrays of neither collection are left out."""
    return {
        c: {
            name.removeprefix(f"{c}/"): a for name, a in tensors.items() if name.startswith(f"{c}/")
        }
        for c in COLLECTIONS
    }


def _as_loaded(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32, copy=False)


def read_checkpoint(
    weights: str, options: Mapping[str, Any] | None = None, *, download: bool = False
) -> Checkpoint:
    """Read a published name, a file of either format, or a folder with `encoder.safetensors`.

    options: of the architecture. They win over the shapes of the tensors, these over the file's
    metadata, that over the published record.
    Raises WeightsError for an absent, forbidden or unknown file, ConfigError for a wrong option.
    """
    path, published = locate(weights, METHOD.weights, method=METHOD.name, download=download)
    tensors, config, metadata = _read(path)
    collections = _split(tensors)
    known = {
        **(published.architecture if published else {}),
        **json_entry(path, metadata, "architecture"),
        **detect(collections["params"], path),
        **(options or {}),
    }
    stored = json_entry(path, metadata, "clip")
    try:
        clips = {modality: clip_from_json(record) for modality, record in stored.items()}
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: its metadata 'clip' is no ClipSpec ({error!r})") from None
    architecture = from_options(known)
    return Checkpoint(path, **collections, architecture=architecture, clips=clips,
                      published=published, config=config)  # fmt: skip


def _read(path: Path) -> tuple[Tensors, dict[str, Any], Mapping[str, str]]:
    """Tensors as "params/…" and "state/…", config, metadata."""
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        return tensors, json_entry(path, metadata, "config"), metadata
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
    return tensors, _plain_config(tree.get("config")), {}


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


def detect(params: Tensors, path: Path) -> dict[str, Any]:
    """The options that names and shapes tell.

    Raises WeightsError when they are of no network here, listing the choices.
    """
    if STEM not in params:
        raise WeightsError(
            f"{path}: no parameter is called '{STEM}', so there is no narrow video backbone; the "
            f"names start with {_starts(params)}. Architectures that can be read: {choices()}"
        )
    shape = params[STEM].shape
    if shape[:-1] != (7, 7, 3):
        raise WeightsError(
            f"{path}: '{STEM}' is {shape}, expected (7, 7, 3, 64 · width). A further axis in "
            "front is that of a training snapshot's devices: keep its first entry"
        )
    return {"width": shape[-1] / STEM_CHANNELS}


def _starts(names: Tensors) -> str:
    """The first parts of the names, for messages."""
    starts = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in names))
    return ", ".join(starts[:8]) + (", …" if len(starts) > 8 else "")


def export(
    path: Path,
    params: Tensors,
    state: Tensors,
    architecture: Architecture,
    *,
    clip: ClipSpec = CLIP,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write our format: tensors, and as JSON metadata what `load_encoder` needs to know.

    params, state: "MODULE/NAME" to array; modules besides the narrow video backbone are kept.
    Metadata: "architecture" (all options), "clip" and "fingerprint" (by modality), "config".
    Raises WeightsError when the backbone's tensors are not those of the architecture.
    """
    checkpoint = Checkpoint(path, params, state, architecture)
    metadata = {
        "method": METHOD.name,
        "architecture": json.dumps(architecture.to_json()),
        "clip": json.dumps({clip.modality: clip_to_json(clip)}),
        "fingerprint": json.dumps({clip.modality: fingerprint(checkpoint.narrow_tensors())}),
        "config": json.dumps(dict(config or {})),
    }
    write_safetensors(path, checkpoint.tensors, metadata)


def convert(
    weights: str,
    target: Path,
    options: Mapping[str, Any] | None = None,
    *,
    dead_heads: bool = False,
) -> None:
    """Write weights in the other format: FILE.safetensors (ours) or FILE.npy (the original's).

    All tensors are kept, also those of modules that are not built here. A .npy is a pickle of
    plain dicts; its config is the one the weights came with, else the released defaults with the
    width and the broad views of these weights. dead_heads: a .npy has all modules that the released
    trainer makes (`with_dead_heads`); its evaluation does not need them. Raises what
    `read_checkpoint` raises, and ConfigError for another ending.
    """
    target = Path(target)
    found = read_checkpoint(weights, options)
    if target.suffix == ".safetensors":
        clip = found.clips.get("rgb", CLIP)
        export(
            target, found.params, found.state, found.architecture, clip=clip, config=found.config
        )
        return
    if target.suffix != ".npy":
        raise ConfigError(f"{target}: expected a name that ends in .safetensors or .npy")
    found.narrow_tensors()
    written = _split(with_dead_heads(found.tensors) if dead_heads else found.tensors)
    tree = {
        "params": _by_module(written["params"]),
        "state": _by_module(written["state"]),
        "config": dict(found.config) or _released_config(found),
    }
    with replacing(target) as file:
        np.save(file, np.array(tree, dtype=object), allow_pickle=True)


def _by_module(tensors: Tensors) -> dict[str, dict[str, NDArray[Any]]]:
    modules: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in tensors.items():
        module, _, parameter = name.rpartition("/")
        modules.setdefault(module, {})[parameter] = array
    return modules


def _released_config(checkpoint: Checkpoint) -> dict[str, Any]:
    width = checkpoint.architecture.width
    modules = {name.partition("/")[0] for name in checkpoint.params}
    return {
        **RELEASED_CONFIG,
        "include_video_in_broad_view": "broad_video_embedding" in modules,
        "include_audio_in_broad_view": "broad_audio_embedding" in modules,
        "tsm_resnet_width_multiplier": int(width) if width.is_integer() else width,
    }
