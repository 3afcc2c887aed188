"""Weights in files: what networks they belong to, and both directions between the two formats.

Published files are dictionaries saved by NumPy (`released_files`). Ours are safetensors called
"params/MODULE/NAME" and "state/MODULE/NAME", with architecture, ClipSpec, fingerprint and config as
metadata. `ssvideo_core.weights` reads both and runs no code from them; `weights_files` finds them.

A file holds a backbone for each view of its training (`backbones`), and the heads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.features import clip_from_json, clip_to_json
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.views import ClipSpec
from ssvideo_core.weights import fingerprint, json_entry, write_safetensors

from brave.architecture import (
    CLIP,
    SOUND_OPTIONS,
    Architecture,
    from_options,
)
from brave.backbones import (
    Tensors,
    backbone_prefix,
    backbone_shapes,
    held_modalities,
    loadable,
    stem_width,
)
from brave.clips import CLIPS, broad_clips
from brave.method import METHOD
from brave.model import BraVe
from brave.released_files import (
    COLLECTIONS,
    released_config,
    with_dead_heads,
    write_released,
)
from brave.weights_files import open_weights

NARROW = backbone_prefix("rgb")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything a file holds, and which of its backbones is meant.

    params, state: "MODULE/NAME" to array, of all modules. modality, architecture: of the backbone
    that is meant. clips: ClipSpec by modality, where the file states it. published: the record of
    weights that were asked for by name. config: the released trainer's options, JSON values; empty
    when the file has none.
    """

    path: Path
    params: Tensors
    state: Tensors
    architecture: Architecture
    clips: Mapping[str, ClipSpec] = field(default_factory=dict)
    published: PublishedWeights | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    modality: str = "rgb"

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays as "params/MODULE/NAME" and "state/MODULE/NAME"."""
        parts = zip(COLLECTIONS, (self.params, self.state), strict=True)
        return {f"{part}/{name}": a for part, arrays in parts for name, a in arrays.items()}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of which there is a backbone, as far as first kernels tell."""
        return held_modalities(self.params)

    @property
    def clip(self) -> ClipSpec:
        """What an encoder of `modality` is shown: what the file states, else of sound and flow the
        broad view of its config, else what the paper used.
        """
        known = {**CLIPS, **broad_clips(self.config), **self.clips}
        return known[self.modality]

    def of(self, modality: str) -> Checkpoint:
        """The same with the backbone of another modality, which is one of `modalities`."""
        if modality == self.modality:
            return self
        width = stem_width(self.params, modality, self.path)
        architecture = replace(self.architecture, width=width)
        return replace(self, modality=modality, architecture=architecture)

    def backbone_tensors(self) -> dict[str, NDArray[Any]]:
        """Those of the backbone, checked against its network: float32, counters int32.

        Names begin with "params/" and "state/". Raises WeightsError when names or shapes differ,
        listing them; other modules are not looked at.
        """
        found = self.tensors_in(backbone_prefix(self.modality))
        try:
            return loadable(found, backbone_shapes(self.modality, self.architecture.width))
        except WeightsError as error:
            raise WeightsError(f"{self.path}, read as {self.architecture}: {error}") from None

    def narrow_tensors(self) -> dict[str, NDArray[Any]]:
        """`backbone_tensors` of the narrow video backbone."""
        return self.of("rgb").backbone_tensors()

    def tensors_in(self, module: str) -> dict[str, NDArray[Any]]:
        """Those of `tensors` whose names begin with "params/MODULE" or "state/MODULE"."""
        starts = tuple(f"{collection}/{module}" for collection in COLLECTIONS)
        return {name: a for name, a in self.tensors.items() if name.startswith(starts)}


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
        loaded = loadable(found, {name: leaf.shape for name, leaf in shapes.items()})
    except WeightsError as error:
        names = ", ".join(view.name for view in model.views)
        raise WeightsError(f"{checkpoint.path}, for the views {names}: {error}") from None
    nested: dict[str, Any] = unflatten_dict(loaded, sep="/")  # type: ignore[no-untyped-call]
    return nested["params"], nested["state"]


def read_checkpoint(
    weights: str,
    options: Mapping[str, Any] | None = None,
    *,
    modality: str | None = "rgb",
    download: bool = False,
) -> Checkpoint:
    """Read weights, whatever they are given as.

    weights: a published name, a file of either format, a folder with `encoder.safetensors`, a
    checkpoint `ckpt-STEP/`, or a run's folder, of which the newest complete checkpoint is read
    while it has no `encoder.safetensors`.
    options: of the architecture. They win over the shapes of the tensors, these over the file's
    metadata, these over its config, that over the published record. Metadata and config of a
    checkpoint are those of the file that its run began with. modality: of the backbone that is
    meant, None for the first of rgb, sound and flow that is there.
    Raises WeightsError for an absent, forbidden or unknown file and for one without this backbone,
    DataError for a folder without a whole checkpoint, ConfigError for a wrong option.
    """
    found = open_weights(weights, download=download)
    path, published, config = found.path, found.published, found.config
    params, state = collections_of(found.tensors)
    meant = modality or next(iter(held_modalities(params)), "rgb")
    known = {
        **(published.architecture if published else {}),
        **{name: config[name] for name in SOUND_OPTIONS if name in config},
        **json_entry(found.described, found.metadata, "architecture"),
        "width": stem_width(params, meant, path),
        **(options or {}),
    }
    stored = json_entry(found.described, found.metadata, "clip")
    try:
        clips = {name: clip_from_json(record) for name, record in stored.items()}
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"{found.described}: its metadata 'clip' is no ClipSpec ({error!r})"
        ) from None
    architecture = from_options(known)
    return Checkpoint(path, params, state, architecture, clips, published, config, meant)


def collections_of(tensors: Tensors) -> list[Tensors]:
    """The params and the state, without these words; arrays of neither are left out."""
    return [
        {name.removeprefix(start): a for name, a in tensors.items() if name.startswith(start)}
        for start in (f"{collection}/" for collection in COLLECTIONS)
    ]


def export(
    path: Path,
    params: Tensors,
    state: Tensors,
    architecture: Architecture,
    *,
    clip: ClipSpec = CLIP,
    broad: Mapping[str, ClipSpec] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write our format: tensors, and as JSON metadata what `load_encoder` needs to know.

    params, state: "MODULE/NAME" to array; all modules are kept. architecture, clip: of the backbone
    of the clip's modality. broad: clips of other backbones by modality. config: the released
    trainer's options, which tell the clips of those that `broad` leaves out (`clips.broad_clips`).
    Metadata: "architecture" (all options), "clip" and "fingerprint" (by modality, of all backbones
    that can be loaded), "config". Raises WeightsError when the tensors of this backbone are not
    those of the architecture.
    """
    meant: str = clip.modality
    own, clips = config or {}, {**(broad or {}), meant: clip}
    _write(path, Checkpoint(path, params, state, architecture, clips, config=own, modality=meant))


def _write(path: Path, checkpoint: Checkpoint) -> None:
    prints = {checkpoint.modality: fingerprint(checkpoint.backbone_tensors())}
    clips = {checkpoint.modality: clip_to_json(checkpoint.clip)}
    for modality in checkpoint.modalities:
        other = checkpoint.of(modality)
        try:
            prints[modality] = fingerprint(other.backbone_tensors())
        except WeightsError as error:
            logger.warning("%s is kept, but cannot be loaded: %s", backbone_prefix(modality), error)
        else:
            clips[modality] = clip_to_json(other.clip)
    metadata = {
        "architecture": checkpoint.architecture.to_json(),
        "clip": clips,
        "fingerprint": prints,
        "config": dict(checkpoint.config),
    }
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    write_safetensors(path, checkpoint.tensors, {"method": METHOD.name, **texts})


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
    found = read_checkpoint(weights, options, modality=None)
    if target.suffix == ".safetensors":
        _write(target, found)
        return
    if target.suffix != ".npy":
        raise ConfigError(f"{target}: expected a name that ends in .safetensors or .npy")
    found.backbone_tensors()
    tensors = with_dead_heads(found.tensors) if dead_heads else found.tensors
    config = found.config or released_config(found.params, found.architecture.width)
    write_released(target, tensors, config)
