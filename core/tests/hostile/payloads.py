"""Bytes of pickles that try to run code or to exhaust the machine.

Each payload is one whole pickle, with what a refusal must say. Whatever runs creates MARKER in the
working folder.
"""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any

import numpy as np

MARKER = "executed"  # a file that every payload would create in the working folder
COMMAND = f"touch {MARKER}"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def stack_global(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


def call(module: str, name: str, argument: str) -> bytes:
    return f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R"


class Reduced:
    """What the pickle module writes for an object with a hostile __reduce__."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


RUN = f"open({MARKER!r}, 'w')"
SYSTEM = f"{os.system.__module__}.system"
PAYLOADS: dict[str, tuple[bytes, str]] = {
    **{
        f"reduce protocol {p}": (pickle.dumps(Reduced(os.system, COMMAND), p), SYSTEM)
        for p in range(6)
    },
    "global os": (call("os", "system", COMMAND) + b".", "os.system"),
    "global posix": (call("posix", "system", COMMAND) + b".", "posix.system"),
    "global nt": (call("nt", "system", COMMAND) + b".", "nt.system"),
    "builtins.eval": (call("builtins", "eval", RUN) + b".", "builtins.eval"),
    "builtins.exec": (call("builtins", "exec", RUN) + b".", "builtins.exec"),
    "__builtin__.eval": (call("__builtin__", "eval", RUN) + b".", "__builtin__.eval"),
    "__import__": (call("builtins", "__import__", "os") + b".", "builtins.__import__"),
    "getattr": (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
    "subprocess": (call("subprocess", "getoutput", COMMAND) + b".", "subprocess.getoutput"),
    "functools.partial": (
        b"cfunctools\npartial\ncos\nsystem\n" + text(COMMAND) + b"\x86R)R.",
        "functools.partial",
    ),
    "inst": (b"(" + text(COMMAND) + b"ios\nsystem\n.", "os.system"),
    "obj": (b"(cos\nsystem\n" + text(COMMAND) + b"o.", "os.system"),
    "stack global": (
        b"\x80\x04" + stack_global("os", "system") + short(COMMAND) + b"\x85R.",
        "os.system",
    ),
    "stack global dotted": (
        b"\x80\x04" + stack_global("collections", "OrderedDict.__init__.__globals__") + b".",
        "collections.OrderedDict.__init__",
    ),
    "newobj": (b"\x80\x02csubprocess\nPopen\n" + text(COMMAND) + b"\x85\x81.", "subprocess.Popen"),
    "newobj_ex": (
        b"\x80\x04" + stack_global("subprocess", "Popen") + short(COMMAND) + b"\x85}\x92.",
        "subprocess.Popen",
    ),
    "newobj_ex with keywords": (
        b"\x80\x04" + stack_global("collections", "OrderedDict") + b")}" + short("a") + b"Ns\x92.",
        "the opcode NEWOBJ_EX",
    ),
    "newobj_ex with a number": (
        b"\x80\x04" + stack_global("collections", "OrderedDict") + b"K\x01}\x92.",
        "the opcode NEWOBJ_EX",
    ),
    "build setstate": (
        b"csite\nQuitter\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsb.",
        "site.Quitter",
    ),
    "in a list": (b"](" + call("os", "system", COMMAND) + b"e.", "os.system"),
    "in a dict": (b"}" + text("model") + call("os", "system", COMMAND) + b"s.", "os.system"),
    "as a key": (b"}" + call("os", "system", COMMAND) + b"Ns.", "os.system"),
    "in an array of objects": (
        pickle.dumps(np.array([Reduced(os.system, COMMAND)], dtype=object)),
        SYSTEM,
    ),
    "in an allowed call": (
        b"ccollections\nOrderedDict\n" + call("os", "system", COMMAND) + b"\x85R.",
        "os.system",
    ),
    "unused": (call("os", "system", COMMAND) + b"0N.", "os.system"),
    "after the memo": (b"cos\nsystem\nq\x000h\x00" + text(COMMAND) + b"\x85R.", "os.system"),
    "nested torch bytes": (
        b"ctorch.storage\n_load_from_bytes\n" + text("x") + b"\x85R.",
        "torch.storage._load_from_bytes",
    ),
    "nested pickle": (call("pickle", "loads", "x") + b".", "pickle.loads"),
    "numpy load": (call("numpy", "load", "x") + b".", "numpy.load"),
    "torch hub": (call("torch.hub", "load", "x") + b".", "torch.hub.load"),
    "name with a space": (b"cos system\nx\n.", "os.system x"),
    "prefix of an allowed name": (b"ctorch._utils\n_rebuild_tensor_v\n.", "_rebuild_tensor_v"),
    "extension 1": (b"\x82\x05.", "the opcode EXT1 5"),
    "extension 2": (b"\x83\x05\x00.", "the opcode EXT2 5"),
    "extension 4": (b"\x84\x05\x00\x00\x00.", "the opcode EXT4 5"),
    "next buffer": (b"\x97.", "the opcode NEXT_BUFFER"),
    "call of a type name": (b"cbuiltins\nint\n" + text("1") + b"\x85R.", "it calls builtins.int"),
    "call of text": (text("os.system") + text(COMMAND) + b"\x85R.", "it calls a str"),
    "state of a list": (b"]}b.", "it sets the state of a list"),
    "code through encode": (
        b"c_codecs\nencode\n" + text(COMMAND) + text("rot13") + b"\x86R.",
        "_codecs.encode is used for something else than bytes",
    ),
    "device with a long name": (
        b"ctorch\ndevice\n" + text("x" * 1000) + b"\x85R.",
        "torch.device is made from something else",
    ),
    "device with an object": (b"ctorch\ndevice\n\x8c\x01x]\x86R.", "torch.device"),
    # What a name in any module would do: each is refused by its name, before anything is called.
    **{
        f"call of {name}": (call(*name.rsplit(".", 1), argument) + b".", name)
        for name, argument in {
            "operator.attrgetter": "system",
            "operator.methodcaller": "system",
            "functools.reduce": COMMAND,
            "builtins.compile": RUN,
            "builtins.open": MARKER,
            "builtins.map": COMMAND,
            "builtins.setattr": "x",
            "builtins.type": "x",
            "builtins.breakpoint": "x",
            "importlib.import_module": "os",
            "runpy.run_path": MARKER,
            "marshal.loads": "x",
            "types.CodeType": "x",
            "types.FunctionType": "x",
            "copyreg.add_extension": "x",
            "copyreg._reconstructor": "x",
            "copy_reg._reconstructor": "x",
            "commands.getoutput": COMMAND,
            "pty.spawn": COMMAND,
            "timeit.timeit": RUN,
            "cProfile.run": RUN,
            "pdb.run": RUN,
            "code.interact": "x",
            "ctypes.CDLL": "libc.so.6",
            "socket.create_connection": "x",
            "urllib.request.urlopen": "http://127.0.0.1/",
            "webbrowser.open": "x",
            "shutil.rmtree": MARKER,
            "pathlib.Path.touch": MARKER,
            "torch.load": MARKER,
            "torch.jit.load": MARKER,
            "torch.serialization.load": MARKER,
            "torch.utils.cpp_extension.load": MARKER,
            "joblib.load": MARKER,
            "numpy.fromfile": MARKER,
            "numpy.memmap": MARKER,
            "numpy.f2py.compile": RUN,
            "numpy.testing._private.utils.runstring": RUN,
            "jax._src.lib.xla_client.dlpack": "x",
            "argparse.FileType": "w",
            "collections.namedtuple": "x",
            "collections.UserDict": "x",
            "_io.FileIO": MARKER,
            "sys.exit": "x",
            "os.spawnvp": COMMAND,
        }.items()
    },
    "attribute of an allowed class": (
        b"\x80\x04" + stack_global("numpy", "ndarray.__reduce__") + b".",
        "numpy.ndarray.__reduce__",
    ),
    "module of an allowed name": (
        b"\x80\x04" + stack_global("torch._utils", "sys.modules") + b".",
        "torch._utils.sys.modules",
    ),
    "name in other letters": (b"ccollections\nordereddict\n.", "collections.ordereddict"),
    "name with a line feed": (b"\x80\x04" + stack_global("os\n", "system") + b".", "system"),
    "name of bytes": (b"\x80\x04C\x02os" + short("system") + b"\x93.", "not text"),
    "state of a class": (
        b"cargparse\nNamespace\n}" + text("__init__") + text("x") + b"sb.",
        "it sets the state of a Name",
    ),
    "slots of a class": (
        b"cargparse\nNamespace\nN}" + text("__class__") + text("x") + b"s\x86b.",
        "it sets the state of a Name",
    ),
    "slots of an object": (
        b"cargparse\nNamespace\n)\x81N}" + text("__class__") + b"cos\nsystem\ns\x86b.",
        "os.system",
    ),
    "setstate of an object": (
        b"cargparse\nNamespace\n)\x81}"
        + text("__setstate__")
        + b"cos\nsystem\nsb"
        + text(COMMAND)
        + b"b.",
        "os.system",
    ),
    "state of text": (text("x") + b"}b.", "it sets the state of a str"),
    "default factory": (
        b"ccollections\ndefaultdict\ncos\nsystem\n\x85R" + text("x") + b"Ns.",
        "os.system",
    ),
    "array of another class": (
        b"cnumpy.core.multiarray\n_reconstruct\n(csubprocess\nPopen\nK\x00\x85C\x01btR.",
        "subprocess.Popen",
    ),
    "rebuilt by another function": (
        b"ctorch._utils\n_rebuild_from_type_v2\n(cos\nsystem\n" + text(COMMAND) + b"tR.",
        "torch._utils._rebuild_from_type_v2",
    ),
    "hooks of a tensor": (
        b"ctorch._utils\n_rebuild_parameter\n(N\x89cos\nsystem\ntR.",
        "os.system",
    ),
    "in a persistent id": (
        b"(" + text("storage") + b"cos\nsystem\n" + text("0") + text("cpu") + b"K\x01tQ.",
        "os.system",
    ),
    "behind a false frame": (
        b"\x80\x04\x95" + struct.pack("<Q", 2**63) + call("os", "system", COMMAND) + b".",
        "os.system",
    ),
    "of a future protocol": (b"\x80\xff" + call("os", "system", COMMAND) + b".", "os.system"),
    "cut off after the call": (call("os", "system", COMMAND), "os.system"),
    "cut off before the call": (call("os", "system", COMMAND)[:-2], "os.system"),
}


def nested_shared(levels: int) -> bytes:
    """A tuple of the same tuple twice, again and again: 2 ** levels nodes as a tree."""
    return b")" + b"q\x00h\x00\x86" * levels


def dtype_bytes(code: str, state: bytes = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xff") -> bytes:
    start = b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"
    return start + state + b"J\xff\xff\xff\xffK\x00tb"


MANY = 150_000
BOMBS: dict[str, tuple[bytes, str]] = {
    "shared tuples": (nested_shared(60) + b".", "expands to far more than its size"),
    "shared tuples as a key": (b"}" + nested_shared(60) + b"Ns.", "uses a tuple as a key"),
    "shared tuples in a set": (b"\x8f(" + nested_shared(60) + b"\x90.", "something else than"),
    "deep tuples": (b")" + b"\x85" * 50_000 + b".", "nested deeper than 100 levels"),
    "deep lists": (b"]" * 5000 + b"a" * 4999 + b".", "nested deeper than 100 levels"),
    "marks": (b"(" * MANY + b".", "larger than any known weights file"),
    "stack": (b"N" * MANY + b".", "larger than any known weights file"),
    "memo reads": (b"Nq\x00" + b"h\x00" * MANY + b".", "larger than any known weights file"),
    "duplicates": (b"N" + b"20" * MANY + b".", "the opcode DUP"),
    "contains itself": (b"]q\x00h\x00a.", "it contains itself"),
    "integer": (b"\x8b" + struct.pack("<i", 100_000) + b"\x01" * 100_000 + b".", "799993 bits"),
    "integer in text": (b"L" + b"9" * 100_000 + b"L\n.", "damaged or cut off"),
    "text length": (b"\x8d" + struct.pack("<Q", 2**62) + b"x.", "damaged or cut off"),
    "bytes length": (b"\x8e" + struct.pack("<Q", 2**62) + b"x.", "damaged or cut off"),
    "bytearray length": (b"\x96" + struct.pack("<Q", 2**62) + b"x.", "damaged or cut off"),
    "negative length": (b"\x8b\xff\xff\xff\xff.", "damaged or cut off"),
    "memo entry": (b"Nr\xff\xff\xff\xffh\x07.", "entry 7 of its memo, which was never written"),
    "colliding keys": (
        b"}" + b"".join(
            b"\x8a" + bytes([len(raw)]) + raw + b"Ns"
            for raw in ((k * (2**61 - 1)).to_bytes(12, "little") for k in range(2**20, 2**20 + 9))
        ) + b".",
        "uses a int as a key, or a large one",
    ),
    "empty stack": (b"\x86.", "its stack is empty"),
    "no mark": (b"Nt.", "a mark is missing"),
    "odd items": (b"}(NNNu.", "a key has no value"),
    "append to a dict": (b"}Na.", "the top of its stack is not a list"),
    "array type of shared tuples": (
        b"cnumpy\ndtype\n" + nested_shared(60) + b"\x85R.", "is not a plain number or text"
    ),
    "complex keys": (
        b"}cnumpy.core.multiarray\nscalar\n" + dtype_bytes("c8")
        + b"C\x08" + bytes(8) + b"\x86RNs.",
        "uses a complex64 as a key",
    ),
    "tuple keys": (b"}K\x01K\x02\x86Ns.", "uses a tuple as a key"),
    "many arguments": (
        b"(" + b"N" * 1000 + b"tq\x000" + b"ctorch._utils\n_rebuild_parameter\nh\x00R.",
        "it calls torch._utils._rebuild_parameter",
    ),
    "deep by sharing": (b"]()q\x00" + b"h\x00\x85q\x00" * 300 + b"e.",
        "nested deeper than 100 levels",
    ),
    "no end": (b"N", "damaged or cut off"),
    "unknown opcode": (b"\xff.", "damaged or cut off"),
    "array without state": (
        b"cnumpy.core.multiarray\n_reconstruct\n)R.",
        "a bare Unbuilt is left over",
    ),
}  # fmt: skip
