"""Weights in files: what network they belong to, and both directions between the two formats.

Published and original files are dictionaries saved by PyTorch: tensors under "model" or
"state_dict", their names sometimes with "module.", beside an optimiser, a scheduler and the flags.
Ours are safetensors under the same names, with architecture, ClipSpecs and fingerprints as
metadata. `ssvideo_core.weights` reads both and runs no code from them. A training run writes such a
file before its first step, so that its checkpoints, which hold tensors only, are known too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ssvideo_core.checkpoint_files import load_checkpoint
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.features import clip_from_json, clip_to_json
from ssvideo_core.files import replacing
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.run_weights import find_checkpoint, find_description
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

from gdt_stica.architecture import Architecture, from_options
from gdt_stica.detection import Tensors, detect, name_starts, told_by_flags
from gdt_stica.inputs import default_clip
from gdt_stica.method import METHOD
from gdt_stica.model import build
from gdt_stica.sides import MODALITIES, WITH_SOUND, side

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under their published names, and what is known of them.

    clips: ClipSpec by modality, where our metadata state it. stated: options of the architecture in
    our metadata; none for an original's file. published: the record of weights that were asked for
    by name.
    """

    path: Path
    tensors: Tensors
    architecture: Architecture
    clips: Mapping[str, ClipSpec] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    published: PublishedWeights | None = None

    @property
    def trained_as(self) -> str | None:
        """The model of the pre-training, also of a fine-tuned network.

        None where nothing tells: the names of STiCA without a transformer are those of "av_gdt".
        """
        told = {
            **(self.published.architecture if self.published else {}),
            **self.stated,
            **detect(self.tensors, self.path),
        }
        found = told.get("base" if told.get("model") == "finetune" else "model")
        return None if found is None else str(found)

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
                f"modality '{modality}'; the names start with {name_starts(self.tensors)}"
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
    """Read weights, whatever they are given as.

    weights: a published name, a file of an original's or of our format, a folder with
        `encoder.safetensors`, a checkpoint `ckpt-STEP/`, or a run's folder, of which the newest
        complete checkpoint is read while it has no `encoder.safetensors`.
    options: of the architecture. They win over the shapes of the tensors, these over the file's
        metadata or the flags stored in it, these over the published record, that over the defaults.
        The metadata of a checkpoint are those of the file that its run began with.

    A warning is logged where heads and tokens of STiCA's transformer have to be the defaults, and
    for a checkpoint without its run. Raises WeightsError for an absent, forbidden or unknown file,
    DataError for a folder without a whole checkpoint, ConfigError for a wrong option.
    """
    found = _open(weights, download)
    stated = {
        name: json_entry(found.described, found.metadata, name) for name in ("architecture", "clip")
    }
    known = {
        **(found.published.architecture if found.published else {}),
        **told_by_flags(found.flags),
        **stated["architecture"],
        **detect(found.tensors, found.path),
        **(options or {}),
    }
    try:
        clips = {modality: clip_from_json(record) for modality, record in stated["clip"].items()}
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"{found.described}: its metadata 'clip' is no ClipSpec ({error!r})"
        ) from None
    architecture = from_options(known)
    _warn_of_defaults(found.path, architecture, known)
    return Checkpoint(
        found.path, found.tensors, architecture, clips, stated["architecture"], found.published
    )


@dataclass(frozen=True)
class _Found:
    """Tensors without "module.", the flags of the program that saved them, metadata.

    described: the file that the metadata are of.
    """

    path: Path
    tensors: Tensors
    flags: Mapping[str, Any]
    metadata: Mapping[str, str]
    described: Path
    published: PublishedWeights | None = None


def _open(weights: str, download: bool) -> _Found:
    checkpoint = find_checkpoint(weights, METHOD.weights)
    if checkpoint is not None:
        return _read_saved(checkpoint)
    path, published = locate(weights, METHOD.weights, method=METHOD.name, download=download)
    return _read_file(path, published)


def _read_file(path: Path, published: PublishedWeights | None) -> _Found:
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        return _Found(path, tensors, {}, metadata, path, published)
    tree = read_weights(path)
    try:
        tensors = select_tensors(tree)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    args = tree.get("args")
    flags = args.state if isinstance(args, Record) else args
    return _Found(path, tensors, flags if isinstance(flags, Mapping) else {}, {}, path, published)


def _read_saved(folder: Path) -> _Found:
    """A checkpoint of a run, RUN/checkpoints/ckpt-STEP, described by what the run began with."""
    state = load_checkpoint(folder).state
    network = state.get("network") if isinstance(state, Mapping) else None
    if not isinstance(network, Mapping):
        raise WeightsError(f"{folder}: a checkpoint without a network")
    described = find_description(folder)
    if described is None:
        return _Found(folder, dict(network), {}, {}, folder)
    return _Found(folder, dict(network), {}, read_safetensors(described)[1], described)


def _warn_of_defaults(path: Path, architecture: Architecture, known: Mapping[str, Any]) -> None:
    untold = [name for name in ("num_head", "transformer_time_dim") if name not in known]
    if architecture.has_transformer and untold:
        taken = ", ".join(f"{name}={getattr(architecture, name)}" for name in untold)
        logger.warning(
            "%s does not tell %s of its transformer; taken: %s (4 tokens for clips of 30 frames, 8 "
            "for 60, 12 for 90, 15 for 120); give others as options of the architecture",
            path, " and ".join(untold), taken,
        )  # fmt: skip


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
