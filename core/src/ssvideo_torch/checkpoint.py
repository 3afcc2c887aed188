"""State dicts of modules, optimisers and scalers in the checkpoints of `ssvideo_core`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ssvideo_core.checkpoints import Saved, Tree, load_checkpoint, save_checkpoint
from ssvideo_core.errors import DataError

BFLOAT16_BITS = "torch.bfloat16 as bits"  # NumPy has no such type


class Stateful(Protocol):
    """A module, an optimiser, a GradScaler, a schedule, ..."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def to_tree(value: Any) -> Tree:
    """A state dict as core's checkpoints take it, on the CPU, sharing no memory with `value`.

    Tensors of any device and layout become NumPy arrays of their dtype and shape; bfloat16 ones
    {BFLOAT16_BITS: uint16}. Keys, numbers, text, lists and tuples stay; mappings become dicts.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach().to("cpu", copy=True).contiguous()
        if tensor.dtype == torch.bfloat16:
            return {BFLOAT16_BITS: tensor.view(torch.uint16).numpy()}
        return tensor.numpy()
    if isinstance(value, Mapping):
        return {key: to_tree(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_tree(item) for item in value]
    if isinstance(value, tuple):
        return tuple(to_tree(item) for item in value)
    return value


def to_state(tree: Tree, device: torch.device | str = "cpu") -> Any:
    """The state dict that `to_tree` took, with its tensors on `device`, in memory of their own.

    `load_state_dict` moves tensors to where they belong, and expects an optimiser's counts of
    steps on the CPU: another device is only for states that are used without it.
    """
    if isinstance(tree, np.ndarray):
        return torch.tensor(tree, device=device)
    if isinstance(tree, Mapping):
        if tree.keys() == {BFLOAT16_BITS}:
            return torch.tensor(tree[BFLOAT16_BITS], device=device).view(torch.bfloat16)
        return {key: to_state(item, device) for key, item in tree.items()}
    if isinstance(tree, list):
        return [to_state(item, device) for item in tree]
    if isinstance(tree, tuple):
        return tuple(to_state(item, device) for item in tree)
    return tree


def save(
    root: Path,
    step: int,
    parts: Mapping[str, Any],
    *,
    facts: Mapping[str, Any],
    local: Mapping[str, Any] | None = None,
    rank: int = 0,
    world_size: int = 1,
    barrier: Callable[[], object] = lambda: None,
    keep: int = 2,
    keep_forever: bool = False,
) -> Path:
    """`save_checkpoint` for what has a `state_dict`; every rank calls it.

    parts: by name, what all ranks share: objects with a state_dict, or states themselves. local:
    the same, of this rank alone. Only rank 0 copies its parts from the device.
    """
    return save_checkpoint(
        root,
        step,
        _states(parts) if rank == 0 else {},
        facts=facts,
        local=None if local is None else _states(local),
        rank=rank,
        world_size=world_size,
        barrier=barrier,
        keep=keep,
        keep_forever=keep_forever,
    )


def load(
    folder: Path,
    parts: Mapping[str, Stateful],
    *,
    local: Mapping[str, Stateful] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Saved:
    """Give each object the state that `save` took under its name; returns all that was read.

    Names without an object are left alone: their states are in `Saved.state` and `Saved.local` as
    trees, for `to_state`. Raises DataError for a checkpoint that is damaged, lacks a name, or holds
    a state that its object does not take; objects before that one then have their state already.
    """
    saved = load_checkpoint(folder, rank=rank, world_size=world_size)
    for tree, objects in ((saved.state, parts), (saved.local or {}, local or {})):
        for name, taker in objects.items():
            if name not in tree:
                raise DataError(f"{folder} holds no '{name}', only {', '.join(tree) or 'nothing'}")
            try:
                taker.load_state_dict(to_state(tree[name]))
            except (RuntimeError, ValueError, KeyError) as error:
                raise DataError(
                    f"{folder}: its '{name}' does not fit: {error}. Go on with the settings and "
                    "the version that wrote it"
                ) from error
    return saved


def _states(parts: Mapping[str, Any]) -> dict[str, Tree]:
    return {
        name: to_tree(part.state_dict() if hasattr(part, "state_dict") else part)
        for name, part in parts.items()
    }
