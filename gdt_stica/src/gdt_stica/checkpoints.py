"""Weights in files: what network they belong to, and both directions between the two formats.

Published and original files are dictionaries saved by PyTorch: tensors under "model" or
"state_dict", their names sometimes with "module.", beside an optimiser, a scheduler and the flags.
Ours are safetensors under the same names, with architecture, ClipSpecs and fingerprints as
metadata. `ssvideo_core.weights` reads both and runs no code from them.
"""

from __future__ import annotations

import json
import logging
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

logger = logging.getLogger(__name__)
Tensors = Mapping[str, NDArray[Any]]
MODALITIES: tuple[Modality, ...] = ("rgb", "sound")
POOLING, FINE_POOLING = "video_pooling.", "pooling_arch."
WORDS = "text_network.word_embd.weight"
WITH_SOUND = ("av_gdt", "stica")


@dataclass(frozen=True)
class Side:
    """The part of a state dict that one modality uses, by how its names start.

    pooling: STiCA's; networks with an average have no such tensors.
    """

    trunk: str
    head: tuple[str, ...]
    pooling: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (self.trunk, *self.pooling, *self.head)

    def select(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of trunk, pooling and head."""
        return {k: v for k, v in tensors.items() if k.startswith(self.prefixes)}

    def has_trunk(self, names: Mapping[str, Any]) -> bool:
        return any(name.startswith(self.trunk) for name in names)

    def has_head(self, names: Mapping[str, Any]) -> bool:
        return any(name.startswith(self.head) for name in names)


def side(architecture: Architecture, modality: str) -> Side:
    """Raises ConfigError for a modality that networks of this model do not have."""
    if modality not in MODALITIES:
        raise ConfigError(f"modality '{modality}': expected {' or '.join(MODALITIES)}")
    if modality == "sound":
        if architecture.model not in WITH_SOUND:
            raise ConfigError(
                f"modality 'sound': networks of model '{architecture.model}' have no sound side"
            )
        return Side("audio_network.base.", ("mlp_a.",))
    if architecture.model == "finetune":
        return Side("base.", ("classifier.", "final_bn.", "linear_layer."), (FINE_POOLING,))
    return Side("video_network.base.", ("mlp_v.",), (POOLING,))


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
        known = MODALITIES if self.architecture.model in WITH_SOUND else MODALITIES[:1]
        return [m for m in known if side(self.architecture, m).has_trunk(self.tensors)]

    def side_tensors(self, modality: str) -> dict[str, NDArray[Any]]:
        """Trunk, pooling and head of one modality, checked against the network.

        Floats as float32, counters and positions as int64. The head may be absent as a whole.
        Raises WeightsError when no name of the trunk is there, and when names or shapes differ,
        listing them.
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
            expected = {k: s for k, s in expected.items() if not k.startswith(part.head)}
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
    A warning is logged where heads and tokens of STiCA's transformer have to be the defaults.
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
    architecture = from_options(known)
    untold = [name for name in ("num_head", "transformer_time_dim") if name not in known]
    if architecture.has_transformer and untold:
        taken = ", ".join(f"{name}={getattr(architecture, name)}" for name in untold)
        logger.warning(
            "%s does not tell %s of its transformer; taken: %s (4 tokens for clips of 30 frames, 8 "
            "for 60, 12 for 90, 15 for 120); give others as options of the architecture",
            path, " and ".join(untold), taken,
        )  # fmt: skip
    return Checkpoint(path, tensors, architecture, clips, published)


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
    switches = ("norm_feat", "z_normalize", "use_l2_norm", "use_dropout")
    found: dict[str, Any] = {n: flags[n] for n in switches if isinstance(flags.get(n), bool)}
    numbers = ("num_head", "transformer_time_dim")
    found |= {n: flags[n] for n in numbers if type(flags.get(n)) is int}
    if isinstance(flags.get("aud_spec_type"), int):
        found["aud_spec_type"] = 1 if flags["aud_spec_type"] == 1 else 2
    return found


def detect(tensors: Tensors, path: Path) -> dict[str, Any]:
    """The options that names and shapes tell.

    Raises WeightsError when they are of no network here, listing the choices.
    """
    video = next(
        (p for p in ("video_network.base.", "base.") if f"{p}stem.0.weight" in tensors), ""
    )
    audio = "audio_network.base." if "audio_network.base.conv1.weight" in tensors else ""
    if not video and not audio:
        raise WeightsError(
            f"{path}: no tensor is called video_network.base.*, audio_network.base.* or base.*; "
            f"the names start with {_starts(tensors)}. Architectures that can be read: {choices()}"
        )
    found = _model(tensors, video) | _pooling(tensors)
    if video:
        found["vid_base_arch"] = _trunk(tensors, video, VIDEO_BLOCKS, path)
        found["width"] = _channels(tensors, f"{video}stem.3.weight", path) / 64
    if audio:
        found["aud_base_arch"] = _trunk(tensors, audio, AUDIO_BLOCKS, path)
        found.setdefault("width", _channels(tensors, f"{audio}conv1.weight", path) / 64)
    if WORDS in tensors:
        found["embedding_rows"] = _channels(tensors, WORDS, path)
    if "mlp_v.weight" in tensors or "mlp_a.weight" in tensors:
        found["use_mlp"] = False
    for name, use_bn in (("linear_layer.weight", True), ("classifier.weight", False)):
        if name in tensors:
            found |= {"num_classes": _channels(tensors, name, path), "use_bn": use_bn}
    return found


def _model(tensors: Tensors, video: str) -> dict[str, Any]:
    """Nothing where names do not tell: STiCA without a transformer has those of "av_gdt"."""
    starts = {name.split(".")[0] for name in tensors}
    if video == "base.":
        stica = {"base": "stica"} if "pooling_arch" in starts else {}
        return {"model": "finetune", **stica}
    if "video_pooling" in starts:
        return {"model": "stica"}
    return {"model": "vid_text_gdt"} if starts & {"text_network", "mlp_t"} else {}


def _pooling(tensors: Tensors) -> dict[str, Any]:
    """Of STiCA's transformer what its names tell; not the heads, nor the number of tokens."""
    names = [name for name in tensors if name.startswith((POOLING, FINE_POOLING))]
    layers = {m[1] for name in names if (m := re.search(r"\.transformer\.(\d+)\.", name))}
    return {
        "num_layer": len(layers),
        "positional_emb": any(".pos_embs." in name for name in names),
        "qkv_mha": any(".mha.v_lin." in name for name in names),
    }


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

    All tensors are kept, also those of sides that are not built here. A .pth or .pth.tar holds
    what the original's programs expect: "epoch", and plain tensors under "model"; under
    "state_dict", their names after "module.", for STiCA, as its program saves them. It does not
    keep what only metadata tells (norm_feat, aud_spec_type, z_normalize, use_l2_norm, num_head,
    transformer_time_dim). Raises what `read_checkpoint` raises.
    """
    target = Path(target)
    checkpoint = read_checkpoint(weights, options)
    if target.suffix == ".safetensors":
        export(target, checkpoint.tensors, checkpoint.architecture, checkpoint.clips)
        return
    if not target.name.endswith((".pth", ".pth.tar")):
        raise ConfigError(f"{target}: expected a name that ends in .safetensors, .pth or .pth.tar")
    for modality in checkpoint.modalities():
        checkpoint.side_tensors(modality)
    tensors = {name: from_numpy(array) for name, array in checkpoint.tensors.items()}
    if checkpoint.architecture.model == "stica":
        content = {"epoch": 0, "state_dict": {f"module.{k}": t for k, t in tensors.items()}}
    else:
        content = {"epoch": 0, "model": tensors}
    with replacing(target) as file:
        torch.save(content, file)
