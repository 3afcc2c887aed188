"""Pickles that try to run code or exhaust the machine, in every container that holds a pickle."""

from __future__ import annotations

import copyreg
import importlib.util
import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import read_weights, select_tensors
from ssvideo_core.weights.machine import PickleMachine


def hostile(name: str) -> ModuleType:
    """A module of the folder `hostile`, which is in no package."""
    path = Path(__file__).parent / "hostile" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"hostile_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


payloads, containers, watch = hostile("payloads"), hostile("containers"), hostile("watch")
PAYLOADS, BOMBS, MARKER = payloads.PAYLOADS, payloads.BOMBS, payloads.MARKER
CONTAINERS = containers.CONTAINERS
text, dtype_bytes, nested_shared = payloads.text, payloads.dtype_bytes, payloads.nested_shared
as_pickle, as_npy, as_zip = containers.as_pickle, containers.as_npy, containers.as_zip
legacy_head = containers.legacy_head
nothing_runs = watch.nothing_runs


@pytest.fixture(scope="module", autouse=True)
def lazy_imports_are_done(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first file of each container may import parts of the standard library."""
    for name, wrap in CONTAINERS.items():
        read_weights(wrap(b"N.", tmp_path_factory.mktemp("first") / name))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_runs_and_the_name_is_told(
    payload: str, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, name = PAYLOADS[payload]
    path = CONTAINERS[container](content, tmp_path / "weights")
    with nothing_runs(tmp_path / MARKER), pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)


RUNNING = [
    *(f"reduce protocol {p}" for p in range(6)), "global os", "global posix", "builtins.eval",
    "builtins.exec", "subprocess", "functools.partial", "inst", "obj", "stack global", "in a list",
    "in a dict", "in an array of objects", "unused", "after the memo", "in an allowed call",
    "cut off after the call",
]  # fmt: skip


@pytest.mark.parametrize("payload", RUNNING)
def test_the_payloads_would_run_in_an_unrestricted_reader(
    payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the tests above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(AssertionError),
        nothing_runs(tmp_path / MARKER),
        suppress(TypeError, EOFError),
    ):
        pickle.loads(PAYLOADS[payload][0])
    assert watch.SEEN and (tmp_path / MARKER).exists()


def test_an_extension_that_a_program_registered_is_refused_too(tmp_path: Path) -> None:
    copyreg.add_extension("posix", "system", 0x5000)
    try:
        for name, wrap in CONTAINERS.items():
            path = wrap(b"\x83\x00\x50" + text("x") + b"\x85R.", tmp_path / name)
            with (
                nothing_runs(tmp_path / MARKER),
                pytest.raises(WeightsError, match="opcode EXT2 20480"),
            ):
                read_weights(path)
    finally:
        copyreg.remove_extension("posix", "system", 0x5000)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_second_pickle_behind_the_first(container: str, tmp_path: Path) -> None:
    path = CONTAINERS[container](b"N." + PAYLOADS["global os"][0], tmp_path / "weights")
    with (
        nothing_runs(tmp_path / MARKER),
        pytest.raises(WeightsError, match=r"follow the end|os\.system"),
    ):
        read_weights(path)


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


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(bomb: str, container: str, tmp_path: Path) -> None:
    content, message = BOMBS[bomb]
    path = CONTAINERS[container](content, tmp_path / "weights")
    with nothing_runs(tmp_path / MARKER), pytest.raises(WeightsError, match=message):
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
