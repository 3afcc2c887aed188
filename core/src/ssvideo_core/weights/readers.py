"""Read weights files of every container the originals used, into NumPy, running nothing.

Containers, recognised by content: torch zip and legacy files (.pth .pth.tar .ckpt), pickles
(.pkl), NumPy arrays and pickled NumPy objects (.npy), safetensors.
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import WeightsError
from ssvideo_core.weights.finish import finish
from ssvideo_core.weights.machine import PickleMachine
from ssvideo_core.weights.names import STORAGES, Global, Storage
from ssvideo_core.weights.tensors import read_safetensors, widen_bfloat16

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
TORCH_PROTOCOL = 1001
MAX_MEMBERS = 100_000
MAX_SAFETENSORS_HEADER = 100_000_000
NPY_HEADER = re.compile(  # exactly as numpy.save writes it
    rb"\{'descr': '(\|O|[<>|](?:b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,5}))', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,15},|\d{1,15}(?:, \d{1,15}){1,31})\), \} *\n"
)
ZIP_ERRORS = (
    zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, OverflowError, struct.error,
)  # fmt: skip


def read_weights(path: str | Path) -> Any:
    """The content of a weights file: nested dicts and lists of NumPy arrays and plain values.

    The format follows from the content, not from the name. Tensors arrive with their stored
    dtype, bfloat16 as float32; tensors that share memory still do. Optimisers, schedulers and
    argparse namespaces arrive as `Record` (class name and stored state). No code of the file is
    run and neither torch nor jax is imported.

    Raises WeightsError for an absent, damaged or truncated file, for one in another format, and
    for a pickle that names anything but what weights need; the message holds the name.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file")
    size = path.stat().st_size
    if size == 0:
        raise WeightsError(f"{path}: the weights file is empty; get it again")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data, size, path)
    except OSError as error:
        raise WeightsError(f"{path}: the weights file cannot be read ({error})") from error


def _read(data: mmap.mmap, size: int, path: Path) -> Any:
    if data[:4] == b"PK\x03\x04":
        return _read_zip(path, size)
    if data[:6] == b"\x93NUMPY":
        return _read_npy(data, size, path)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= MAX_SAFETENSORS_HEADER:
        return read_safetensors(path)[0]
    if data[257:262] == b"ustar":
        raise WeightsError(
            f"{path}: a tar file, as PyTorch wrote before 0.1.10 (or an archive): unpack it, or "
            "load and save it again with PyTorch"
        )
    where = str(path) if data[:1] == b"\x80" else f"{path} (in no known format, read as a pickle)"
    machine = PickleMachine(data, size=size, where=where)
    first = machine.run()
    if type(first) is int and first == TORCH_MAGIC:
        return _read_legacy(data, size, path)
    _end(data, size, path)
    return finish(machine, first)


def _end(data: mmap.mmap, size: int, path: Path) -> None:
    if data.tell() != size:
        raise WeightsError(f"{path}: {size - data.tell()} bytes follow the end of its content")


def _read_legacy(data: mmap.mmap, size: int, path: Path) -> Any:
    """A torch file before 1.6: magic, protocol, system, object, storage keys, storages."""

    def plain_pickle() -> Any:
        machine = PickleMachine(data, size=size, where=str(path))
        return finish(machine, machine.run())

    protocol, system = plain_pickle(), plain_pickle()
    if protocol != TORCH_PROTOCOL or not isinstance(system, dict):
        raise WeightsError(f"{path}: torch file of protocol {protocol!r:.40}, expected 1001")
    if system.get("little_endian") is not True:
        raise WeightsError(f"{path}: written on a big-endian machine; save it again on another")
    storages = _Storages(path, size)
    machine = PickleMachine(data, size=size, where=str(path), load_storage=storages.load)
    content = machine.run()
    keys = plain_pickle()
    whole = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not whole or sorted(keys) != sorted(storages.by_key):
        raise WeightsError(f"{path}: its list of storages does not match its tensors")
    for key in keys:
        storage = storages.by_key[key]
        stored = int.from_bytes(data.read(8), "little")
        raw = data.read(storages.bytes_of(storage))
        if stored != storage.numel:
            raise WeightsError(
                f"{path}: storage {key} holds {stored} elements, its tensors expect {storage.numel}"
            )
        storage.data = _elements(raw, storage, path)
    _end(data, size, path)
    return finish(machine, content)


def _read_zip(path: Path, size: int) -> Any:
    """A torch file since 1.6: data.pkl and one stored member for each storage."""
    with _damage(path), zipfile.ZipFile(path) as archive:
        members = _members(archive, path, size)
        content = {name: archive.read(info) for name, info in members.items()}
    order = content.get("byteorder", b"little")
    if order not in (b"little", b"big"):
        raise WeightsError(f"{path}: byte order {order[:20]!r}, expected little or big")
    storages = _Storages(path, size)
    source = io.BytesIO(content.pop("data.pkl"))
    machine = PickleMachine(source, size=size, where=str(path), load_storage=storages.load)
    value = machine.run()
    for key, storage in storages.by_key.items():
        raw = content.pop(f"data/{key}", None)
        if raw is None:
            raise WeightsError(f"{path}: the member data/{key} is absent; get the file again")
        storage.data = _elements(raw, storage, path, order == b"big")
    return finish(machine, value)


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What `zipfile` raises for damaged files, as a WeightsError."""
    try:
        yield
    except ZIP_ERRORS as error:
        raise WeightsError(f"{path}: a damaged or cut off zip file ({error})") from error


def _members(archive: zipfile.ZipFile, path: Path, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name without the archive's folder; refuses what torch does not write."""
    infos = archive.infolist()
    roots = [i.filename.removesuffix("data.pkl") for i in infos if i.filename.endswith("/data.pkl")]
    if len(roots) != 1:
        raise WeightsError(
            f"{path}: a zip file with {len(roots)} data.pkl; a torch file has one. Unpack archives"
        )
    root = roots[0]
    members = {i.filename.removeprefix(root): i for i in infos if i.filename.startswith(root)}
    if "constants.pkl" in members:
        raise WeightsError(f"{path}: a TorchScript program; save its state_dict instead")
    repeated = len({i.filename for i in infos}) < len(infos)
    odd = [i.filename for i in infos if i.compress_type or i.flag_bits & 1 or i.is_dir()]
    if repeated or odd or len(infos) > MAX_MEMBERS or sum(i.file_size for i in infos) > size:
        raise WeightsError(
            f"{path}: not a zip file as torch writes it: members repeated, compressed, encrypted, "
            f"too many or larger than the file ({', '.join(odd[:3]) or len(infos)})"
        )
    return members


class _Storages:
    """The storages that a torch pickle refers to, by key."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.bytes_left = path, size
        self.by_key: dict[str, Storage] = {}

    def load(self, identity: Any) -> Storage:
        """The storage of a persistent id; its declared size is checked against the file's."""
        tag, kind, key, _, numel, *view = (
            identity if isinstance(identity, tuple) and len(identity) in (5, 6) else (None,) * 5
        )
        name = kind.name if isinstance(kind, Global) else ""
        known = tag == "storage" and name in STORAGES and isinstance(key, str)
        if not known or not isinstance(numel, int) or numel < 0 or view not in ([], [None]):
            raise WeightsError(f"{self.path}: it refers to {identity!r:.200}, expected a storage")
        storage = self.by_key.get(key)
        if storage is None:
            storage = self.by_key[key] = Storage(STORAGES[name], numel)
            self.bytes_left -= self.bytes_of(storage)
        if self.bytes_left < 0 or (storage.dtype, storage.numel) != (STORAGES[name], numel):
            raise WeightsError(
                f"{self.path}: storage {key:.40} is declared with {numel} elements; that "
                "contradicts another place or exceeds the file (is it cut off?)"
            )
        return storage

    @staticmethod
    def bytes_of(storage: Storage) -> int:
        """The number of bytes a storage takes in the file."""
        bfloat16 = storage.dtype == "bfloat16"
        return storage.numel * (2 if bfloat16 else np.dtype(storage.dtype).itemsize)


def _elements(raw: bytes, storage: Storage, path: Path, big_endian: bool = False) -> NDArray[Any]:
    """The bytes of a storage as a writable array in native order; bfloat16 as float32."""
    order: Literal["<", ">"] = ">" if big_endian else "<"
    if len(raw) != _Storages.bytes_of(storage):
        raise WeightsError(
            f"{path}: {len(raw)} bytes for a storage of {storage.numel} elements ({storage.dtype})"
        )
    if storage.dtype == "bfloat16":
        return widen_bfloat16(np.frombuffer(raw, f"{order}u2"))
    if storage.dtype == "|b1":
        return np.asarray(np.frombuffer(raw, np.uint8) != 0)
    dtype = np.dtype(storage.dtype)
    return np.frombuffer(raw, dtype.newbyteorder(order)).astype(dtype.newbyteorder("="))


def _read_npy(data: mmap.mmap, size: int, path: Path) -> Any:
    """A NumPy array, or the object that `numpy.save` pickled."""
    version = data.read(8)[6:]
    length = int.from_bytes(data.read(2 if version == b"\x01\x00" else 4), "little")
    header = data.read(length)
    found = NPY_HEADER.fullmatch(header)
    if not found:
        raise WeightsError(f"{path}: the .npy header {header[:60]!r} is damaged or not plain")
    code, fortran, axes = (part.decode() for part in found.groups())
    if code == "|O":
        machine = PickleMachine(data, size=size, where=str(path))
        content = machine.run()
        _end(data, size, path)
        return finish(machine, content)
    dtype = np.dtype(code)
    shape = tuple(int(axis) for axis in re.findall(r"\d+", axes))
    wanted = math.prod(shape) * dtype.itemsize
    if data.tell() + wanted != size:
        raise WeightsError(
            f"{path}: an array of shape {shape} and type {dtype} takes {wanted} bytes, the file "
            f"holds {size - data.tell()}"
        )
    flat = np.frombuffer(data.read(wanted), dtype).astype(dtype.newbyteorder("="))
    array = flat.reshape(shape, order="F" if fortran == "True" else "C")
    return np.ascontiguousarray(array).reshape(shape)
