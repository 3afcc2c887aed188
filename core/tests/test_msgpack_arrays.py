from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssvideo_core.formats.msgpack_arrays import (
    byte_spans,
    byte_strings,
    integer,
    integers,
    pack_array,
    pack_integer,
)


def array(*items: bytes) -> bytes:
    return bytes([0x90 + len(items)]) + b"".join(items)


def view(value: bytes) -> memoryview:
    return memoryview(value)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=40))
def test_byte_strings_are_found_where_they_lie(items: list[bytes]) -> None:
    value = pack_array(items)
    spans = byte_spans(view(value))
    assert spans.shape == (len(items), 2)
    assert [value[start : start + length] for start, length in spans.tolist()] == items
    assert list(byte_strings(view(value))) == items


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_integers_are_read(numbers: list[int]) -> None:
    assert integers(view(pack_array(numbers))) == numbers
    assert [integer(view(pack_integer(number))) for number in numbers] == numbers


@given(st.lists(st.text(min_size=1, max_size=80), max_size=20))
def test_texts_are_read_as_bytes(texts: list[str]) -> None:
    assert [text.decode() for text in byte_strings(view(pack_array(texts)))] == texts


@pytest.mark.parametrize(
    ("length", "as_bytes", "as_text"),
    [
        (1, "c401", "a1"),
        (31, "c41f", "bf"),
        (32, "c420", "d920"),
        (255, "c4ff", "d9ff"),
        (256, "c50100", "da0100"),
        (65535, "c5ffff", "daffff"),
        (65536, "c600010000", "db00010000"),
    ],
)
def test_both_dialects_have_these_heads(length: int, as_bytes: str, as_text: str) -> None:
    content = b"x" * length
    assert pack_array([content]) == array(bytes.fromhex(as_bytes) + content)
    assert pack_array([content.decode()]) == array(bytes.fromhex(as_text) + content)
    for head in (as_bytes, as_text):
        value = array(bytes.fromhex(head) + content)
        assert byte_spans(view(value)).tolist() == [[1 + len(head) // 2, length]]


@pytest.mark.parametrize(
    ("number", "packed"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (256, "cd0100"),
        (65536, "ce00010000"),
        (2**32, "cf0000000100000000"),
    ],
)
def test_integers_have_these_heads(number: int, packed: str) -> None:
    assert pack_integer(number).hex() == packed


@pytest.mark.parametrize(
    ("count", "packed"), [(15, "9f"), (16, "dc0010"), (65535, "dcffff"), (65536, "dd00010000")]
)
def test_arrays_have_these_heads(count: int, packed: str) -> None:
    value = pack_array([7] * count)
    assert value == bytes.fromhex(packed) + b"\x07" * count
    assert integers(view(value)) == [7] * count


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "ends within a number, after 0 bytes"),
        ("dc00", "ends within a number, after 2 bytes"),
        ("91c500", "ends within a number, after 3 bytes"),
        ("91", "1 bytes claim to be an array of 1 items"),
        ("ddffffffff", "5 bytes claim to be an array of 4294967295 items"),
        ("91c6ffffffff00", "item 0 claims 4294967295 of the 1 bytes left"),
        ("92c40178db7fffffff78", "item 1 claims 2147483647 of the 1 bytes left"),
        ("92a178a0", "item 1 claims 0 of the 0 bytes left"),
        ("91a17878", "its items end at byte 3 of 4"),
        ("90ff", "its items end at byte 1 of 2"),
        ("a178", "it is bytes, expected an array"),
        ("07", "it is an integer, expected an array"),
        ("81a17807", "it is of type 0x81, expected an array"),
        ("c1", "it is of type 0xc1, expected an array"),
        ("91c7047f00000000", "item 0 is of type 0xc7, expected bytes"),
        ("91c9ffffffff7f", "item 0 is of type 0xc9, expected bytes"),
        ("91d47f00", "item 0 is of type 0xd4, expected bytes"),
        ("91c0", "item 0 is of type 0xc0, expected bytes"),
        ("91cb7ff8000000000000", "item 0 is of type 0xcb, expected bytes"),
        ("919191919191a178", "item 0 is an array, expected bytes"),
        ("92a17807", "item 1 is an integer, expected bytes"),
    ],
)
def test_other_values_are_refused(value: str, message: str) -> None:
    for read in (byte_spans, lambda value: list(byte_strings(value))):
        with pytest.raises(ValueError, match=message):
            read(view(bytes.fromhex(value)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("91ff", "item 0 is of type 0xff, expected an integer"),
        ("91d0ff", "item 0 is of type 0xd0"),
        ("9207a107", "item 1 is bytes, expected an integer"),
        ("91cf00000000", "ends within a number"),
    ],
)
def test_other_integers_are_refused(value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integers(view(bytes.fromhex(value)))


@pytest.mark.parametrize("value", ["", "a107", "0707", "9107", "cf" + 8 * "00" + "00", "cd00"])
def test_one_integer_is_one(value: str) -> None:
    with pytest.raises(ValueError, match=r"claim|item 0|end"):
        integer(view(bytes.fromhex(value)))


def test_a_claim_costs_no_memory() -> None:
    for value in ("ddffffffff" + "a178" * 100, "91c6ffffffff" + "00" * 100):
        raw = view(bytes.fromhex(value))
        tracemalloc.start()
        for read in (byte_spans, integers, lambda value: list(byte_strings(value))):
            with pytest.raises(ValueError, match=r"claim|item 0"):
                read(raw)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000


@given(st.binary(max_size=60))
def test_any_bytes_are_an_array_or_a_value_error(value: bytes) -> None:
    try:
        spans = byte_spans(view(value)).tolist()
    except ValueError:
        return
    content = sum(length for _, length in spans)
    assert all(length and start + length <= len(value) for start, length in spans)
    assert sum(spans[-1] if spans else [len(value)]) == len(value) >= content + len(spans) + 1


def test_too_many_bytes_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="too large"):
        pack_integer(2**64)
