"""What records of videos hold: `tf.train.SequenceExample` with the feature names of DMVR.

    record = parse_record(payload)         # a payload of `tfrecord.read_records`
    record.frames[0]                       # one JPEG

Any number encoding that protocol buffers allow is read (packed or not), packed is written; unknown
fields are skipped; of repeated keys the last counts. A `tf.train.Example` is read too, its features
as sequences of one step. The messages live in a descriptor pool of their own, so that TensorFlow
may be imported beside. Needs protobuf (extra `tfrecord`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import DataError
from ssvideo_core.extras import optional_module

IMAGES = "image/encoded"
FLOW = "flow/encoded"
WAVEFORM = "WAVEFORM/feature/floats"
LABELS = "clip/label/index"
LABEL_TEXT = "clip/label/text"
CAPTIONS = "caption/string"
FILENAME = "video/filename"
START = "clip/start/timestamp"
END = "clip/end/timestamp"

# Decoded sound overshoots 1 a little; integers whose bits were read as floats are far beyond.
_LOUD = 8.0

# One feature: bytes, float32 [N], int64 [N]; None is a feature without a kind, which is empty.
Feature = tuple[bytes, ...] | NDArray[np.float32] | NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class SequenceExample:
    """Features by name: one each of the context, one a step of the lists."""

    context: Mapping[str, Feature] = field(default_factory=dict)
    lists: Mapping[str, Sequence[Feature]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class VideoRecord:
    """One video.

    frames: JPEGs, RGB, in order. waveform: [N] float32 mono, about [-1, 1]; its rate is not stored
    (48000 Hz by convention). labels: [L] int64 class numbers, usually one. label_text: their names.
    start_us, end_us: microseconds in the file `filename`. flow: JPEGs with the horizontal
    displacement in channel 0 and the vertical in 1, both as v * 2/255 - 1.
    """

    frames: Sequence[bytes] = ()
    waveform: NDArray[np.float32] | None = None
    labels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    label_text: Sequence[str] = ()
    captions: Sequence[str] = ()
    filename: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    flow: Sequence[bytes] = ()


def parse_record(data: bytes, *, name: str = "a record") -> VideoRecord:
    """A payload as a video; what it does not hold stays empty. name: what messages call it.

    Frames may be one JPEG a step or all in one step. Of the waveform only the first step is used.
    Text that is not UTF-8 has its wrong bytes replaced. A waveform with NaN or values far outside
    [-1, 1] is a warning, once: DMVR's own generator stores integers whose bits it takes for floats.

    Raises DataError when the payload is no SequenceExample and when a feature is of another kind.
    """
    reader = _Reader(parse(data, name=name), name)
    waveform = reader.waveform()
    if waveform is not None and not np.all(np.abs(waveform) <= _LOUD):
        warnings.warn(
            f"a waveform has NaN or values beyond {_LOUD}, expected about [-1, 1]: it was probably "
            "written as integers; convert the videos again",
            RuntimeWarning,
            stacklevel=2,
        )
    return VideoRecord(
        frames=reader.images(IMAGES),
        waveform=waveform,
        labels=reader.numbers(LABELS),
        label_text=reader.text(LABEL_TEXT),
        captions=reader.text(CAPTIONS),
        filename=next(iter(reader.text(FILENAME)), None),
        start_us=next(iter(reader.numbers(START).tolist()), None),
        end_us=next(iter(reader.numbers(END).tolist()), None),
        flow=reader.images(FLOW),
    )


def encode_record(record: VideoRecord) -> bytes:
    """The payload of a video; empty parts are left out. Equal records give equal bytes."""
    context: dict[str, Feature] = {
        LABELS: np.asarray(record.labels, np.int64),
        LABEL_TEXT: _encoded(record.label_text),
        CAPTIONS: _encoded(record.captions),
        FILENAME: _encoded([] if record.filename is None else [record.filename]),
        START: np.array([] if record.start_us is None else [record.start_us], np.int64),
        END: np.array([] if record.end_us is None else [record.end_us], np.int64),
    }
    lists: dict[str, Sequence[Feature]] = {
        IMAGES: [(jpeg,) for jpeg in record.frames],
        FLOW: [(jpeg,) for jpeg in record.flow],
        WAVEFORM: [] if record.waveform is None else [np.asarray(record.waveform, np.float32)],
    }
    return serialise(
        SequenceExample(
            {name: value for name, value in context.items() if value is not None and len(value)},
            {name: steps for name, steps in lists.items() if steps},
        )
    )


def parse(data: bytes, *, name: str = "a record") -> SequenceExample:
    """A serialised SequenceExample, or an Example, whose features are then the context.

    Raises DataError, which calls the record `name`, for anything else.
    """
    decode_error = optional_module("google.protobuf.message", "tfrecord").DecodeError
    try:
        message = _messages()["SequenceExample"].FromString(data)
    except decode_error as error:
        raise DataError(
            f"{name} holds no tf.train.SequenceExample ({error}); expected records of videos, as "
            "DMVR or 'python -m ssvideo_core convert-data' write them"
        ) from None
    return SequenceExample(
        {entry.key: _to_feature(entry.value) for entry in message.context.feature},
        {
            entry.key: [_to_feature(step) for step in entry.value.feature]
            for entry in message.feature_lists.feature_list
        },
    )


def serialise(example: SequenceExample) -> bytes:
    """The bytes of an example, its names in order: equal examples give equal bytes.

    Arrays of floats are stored as float32, of integers as int64.
    """
    messages = _messages()
    entry, list_entry = messages["FeatureEntry"], messages["FeatureListEntry"]
    message = messages["SequenceExample"](
        context={"feature": [entry(key=k, value=_kinds(v)) for k, v in _sorted(example.context)]},
        feature_lists={
            "feature_list": [
                list_entry(key=key, value={"feature": [_kinds(step) for step in steps]})
                for key, steps in _sorted(example.lists)
            ]
        },
    )
    data: bytes = message.SerializeToString(deterministic=True)
    return data


class _Reader:
    """Typed access to the features of one example."""

    def __init__(self, example: SequenceExample, place: str) -> None:
        self._example, self._place = example, place

    def images(self, name: str) -> tuple[bytes, ...]:
        return tuple(jpeg for step in self._steps(name) for jpeg in self._strings(name, step))

    def waveform(self) -> NDArray[np.float32] | None:
        first = next(iter(self._steps(WAVEFORM)), None)
        if first is None:
            return None
        if isinstance(first, np.ndarray) and first.dtype == np.float32:
            return np.asarray(first, np.float32)
        raise self._wrong(WAVEFORM, first, "floats")

    def numbers(self, name: str) -> NDArray[np.int64]:
        feature = self._example.context.get(name)
        if feature is None:
            return np.empty(0, np.int64)
        if isinstance(feature, np.ndarray) and feature.dtype == np.int64:
            return np.asarray(feature, np.int64)
        raise self._wrong(name, feature, "integers")

    def text(self, name: str) -> tuple[str, ...]:
        strings = self._strings(name, self._example.context.get(name))
        return tuple(string.decode(errors="replace") for string in strings)

    def _steps(self, name: str) -> Sequence[Feature]:
        """A list, or what tf.train.Example has in its place."""
        if name not in self._example.lists and name in self._example.context:
            return [self._example.context[name]]
        return self._example.lists.get(name, [])

    def _strings(self, name: str, feature: Feature) -> tuple[bytes, ...]:
        if isinstance(feature, np.ndarray):
            raise self._wrong(name, feature, "bytes")
        return feature or ()

    def _wrong(self, name: str, feature: Feature, expected: str) -> DataError:
        found = feature.dtype if isinstance(feature, np.ndarray) else "bytes"
        return DataError(f"{self._place}: the feature '{name}' holds {found}, expected {expected}")


def _encoded(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)


def _sorted(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(values.items())


def _to_feature(message: Any) -> Feature:
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    values = getattr(message, kind).value
    if kind == "bytes_list":
        return tuple(values)
    return np.array(values, np.float32) if kind == "float_list" else np.array(values, np.int64)


def _kinds(feature: Feature) -> dict[str, Any]:
    """A feature as the fields of its message."""
    if feature is None:
        return {}
    if not isinstance(feature, np.ndarray):
        return {"bytes_list": {"value": list(feature)}}
    kind = "float_list" if np.issubdtype(feature.dtype, np.floating) else "int64_list"
    return {kind: {"value": feature.tolist()}}


# Message: its fields (name, number, type, whether repeated), as tensorflow/core/example has them.
# A map is a list of entries on the wire; as a list, the order of names is ours.
_SCHEMA: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "BytesList": (("value", 1, "bytes", True),),
    "FloatList": (("value", 1, "float", True),),
    "Int64List": (("value", 1, "int64", True),),
    "Feature": (
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    ),
    "FeatureEntry": (("key", 1, "string", False), ("value", 2, "Feature", False)),
    "Features": (("feature", 1, "FeatureEntry", True),),
    "FeatureList": (("feature", 1, "Feature", True),),
    "FeatureListEntry": (("key", 1, "string", False), ("value", 2, "FeatureList", False)),
    "FeatureLists": (("feature_list", 1, "FeatureListEntry", True),),
    "SequenceExample": (
        ("context", 1, "Features", False),
        ("feature_lists", 2, "FeatureLists", False),
    ),
}
_PACKAGE = "ssvideo"
_ONEOF = {"Feature": "kind"}


@cache
def _messages() -> Mapping[str, Any]:
    """Message classes by name."""
    descriptors = optional_module("google.protobuf.descriptor_pb2", "tfrecord")
    field_type = descriptors.FieldDescriptorProto
    file = descriptors.FileDescriptorProto(
        name="ssvideo/example.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        if name in _ONEOF:
            message.oneof_decl.add(name=_ONEOF[name])
        for field_name, number, kind, repeated in fields:
            added = message.field.add(name=field_name, number=number)
            added.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _SCHEMA:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = getattr(field_type, f"TYPE_{kind.upper()}")
            if name in _ONEOF:
                added.oneof_index = 0
    pool = optional_module("google.protobuf.descriptor_pool", "tfrecord").DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    make = optional_module("google.protobuf.message_factory", "tfrecord").GetMessageClass
    return {name: make(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _SCHEMA}
