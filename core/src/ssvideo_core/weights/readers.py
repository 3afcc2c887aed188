"""Read weights files of every container the originals used, into NumPy, running nothing.

Containers, recognised by content: torch zip and legacy files (.pth .pth.tar .ckpt), pickles
(.pkl), NumPy arrays and pickled NumPy objects (.npy), safetensors.
"""

from __future__ import annotations

import io
import mmap
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ssvideo_core.errors import WeightsError
from ssvideo_core.weights.machine import PickleMachine, finish
from ssvideo_core.weights.names import Guard, Unbuilt, frombuffer
from ssvideo_core.weights.tensors import read_safetensors

TORCH_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
MAX_SAFETENSORS_HEADER = 100_000_000
ZIP_END = b"PK\x05\x06"  # begins the last record of a zip file, which says how many members it has
MANY_MEMBERS = 0xFFFF  # or more
NPY_HEADER = re.compile(  # exactly as numpy.save writes it
    rb"\{'descr': '(\|O|[<>|](?:b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,5}))', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,15},|\d{1,15}(?:, \d{1,15}){1,31})\), \} *\n"
)
DAMAGE = (  # what zipfile, mmap and NumPy raise for damaged files
    zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, OverflowError, struct.error,
)  # fmt: skip


def read_weights(path: str | Path) -> Any:
    """The content of a weights file: nested dicts and lists of NumPy arrays and plain values.

    The format follows from the content, not from the name. Tensors arrive with their stored
    dtype, bfloat16 as float32; contiguous tensors that share memory still do. Optimisers,
    schedulers and argparse namespaces arrive as `Record` (class name and stored state). No code
    of the file is run and neither torch nor jax is imported.

    Raises WeightsError for an absent, damaged or truncated file, for one in another format, and
    for a pickle that names anything but what weights need; the message holds the name.

    Damage, such as flipped bits: torch zip files and the safetensors files of this package have
    checksums, so they are refused or read exactly right. Legacy torch files, pickles and .npy have
    none. There it is certain that nothing runs, that the whole file was understood, that every
    tensor lies inside its storage, and that storages and arrays have the size that their header
    says; damage to the numbers leaves names, shapes and types right, damage to the header can
    change names, shapes and types that still fit. `match_keys` finds those of a known network;
    wrong numbers only the published sha256 finds.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the weights file is empty; get it again")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data, path)
    except DAMAGE as error:
        raise WeightsError(f"{path}: damaged, cut off or unreadable ({error})") from error


def _read(data: mmap.mmap, path: Path) -> Any:
    if data[:4] == b"PK\x03\x04":
        return _read_zip(path, data)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= MAX_SAFETENSORS_HEADER:
        return read_safetensors(path)[0]
    if data[257:262] == b"ustar":
        raise WeightsError(f"{path}: a tar file, as PyTorch wrote before 0.1.10; unpack it first")
    if data[: len(TORCH_MAGIC)] == TORCH_MAGIC:
        value = _read_legacy(data, path)
    elif data[:6] == b"\x93NUMPY":
        value = _read_npy(data, path)
    else:
        known = data[:1] == b"\x80"
        value = _unpickle(
            data, path if known else f"{path} (not .npy, .pth, .ckpt or .safetensors; read as .pkl)"
        )
    if data.tell() != len(data):
        raise WeightsError(f"{path}: {len(data) - data.tell()} bytes follow the end of its content")
    return value


def _unpickle(data: mmap.mmap, where: Path | str) -> Any:
    machine = PickleMachine(data, size=len(data), where=str(where))
    return finish(machine, machine.run())


def _read_npy(data: mmap.mmap, path: Path) -> Any:
    """A NumPy array, or the object that `numpy.save` pickled."""
    version = data.read(8)[6:]
    length = int.from_bytes(data.read(2 if version == b"\x01\x00" else 4), "little")
    header = data.read(length)
    found = NPY_HEADER.fullmatch(header)
    if not found or version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise WeightsError(f"{path}: the .npy header {header[:60]!r} is damaged or not plain")
    code, fortran, axes = (part.decode() for part in found.groups())
    if code == "|O":
        return _unpickle(data, path)
    m, kind = Guard(str(path), len(data)), Unbuilt(np.dtype(code))
    shape = tuple(int(axis) for axis in re.findall(r"\d+", axes))
    return frombuffer(m, data.read(), kind, shape, "F" if fortran == "True" else "C")


def _read_legacy(data: mmap.mmap, path: Path) -> Any:
    """A torch file before 1.6: magic, protocol, system, object, storage keys, storages."""
    m = Guard(str(path), len(data))
    _, protocol, system = (_unpickle(data, path) for _ in range(3))
    little = isinstance(system, dict) and system.get("little_endian") is True
    if protocol != 1001 or not little:
        m.refuse("a torch file of another protocol or a big-endian machine; save it again")
    machine = PickleMachine(data, size=len(data), where=str(path), torch=True)
    content = machine.run()
    keys = _unpickle(data, path)
    whole = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not whole or sorted(keys) != sorted(machine.storages):
        m.refuse("its list of storages does not match its tensors")
    for storage in map(machine.storages.__getitem__, keys):
        numel = int.from_bytes(data.read(8), "little")
        storage.fill(m, data.read(storage.data.size * storage.stored.itemsize))
        if numel != storage.data.size:
            m.refuse(f"a storage holds {numel} elements, its tensors expect {storage.data.size}")
    return finish(machine, content)


def _read_zip(path: Path, data: mmap.mmap) -> Any:
    """A torch file since 1.6: data.pkl and one stored member for each storage."""
    size = len(data)
    m = Guard(str(path), size)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        root = _root(m, infos, size)
        end = data.rfind(ZIP_END)
        members = int.from_bytes(data[end + 10 : end + 12], "little")
        if members not in (len(infos), MANY_MEMBERS):  # zipfile stops at the first odd length
            m.refuse(f"{members} members, of which {len(infos)} are listed")
        content = {info.filename.removeprefix(root): archive.read(info) for info in infos}
    order = content.get("byteorder", b"little")
    if order not in (b"little", b"big"):
        m.refuse(f"byte order {order[:20]!r}, expected little or big")
    source = io.BytesIO(content["data.pkl"])
    machine = PickleMachine(source, size=size, where=str(path), torch=True)
    value = machine.run()
    if source.read(1):
        m.refuse("bytes follow the end of the pickle in its data.pkl")
    for key, storage in machine.storages.items():
        if f"data/{key}" not in content:
            m.refuse(f"the member data/{key} is absent; get the file again")
        storage.fill(m, content.pop(f"data/{key}"), big_endian=order == b"big")
    return finish(machine, value)


def _root(m: Guard, infos: list[zipfile.ZipInfo], size: int) -> str:
    """The folder that begins all names of the archive; refuses what torch does not write."""
    names = {info.filename for info in infos}
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        m.refuse(f"a zip file with {len(roots)} data.pkl; a torch file has one. Unpack archives")
    if f"{roots[0]}constants.pkl" in names:
        m.refuse("a TorchScript program; save its state_dict instead")
    odd = [info.filename for info in infos if info.compress_type or info.flag_bits & 1]
    if len(names) < len(infos) or odd or sum(info.file_size for info in infos) > size:
        kinds = "repeated, compressed, encrypted or larger than the file"
        m.refuse(f"not a zip file as torch writes it: members {kinds} {odd[:3]}")
    return roots[0]
