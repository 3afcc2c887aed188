"""What a pickle in a weights file may name, and the inert constructor each name stands for.

Names are compared exactly, as "module name". Nothing here imports or calls what it is named
after: tensors become windows on bytes, other objects become a `Record` of what was stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_DIMENSIONS = 32
DTYPE_CODES = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[US]\d{1,6}|O8")


class Machine(Protocol):
    """What a constructor may ask of the machine that runs the pickle."""

    def refuse(self, reason: str) -> NoReturn: ...
    def charge(self, size: int) -> None: ...


@dataclass(frozen=True)
class Global:
    """An allowed name that a pickle mentioned, with our constructor if it has one."""

    name: str
    build: Callable[..., Any] | None = None

    @property
    def dotted(self) -> str:
        return self.name.replace(" ", ".", 1)


@dataclass(eq=False, repr=False)
class Record:
    """An object of a class that is never executed: the class' name and what was stored in it."""

    class_name: str
    args: tuple[Any, ...] = ()
    state: Any = None

    def __repr__(self) -> str:
        return f"Record({self.class_name})"


@dataclass(eq=False)
class Storage:
    """The memory of one or more tensors: [numel] of `dtype` once its bytes have been read."""

    dtype: str
    numel: int
    data: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class TensorView:
    """A tensor as a window on a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False)
class Unbuilt:
    """A NumPy dtype (with its code) or array between its constructor and its BUILD."""

    code: str | None = None
    memo_keys: list[int] = field(default_factory=list)


def _whole_numbers(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_DIMENSIONS
        and all(isinstance(value, int) and 0 <= value < 2**48 for value in values)
    )


def _tensor(m: Machine, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorView:
    """torch._utils._rebuild_tensor(_v2), only where the window lies inside its storage."""
    whole = _whole_numbers((offset,)) and _whole_numbers(shape) and _whole_numbers(strides)
    if not isinstance(storage, Storage) or not whole or len(shape) != len(strides):
        m.refuse("a tensor is described by something else than storage, offset, size and stride")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if (count and last >= storage.numel) or max(offset, count) > storage.numel:
        m.refuse(
            f"a tensor of size {shape}, stride {strides}, offset {offset} does not fit into its "
            f"storage of {storage.numel} elements"
        )
    return TensorView(storage, offset, shape, strides)


def _as_dtype(m: Machine, value: Any, allow_objects: bool = False) -> np.dtype[Any]:
    if isinstance(value, Unbuilt) and value.code:
        value = np.dtype(value.code)
    if not isinstance(value, np.dtype) or (value.hasobject and not allow_objects):
        m.refuse("an array of objects or without a type")
    return value


def _dtype(m: Machine, code: Any, *_: Any) -> Unbuilt:
    if not isinstance(code, str) or not DTYPE_CODES.fullmatch(code):
        m.refuse(f"the array type {code!r:.40} is not a plain number or text")
    return Unbuilt(code)


def built_dtype(m: Machine, code: str, state: Any) -> np.dtype[Any]:
    """The dtype `code` with the byte order of a pickled dtype's state."""
    if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
        m.refuse("an array type has a malformed state")
    if any(part is not None for part in state[2:5]):
        m.refuse("an array has fields or sub-arrays")
    return np.dtype(code).newbyteorder(state[1])


def built_array(m: Machine, state: Any) -> Any:
    """The array of a pickled array's state; one of objects becomes its list (or single object)."""
    if not isinstance(state, tuple) or len(state) != 5 or not _whole_numbers(state[1]):
        m.refuse("an array has a malformed state")
    _, shape, kind, fortran, raw = state
    dtype = _as_dtype(m, kind, allow_objects=True)
    if not dtype.hasobject:
        return _frombuffer(m, raw, dtype, shape, "F" if fortran else "C")
    if not isinstance(raw, list) or len(shape) > 1 or len(raw) != math.prod(shape):
        m.refuse("an array of objects is not one list of them")
    return raw if shape else raw[0]


def _frombuffer(m: Machine, raw: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    dtype = _as_dtype(m, kind)
    if not isinstance(raw, bytes | bytearray) or not _whole_numbers(shape) or not dtype.itemsize:
        m.refuse("an array has malformed contents")
    if math.prod(shape) * dtype.itemsize != len(raw):
        m.refuse(f"an array of shape {shape} and type {dtype} holds {len(raw)} bytes")
    m.charge(len(raw))
    flat = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))
    array = flat.reshape(shape, order="F" if order == "F" else "C")
    return np.ascontiguousarray(array).reshape(shape)  # an array of no axes would get one


def _scalar(m: Machine, kind: Any, raw: Any) -> np.generic:
    value: np.generic = _frombuffer(m, raw, kind, (), "C").reshape(-1)[0]
    return value


def _jax_array(m: Machine, function: Any, args: Any, state: Any, *_: Any) -> Any:
    if not isinstance(function, Global) or not function.name.endswith(" _reconstruct"):
        m.refuse("a JAX array is not stored as a NumPy array")
    return built_array(m, state)


def _encode(m: Machine, text: Any, encoding: Any = None) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        m.refuse("_codecs.encode is used for something else than bytes")
    m.charge(len(text))
    return text.encode("latin1")


def _bytes(m: Machine, value: Any = b"") -> bytes:
    if not isinstance(value, bytes):
        m.refuse("bytes are made from something else")
    return value


def is_key(value: Any) -> bool:
    """Whether hashing `value`, and many like it, is quick whoever chose them.

    Nested tuples of shared tuples, and large integers or long tuples with equal hashes, are not.
    """
    parts = value if isinstance(value, tuple) and len(value) <= 4 else (value,)
    return all(
        isinstance(part, FLAT) and (not isinstance(part, int) or part.bit_length() <= 64)
        for part in parts
    )


def plain_set(m: Machine, items: Any = ()) -> set[Any]:
    """A set of values that may be keys."""
    if not isinstance(items, list | tuple) or not all(map(is_key, items)):
        m.refuse("a set holds something else than numbers and text")
    m.charge(8 * len(items))
    return set(items)


def _mapping(m: Machine, content: Any = (), *_: Any) -> dict[Any, Any]:
    if isinstance(content, dict):
        return content
    if content != () and content != []:
        m.refuse("a mapping is made from something else than a dict")
    return {}


def _first(m: Machine, value: Any, *_: Any) -> Any:
    return value


def _shape(m: Machine, values: Any = ()) -> tuple[int, ...]:
    if not _whole_numbers(values):
        m.refuse("a torch.Size is not a tuple of whole numbers")
    return values  # type: ignore[no-any-return]


def _device(m: Machine, kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or not (index is None or isinstance(index, int)):
        m.refuse("a torch.device is made from something else than a name and a number")
    return kind if index is None else f"{kind}:{index}"


FLAT = (str, bytes, int, float, bool, type(None), np.generic)
NUMPY = ("numpy.core", "numpy._core")
BUILTINS = ("builtins", "__builtin__")

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _first,
    "torch Size": _shape,
    "torch device": _device,
    "numpy dtype": _dtype,
    "_codecs encode": _encode,
    "jax._src.array _reconstruct_array": _jax_array,
    "jax._src.device_array reconstruct_device_array": _jax_array,
    "haiku._src.data_structures FlatMapping": _mapping,
    "collections OrderedDict": _mapping,
    "collections Counter": _mapping,
    "collections defaultdict": lambda m, *_: {},
    "pytorch_lightning.utilities.parsing AttributeDict": _mapping,
    "lightning_fabric.utilities.data AttributeDict": _mapping,
    "lightning.fabric.utilities.data AttributeDict": _mapping,
    **{f"{module}.multiarray _reconstruct": lambda m, *_: Unbuilt() for module in NUMPY},
    **{f"{module}.multiarray scalar": _scalar for module in NUMPY},
    **{f"{module}.numeric _frombuffer": _frombuffer for module in NUMPY},
    **{f"{module} {name}": plain_set for module in BUILTINS for name in ("set", "frozenset")},
    **{f"{module} bytes": _bytes for module in BUILTINS},
}
STORAGES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "|i1",
    "torch ByteStorage": "|u1",
    "torch BoolStorage": "|b1",
    "torch ComplexFloatStorage": "<c8",
    "torch ComplexDoubleStorage": "<c16",
}
TYPE_NAMES = frozenset(
    {f"torch {name}" for name in (
        "float16", "bfloat16", "float32", "float64", "half", "float", "double", "uint8", "int8",
        "int16", "int32", "int64", "short", "int", "long", "bool", "complex64", "complex128",
        "strided", "contiguous_format", "preserve_format", "channels_last", "channels_last_3d",
    )}
    | {f"{module} {name}" for module in BUILTINS for name in (
        "dict", "list", "tuple", "int", "float", "str", "bool", "object",
    )}
    | {"numpy ndarray", "typing Any"}
)  # fmt: skip
RECORDS = frozenset(
    {"argparse Namespace", "ml_collections.config_dict.config_dict ConfigDict"}
    | {f"torch.optim.{name.lower()} {name}" for name in ("SGD", "Adam", "AdamW", "RMSprop")}
    | {f"torch.optim.lr_scheduler {name}" for name in (
        "LRScheduler", "_LRScheduler", "LambdaLR", "MultiplicativeLR", "StepLR", "MultiStepLR",
        "ConstantLR", "LinearLR", "ExponentialLR", "SequentialLR", "PolynomialLR",
        "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ChainedScheduler",
        "ReduceLROnPlateau", "CyclicLR", "OneCycleLR",
    )}
    | {f"omegaconf.nodes {name}" for name in (
        "AnyNode", "IntegerNode", "FloatNode", "BooleanNode", "StringNode", "BytesNode", "PathNode",
    )}
    | {
        "omegaconf.dictconfig DictConfig", "omegaconf.listconfig ListConfig",
        "omegaconf.base ContainerMetadata", "omegaconf.base Metadata",
    }
)  # fmt: skip
