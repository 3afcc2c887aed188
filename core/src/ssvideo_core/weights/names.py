"""What a pickle in a weights file may name, and the inert constructor each name stands for.

`TABLE` is the whole allow-list. Nothing here imports or calls what it is named after: tensors and
arrays become NumPy arrays, other objects become a `Record` of what was stored.
"""

from __future__ import annotations

import math
import re
import reprlib
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import WeightsError

MAX_DIMENSIONS = 32
TOO_LARGE = "it expands to far more than its size or is larger than any known weights file (bomb?)"
DTYPE_CODES = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[US]\d{1,6}|O8")
BITS = {"bfloat16": "u2", "b1": "u1"}  # stored types that NumPy lacks or that may hold other bits
FLAT = (str, bytes, int, float, bool, type(None), np.generic, np.dtype)


class Guard:
    """Bounds time and memory by the size of the file, and refuses with its name.

    where: begins every message. size: bytes of the file.
    """

    def __init__(self, where: str, size: int) -> None:
        self.where = where
        self.bytes_left = 4 * size + (1 << 20)
        self.steps_left = min(2 * size + 200_000, 40_000_000)

    def refuse(self, reason: str) -> NoReturn:
        """Stop with a WeightsError."""
        raise WeightsError(f"{self.where}: {reason}")

    def charge(self, size: int = 0) -> None:
        """Count a step (an opcode or a node of the result) and the bytes about to be copied.

        A file cannot ask for many more steps and bytes than it holds.
        """
        self.steps_left -= 1
        self.bytes_left -= size
        if min(self.steps_left, self.bytes_left) < 0:
            self.refuse(TOO_LARGE)


class Name(str):
    """An allowed name that a pickle mentioned, dotted; in the result it is text.

    kind: what `TABLE` says of it.
    """

    kind: Any = None


@dataclass(eq=False, repr=False)
class Record:
    """An object of a class that is never executed: the class' name and what was stored in it."""

    class_name: str
    args: tuple[Any, ...] = ()
    state: Any = None

    def __repr__(self) -> str:
        return f"Record({self.class_name})"


class Storage:
    """The memory of one or more tensors, zeros until `fill` is given its bytes.

    code: the dtype in the file, "bfloat16" (widened to float32) or NumPy's code.
    """

    def __init__(self, code: str, numel: int) -> None:
        self.code = code
        self.stored = np.dtype(BITS.get(code, code))
        self.data = np.zeros(numel, np.float32 if code == "bfloat16" else code)

    def fill(self, m: Guard, raw: bytes, *, big_endian: bool = False) -> None:
        """Put the bytes of the file where the tensors expect them."""
        wanted, numel = self.data.size * self.stored.itemsize, self.data.size
        if len(raw) != wanted:
            m.refuse(f"{len(raw)} bytes for a storage of {numel} elements ({self.code}); cut off?")
        values = np.frombuffer(raw, self.stored.newbyteorder(">" if big_endian else "<"))
        self.data[:] = widen_bfloat16(values) if self.code == "bfloat16" else values


@dataclass(eq=False, repr=False)
class Unbuilt:
    """A NumPy dtype or array that a later opcode completes; the pickle may refer to it before."""

    value: Any = None

    def build(self, m: Guard, state: Any) -> None:
        """Complete it with the state that its __reduce__ gave."""
        if not isinstance(self.value, np.dtype):
            self.value = built_array(m, state)
            return
        match state:
            case (_, "<" | ">" | "|" | "=" as order, None, None, None, *_):
                self.value = self.value.newbyteorder(order)
            case _:
                m.refuse("an array type has a malformed state, fields or sub-arrays")


def is_key(value: Any) -> bool:
    """Whether hashing many of them is quick, whoever chose them.

    Shared tuples of tuples take forever; tuples, large integers and complex numbers with equal
    hashes are easily made.
    """
    large = isinstance(value, int) and value.bit_length() > 64
    return isinstance(value, FLAT) and not large and not isinstance(value, np.complexfloating)


def _whole_numbers(values: Any) -> bool:
    few = isinstance(values, tuple) and len(values) <= MAX_DIMENSIONS
    return few and all(isinstance(value, int) and 0 <= value < 2**48 for value in values)


def tensor(m: Guard, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> NDArray[Any]:
    """A window on a storage, in elements; only where it lies inside of it."""
    whole = all(map(_whole_numbers, ((offset,), shape, strides)))
    if not isinstance(storage, Storage) or not whole or len(shape) != len(strides):
        m.refuse("a tensor is described by something else than storage, offset, size and stride")
    data = storage.data
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if (count and last >= data.size) or max(offset, count) > data.size:
        window = f"size {shape}, stride {strides}, offset {offset}"
        m.refuse(f"a tensor of {window} does not fit into its storage of {data.size} elements")
    step = data.itemsize
    return np.ndarray(shape, data.dtype, data, offset * step, [step * n for n in strides])


def dtype(m: Guard, code: Any, *_: Any) -> Unbuilt:
    """A type of numbers or text (or of objects, which only `built_array` takes)."""
    if not isinstance(code, str) or not DTYPE_CODES.fullmatch(code):
        m.refuse(f"the array type {reprlib.repr(code)} is not a plain number or text")
    return Unbuilt(np.dtype(code))


def built_array(m: Guard, state: Any) -> Any:
    """The array of a pickled array's state; one of objects becomes its list (or single object)."""
    if not isinstance(state, tuple) or len(state) != 5 or not _whole_numbers(state[1]):
        m.refuse("an array has a malformed state")
    _, shape, kind, fortran, raw = state
    if not _dtype_of(m, kind, objects=True).hasobject:
        return frombuffer(m, raw, kind, shape, "F" if fortran else "C")
    if not isinstance(raw, list) or len(shape) > 1 or len(raw) != math.prod(shape):
        m.refuse("an array of objects is not one list of them")
    return raw if shape else raw[0]


def _dtype_of(m: Guard, kind: Any, *, objects: bool = False) -> np.dtype[Any]:
    found = kind.value if isinstance(kind, Unbuilt) else None
    if not isinstance(found, np.dtype) or (found.hasobject and not objects):
        m.refuse("an array of objects or without a type")
    return found


def frombuffer(m: Guard, raw: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    """An array of its bytes (text in old pickles): writable, contiguous, in native byte order."""
    dtype = _dtype_of(m, kind)
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray) or not _whole_numbers(shape):
        m.refuse("an array has malformed contents")
    if math.prod(shape) * dtype.itemsize != len(raw):
        m.refuse(f"an array of shape {shape} and type {dtype} holds {len(raw)} bytes")
    m.charge(len(raw))
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.newbyteorder("="), order="C")


def jax_array(m: Guard, function: Any, args: Any, state: Any, *_: Any) -> Any:
    """A JAX array, which is pickled as the parts of a NumPy array."""
    return built_array(m, state)


def encode(m: Guard, text: Any, encoding: Any) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        m.refuse("_codecs.encode is used for something else than bytes")
    m.charge(len(text))
    return text.encode("latin1")


def plain_set(m: Guard, items: Any = ()) -> set[Any]:
    """A set of values that may be keys."""
    if not isinstance(items, list | tuple) or not all(map(is_key, items)):
        m.refuse("a set holds something else than numbers and text")
    m.charge(8 * len(items))
    return set(items)


def mapping(m: Guard, content: Any = None, *_: Any) -> dict[Any, Any]:
    """A dict class: made from one dict, or empty (a default factory is left out)."""
    if isinstance(content, dict):
        return content
    if content and not isinstance(content, Name):
        m.refuse("a mapping is made from something else than a dict")
    return {}


def device(m: Guard, kind: Any, index: Any = None) -> str:
    """A torch.device as text."""
    short = isinstance(kind, str) and len(kind) < 20
    if not short or not isinstance(index, int | None):
        m.refuse("a torch.device is made from something else than a name and a number")
    return kind if index is None else f"{kind}:{index}"


def widen_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 values, given as their bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


STORAGES = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bfloat16", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "b1", "ComplexFloat": "c8",
    "ComplexDouble": "c16",
}  # fmt: skip
BUILTINS = "builtins __builtin__"
MULTIARRAY = "numpy.core.multiarray numpy._core.multiarray"

# A kind is a constructor, `Record`, the dtype of a storage, or None for what is only mentioned.
TABLE: tuple[tuple[Any, str, str], ...] = (  # kind, modules, names in each of them
    (tensor, "torch._utils", "_rebuild_tensor _rebuild_tensor_v2"),
    (lambda m, value, *_: value, "torch._utils", "_rebuild_parameter"),
    (lambda m, shape: shape, "torch", "Size"),
    (device, "torch", "device"),
    *((code, "torch", f"{name}Storage") for name, code in STORAGES.items()),
    (None, "torch", "float16 bfloat16 float32 float64 uint8 int8 int16 int32 int64 bool"),
    (dtype, "numpy", "dtype"),
    (None, "numpy", "ndarray"),
    (lambda m, *_: Unbuilt(), MULTIARRAY, "_reconstruct"),
    (lambda m, kind, raw: frombuffer(m, raw, kind, (), "C")[()], MULTIARRAY, "scalar"),
    (frombuffer, "numpy.core.numeric numpy._core.numeric", "_frombuffer"),
    (jax_array, "jax._src.array", "_reconstruct_array"),
    (jax_array, "jax._src.device_array", "reconstruct_device_array"),
    (mapping, "haiku._src.data_structures", "FlatMapping"),
    (mapping, "collections", "OrderedDict Counter defaultdict"),
    (mapping, "pytorch_lightning.utilities.parsing", "AttributeDict"),
    (mapping, "lightning_fabric.utilities.data lightning.fabric.utilities.data", "AttributeDict"),
    (plain_set, BUILTINS, "set frozenset"),
    (lambda m: b"", BUILTINS, "bytes"),
    (encode, "_codecs", "encode"),
    (None, BUILTINS, "dict list tuple int float str bool"),
    (None, "typing", "Any"),
    (Record, "argparse", "Namespace"),
    (Record, "ml_collections.config_dict.config_dict", "ConfigDict"),
    (Record, "torch.optim.sgd", "SGD"),
    (Record, "torch.optim.lr_scheduler", "LambdaLR StepLR MultiStepLR CosineAnnealingLR"),
    (Record, "omegaconf.dictconfig", "DictConfig"),
    (Record, "omegaconf.listconfig", "ListConfig"),
    (Record, "omegaconf.base", "ContainerMetadata Metadata"),
    (Record, "omegaconf.nodes", "AnyNode IntegerNode FloatNode BooleanNode StringNode"),
)
ALLOWED = {f"{m} {n}": kind for kind, ms, ns in TABLE for m in ms.split() for n in ns.split()}
