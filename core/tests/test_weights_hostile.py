"""Pickles that try to run code or exhaust the machine, in every container that holds a pickle."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import read_weights, select_tensors
from ssvideo_core.weights.machine import PickleMachine

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
}

Wrap = Callable[[bytes, Path], Path]


def as_pickle(payload: bytes, path: Path) -> Path:
    path.write_bytes(payload)
    return path


def as_npy(payload: bytes, path: Path) -> Path:
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(payload)
    return path


def as_zip(payload: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3\n")
    return path


def legacy_head() -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = (0x1950A86A20F9469CFC6C, 1001, system)
    return b"".join(pickle.dumps(part, 2) for part in parts)


def as_legacy(payload: bytes, path: Path) -> Path:
    path.write_bytes(legacy_head() + payload + pickle.dumps([], 2))
    return path


CONTAINERS: dict[str, Wrap] = {
    "pickle": as_pickle,
    "npy": as_npy,
    "zip": as_zip,
    "legacy": as_legacy,
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_runs_and_the_name_is_told(
    payload: str, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, name = PAYLOADS[payload]
    path = CONTAINERS[container](content, tmp_path / "weights")
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / MARKER).exists()


def test_the_payloads_would_run_in_an_unrestricted_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the tests above would prove nothing."""
    for payload in ("reduce protocol 2", "inst", "obj", "stack global", "functools.partial"):
        folder = tmp_path / payload
        folder.mkdir()
        monkeypatch.chdir(folder)
        pickle.loads(PAYLOADS[payload][0])
        assert (folder / MARKER).exists(), payload


def test_the_message_says_what_was_not_tried_and_what_to_do(tmp_path: Path) -> None:
    path = as_pickle(PAYLOADS["global os"][0], tmp_path / "weights")
    with pytest.raises(
        WeightsError, match=r"'os\.system'.*no unsafe fallback was tried.*\.safetensors"
    ):
        read_weights(path)


@pytest.mark.parametrize("keys", [[0], ["0", "0"], [], ["1"], "0", [["0"]], {"0": 1}])
def test_the_list_of_storages_of_a_legacy_file(keys: Any, tmp_path: Path) -> None:
    tail = struct.pack("<q", 4) + bytes(16)
    content = legacy_head() + tensor_bytes() + pickle.dumps(["0"], 2) + tail
    path = as_pickle(content, tmp_path / "weights")
    np.testing.assert_array_equal(read_weights(path), [0.0])
    path.write_bytes(legacy_head() + tensor_bytes() + pickle.dumps(keys, 2) + tail)
    with pytest.raises(WeightsError, match="list of storages does not match its tensors"):
        read_weights(path)


@pytest.mark.parametrize("where", ["magic", "system", "keys"])
def test_the_other_pickles_of_a_legacy_file(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = PAYLOADS["global os"][0]
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    content = {
        "magic": hostile,
        "system": magic + protocol + hostile,
        "keys": legacy_head() + pickle.dumps({}, 2) + hostile,
    }[where]
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(WeightsError, match=r"os\.system"):
        read_weights(tmp_path / "weights")
    assert not (tmp_path / MARKER).exists()


def nested_shared(levels: int) -> bytes:
    """A tuple of the same tuple twice, again and again: 2 ** levels nodes as a tree."""
    return b")" + b"q\x00h\x00\x86" * levels


def dtype_bytes(code: str, state: bytes = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xff") -> bytes:
    start = b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"
    return start + state + b"J\xff\xff\xff\xffK\x00tb"


MANY = 300_000
BOMBS: dict[str, tuple[bytes, str]] = {
    "shared tuples": (nested_shared(60) + b".", "expands to far more than its size"),
    "shared tuples as a key": (b"}" + nested_shared(60) + b"Ns.", "uses a tuple as a key"),
    "shared tuples in a set": (b"\x8f(" + nested_shared(60) + b"\x90.", "something else than"),
    "deep tuples": (b")" + b"\x85" * MANY + b".", "nested deeper than 100 levels"),
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


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(bomb: str, container: str, tmp_path: Path) -> None:
    content, message = BOMBS[bomb]
    path = CONTAINERS[container](content, tmp_path / "weights")
    with pytest.raises(WeightsError, match=message):
        read_weights(path)


def test_a_memo_index_costs_nothing(tmp_path: Path) -> None:
    path = as_pickle(b"}r\xff\xff\xff\xff.", tmp_path / "weights")
    assert read_weights(path) == {}


def array_bytes(shape: bytes, dtype: bytes, raw: bytes) -> bytes:
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    return start + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb."


RAW = b"C\x10" + bytes(16)
ARRAYS: dict[str, tuple[bytes, str]] = {
    "too large": (array_bytes(b"M\xff\xff\x85", dtype_bytes("f8"), RAW), "holds 16 bytes"),
    "negative": (array_bytes(b"J\xff\xff\xff\xff\x85", dtype_bytes("f8"), RAW), "malformed state"),
    "not a shape": (array_bytes(b"N", dtype_bytes("f8"), RAW), "malformed state"),
    "objects": (array_bytes(b"K\x02\x85", dtype_bytes("O8"), RAW), "not one list of them"),
    "list of numbers": (
        array_bytes(b"K\x02\x85", dtype_bytes("f8"), b"](K\x01K\x02e"), "malformed contents"
    ),
    "fields": (
        array_bytes(
            b"K\x02\x85", dtype_bytes("f8", b"(K\x03" + text("<") + b"NN}J\xff\xff\xff\xff"), RAW
        ),
        "fields or sub-arrays",
    ),
    "unknown type": (array_bytes(b"K\x02\x85", dtype_bytes("V8"), RAW), "array type 'V8'"),
    "no type": (array_bytes(b"K\x02\x85", b"N", RAW), "an array of objects or without a type"),
    "expression": (array_bytes(b"K\x02\x85", dtype_bytes("f8,O"), RAW), "array type 'f8,O'"),
    "scalar of objects": (
        b"cnumpy.core.multiarray\nscalar\n" + dtype_bytes("O8") + b"C\x08" + bytes(8) + b"\x86R.",
        "an array of objects",
    ),
}  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS)
def test_malformed_arrays(array: str, tmp_path: Path) -> None:
    content, message = ARRAYS[array]
    with pytest.raises(WeightsError, match=message):
        read_weights(as_pickle(content, tmp_path / "weights"))


def test_bytes_that_are_used_again_and_again_are_refused() -> None:
    """One large bytes object, many arrays made of it."""
    raw = b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"q\x000"
    head = b"]" + raw + dtype_bytes("u1") + b"q\x010("
    one = b"cnumpy.core.numeric\n_frombuffer\n(h\x00h\x01J" + struct.pack("<i", 1 << 20) + b"\x85"
    one += text("C") + b"tR"
    content = head + one * 100 + b"e."
    with pytest.raises(WeightsError, match="expands to far more than its size"):
        PickleMachine(io.BytesIO(content), size=len(content), where="w").run()


def storage_id(kind: str = "FloatStorage", key: str = "0", numel: bytes = b"K\x04") -> bytes:
    """The persistent id of a storage; by default four float32."""
    kind_name = f"ctorch\n{kind}\n".encode()
    return b"(" + text("storage") + kind_name + text(key) + text("cpu") + numel + b"t"


ONE = b"K\x01\x85"


def tensor_bytes(
    shape: bytes = ONE, stride: bytes = ONE, offset: bytes = b"K\x00", storage: bytes = b""
) -> bytes:
    """A torch pickle of one tensor."""
    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    tail = b"\x89ccollections\nOrderedDict\n)RtR."
    return head + (storage or storage_id()) + b"Q" + offset + shape + stride + tail


LARGE, MINUS_ONE = b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff"
TENSORS: dict[str, tuple[bytes, str]] = {
    "size": (tensor_bytes(b"K\x05\x85"), r"size \(5,\).*storage of 4 elements"),
    "offset": (tensor_bytes(b"K\x03\x85", offset=b"K\x02"), "offset 2 does not fit"),
    "offset of nothing": (tensor_bytes(b"K\x00\x85", offset=b"K\x05"), "offset 5 does not"),
    "stride": (tensor_bytes(b"K\x02\x85", b"K\x04\x85"), r"stride \(4,\), offset 0 does not fit"),
    "expanded": (tensor_bytes(LARGE + b"\x85", b"K\x00\x85"), "does not fit"),
    "negative stride": (tensor_bytes(b"K\x02\x85", MINUS_ONE + b"\x85"), "something else"),
    "negative offset": (tensor_bytes(offset=MINUS_ONE), "something else"),
    "ranks": (tensor_bytes(b"K\x02K\x02\x86"), "something else than storage"),
    "storage kind": (tensor_bytes(storage=storage_id("float32")), "expected a storage"),
    "storage of text": (tensor_bytes(storage=storage_id(numel=text("4"))), "expected a storage"),
    "storage beyond the file": (
        tensor_bytes(storage=storage_id(numel=LARGE)),
        "contradicts another place or exceeds the file",
    ),
    "absent storage": (
        tensor_bytes(storage=storage_id(key="../0")),
        r"the member data/\.\./0 is absent",
    ),
    "size of storage": (
        tensor_bytes(storage=storage_id("DoubleStorage")),
        "16 bytes for a storage of 4 elements",
    ),
    "bare storage": (b"\x80\x02" + storage_id() + b"Q.", "a bare Storage is left over"),
    "foreign id": (b"\x80\x02" + text("module") + b"Q.", "refers to 'module', expected a storage"),
    "id of shared tuples": (nested_shared(60) + b"Q.", "expected a storage"),
    "text id": (b"Pmodule\n.", "refers to 'module', expected a storage"),
}


@pytest.mark.parametrize("tensor", TENSORS)
def test_malformed_tensors(tensor: str, tmp_path: Path) -> None:
    content, message = TENSORS[tensor]
    with pytest.raises(WeightsError, match=message):
        read_weights(as_zip(content, tmp_path / "weights"))


def test_the_tensor_of_these_tests_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = as_zip(tensor_bytes(b"K\x02K\x02\x86", b"K\x01K\x02\x86"), tmp_path / "weights")
    np.testing.assert_array_equal(read_weights(path), np.zeros((2, 2), np.float32))


def test_two_declarations_of_a_storage_must_agree(tmp_path: Path) -> None:
    one, other = tensor_bytes()[2:-1], tensor_bytes(storage=storage_id(numel=b"K\x03"))[2:-1]
    with pytest.raises(WeightsError, match="storage 0 is declared with 3 elements"):
        read_weights(as_zip(b"\x80\x02](" + one + other + b"e.", tmp_path / "weights"))


def test_persistent_ids_are_refused_outside_of_torch_files(tmp_path: Path) -> None:
    for wrap in (as_pickle, as_npy):
        path = wrap(tensor_bytes(), tmp_path / "weights")
        with pytest.raises(WeightsError, match="as only torch files do"):
            read_weights(path)


def test_a_zip_file_that_repeats_a_member(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("a/data/0", b"")
        archive.writestr("a/data/0", b"x")
    with pytest.raises(WeightsError, match="members repeated"):
        read_weights(path)


def test_a_record_may_contain_itself(tmp_path: Path) -> None:
    """Configuration objects refer to their parents; the record is a leaf for whoever walks."""
    path = as_pickle(
        b"\x80\x02cargparse\nNamespace\n)\x81q\x00}" + text("self") + b"h\x00sb.", tmp_path / "w"
    )
    record = read_weights(path)
    assert record.state["self"] is record
    with pytest.raises(WeightsError, match="holds a Record, expected named tensors"):
        select_tensors(record)
