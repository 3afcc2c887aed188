"""The part of msgpack that CoCLR's databases use: arrays of byte strings, texts or integers.

Packers before msgpack 1.0 wrote byte strings as texts; both dialects are read, the later is
written. Values are walked in place, head by head, and refused before anything of a size they claim
is made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_ARRAY, _TEXT, _BYTES, _INTEGER = "an array", "text", "bytes", "an integer"
# By family: the type byte of the smallest items and how many of those there are, their number (a
# length, or the integer itself) being in it; the type byte of others, by size of the number behind.
_FORMS: dict[str, tuple[int, int, dict[int, int]]] = {
    _ARRAY: (0x90, 16, {2: 0xDC, 4: 0xDD}),
    _TEXT: (0xA0, 32, {1: 0xD9, 2: 0xDA, 4: 0xDB}),
    _BYTES: (0xC4, 0, {1: 0xC4, 2: 0xC5, 4: 0xC6}),
    _INTEGER: (0x00, 128, {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}),
}
_NUMBERS = {1: struct.Struct(">B"), 2: struct.Struct(">H"), 4: struct.Struct(">I")}
_NUMBERS[8] = struct.Struct(">Q")
# By type byte: family, the number in it, or what reads the one behind it.
_HEADS: dict[int, tuple[str, int, struct.Struct | None]] = {
    code: (f"of type 0x{code:02x}", 0, None) for code in range(256)
}
for _family, (_first, _count, _sized) in _FORMS.items():
    _read_as = _BYTES if _family == _TEXT else _family
    _HEADS |= {_first + number: (_read_as, number, None) for number in range(_count)}
    _HEADS |= {code: (_read_as, 0, _NUMBERS[size]) for size, code in _sized.items()}


def byte_spans(value: memoryview) -> NDArray[np.int64]:
    """[N, 2] int64: first byte and length of each byte string of an array.

    Raises ValueError, with what was found, for anything else, for an empty byte string, and for a
    value that ends within an item or goes on after the last.
    """
    return np.fromiter(_items(value, _BYTES), np.dtype((np.int64, 2)))


def byte_strings(value: memoryview) -> Iterator[bytes]:
    """The byte strings or texts of an array. Raises ValueError as `byte_spans`."""
    return (bytes(value[at : at + length]) for at, length in _items(value, _BYTES))


def integers(value: memoryview) -> list[int]:
    """The integers of an array, 0 or more. Raises ValueError as `byte_spans`."""
    return [number for _, number in _items(value, _INTEGER)]


def integer(value: memoryview) -> int:
    """One integer, 0 or more. Raises ValueError as `byte_spans`."""
    return integers(memoryview(_packed_head(_ARRAY, 1) + value[: 1 + _NUMBERS[8].size + 1]))[0]


def pack_array(items: Sequence[bytes] | Sequence[str] | Sequence[int]) -> bytes:
    """An array. Raises ValueError for a byte string of 4 GiB or more."""
    parts = [_packed_head(_ARRAY, len(items))]
    for item in items:
        if isinstance(item, int):
            parts.append(pack_integer(item))
        else:
            content = item.encode() if isinstance(item, str) else item
            family = _TEXT if isinstance(item, str) else _BYTES
            parts += [_packed_head(family, len(content)), content]
    return b"".join(parts)


def pack_integer(number: int) -> bytes:
    """A number of 0 or more. Raises ValueError from 2**64 on."""
    return _packed_head(_INTEGER, number)


def _items(value: memoryview, family: str) -> Iterator[tuple[int, int]]:
    """The end of its head and the number in it, of each item of an array of one family."""
    size = len(value)
    try:
        found, count, at = _head(value, 0)
        if found != _ARRAY:
            raise ValueError(f"it is {found}, expected {_ARRAY}")
        if count > size - at:
            raise ValueError(f"{size} bytes claim to be an array of {count} items")
        for item in range(count):
            found, number, at = _head(value, at)
            if found != family:
                raise ValueError(f"item {item} is {found}, expected {family}")
            if family == _BYTES and not 0 < number <= size - at:
                raise ValueError(f"item {item} claims {number} of the {size - at} bytes left")
            yield at, number
            if family == _BYTES:
                at += number
    except (IndexError, struct.error):
        raise ValueError(f"it ends within a number, after {size} bytes") from None
    if at != size:
        raise ValueError(f"its items end at byte {at} of {size}")


def _head(value: memoryview, at: int) -> tuple[str, int, int]:
    """Family, number and end of the head at byte `at`. Raises IndexError at the value's end."""
    family, number, behind = _HEADS[value[at]]
    if behind is None:
        return family, number, at + 1
    return family, behind.unpack_from(value, at + 1)[0], at + 1 + behind.size


def _packed_head(family: str, number: int) -> bytes:
    first, count, sized = _FORMS[family]
    if number < count:
        return bytes([first + number])
    for size, code in sized.items():
        if number < 256**size:
            return bytes([code]) + number.to_bytes(size, "big")
    raise ValueError(f"{family} of {number} cannot be packed: too large")
