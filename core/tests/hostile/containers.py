"""Every kind of file that can hold a pickle, made around given bytes."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

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
