"""What weights are read from: a published name, a file of either format, a checkpoint or a run.

A checkpoint holds what training changes (`training_state`), among it all networks. What they are is
said by the file that its run wrote before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssvideo_core.checkpoint_files import load_checkpoint
from ssvideo_core.errors import WeightsError
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.run_weights import find_checkpoint, find_description
from ssvideo_core.weights import json_entry, locate, read_safetensors

from brave.method import METHOD
from brave.released_files import COLLECTIONS, Tensors, read_released


@dataclass(frozen=True)
class Found:
    """Tensors as "params/MODULE/NAME" and "state/MODULE/NAME", and what is said of them.

    path: file, or folder of a checkpoint. config: the released trainer's options, JSON values.
    metadata: of our files. described: the file that config and metadata are of.
    """

    path: Path
    tensors: Tensors
    described: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    published: PublishedWeights | None = None


def open_weights(weights: str, *, download: bool = False) -> Found:
    """Read all tensors, whatever the weights are given as; see `checkpoints.read_checkpoint`.

    A warning is logged for a checkpoint without its run. Raises WeightsError for an absent,
    forbidden or unknown file, DataError for a folder without a whole checkpoint.
    """
    checkpoint = find_checkpoint(weights, METHOD.weights)
    if checkpoint is not None:
        return _read_saved(checkpoint)
    path, published = locate(weights, METHOD.weights, method=METHOD.name, download=download)
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        config = json_entry(path, metadata, "config")
        return Found(path, tensors, path, config, metadata, published)
    released, config = read_released(path)
    return Found(path, released, path, config, published=published)


def _read_saved(folder: Path) -> Found:
    """A checkpoint of a run, RUN/checkpoints/ckpt-STEP, described by what the run began with."""
    state = load_checkpoint(folder).state
    parts = state if isinstance(state, Mapping) else {}
    missing = [c for c in COLLECTIONS if not isinstance(parts.get(c), Mapping)]
    if missing:
        raise WeightsError(f"{folder}: a checkpoint without {' and '.join(missing)} of networks")
    tensors = {f"{c}/{name}": array for c in COLLECTIONS for name, array in parts[c].items()}
    described = find_description(folder)
    if described is None:
        return Found(folder, tensors, folder)
    _, metadata = read_safetensors(described)
    config = json_entry(described, metadata, "config")
    return Found(folder, tensors, described, config, metadata)
