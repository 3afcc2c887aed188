"""A pickle machine that cannot run code.

`pickletools` decodes the opcodes and this module interprets them; neither the pickle module's
loader nor any class that a pickle names takes part. Limits bound time and memory by the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import names
from ssvideo_core.weights.names import Global, Record, Storage, TensorView, Unbuilt

MAX_OPCODES = 20_000_000
MAX_STACK = 100_000  # picklers put at most 2,000 items of a list or dict on the stack at once
MAX_REARRANGED = 10_000  # POP, POP_MARK and DUP; picklers emit them for recursive tuples only
MAX_INTEGER_BITS = 512
SPARE_BYTES = 1 << 20

VALUES = frozenset({
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "FLOAT", "BINFLOAT",
})  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}


class Source(Protocol):
    """Bytes whose reads never allocate more than there is: an `io.BytesIO` or an `mmap`."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


class PickleMachine:
    """Interprets one pickle.

    source: at the start of the pickle; left behind its end. size: bytes of the file it lies in.
    where: for messages. load_storage: what a persistent id of a torch file means, else refused.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        where: str,
        load_storage: Callable[[Any], Storage] | None = None,
    ) -> None:
        self.source, self.where, self.load_storage = source, where, load_storage
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.rearranged = 0
        self.bytes_left = 4 * size + SPARE_BYTES

    def run(self) -> Any:
        """The pickled value, in which tensors are still a `TensorView`; `finish` converts it.

        Raises WeightsError for a forbidden name, a malformed pickle or a passed limit.
        """
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(self.source)):  # type: ignore[arg-type]
                if number > MAX_OPCODES or len(self.stack) + len(self.marked) > MAX_STACK:
                    self.refuse("it is larger than any known weights file (a memory bomb?)")
                if opcode.name == "STOP":
                    return self.pop()
                self.step(opcode.name, argument)
        except (ValueError, OverflowError, RecursionError) as error:
            self.refuse(f"damaged or cut off ({error})")
        self.refuse("it has no end")

    def refuse(self, reason: str) -> NoReturn:
        """Stop with a WeightsError."""
        raise WeightsError(f"{self.where}: the pickle is refused: {reason}")

    def charge(self, size: int) -> None:
        """Count bytes about to be copied: a file cannot ask for much more than it holds."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            self.refuse("it expands to far more than its size (a memory bomb?)")

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        match name:
            case _ if name in VALUES:
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.put(argument)
            case "MEMOIZE":
                self.put(len(self.memo))
            case "BINGET" | "LONG_BINGET" | "GET":
                if argument not in self.memo:
                    self.refuse(f"it uses entry {argument} of its memo, which was never written")
                stack.append(self.memo[argument])
            case _ if name in CONSTANTS:
                stack.append(CONSTANTS[name]())
            case "BININT1" | "BININT2" | "BININT" | "INT" | "LONG1" | "LONG4" | "LONG":
                if argument.bit_length() > MAX_INTEGER_BITS:
                    self.refuse(f"it holds an integer of {argument.bit_length()} bits")
                stack.append(argument)
            case "MARK":
                self.marked.append(stack)
                self.stack = []
            case "TUPLE":
                self.push(tuple(self.items()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(self.pops(int(name[-1])))
            case "LIST":
                self.push(self.items())
            case "APPEND":
                item = self.pop()
                self.top(list).append(item)
            case "APPENDS":
                items = self.items()
                self.top(list).extend(items)
            case "SETITEM":
                self.set_items(list(self.pops(2)))
            case "SETITEMS":
                self.set_items(self.items())
            case "DICT":
                items = self.items()
                self.push({})
                self.set_items(items)
            case "FROZENSET":
                self.push(names.plain_set(self, self.items()))
            case "ADDITEMS":
                items = self.items()
                self.top(set).update(names.plain_set(self, items))
            case "PROTO" | "FRAME":
                pass
            case "POP" | "POP_MARK" | "DUP":
                self.rearrange(name)
            case _:
                self.step_object(name, argument)

    def step_object(self, name: str, argument: Any) -> None:
        """Execute one of the opcodes that name, make or fill objects."""
        match name:
            case "GLOBAL":
                self.push(self.find(argument))
            case "STACK_GLOBAL":
                module, attribute = self.pops(2)
                if not isinstance(module, str) or not isinstance(attribute, str):
                    self.refuse("it names something that is not text")
                self.push(self.find(f"{module} {attribute}"))
            case "REDUCE" | "NEWOBJ":
                self.push(self.construct(*self.pops(2)))
            case "NEWOBJ_EX":
                target, args, keywords = self.pops(3)
                if keywords != {}:
                    self.refuse("it makes an object with keyword arguments")
                self.push(self.construct(target, args))
            case "INST":
                self.push(self.construct(self.find(argument), tuple(self.items())))
            case "OBJ":
                target, *rest = self.items() or [None]
                self.push(self.construct(target, tuple(rest)))
            case "BUILD":
                self.build(self.pop())
            case "PERSID" | "BINPERSID":
                if self.load_storage is None:
                    self.refuse("it refers to objects outside of itself, as only torch files do")
                self.push(self.load_storage(argument if name == "PERSID" else self.pop()))
            case _:
                detail = "" if argument is None else f" {argument}"
                self.refuse(f"it uses the opcode {name}{detail}, which no weights file needs")

    def find(self, name: str) -> Global:
        """The allowed thing called "module name"; every other name is refused."""
        if name in names.FUNCTIONS:
            return Global(name, names.FUNCTIONS[name])
        if name in names.RECORDS:
            return Global(name, lambda _, *args: Record(name.replace(" ", "."), args))
        if name in names.STORAGES or name in names.TYPE_NAMES:
            return Global(name)
        self.refuse(
            f"it names {name.replace(' ', '.', 1)!r:.200}, which is not among the names that a "
            "weights file may use. Nothing was run and no unsafe fallback was tried. If you trust "
            "the file, save its tensors alone (.safetensors) with the program that wrote it"
        )

    def construct(self, target: Any, args: Any) -> Any:
        """The inert counterpart of calling `target`, which must be an allowed name."""
        if not isinstance(target, Global) or target.build is None or not isinstance(args, tuple):
            what = target.dotted if isinstance(target, Global) else f"a {type(target).__name__}"
            self.refuse(f"it calls {what}")
        try:
            return target.build(self, *args)
        except TypeError as error:
            self.refuse(f"wrong arguments for {target.dotted} ({error})")

    def build(self, state: Any) -> None:
        """Give the object on top of the stack its state."""
        target = self.pop()
        if isinstance(target, Unbuilt):
            unbuilt = target
            target = (
                names.built_dtype(self, unbuilt.code, state)
                if unbuilt.code
                else names.built_array(self, state)
            )
            for key in unbuilt.memo_keys:
                if self.memo[key] is unbuilt:
                    self.memo[key] = target
        elif isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):  # attributes of an OrderedDict are not tensors
            self.refuse(f"it sets the state of a {type(target).__name__}")
        self.push(target)

    def put(self, key: int) -> None:
        """Remember the top of the stack under `key`."""
        value = self.memo[key] = self.top(object)
        if isinstance(value, Unbuilt):
            value.memo_keys.append(key)

    def set_items(self, flat: list[Any]) -> None:
        """Put key, value, key, value, … into the dict on top of the stack."""
        target = self.top(dict)
        if len(flat) % 2:
            self.refuse("a key has no value")
        for key in flat[::2]:
            if not (names.is_key(key) or isinstance(key, Global | TensorView)):
                self.refuse(f"it uses a {type(key).__name__} as a key, or a large one")
        target.update(zip(flat[::2], flat[1::2], strict=True))

    def rearrange(self, name: str) -> None:
        """POP, POP_MARK, DUP."""
        self.rearranged += 1
        if self.rearranged > MAX_REARRANGED:
            self.refuse("it rearranges its stack more than any pickler does")
        if name == "DUP":
            self.push(self.top(object))
        elif name == "POP" and self.stack:
            self.stack.pop()
        else:
            self.items()

    def items(self) -> list[Any]:
        """The items since the last mark, which is removed."""
        if not self.marked:
            self.refuse("a mark is missing")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.pops(1)[0]

    def pops(self, count: int) -> tuple[Any, ...]:
        """The top `count` values, in the order in which they were pushed."""
        if len(self.stack) < count:
            self.refuse("its stack is empty")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def top(self, kind: type[Any]) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            self.refuse(f"the top of its stack is not a {kind.__name__}")
        return self.stack[-1]
