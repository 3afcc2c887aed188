from __future__ import annotations

import struct
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.formats import sequence_examples
from ssvideo_core.formats.sequence_examples import (
    SequenceExample,
    VideoRecord,
    encode_record,
    parse,
    parse_record,
    serialise,
)

BYTES, FLOATS, INTEGERS = 1, 2, 3  # fields of a Feature


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A field of wire type 2: length and content."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(name: str, value: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, value))


def context(*entries: bytes) -> bytes:
    return field(1, b"".join(entries))


def feature_list(name: str, *features: bytes) -> bytes:
    return field(2, entry(name, b"".join(field(1, feature) for feature in features)))


def bytes_feature(*values: bytes) -> bytes:
    return field(BYTES, b"".join(field(1, value) for value in values))


def integers(*values: int) -> bytes:
    return field(INTEGERS, field(1, b"".join(map(varint, values))))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return bool(a == b)


features = st.one_of(
    st.none(),
    st.lists(st.binary(max_size=20), max_size=4).map(tuple),
    st_numpy.arrays(np.float32, st.integers(0, 9), elements=st.floats(width=32)),
    st_numpy.arrays(np.int64, st.integers(0, 9)),
)
names = st.text(max_size=12)


@settings(deadline=None)
@given(
    st.dictionaries(names, features, max_size=4),
    st.dictionaries(names, st.lists(features, max_size=4), max_size=3),
)
def test_any_example_survives(one_each: dict[str, Any], lists: dict[str, Any]) -> None:
    data = serialise(SequenceExample(one_each, lists))
    found = parse(data)
    assert found.context.keys() == one_each.keys() and found.lists.keys() == lists.keys()
    for name, value in one_each.items():
        assert same(found.context[name], value)
    for name, steps in lists.items():
        assert len(found.lists[name]) == len(steps)
        assert all(map(same, found.lists[name], steps))
    assert serialise(found) == data
    shuffled = SequenceExample(dict(reversed(one_each.items())), dict(reversed(lists.items())))
    assert serialise(shuffled) == data


int64 = st.integers(-(2**63), 2**63 - 1)
jpegs = st.lists(st.binary(max_size=30), max_size=5)


@settings(deadline=None)
@given(
    st.builds(
        VideoRecord,
        frames=jpegs,
        waveform=st.none()
        | st_numpy.arrays(
            np.float32, st.integers(0, 50), elements={"min_value": -1, "max_value": 1}
        ),
        labels=st_numpy.arrays(np.int64, st.integers(0, 3)),
        label_text=st.lists(st.text(max_size=9), max_size=2),
        captions=st.lists(st.text(max_size=9), max_size=3),
        filename=st.none() | st.text(max_size=9),
        start_us=st.none() | int64,
        end_us=st.none() | int64,
        flow=jpegs,
    )
)
def test_any_record_survives(record: VideoRecord) -> None:
    found = parse_record(encode_record(record))
    for name, value in vars(record).items():
        other = getattr(found, name)
        assert same(other, tuple(value) if isinstance(value, list) else value), name


def test_bytes_are_those_of_the_format() -> None:
    record = VideoRecord(
        frames=[b"\xff\xd8one", b"\xff\xd8two"],
        waveform=np.array([0.5, -1], np.float32),
        labels=np.array([2, -1]),
        label_text=["für"],
        start_us=0,
    )
    packed_floats = field(FLOATS, field(1, struct.pack("<2f", 0.5, -1)))
    lists = [
        entry("WAVEFORM/feature/floats", field(1, packed_floats)),
        entry(
            "image/encoded",
            field(1, bytes_feature(b"\xff\xd8one")) + field(1, bytes_feature(b"\xff\xd8two")),
        ),
    ]
    one_each = context(
        entry("clip/label/index", integers(2, -1)),
        entry("clip/label/text", bytes_feature("für".encode())),
        entry("clip/start/timestamp", integers(0)),
    )
    assert encode_record(record) == one_each + field(2, b"".join(lists))


def test_all_frames_in_one_feature() -> None:
    """Frequent, and an error in TensorFlow."""
    together = feature_list("image/encoded", bytes_feature(b"a", b"b", b"c"))
    apart = feature_list("image/encoded", *(bytes_feature(jpeg) for jpeg in (b"a", b"b", b"c")))
    assert parse_record(together).frames == parse_record(apart).frames == (b"a", b"b", b"c")


def test_a_single_image_of_an_example() -> None:
    """tf.train.Example has the features where a SequenceExample has its context."""
    data = context(
        entry("image/encoded", bytes_feature(b"jpeg")),
        entry("WAVEFORM/feature/floats", field(FLOATS, field(1, struct.pack("<f", 1)))),
        entry("clip/label/index", integers(7)),
    )
    record = parse_record(data)
    assert record.frames == (b"jpeg",)
    assert record.labels.tolist() == [7]
    assert record.waveform is not None and record.waveform.tolist() == [1]


def test_numbers_that_are_not_packed() -> None:
    loose = varint(1 << 3) + varint(3) + varint(1 << 3) + varint(-4)
    mixed = loose + field(1, varint(5))
    floats = b"".join(varint(1 << 3 | 5) + struct.pack("<f", x) for x in (0.25, -0.5))
    data = context(entry("clip/label/index", field(INTEGERS, mixed)))
    data += feature_list("WAVEFORM/feature/floats", field(FLOATS, floats))
    record = parse_record(data)
    assert record.labels.dtype == np.int64 and record.labels.tolist() == [3, -4, 5]
    assert record.waveform is not None and record.waveform.dtype == np.float32
    assert record.waveform.tolist() == [0.25, -0.5]


def test_unknown_fields_are_skipped() -> None:
    unknown = field(9, b"later") + varint(10 << 3) + varint(1) + varint(11 << 3 | 1) + bytes(8)
    feature = unknown + field(INTEGERS, unknown + field(1, varint(4)))
    data = unknown + context(unknown, entry("clip/label/index", feature), unknown)
    assert parse_record(data).labels.tolist() == [4]


def test_the_last_of_repeated_keys_counts() -> None:
    first, second = (entry("clip/label/index", integers(n)) for n in (1, 2))
    assert parse_record(context(first, second)).labels.tolist() == [2]
    assert parse_record(context(first) + context(second)).labels.tolist() == [2]


def test_what_is_absent_is_empty() -> None:
    for data in (b"", context(entry("clip/label/index", b""), entry("video/filename", b""))):
        record = parse_record(data)
        assert record.frames == () and record.flow == () and record.waveform is None
        assert record.labels.dtype == np.int64 and record.labels.shape == (0,)
        assert record.filename is None and record.start_us is None and record.end_us is None
        assert record.label_text == () and record.captions == ()
    assert parse(context(entry("x", b""))).context == {"x": None}
    assert parse_record(feature_list("WAVEFORM/feature/floats")).waveform is None
    assert parse_record(feature_list("image/encoded", b"", bytes_feature(b"a"))).frames == (b"a",)


def test_only_the_first_step_of_a_waveform() -> None:
    steps = [field(FLOATS, field(1, struct.pack("<f", x))) for x in (0.5, 1)]
    record = parse_record(feature_list("WAVEFORM/feature/floats", *steps))
    assert record.waveform is not None and record.waveform.tolist() == [0.5]


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [0.0, 1e9]])
def test_waveforms_that_are_none(values: list[float]) -> None:
    """What the generator of DMVR stores: the bits of integers."""
    data = encode_record(VideoRecord(waveform=np.array(values, np.float32)))
    with pytest.warns(RuntimeWarning, match="written as integers"):
        parse_record(data)


def test_loud_waveforms_are_none_of_them() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = parse_record(encode_record(VideoRecord(waveform=np.array([1.3], np.float32))))
    assert record.waveform is not None and record.waveform.tolist() == [np.float32(1.3)]


def test_text_that_is_not_utf8() -> None:
    record = parse_record(context(entry("video/filename", bytes_feature(b"a\xffb"))))
    assert record.filename == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\xff", field(1, field(1, field(1, b"\xff")))])
def test_other_bytes(data: bytes) -> None:
    with pytest.raises(DataError, match=r"shard-0:3 holds no tf\.train.SequenceExample"):
        parse(data, name="shard-0:3")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (context(entry("clip/label/index", bytes_feature(b"7"))), "clip/label/index' holds bytes"),
        (context(entry("clip/label/text", integers(7))), "clip/label/text' holds int64"),
        (feature_list("image/encoded", integers(7)), "image/encoded' holds int64"),
        (feature_list("WAVEFORM/feature/floats", integers(7)), "floats' holds int64"),
        (feature_list("WAVEFORM/feature/floats", bytes_feature(b"")), "floats' holds bytes"),
    ],
)
def test_features_of_another_kind(data: bytes, found: str) -> None:
    with pytest.raises(DataError, match=f"x:0: the feature '.*{found}, expected "):
        parse_record(data, name="x:0")


def test_a_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    sequence_examples._messages.cache_clear()
    with pytest.raises(ConfigError, match=r"protobuf.*pip install 'ssvideo-core\[tfrecord\]'"):
        parse(b"")
