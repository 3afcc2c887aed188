"""A pickle machine that cannot run code.

`pickletools` decodes the opcodes and this module interprets them; neither the pickle module's
loader nor any class that a pickle names takes part. Limits bound time and memory by the file.
"""

from __future__ import annotations

import pickletools
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ssvideo_core.weights import names
from ssvideo_core.weights.names import Guard, Name, Record, Storage, Unbuilt

MAX_STACK = 100_000  # picklers put at most 2,000 items of a list or dict on the stack at once
MAX_INTEGER_BITS = 512
MAX_ARGUMENTS = 16
MAX_DEPTH = 100

VALUES = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip


MARKED = -1
OPERANDS = {  # how many values an opcode takes from the stack, or all since the last mark
    "TUPLE": MARKED, "LIST": MARKED, "DICT": MARKED, "FROZENSET": MARKED, "APPENDS": MARKED,
    "SETITEMS": MARKED, "ADDITEMS": MARKED, "APPEND": 1, "SETITEM": 2, "TUPLE1": 1, "TUPLE2": 2,
    "TUPLE3": 3, "STACK_GLOBAL": 2, "REDUCE": 2, "NEWOBJ": 2, "BUILD": 1, "BINPERSID": 1, "POP": 1,
}  # fmt: skip


class PickleMachine(Guard):
    """Interprets one pickle.

    source: an `mmap` or `io.BytesIO` (their reads never allocate more than there is) at the start
    of the pickle; left behind its end. size: bytes of the file it lies in.
    where: for messages. torch: whether it may refer to storages, which are kept in `storages` by
    key, zeros until filled.
    """

    def __init__(self, source: Any, *, size: int, where: str, torch: bool = False) -> None:
        super().__init__(f"{where}: the pickle is refused", size)
        self.source, self.torch, self.elements_left = source, torch, size
        self.storages: dict[str, Storage] = {}
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The pickled value, whose storages may still be empty; `finish` completes it.

        Raises WeightsError for a forbidden name, a malformed pickle or a passed limit.
        """
        try:
            for opcode, argument, _ in pickletools.genops(self.source):
                self.charge()
                if len(self.stack) + len(self.marked) > MAX_STACK:
                    self.refuse(names.TOO_LARGE)
                self.step(opcode.name, argument)
            return self.stack.pop()
        except IndexError:
            self.refuse("its stack is empty or a mark is missing")
        except (ValueError, OverflowError, RecursionError) as error:
            self.refuse(f"damaged or cut off ({error})")

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        taken = self.take(OPERANDS.get(name, 0))
        match name:
            case "PROTO" | "FRAME" | "POP" | "STOP":
                pass
            case _ if name in VALUES:
                if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
                    self.refuse(f"it holds an integer of {argument.bit_length()} bits")
                self.push(argument)
            case _ if name in CONSTANTS:
                self.push(CONSTANTS[name]())
            case "BINPUT" | "LONG_BINPUT" | "PUT" | "MEMOIZE":
                self.memo[len(self.memo) if argument is None else argument] = self.top(object)
            case "BINGET" | "LONG_BINGET" | "GET":
                if argument not in self.memo:
                    self.refuse(f"it uses entry {argument} of its memo, which was never written")
                self.push(self.memo[argument])
            case "MARK":
                self.marked.append(self.stack)
                self.stack = []
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.push(tuple(taken))
            case "LIST":
                self.push(taken)
            case "APPEND" | "APPENDS":
                self.top(list).extend(taken)
            case "DICT":
                self.push(self.set_items({}, taken))
            case "SETITEM" | "SETITEMS":
                self.set_items(self.top(dict), taken)
            case "FROZENSET":
                self.push(names.plain_set(self, taken))
            case "ADDITEMS":
                self.top(set).update(names.plain_set(self, taken))
            case "GLOBAL":
                self.push(self.find(argument))
            case "STACK_GLOBAL":
                if not all(isinstance(part, str) for part in taken):
                    self.refuse("it names something that is not text")
                self.push(self.find(" ".join(taken)))
            case "REDUCE" | "NEWOBJ":
                self.push(self.construct(*taken))
            case "BUILD":
                self.build(*taken)
            case "PERSID":
                self.push(self.load_storage(argument))
            case "BINPERSID":
                self.push(self.load_storage(*taken))
            case _:
                detail = "" if argument is None else f" {str(argument).replace(' ', '.'):.200}"
                self.refuse(f"it uses the opcode {name}{detail}, which no weights file needs")

    def find(self, name: str) -> Name:
        """The allowed thing called "module name"; every other name is refused."""
        found = Name(name.replace(" ", ".", 1))
        if name not in names.ALLOWED:
            self.refuse(
                f"it names {str(found)!r:.200}, which no weights file needs. Nothing was run and "
                "no unsafe fallback was tried. If you trust it, save its tensors as .safetensors"
            )
        found.kind = names.ALLOWED[name]
        return found

    def construct(self, target: Any, args: Any) -> Any:
        """The inert counterpart of calling `target`, which must be an allowed name."""
        few = isinstance(args, tuple) and len(args) <= MAX_ARGUMENTS
        if not isinstance(target, Name) or not callable(target.kind) or not few:
            what = target if isinstance(target, Name) else f"a {type(target).__name__}"
            self.refuse(f"it calls {what}, or with more arguments than any weights file")
        if target.kind is Record:
            return Record(str(target), args)
        try:
            return target.kind(self, *args)
        except TypeError as error:
            self.refuse(f"wrong arguments for {target} ({error})")

    def build(self, state: Any) -> None:
        """Give the object on top of the stack its state."""
        target = self.top(object)
        if isinstance(target, Unbuilt):
            target.build(self, state)
        elif isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):  # attributes of an OrderedDict are not tensors
            self.refuse(f"it sets the state of a {type(target).__name__}")

    def load_storage(self, identity: Any) -> Storage:
        """The storage of a persistent id; there cannot be more elements than bytes in the file."""
        if not self.torch:
            self.refuse("it refers to objects outside of itself, as only torch files do")
        match identity:
            case ("storage", Name(kind=str(code)), str(key), _, int(numel), *view) if view in (
                [],
                [None],
            ):
                storage = self.storages.get(key)
            case _:
                self.refuse(f"it refers to {reprlib.repr(identity):.200}, expected a storage")
        if storage is None and 0 <= numel <= self.elements_left:
            self.elements_left -= numel
            storage = self.storages[key] = Storage(code, numel)
        if storage is None or (storage.code, storage.data.size) != (code, numel):
            what = f"storage {key:.40} is declared with {numel} elements"
            self.refuse(f"{what}; that contradicts another place or exceeds the file (cut off?)")
        return storage

    def set_items(self, target: dict[Any, Any], flat: list[Any]) -> dict[Any, Any]:
        """Put key, value, key, value, … into a dict."""
        if len(flat) % 2:
            self.refuse("a key has no value")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if isinstance(key, np.ndarray):  # pickled optimisers key their state by parameter
                key = f"tensor {len(target)}"
            if not names.is_key(key):
                self.refuse(f"it uses a {type(key).__name__} as a key, or a large one")
            target[key] = value
        return target

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def take(self, count: int) -> list[Any]:
        """The top `count` values or those since the last mark, in the order they were pushed."""
        if count == MARKED:
            taken, self.stack = self.stack, self.marked.pop()
            return taken
        return [self.stack.pop() for _ in range(count)][::-1]

    def top(self, kind: type[Any]) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            self.refuse(f"the top of its stack is not a {kind.__name__}")
        return self.stack[-1]


def finish(m: PickleMachine, value: Any) -> Any:
    """`value` with whole, contiguous arrays; storages must have their data.

    Every node is counted each time it is met, so whoever walks the result needs no care: it has
    no cycles (except through a Record), at most MAX_DEPTH levels and no more nodes than allowed.
    """
    records: set[int] = set()

    def convert(value: Any, depth: int) -> Any:
        m.charge()
        if isinstance(value, (*names.FLAT, bytearray, set)):
            return value
        if depth > MAX_DEPTH:
            m.refuse(f"it is nested deeper than {MAX_DEPTH} levels or it contains itself")
        if isinstance(value, Unbuilt) and value.value is not None:
            return convert(value.value, depth + 1)
        if isinstance(value, np.ndarray):
            if value.flags.c_contiguous:
                return value
            m.charge(value.nbytes)
            return value.copy()
        if isinstance(value, dict):
            return {key: convert(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([convert(part, depth + 1) for part in value])
        if isinstance(value, Record):
            if id(value) not in records:
                records.add(id(value))
                value.state = convert(value.state, depth + 1)
                value.args = convert(value.args, depth + 1)
            return value
        m.refuse(f"a bare {type(value).__name__} is left over in it")

    return convert(value, 0)
