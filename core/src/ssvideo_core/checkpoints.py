"""The state of a training run on disk: complete, verified, or not there.

    ROOT/ckpt-00000120/state.safetensors, state.json      what all ranks share, by rank 0
                       rank-00003.safetensors, .json      what rank 3 alone has (a queue)
                       keep-forever                       empty; the checkpoint is never removed
                       manifest.json                      size and sha256 of each; written last

A checkpoint is written under another name and renamed when all of it is on the disk, so that a kill
at any moment leaves the one before. No pickle is involved. Trees: `checkpoint_tree.flatten`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ssvideo_core.checkpoint_files import (
    MANIFEST,
    VERSION,
    Saved,
    is_complete,
    load_checkpoint,
    locate_checkpoint,
    newest_checkpoint,
    newest_first,
)
from ssvideo_core.checkpoint_tree import Tree, flatten
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.files import sha256, write_text
from ssvideo_core.weights.tensors import write_safetensors

__all__ = [
    "Saved",
    "Tree",
    "commit",
    "load_checkpoint",
    "locate_checkpoint",
    "newest_checkpoint",
    "save_checkpoint",
]

KEEP_FOREVER = "keep-forever"


def save_checkpoint(
    root: Path,
    step: int,
    state: Tree,
    *,
    facts: Mapping[str, Any],
    local: Tree | None = None,
    rank: int = 0,
    world_size: int = 1,
    barrier: Callable[[], object] = lambda: None,
    keep: int = 2,
    keep_forever: bool = False,
) -> Path:
    """Write ROOT/ckpt-STEP and return its path once it is complete. Every rank calls it.

    state: only rank 0's is written. local: what this rank alone has; all ranks have one, or none.
    facts: JSON values about the run. barrier: waits for all ranks, which must see ROOT on one file
    system. A complete checkpoint of the same step is replaced. keep: how many checkpoints stay, of
    this step and earlier ones, beside those saved with keep_forever; later steps are left alone.

    Raises DataError when the disk is full or not writable, or the file of another rank is absent:
    earlier checkpoints are untouched then, and none is half there. Raises ConfigError for keep
    below 1; TypeError or ValueError for what no checkpoint can hold. An error on one rank leaves
    the others waiting in `barrier`, which must notice.
    """
    if keep < 1 or step < 0:
        raise ConfigError(f"step {step}, {keep} checkpoints to keep; expected at least 0 and 1")
    target = root / f"ckpt-{step:08d}"
    draft = root / f".{target.name}.tmp"
    head = {"version": VERSION, "step": int(step), "world_size": world_size}
    try:
        if rank == 0:
            with _disk_errors_named(target):
                _remove_leftovers(root)
                draft.mkdir(parents=True)
        barrier()
        with _disk_errors_named(target):
            if local is not None:
                _write(draft / f"rank-{rank:05d}", local, {**head, "rank": rank})
            if rank == 0:
                has = {"facts": dict(facts), "has_local": local is not None}
                _write(draft / "state", state, {**head, **has})
        barrier()
        if rank == 0:
            with _disk_errors_named(target):
                if local is not None:
                    _check_ranks(draft, world_size)
                if keep_forever:
                    write_text(draft / KEEP_FOREVER, "")
                commit(draft, target, step=step, facts=facts, world_size=world_size)
                _remove_older(root, step, keep)
    except BaseException:
        if rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
        raise
    barrier()
    return target


def commit(
    draft: Path, target: Path, *, step: int, facts: Mapping[str, Any], world_size: int
) -> None:
    """Complete a draft: hash its files, write the manifest, rename it to `target`.

    step, facts, world_size: said again in the manifest, for who opens it; loading takes them from
    state.json, which is hashed.
    """
    paths = sorted(draft.iterdir())
    manifest = {
        "version": VERSION,
        "step": int(step),
        "world_size": world_size,
        "facts": dict(facts),
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in paths},
    }
    write_text(draft / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    _sync(draft)
    # No folder can be renamed over another; in between, the old one is found by its longer name.
    replaced = target.with_name(f"{target.name}.replaced")
    if target.exists():
        _remove(replaced)
        target.rename(replaced)
    draft.rename(target)
    _sync(target.parent)
    _remove(replaced)


@contextmanager
def _disk_errors_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error.strerror or error}); earlier checkpoints are "
            "untouched. Make room or choose another place, then start the same command again"
        ) from error


def _write(stem: Path, tree: Tree, head: Mapping[str, Any]) -> None:
    arrays, structure = flatten(tree)
    write_safetensors(stem.with_suffix(".safetensors"), arrays, {})
    text = json.dumps({**head, "tree": structure}, allow_nan=False)
    write_text(stem.with_suffix(".json"), text + "\n")


def _check_ranks(draft: Path, world_size: int) -> None:
    absent = [r for r in range(world_size) if not (draft / f"rank-{r:05d}.json").exists()]
    if absent:
        raise DataError(
            f"{draft}: no state of ranks {absent} of {world_size}; every rank must save one, in "
            "this folder, on a file system that all ranks see"
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse this for folders; there is nothing else to ask for.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Take a folder away at once; what a kill or an open file leaves goes at the next save."""
    with suppress(OSError):
        going = folder.rename(folder.with_name(f".ckpt-{uuid.uuid4().hex}.tmp"))
        shutil.rmtree(going, ignore_errors=True)


def _remove_leftovers(root: Path) -> None:
    for draft in root.glob(".ckpt-*.tmp"):
        _remove(draft)
    for replaced in root.glob("ckpt-*.replaced"):
        if is_complete(replaced.with_suffix("")):
            _remove(replaced)


def _remove_older(root: Path, step: int, keep: int) -> None:
    removable = [
        folder
        for number, folder in newest_first(root)
        if number <= step and is_complete(folder) and not (folder / KEEP_FOREVER).exists()
    ]
    for folder in removable[keep:]:
        _remove(folder)
