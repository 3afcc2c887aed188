"""Weights in files: what network they belong to, and both directions between the two formats.

Published and original files are dictionaries saved by PyTorch: tensors under "model" or
"state_dict", their names sometimes with "module.", beside an optimiser, a scheduler and the flags.
Ours are safetensors under the same names, with architecture, ClipSpecs and fingerprints as
metadata. `ssvideo_core.weights` reads both and runs no code from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.features import clip_from_json, clip_to_json
from ssvideo_core.files import replacing
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.views import ClipSpec, Modality
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
from ssvideo_torch.pixels import from_numpy

from gdt_stica.architecture import AUDIO_BLOCKS, VIDEO_BLOCKS, Architecture, choices, from_options
from gdt_stica.inputs import default_clip
from gdt_stica.method import METHOD
from gdt_stica.model import build

Tensors = Mapping[str, NDArray[Any]]
MODALITIES: tuple[Modality, ...] = ("rgb", "sound")


@dataclass(frozen=True)
class Side:
    """The part of a state dict that one modality uses, by how its names start."""

    trunk: str
    head: tuple[str, ...]

    def select(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of trunk and head."""
        return {k: v for k, v in tensors.items() if k.startswith((self.trunk, *self.head))}

    def has_trunk(self, names: Mapping[str, Any]) -> bool:
        return any(name.startswith(self.trunk) for name in names)

    def has_head(self, names: Mapping[str, Any]) -> bool:
        return any(name.startswith(self.head) for name in names)


def side(architecture: Architecture, modality: str) -> Side:
    """Raises ConfigError for a modality that networks of this model do not have."""
    if modality not in MODALITIES:
        raise ConfigError(f"modality '{modality}': expected {' or '.join(MODALITIES)}")
    if modality == "sound":
        if architecture.model != "av_gdt":
            raise ConfigError(
                f"modality 'sound': networks of model '{architecture.model}' have no sound side"
            )
        return Side("audio_network.base.", ("mlp_a.",))
    if architecture.model == "finetune":
        return Side("base.", ("classifier.", "final_bn.", "linear_layer."))
    return Side("video_network.base.", ("mlp_v.",))


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under their published names, and what is known of them.

    clips: ClipSpec by modality, where the file states it. published: the record of weights that
    were asked for by name.
    """

    path: Path
    tensors: Tensors
    architecture: Architecture
    clips: Mapping[str, ClipSpec] = field(default_factory=dict)
    published: PublishedWeights | None = None

    def modalities(self) -> list[Modality]:
        """Those whose trunk is in the file."""
        known = MODALITIES if self.architecture.model == "av_gdt" else MODALITIES[:1]
        return [m for m in known if side(self.architecture, m).has_trunk(self.tensors)]

    def side_tensors(self, modality: str) -> dict[str, NDArray[Any]]:
        """Trunk and head of one modality, checked against the network: float32, counters int64.

        The head may be absent as a whole. Raises WeightsError when no name of the trunk is
        there, and when names or shapes differ, listing them.
        """
        part = side(self.architecture, modality)
        if not part.has_trunk(self.tensors):
            raise WeightsError(
                f"{self.path}: no tensor is called '{part.trunk}…', so there is no network for "
                f"modality '{modality}'; the names start with {_starts(self.tensors)}"
            )
        found = part.select(self.tensors)
        expected = part.select(expected_shapes(self.architecture))
        if not part.has_head(self.tensors):
            expected = {k: shape for k, shape in expected.items() if k.startswith(part.trunk)}
        try:
            match_keys(found, expected).require()
        except WeightsError as error:
            raise WeightsError(f"{self.path}, read as {self.architecture}: {error}") from None
        return {name: _as_loaded(found[name]) for name in expected}


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name to shape of the whole state dict."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build(architecture).state_dict().items()}


def _as_loaded(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64, copy=False)


def read_checkpoint(
    weights: str, options: Mapping[str, Any] | None = None, *, download: bool = False
) -> Checkpoint:
    """Read a published name, a file of either format, or a folder with `encoder.safetensors`.

    options: of the architecture. They win over the shapes of the tensors, these over the file's
    metadata or the flags stored in it, these over the published record, that over the defaults.
    Raises WeightsError for an absent, forbidden or unknown file, ConfigError for a wrong option.
    """
    path, published = locate(weights, METHOD.weights, method=METHOD.name, download=download)
    tensors, flags, metadata = _read(path)
    stored = {name: json_entry(path, metadata, name) for name in ("architecture", "clip")}
    known = {
        **(published.architecture if published else {}),
        **_telling(flags),
        **stored["architecture"],
        **detect(tensors, path),
        **(options or {}),
    }
    try:
        clips = {modality: clip_from_json(record) for modality, record in stored["clip"].items()}
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: its metadata 'clip' is no ClipSpec ({error!r})") from None
    return Checkpoint(path, tensors, from_options(known), clips, published)


def _read(path: Path) -> tuple[Tensors, Mapping[str, Any], Mapping[str, str]]:
    """Tensors without "module.", the flags of the program that saved them, metadata."""
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        return tensors, {}, metadata
    tree = read_weights(path)
    try:
        tensors = select_tensors(tree)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    args = tree.get("args")
    flags = args.state if isinstance(args, Record) else args
    return tensors, flags if isinstance(flags, Mapping) else {}, {}


def _telling(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Of an original's flags those that its tensors do not tell."""
    names = ("norm_feat", "z_normalize", "use_l2_norm", "use_dropout")
    found: dict[str, Any] = {n: flags[n] for n in names if isinstance(flags.get(n), bool)}
    if isinstance(flags.get("aud_spec_type"), int):
        found["aud_spec_type"] = 1 if flags["aud_spec_type"] == 1 else 2
    return found


def detect(tensors: Tensors, path: Path) -> dict[str, Any]:
    """The options that names and shapes tell.

    Raises WeightsError when they are of no network here, listing the choices.
    """
    if any(name.startswith(("video_pooling.", "pooling_arch.")) for name in tensors):
        raise WeightsError(
            f"{path}: a STiCA network whose transformer pools the video (video_pooling.*, "
            "pooling_arch.*); this version builds networks with average pooling only"
        )
    video = next(
        (p for p in ("video_network.base.", "base.") if f"{p}stem.0.weight" in tensors), ""
    )
    audio = "audio_network.base." if "audio_network.base.conv1.weight" in tensors else ""
    if not video and not audio:
        raise WeightsError(
            f"{path}: no tensor is called video_network.base.*, audio_network.base.* or base.*; "
            f"the names start with {_starts(tensors)}. Architectures that can be read: {choices()}"
        )
    found: dict[str, Any] = {"model": _model(tensors, video)}
    if video:
        found["vid_base_arch"] = _trunk(tensors, video, VIDEO_BLOCKS, path)
        found["width"] = _channels(tensors, f"{video}stem.3.weight", path) / 64
    if audio:
        found["aud_base_arch"] = _trunk(tensors, audio, AUDIO_BLOCKS, path)
        found.setdefault("width", _channels(tensors, f"{audio}conv1.weight", path) / 64)
    if "mlp_v.weight" in tensors or "mlp_a.weight" in tensors:
        found["use_mlp"] = False
    for name, use_bn in (("linear_layer.weight", True), ("classifier.weight", False)):
        if name in tensors:
            found |= {"num_classes": _channels(tensors, name, path), "use_bn": use_bn}
    return found


def _model(tensors: Tensors, video: str) -> str:
    if video == "base.":
        return "finetune"
    texts = any(name.startswith(("text_network.", "mlp_t.")) for name in tensors)
    return "vid_text_gdt" if texts else "av_gdt"


def _trunk(tensors: Tensors, prefix: str, known: Mapping[str, tuple[int, ...]], path: Path) -> str:
    """The trunk whose numbers of blocks per layer are those in the names."""
    blocks = [
        len({m[1] for name in tensors if (m := re.match(rf"{prefix}layer{k}\.(\d+)\.", name))})
        for k in (1, 2, 3, 4)
    ]
    for name, counts in known.items():
        if tuple(blocks) == counts:
            return name
    listed = "; ".join(f"{name}: {list(counts)}" for name, counts in known.items())
    raise WeightsError(f"{path}: {prefix}layer1 to 4 have {blocks} blocks; expected {listed}")


def _channels(tensors: Tensors, name: str, path: Path) -> int:
    if name not in tensors or tensors[name].ndim < 2:
        shape = tensors[name].shape if name in tensors else "absent"
        raise WeightsError(f"{path}: '{name}' is {shape}, expected the weights of a layer")
    return int(tensors[name].shape[0])


def _starts(tensors: Tensors) -> str:
    """The first parts of the names, for messages."""
    starts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in tensors))
    return ", ".join(starts[:8]) + (", …" if len(starts) > 8 else "")


def export(
    path: Path,
    tensors: Tensors,
    architecture: Architecture,
    clips: Mapping[str, ClipSpec] | None = None,
) -> None:
    """Write our format: tensors, and as JSON metadata what `load_encoder` needs to know.

    tensors: a state dict as arrays. clips: ClipSpec by modality, else the pre-training's. Metadata:
    "architecture" (all options), "clip" and "fingerprint" (by modality). Raises WeightsError when
    the tensors are not those of the architecture.
    """
    checkpoint = Checkpoint(path, tensors, architecture, clips or {})
    chosen = {
        modality: checkpoint.clips.get(modality, default_clip(architecture, modality))
        for modality in checkpoint.modalities()
    }
    prints = {modality: fingerprint(checkpoint.side_tensors(modality)) for modality in chosen}
    metadata = {
        "method": METHOD.name,
        "architecture": json.dumps(architecture.to_json()),
        "clip": json.dumps({modality: clip_to_json(clip) for modality, clip in chosen.items()}),
        "fingerprint": json.dumps(prints),
    }
    write_safetensors(path, tensors, metadata)


def convert(weights: str, target: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write weights in the other format: FILE.safetensors (ours) or FILE.pth (the original's).

    All tensors are kept, also those of sides that are not built here. A .pth holds "model" and
    "epoch", as the original's programs expect; it does not keep what only metadata tells
    (norm_feat, aud_spec_type, z_normalize, use_l2_norm). Raises what `read_checkpoint` raises.
    """
    target = Path(target)
    checkpoint = read_checkpoint(weights, options)
    if target.suffix == ".safetensors":
        export(target, checkpoint.tensors, checkpoint.architecture, checkpoint.clips)
        return
    if target.suffix != ".pth":
        raise ConfigError(f"{target}: expected a name that ends in .safetensors or .pth")
    for modality in checkpoint.modalities():
        checkpoint.side_tensors(modality)
    model = {name: from_numpy(array) for name, array in checkpoint.tensors.items()}
    with replacing(target) as file:
        torch.save({"model": model, "epoch": 0}, file)
