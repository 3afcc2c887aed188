"""Reading checkpoints: which are complete, which is meant, what they hold.

`checkpoints` writes them and says what lies in the folder.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssvideo_core.checkpoint_tree import Tree, restore
from ssvideo_core.errors import DataError, WeightsError
from ssvideo_core.files import sha256
from ssvideo_core.weights.tensors import read_safetensors

_LOG = logging.getLogger(__name__)

VERSION = 1
MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"  # the folder of a run that holds them
# While a checkpoint takes the place of a complete one of its step, that one has the longer name.
_NAME = re.compile(r"ckpt-(\d{8,})(\.replaced)?")


@dataclass(frozen=True)
class Saved:
    """What `load_checkpoint` found.

    state: the tree that rank 0 saved; local: the one of this rank, None when it saved none. Arrays
    are writable NumPy arrays of the dtype and shape they had. facts: as saved. world_size: how many
    ranks wrote it.
    """

    folder: Path
    step: int
    state: Tree
    local: Tree | None
    facts: Mapping[str, Any]
    world_size: int


def newest_checkpoint(root: Path) -> Path | None:
    """The newest complete and undamaged checkpoint in `root`; None without one.

    All its files are compared with the manifest. Newer ones that are damaged are named in a
    warning, with what is wrong; the one that is taken is logged.
    """
    for _, folder in newest_first(root):
        try:
            _verify(folder, _files(folder))
        except DataError as error:
            _LOG.warning("%s; looking for an earlier one", error)
            continue
        _LOG.info("newest complete checkpoint: %s", folder)
        return folder
    return None


def locate_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means by `path`: itself, the newest in it, or in its checkpoints/.

    Raises DataError when there is none, or only damaged ones.
    """
    if (path / MANIFEST).is_file():
        return path
    for root in (path, path / CHECKPOINTS):
        if found := newest_checkpoint(root):
            return found
        if damaged := newest_first(root):
            names = ", ".join(folder.name for _, folder in damaged)
            raise DataError(f"{root}: {names}: none is complete and undamaged; give another folder")
    raise DataError(
        f"{path}: no checkpoint; expected a folder ckpt-STEP with its {MANIFEST}, a folder of such "
        "folders, or a run folder with checkpoints/"
    )


def load_checkpoint(folder: Path, *, rank: int = 0, world_size: int = 1) -> Saved:
    """Read and verify what is for this rank.

    When fewer ranks load than saved, each gets the local state of its number and the rest is left;
    `Saved.world_size` tells. Raises DataError when the checkpoint is incomplete or damaged, naming
    the file, and on every rank when more ranks load local states than saved them.
    """
    files, own = _files(folder), f"rank-{rank:05d}"
    stems = ["state", *([own] if f"{own}.json" in files else [])]
    _verify(folder, [f"{stem}{end}" for stem in stems for end in (".json", ".safetensors")])
    head, state = _read(folder / "state", ("step", "facts", "world_size", "has_local"))
    step, facts, writers = head["step"], head["facts"], head["world_size"]
    if head["has_local"] and (world_size > writers or own not in stems):
        raise DataError(
            f"{folder} was saved by {writers} ranks, each with a state of its own; rank {rank} of "
            f"{world_size} has none there. Start {writers} processes"
        )
    local = _read(folder / own, ("step", "rank"))[1] if own in stems else None
    return Saved(folder, step, state, local, facts, writers)


def newest_first(root: Path) -> list[tuple[int, Path]]:
    """Every folder with the name of a checkpoint, complete or not, after its step."""
    if not root.is_dir():
        return []
    named = [(_NAME.fullmatch(entry.name), entry) for entry in root.iterdir()]
    found = [(int(name[1]), name[2] is None, entry) for name, entry in named if name]
    return [(step, entry) for step, _, entry in sorted(found, reverse=True)]


def is_complete(folder: Path) -> bool:
    """Whether the manifest and all files are there, of the right size; they are not read."""
    try:
        _files(folder)
    except DataError:
        return False
    return True


def _files(folder: Path) -> dict[str, str]:
    """The sha256 of each file in the manifest, all of which have their size."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        version = manifest["version"]
        files = [(name, row["bytes"], row["sha256"]) for name, row in manifest["files"].items()]
    except FileNotFoundError:
        raise DataError(f"{folder}: incomplete, it has no {MANIFEST}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error!r})") from error
    if version != VERSION:
        raise DataError(f"{path}: has version {version!r}, this ssvideo reads version {VERSION}")
    for name, size, _ in files:
        path = folder / Path(name).name
        found = path.stat().st_size if path.is_file() else "no"
        if found != size:
            raise DataError(f"{path}: damaged, found {found} bytes, expected {size}")
    return {name: digest for name, _, digest in files}


def _verify(folder: Path, names: Iterable[str]) -> None:
    files = _files(folder)
    for name in names:
        path = folder / name
        try:
            intact = files.get(name) == sha256(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if not intact:
            raise DataError(f"{path}: damaged, its sha256 is not the one in {MANIFEST}")


def _read(stem: Path, keys: Iterable[str]) -> tuple[dict[str, Any], Tree]:
    path = stem.with_suffix(".json")
    try:
        head = json.loads(path.read_text())
        arrays, _ = read_safetensors(stem.with_suffix(".safetensors"))
        return {key: head[key] for key in keys}, restore(head["tree"], arrays)
    except (ValueError, KeyError, TypeError, RecursionError, DataError, WeightsError) as error:
        raise DataError(f"{path}: cannot be read back ({error!r})") from error
