"""Record files that TensorFlow wrote, and what it reads of damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from ssvideo_core.formats.sequence_examples import Feature, parse
from ssvideo_core.formats.tfrecord import (
    DamagedRecordError,
    RecordFiles,
    masked_crc,
    read_record,
    read_records,
    record_offsets,
)
from ssvideo_core.testing.cases import Case, load_cases, reference_cases
from ssvideo_core.testing.rekey import rekey

KINDS = ["tfrecord_file", "tfrecord_header", "tfrecord_record", "tfrecord_damage", "masked_crc"]
brave = reference_cases("brave", kinds=KINDS)


def record_file(case: Case) -> Path:
    """The first file that holds no expected values."""
    return next(path for path in case.file_paths if path.suffix not in (".npz", ".json"))


@brave.kind("tfrecord_file")
def _(case: Case) -> dict[str, Any]:
    number = len(list(read_records(record_file(case))))
    assert len(record_offsets(record_file(case))) == number
    return {"num_records": number}


@brave.kind("tfrecord_header")
def _(case: Case) -> dict[str, Any]:
    path = record_file(case)
    offset, length = record_offsets(path)[case.record_index].tolist()
    payload = read_record(path, offset)
    assert len(payload) == length
    return {
        "length": length,
        "masked_crc_of_length": masked_crc(struct.pack("<Q", length)),
        "masked_crc_of_data": masked_crc(payload),
    }


@brave.kind("masked_crc")
def _(case: Case) -> dict[str, Any]:
    return {"crc_check_strings": {text: masked_crc(text.encode()) for text in case.strings}}


@brave.kind("tfrecord_record")
def _(case: Case) -> dict[str, Any]:
    path = record_file(case)
    records = list(read_records(path))
    assert len(records) == case.num_records
    record = records[case.record_index]
    if case.get("compression") is None:
        assert RecordFiles([path]).read(case.record_index) == record
    example = parse(record)
    outputs: dict[str, Any] = {"record_bytes": len(record)}
    for name, value in example.context.items():
        key = f"context:{name}"
        outputs[key] = texts(value) if key in case.strings else value
    for name in case.image_lists:
        outputs |= {f"list:{name}:{key}": v for key, v in images(example.lists[name]).items()}
    for name in case.float_lists:
        outputs[f"list:{name}:num_features"] = len(example.lists[name])
        outputs[f"list:{name}:values"] = example.lists[name][0]
    assert outputs.keys() == case.outputs.keys(), "no other features may be found"
    assert example.lists.keys() == {*case.image_lists, *case.float_lists}
    return outputs


def texts(feature: Feature) -> list[str]:
    assert isinstance(feature, tuple)
    return [value.decode() for value in feature]


def images(steps: Any) -> dict[str, Any]:
    """The fast transform is TensorFlow's default."""
    jpegs = [jpeg for (jpeg,) in steps]
    decoded = [simplejpeg.decode_jpeg(jpeg, fastdct=True) for jpeg in jpegs]
    return {
        "lengths": [len(jpeg) for jpeg in jpegs],
        "first_decoded": decoded[0],
        "mean_per_frame": [frame.mean() for frame in decoded],
    }


@brave.kind("tfrecord_damage")
def _(case: Case) -> dict[str, Any]:
    path, before = record_file(case), []
    with pytest.raises(DamagedRecordError) as error:
        for record in read_records(path):
            before.append(record)
    assert f"record {case.record_index} at byte {case.record_offset} " in str(error.value)
    assert str(path) in str(error.value)
    assert list(read_records(path, on_damage="skip_rest")) == before
    return {"records_before_error": len(before)}


test_brave = brave.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    if not brave.cases:
        pytest.skip(f"{brave.folder} has none of these kinds")
    others = {case.kind for case in load_cases(brave.folder)} - set(KINDS)
    moved = brave.moved(rekey(brave.folder, tmp_path / "moved", drop=others))
    assert len(moved.cases) == len(brave.cases)
    for case in moved.cases:
        moved.check(case, tmp_path)


def test_pixels_are_tensorflows() -> None:
    """With the fast transform they are equal, not merely within a tolerance."""
    found = 0
    for case in brave.cases:
        if case.kind == "tfrecord_record":
            record = list(read_records(record_file(case)))[case.record_index]
            for name in case.image_lists:
                (jpeg,) = parse(record).lists[name][0]
                pixels = simplejpeg.decode_jpeg(jpeg, fastdct=True)
                assert np.array_equal(pixels, case.expected(f"list:{name}:first_decoded"))
                found += 1
    if not found:
        pytest.skip(f"{brave.folder} has no record with pictures")
