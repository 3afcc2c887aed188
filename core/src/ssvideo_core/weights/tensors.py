"""Named tensors: selecting them from a checkpoint, comparing keys, fingerprint, safetensors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from ssvideo_core.errors import WeightsError
from ssvideo_core.files import replacing
from ssvideo_core.weights.names import widen_bfloat16

Shape = tuple[int, ...]
Names = Sequence[str]
SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
# Their names and values are marked, four times in all: damage to some of the marks does not pass
# for a file that never had checksums.
MARK = "sha256"
CHECKSUM, METADATA_CHECKSUM = f"tensors_{MARK}", f"metadata_{MARK}"
AGAIN = "get the file again"


def select_tensors(
    tree: Any, *, sections: Names = ("state_dict", "model"), strip: Names = ("module.",)
) -> dict[str, NDArray[Any]]:
    """The arrays of a checkpoint by name.

    tree: what `read_weights` returned. sections: the first of these that the top level has, as a
    dict, holds the tensors; without one the top level itself does. Dicts inside it join their
    names with "/"; values that are not arrays are left out. strip: removed from every name, at
    its start and after each ".".
    Raises WeightsError when there is no array, or two names become equal.
    """
    if not isinstance(tree, Mapping):
        kind = type(tree).__name__
        raise WeightsError(f"the weights file holds a {kind}, expected named tensors")
    section = next((tree[s] for s in sections if isinstance(tree.get(s), Mapping)), tree)
    found: dict[str, NDArray[Any]] = {}
    for name, array in _arrays(section, ""):
        for part in strip:
            name = re.sub(rf"(^|\.){re.escape(part)}", r"\1", name)
        if name in found:
            raise WeightsError(f"two tensors are called '{name}' after removing {list(strip)}")
        found[name] = array
    if not found:
        where = f"{list(sections)} and at the top level, which holds {[str(k) for k in tree][:10]}"
        raise WeightsError(f"no tensors in the weights file; looked in {where}")
    return found


def _arrays(tree: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, NDArray[Any]]]:
    for key, value in tree.items():
        if isinstance(value, np.ndarray | np.generic):
            yield f"{prefix}{key}", np.asarray(value)
        elif isinstance(value, Mapping):
            yield from _arrays(value, f"{prefix}{key}/")


@dataclass(frozen=True)
class KeyReport:
    """How the tensors of a file fit a network; names are sorted.

    wrong_shape: name to (shape in the file, shape in the network).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: Mapping[str, tuple[Shape, Shape]]

    def __str__(self) -> str:
        wrong = self.wrong_shape.items()
        shapes = [f"{name} (file {list(f)}, network {list(n)})" for name, (f, n) in wrong]
        return "\n".join([
            f"{len(self.matched)} tensors match",
            *_row("missing in the file", self.missing),
            *_row("unknown to the network", self.unexpected),
            *_row("of another shape", shapes),
        ])  # fmt: skip

    def require(self, *, allow_unexpected: bool = False) -> None:
        """Raise WeightsError, with the report, unless file and network have the same tensors.

        allow_unexpected: let the file hold further tensors. Beware: a deeper network's file then
        fits a shallower one.
        """
        wrong = self.missing or self.wrong_shape or not self.matched
        if wrong or (self.unexpected and not allow_unexpected):
            hint = "Choose the architecture the file was made for, or another file."
            raise WeightsError(f"the weights do not fit the network: {self}\n{hint}")


def _row(what: str, names: Names) -> list[str]:
    more = f", and {len(names) - 10} more" if len(names) > 10 else ""
    return [f"{len(names)} {what}: {', '.join(names[:10])}{more}"] if names else []


def match_keys(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, Shape], *, ignore: Sequence[str] = ()
) -> KeyReport:
    """Compare the tensors of a file with a network's names and shapes.

    ignore: regular expressions; a name that one of them matches from its start is left out on
    both sides.
    """
    ignored = [re.compile(pattern) for pattern in ignore]
    names = {n for n in found.keys() | expected if not any(i.match(n) for i in ignored)}
    both = sorted(names & found.keys() & expected.keys())
    shapes = {name: (tuple(found[name].shape), tuple(expected[name])) for name in both}
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    matched = tuple(name for name in both if name not in wrong)
    missing = tuple(sorted(names - found.keys()))
    unexpected = tuple(sorted(names - expected.keys()))
    return KeyReport(matched, missing, unexpected, wrong)


def fingerprint(tensors: Mapping[str, NDArray[Any]]) -> str:
    """sha256 (hex) over name, dtype, shape and little-endian bytes of the tensors, by name.

    The same tensors have the same fingerprint in every container and on every machine.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write_safetensors(
    path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write tensors and text metadata to `path`, which appears complete or not at all.

    The same tensors and metadata make the same bytes. Checksums of the tensors and of the metadata
    are added to the metadata; `read_safetensors` verifies and removes them. Raises WeightsError for
    a dtype without a place in the format.
    """
    known = {np.dtype(code) for code in SAFETENSORS_DTYPES.values()}
    arrays = {}
    for name, value in tensors.items():
        kind = np.asarray(value).dtype.newbyteorder("=")
        if kind not in known:
            raise WeightsError(f"{path}: tensor '{name}' has type {kind}; it cannot be saved")
        arrays[name] = np.asarray(value, kind, order="C")
    signed = {**metadata, CHECKSUM: f"{MARK}:{fingerprint(arrays)}"}
    signed[METADATA_CHECKSUM] = _checksum(signed)
    content = memoryview(save(arrays, signed))
    numbers_start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:numbers_start]))
    # The library gives metadata in any order.
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(content[numbers_start:])


def _checksum(metadata: Mapping[str, str]) -> str:
    covered = {key: value for key, value in metadata.items() if key != METADATA_CHECKSUM}
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    return f"{MARK}:{digest}"


def _is_signed(metadata: Mapping[str, str]) -> bool:
    names = metadata.keys() & {CHECKSUM, METADATA_CHECKSUM}
    return bool(names) or any(value.startswith(f"{MARK}:") for value in metadata.values())


def read_safetensors(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors (writable; bfloat16 as float32) and the metadata of a safetensors file.

    Raises WeightsError when the file is absent, damaged, or fails a checksum that
    `write_safetensors` stored. Files of other programs have none: in those only the header is
    checked against the size of the file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
        rows = deserialize(Path(path).read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from error
    tensors = {}
    for name, row in sorted(rows, key=lambda item: str(item[0])):  # the library gives no order
        if row["dtype"] not in SAFETENSORS_DTYPES:
            raise WeightsError(f"{path}: tensor '{name}' has the unsupported type {row['dtype']}")
        flat = np.frombuffer(row["data"], SAFETENSORS_DTYPES[row["dtype"]])
        flat = widen_bfloat16(flat) if row["dtype"] == "BF16" else flat
        tensors[name] = flat.reshape(row["shape"])
    if _is_signed(metadata):
        if metadata.get(METADATA_CHECKSUM) != _checksum(metadata):
            raise WeightsError(f"{path}: its metadata do not match their checksum; {AGAIN}")
        if metadata.get(CHECKSUM) != f"{MARK}:{fingerprint(tensors)}":
            raise WeightsError(f"{path}: its tensors do not match their checksum; {AGAIN}")
    kept = {k: v for k, v in metadata.items() if k not in (CHECKSUM, METADATA_CHECKSUM)}
    return tensors, kept


def json_entry(path: Path, metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """An object that the metadata of a file hold as JSON; empty if absent. Raises WeightsError."""
    try:
        entry = json.loads(metadata.get(name, "{}"))
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path}: its metadata '{name}' is not JSON ({error})") from None
    if not isinstance(entry, dict):
        raise WeightsError(f"{path}: its metadata '{name}' is {entry!r}, expected an object")
    return entry
