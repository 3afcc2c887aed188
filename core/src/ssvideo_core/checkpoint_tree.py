"""Nested states as named arrays and one JSON value, and back, with nothing lost.

The JSON value is the state with each array replaced by its name, so every key, type and order
comes back. Written as JSON: None, bool, int, finite float and str as themselves, and

    {"dict": [[key, value], ...]}  {"list": [...]}  {"tuple": [...]}  {"float": "nan"}
    {"array": name}  {"array": name, "dtype": "bfloat16", "shape": [...]}   the latter by its bytes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import DataError
from ssvideo_core.weights.tensors import SAFETENSORS_DTYPES

# Mappings, lists and tuples of NumPy arrays, None, bool, int, float and str.
Tree: TypeAlias = Any
Arrays: TypeAlias = dict[str, NDArray[Any]]

_STORED = {np.dtype(code) for code in SAFETENSORS_DTYPES.values()}
_TAKEN = ("", "__metadata__")  # the format of the file uses the second one itself


def flatten(tree: Tree) -> tuple[Arrays, Any]:
    """The arrays of a tree by name, and its structure as a JSON value.

    An array's name is its path joined with "/", and more where that names two arrays. Keys are
    str, int, float, bool or None and stay what they are. Any array without Python objects is
    kept, also 0-d, empty, non-contiguous, bool, complex and bfloat16 ones; NumPy scalars become
    0-d arrays, named tuples plain ones, every mapping a dict.
    Raises TypeError, with the path, for anything else: arrays of a framework included, which
    callers convert (jax.device_get, ssvideo_torch.checkpoint.to_tree).
    """
    arrays: Arrays = {}
    return arrays, _describe(tree, "", arrays)


def _describe(value: Tree, path: str, arrays: Arrays) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _put(np.asarray(value), path, arrays)
    if isinstance(value, Mapping):
        items = [
            [_scalar(key, path), _describe(item, f"{path}/{key}" if path else str(key), arrays)]
            for key, item in value.items()
        ]
        return {"dict": items}
    if isinstance(value, list | tuple):
        prefix = f"{path}/" if path else ""
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_describe(item, f"{prefix}{i}", arrays) for i, item in enumerate(value)]}
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Any:
    if type(value) is float and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(
        f"'{path}' of the state is or has as key a {kind}; convert it to a NumPy array, a number, "
        "text, a list, a tuple or a dict"
    )


def _put(array: NDArray[Any], path: str, arrays: Arrays) -> Any:
    name = path
    while name in arrays or name in _TAKEN:
        name += "'"
    dtype = array.dtype.newbyteorder("=")
    array = np.asarray(array, dtype, order="C")
    if dtype in _STORED:
        arrays[name] = array
        return {"array": name}
    code = _code(dtype, path)
    arrays[name] = array.reshape(-1).view(np.uint8)
    return {"array": name, "dtype": code, "shape": list(array.shape)}


def _code(dtype: np.dtype[Any], path: str) -> str:
    """Text that gives the dtype back; only by its name for those of other packages (ml_dtypes)."""
    with suppress(TypeError):
        for code in (dtype.str, dtype.name):
            if np.dtype(code) == dtype and not dtype.hasobject:
                return code
    raise TypeError(f"'{path}' of the state is an array of {dtype}; it cannot be saved")


def restore(structure: Any, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    """The tree that `flatten` took apart; its arrays are those of `arrays` where it can be.

    Raises DataError when the two do not fit, or for an array of a type that no package loaded so
    far defines (bfloat16 needs ml_dtypes, which jax loads).
    """
    try:
        return _rebuild(structure, arrays)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"the structure and the arrays do not fit ({error!r})") from error


def _rebuild(node: Any, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    match node:
        case None | bool() | int() | float() | str():
            return node
        case {"dict": items}:
            return {_rebuild(key, arrays): _rebuild(item, arrays) for key, item in items}
        case {"list": items}:
            return [_rebuild(item, arrays) for item in items]
        case {"tuple": items}:
            return tuple(_rebuild(item, arrays) for item in items)
        case {"float": text}:
            return float(text)
        case {"array": name, "dtype": code, "shape": shape}:
            return arrays[name].view(np.dtype(code)).reshape(shape)
        case {"array": name}:
            return arrays[name]
    raise ValueError(f"unknown entry {str(node)[:80]}")
