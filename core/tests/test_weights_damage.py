"""Damaged weights files: random damage to every container, and headers that lie."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import Record, read_safetensors, read_weights, write_safetensors
from ssvideo_core.weights.tensors import CHECKSUM, METADATA_CHECKSUM

torch = pytest.importorskip("torch")

DAMAGES = 1000


def tensors() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 5, generator=generator)
    return {
        "module.conv.weight": base,
        "module.conv.transposed": base.t(),
        "module.conv.half": base.to(torch.float16),
        "module.bn.running_mean": base[0],
        "module.bn.num_batches_tracked": torch.tensor(7),
        "module.queue": torch.arange(40).reshape(4, 10),
    }


def checkpoint() -> dict[str, Any]:
    """What a training program of the originals saves."""
    options = argparse.Namespace(lr=0.1, arch="r2plus1d_18", world_size=64)
    momentum = torch.ones(6, 5) / 3
    return {
        "model": OrderedDict(tensors()),
        "optimizer": {"state": {0: {"momentum_buffer": momentum}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 199,
        "args": options,
    }


def arrays() -> dict[str, Any]:
    return {name: tensor.contiguous().numpy() for name, tensor in tensors().items()}


def haiku_tree() -> dict[str, Any]:
    found = arrays()
    return {"params": {"net/~/conv": {"w": found["module.conv.weight"]}}, "state": found}


def write_legacy(path: Path) -> None:
    torch.save(checkpoint(), path, _use_new_zipfile_serialization=False)


METADATA = {"architecture": "r2plus1d_18", "clip": json.dumps({"num_frames": 30})}
# How each is written; how many bytes at its end are numbers (None: they are not in one piece).
FILES: dict[str, tuple[Callable[[Path], object], int | None]] = {
    "zip": (lambda path: torch.save(checkpoint(), path), None),
    "safetensors": (lambda path: write_safetensors(path, arrays(), METADATA), None),
    "legacy": (write_legacy, 400),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(haiku_tree(), 4)), None),
    "npy of objects": (lambda path: _save(path, np.array(haiku_tree(), dtype=object)), None),
    "npy": (lambda path: _save(path, np.arange(120.0).reshape(3, 4, 10)), 960),
}
CHECKED = ("zip", "safetensors")


def _save(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)


def outline(tree: Any) -> Any:
    """Names, types, shapes and dtypes, without numbers; fails for what no reader returns."""
    if isinstance(tree, dict):
        return {key: outline(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [outline(value) for value in tree]
    if isinstance(tree, Record):
        return tree.class_name, outline(tree.args), outline(tree.state)
    if isinstance(tree, np.ndarray):
        assert tree.flags.c_contiguous and tree.flags.writeable
        return tree.dtype.str, tree.shape
    assert isinstance(
        tree, np.generic | np.dtype | str | bytes | bytearray | int | float | set
    ) or (tree is None)
    return type(tree)


def numbers(tree: Any) -> list[bytes]:
    """The values of all leaves, in order."""
    if isinstance(tree, dict):
        return [part for item in tree.items() for part in numbers(item)]
    if isinstance(tree, list | tuple):
        return [part for value in tree for part in numbers(value)]
    if isinstance(tree, Record):
        return numbers(tree.args) + numbers(tree.state)
    return [tree.tobytes() if isinstance(tree, np.ndarray) else repr(tree).encode()]


def damaged(content: bytes, rng: np.random.Generator, *, start: int = 0) -> bytes:
    """A copy with flipped bits, cut off, or with a range zeroed, inserted twice or copied over.

    start: bytes before it stay; then the length stays too.
    """
    data, size = bytearray(content), len(content)
    while data == content:
        first = int(rng.integers(start, size))
        length = int(rng.integers(1, 1 + min(200, size - first)))
        piece = data[first : first + length]
        match rng.choice(["flip", "zero", "copy"] + ["cut", "repeat"] * (start == 0)):
            case "flip":
                for place in rng.integers(start, size, rng.integers(1, 9)):
                    data[place] ^= 1 << int(rng.integers(8))
            case "zero":
                data[first : first + length] = bytes(length)
            case "copy":
                to = int(rng.integers(start, size - length + 1))
                data[to : to + length] = piece
            case "cut":
                del data[max(first, 1) :]
            case "repeat":
                data[first:first] = piece
    return bytes(data)


def hostile(name: str) -> ModuleType:
    """A module of the folder `hostile`, which is in no package."""
    path = Path(__file__).parent / "hostile" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"hostile_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nothing_runs = hostile("watch").nothing_runs


def read_safely(path: Path) -> Any:
    """The content, or None where it is refused as it should be."""
    with nothing_runs(path.with_name("executed")):
        try:
            return read_weights(path)
        except WeightsError as error:
            assert str(path) in str(error)
            return None


@pytest.mark.parametrize("container", FILES)
def test_random_damage_is_refused_or_read_right(container: str, tmp_path: Path) -> None:
    """Where the container has checksums nothing wrong is ever read; elsewhere nothing malformed."""
    path = tmp_path / "weights"
    FILES[container][0](path)
    content, wanted = path.read_bytes(), read_weights(path)
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(DAMAGES):
        path.write_bytes(damaged(content, rng))
        found = read_safely(path)
        if found is None:
            refused += 1
        elif container in CHECKED:
            assert outline(found) == outline(wanted)
            assert numbers(found) == numbers(wanted)
        else:
            outline(found)
    assert refused > DAMAGES / 3


@pytest.mark.parametrize("container", [name for name, (_, size) in FILES.items() if size])
def test_damaged_numbers_leave_names_shapes_and_types(container: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write, size = FILES[container]
    write(path)
    content, wanted = path.read_bytes(), outline(read_weights(path))
    assert size is not None
    rng = np.random.default_rng(8)
    read = 0
    for _ in range(DAMAGES):
        path.write_bytes(damaged(content, rng, start=len(content) - size))
        found = read_safely(path)
        assert found is None or outline(found) == wanted
        read += found is not None
    assert read > DAMAGES / 10


@pytest.mark.parametrize("mark", [CHECKSUM, METADATA_CHECKSUM, '_sha256"', '"sha256:'])
def test_damaged_marks_of_checksums_do_not_switch_them_off(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays(), METADATA)
    content = path.read_bytes()
    path.write_bytes(content.replace(mark.encode(), mark.encode().upper()))
    with pytest.raises(WeightsError, match="do not match their checksum; get the file again"):
        read_safetensors(path)


def test_equal_tensors_make_equal_safetensors(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(5)]
    many = {f"name {number}": str(number) for number in range(20)}
    for file in files:
        write_safetensors(file, arrays(), many)
    assert len({file.read_bytes() for file in files}) == 1
    assert read_safetensors(files[0])[1] == many


def test_damaged_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays(), METADATA)
    assert read_safetensors(path)[1] == METADATA
    path.write_bytes(path.read_bytes().replace(b"r2plus1d_18", b"r2plus1d_34"))
    with pytest.raises(WeightsError, match="its metadata do not match their checksum"):
        read_safetensors(path)


# ---- headers that lie ---------------------------------------------------------------------


def npy(header: bytes, *, version: int = 1, length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    form = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, size) + header + bytes(64)


def npy_header(code: str = "'<f8'", shape: str = "(8,)") -> bytes:
    return f"{{'descr': {code}, 'fortran_order': False, 'shape': {shape}, }} \n".encode()


NPY = {
    "length": npy(npy_header(), length=65535),
    "length of 4 GiB": npy(npy_header(), version=2, length=2**32 - 1),
    "a call": npy(npy_header("__import__('os').system('touch executed')")),
    "a call as shape": npy(npy_header(shape="(open('executed', 'w'),)")),
    "deep brackets": npy(b"(" * 60_000),
    "fields": npy(npy_header("[('a', '<f8')]")),
    "sub-arrays": npy(npy_header("('<f8', (2,))")),
    "large shape": npy(npy_header(shape="(99999999, 99999999, 99999999)")),
    "many axes": npy(npy_header(shape="(" + "1, " * 40 + "8)")),
    "negative shape": npy(npy_header(shape="(-8,)")),
    "long text": npy(npy_header("'<U999999'", "(999999999,)")),
    "no line feed": npy(npy_header()[:-1]),
    "another version": npy(npy_header(), version=9),
}


@pytest.mark.parametrize("case", NPY)
def test_npy_headers_that_lie(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights"
    path.write_bytes(NPY[case])
    assert read_safely(path) is None
    assert list(tmp_path.iterdir()) == [path]


def safetensors(document: Any, *, length: int | None = None, data: bytes = bytes(8)) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def row(shape: list[Any], offsets: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "length behind the end": safetensors({"a": row([2], [0, 8])}, length=10**7),
    "length of 2**63": safetensors({"a": row([2], [0, 8])}, length=2**63),
    "length of nothing": safetensors({"a": row([2], [0, 8])}, length=0),
    "deep brackets": safetensors(b'{"a":' + b"[" * 100_000),
    "repeated name": safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    ),
    "overlap": safetensors({"a": row([2], [0, 8]), "b": row([1], [4, 8])}),
    "hole": safetensors({"a": row([1], [0, 4])}),
    "backwards": safetensors({"a": row([2], [8, 0])}),
    "negative": safetensors({"a": row([2], [-8, 0])}),
    "behind the end": safetensors({"a": row([2], [2**62, 2**62 + 8])}),
    "overflowing shape": safetensors({"a": row([2**33, 2**33], [0, 8])}),
    "negative shape": safetensors({"a": row([-2, -1], [0, 8])}),
    "shape of text": safetensors({"a": row(["2"], [0, 8])}),
    "unknown type": safetensors({"a": row([2], [0, 8], "OBJECT")}),
    "name as type": safetensors({"a": row([2], [0, 8], "os.system")}),
    "metadata not of text": safetensors({"__metadata__": {"a": {"b": 1}}, "a": row([2], [0, 8])}),
    "not UTF-8": safetensors(b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "cut off": safetensors({"a": row([2], [0, 8])}, data=bytes(7)),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors_headers_that_lie(case: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(SAFETENSORS[case])
    assert read_safely(path) is None


def torch_zip() -> bytes:
    """A small one of a big-endian machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(VALUE, 2))
        archive.writestr("archive/version", b"3")
        archive.writestr("archive/byteorder", b"big")
    return buffer.getvalue()


def patched(mark: bytes, offset: int, form: str, value: int) -> bytes:
    """The zip file with one number changed: the one `offset` bytes behind the first such mark."""
    content = bytearray(torch_zip())
    struct.pack_into(form, content, content.index(mark) + offset, value)
    return bytes(content)


VALUE = {"epoch": 7}
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ZIP = {
    "length of the local name": patched(LOCAL, 26, "<H", 65535),
    "length of the local extra": patched(LOCAL, 28, "<H", 65535),
    "unpacked size": patched(CENTRAL, 24, "<I", 2**32 - 2),
    "size for zip64": patched(CENTRAL, 24, "<I", 2**32 - 1),
    "length of the name": patched(CENTRAL, 28, "<H", 65535),
    "length of the extra": patched(CENTRAL, 30, "<H", 65535),
    "length of the comment": patched(CENTRAL, 32, "<H", 65535),
    "offset of the member": patched(CENTRAL, 42, "<I", 2**32 - 2),
    "version to read it": patched(CENTRAL, 6, "<H", 255),
    "way of packing": patched(CENTRAL, 10, "<H", 99),
    "encrypted": patched(CENTRAL, 8, "<H", 1),
    "checksum": patched(CENTRAL, 16, "<I", 1),
    "number of members": patched(END, 10, "<H", 2),
    "size of the directory": patched(END, 12, "<I", 2**32 - 2),
    "offset of the directory": patched(END, 16, "<I", 2**32 - 2),
    "no directory": torch_zip()[: torch_zip().index(CENTRAL)],
}


@pytest.mark.parametrize("case", ZIP)
def test_zip_headers_that_lie(case: str, tmp_path: Path) -> None:
    """Above all, members must not disappear: the byte order is one of them."""
    path = tmp_path / "weights"
    path.write_bytes(torch_zip())
    assert read_safely(path) == VALUE
    path.write_bytes(ZIP[case])
    assert read_safely(path) is None
