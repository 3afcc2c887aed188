"""Turn what a pickle machine made into plain values and NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.weights.names import FLAT, Global, Machine, Record, TensorView

MAX_DEPTH = 100
MAX_NODES = 20_000_000


def finish(machine: Machine, value: Any) -> Any:
    """`value` with tensors as arrays and names as text; storages must have their data.

    A shared part is converted once and stays shared. Refuses cycles (except through a Record),
    nesting below MAX_DEPTH, and more than MAX_NODES nodes as a tree, where a shared part counts
    every time: whoever walks the result needs no care.
    """
    return _Finish(machine).convert(value, 0)[0]


class _Finish:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.done: dict[int, tuple[Any, int]] = {}  # by identity: the result and its nodes

    def convert(self, value: Any, depth: int) -> tuple[Any, int]:
        """The converted value and its number of nodes as a tree."""
        if isinstance(value, FLAT):
            return value, 1
        if depth > MAX_DEPTH:
            self.machine.refuse(f"it is nested deeper than {MAX_DEPTH} levels")
        if id(value) not in self.done:
            self.done[id(value)] = (value, -1)
            self.done[id(value)] = self._convert_new(value, depth)
        result, nodes = self.done[id(value)]
        if nodes < 0 and not isinstance(value, Record):
            self.machine.refuse("it contains itself")
        return result, max(nodes, 1)

    def _convert_new(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, Record):
            value.state, _ = self.convert(value.state, depth + 1)
            value.args, _ = self.convert(value.args, depth + 1)
            return value, 1
        if isinstance(value, dict):
            keys = [_key(key, number) for number, key in enumerate(value)]
            parts, nodes = self._convert_all(list(value.values()), depth)
            return dict(zip(keys, parts, strict=True)), nodes
        if isinstance(value, list | tuple):
            parts, nodes = self._convert_all(value, depth)
            return type(value)(parts), nodes
        return self._leaf(value), 1

    def _convert_all(
        self, values: list[Any] | tuple[Any, ...], depth: int
    ) -> tuple[list[Any], int]:
        pairs = [self.convert(value, depth + 1) for value in values]
        nodes = 1 + sum(count for _, count in pairs)
        if nodes > MAX_NODES:
            self.machine.refuse("it expands to far more than its size (a memory bomb?)")
        return [part for part, _ in pairs], nodes

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, TensorView):
            return self._array(value)
        if isinstance(value, Global):
            return value.dotted
        if isinstance(value, np.dtype):
            return value.name
        if isinstance(value, np.ndarray | bytearray | set):
            return value
        self.machine.refuse(f"a bare {type(value).__name__} is left over in it")

    def _array(self, view: TensorView) -> NDArray[Any]:
        data = view.storage.data
        if data is None:
            self.machine.refuse("a tensor has no data")
        strides = [stride * data.itemsize for stride in view.strides]
        window = np.lib.stride_tricks.as_strided(data[view.offset :], view.shape, strides)
        if not window.flags.c_contiguous:
            self.machine.charge(window.nbytes)
        return np.ascontiguousarray(window).reshape(view.shape)


def _key(key: Any, number: int) -> Any:
    """Optimisers key their state by parameter: such a key becomes its position."""
    if isinstance(key, TensorView):
        return f"tensor {number}"
    return key.dotted if isinstance(key, Global) else key
