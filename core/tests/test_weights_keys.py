from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import (
    fingerprint,
    match_keys,
    read_safetensors,
    read_weights,
    select_tensors,
    write_safetensors,
)

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(3)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"state_dict": {"a": A}, "model": {"b": B}, "epoch": 1}, ["a"]),
        ({"epoch": 1, "model": {"b": B}}, ["b"]),
        ({"model": "r2plus1d_18", "net.a": A, "epoch": 3}, ["net.a"]),
        ({"state_dict": {"module.a": A, "net.module.b": B, "submodule.c": A}}, None),
        ({"params": {"net/~/linear": {"w": A, "b": B}}}, ["params/net/~/linear/w"]),
    ],
)
def test_the_section_that_holds_the_tensors(tree: Any, names: list[str] | None) -> None:
    found = list(select_tensors(tree))
    if names is None:
        names = ["a", "net.b", "submodule.c"]
    assert found[: len(names)] == names


def test_sections_and_prefixes_are_options() -> None:
    tree = {"params": {"m": {"w": A}}, "state": {"m": {"average": B}}}
    assert list(select_tensors(tree, sections=["state"])) == ["m/average"]
    tree = {"model": {"encoder_q.0.w": A, "encoder_q.1.encoder_q.0.w": B}}
    assert list(select_tensors(tree, strip=["encoder_q.0."])) == ["w", "encoder_q.1.w"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([A], "the weights file holds a list, expected named tensors"),
        (
            {"epoch": 1, "args": {}},
            r"no tensors .*at the top level, which holds \['epoch', 'args'\]",
        ),
        ({"state_dict": {"module.a": A, "a": A}}, "two tensors are called 'a' after removing"),
    ],
)
def test_files_without_clear_tensors_are_refused(tree: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        select_tensors(tree)


EXPECTED = {"a": (2, 3), "b": (), "c": (4,)}


def test_a_key_report_lists_every_difference() -> None:
    report = match_keys({"a": A, "b": np.zeros(1), "z": B}, EXPECTED)
    assert report.matched == ("a",)
    assert report.missing == ("c",)
    assert report.unexpected == ("z",)
    assert report.wrong_shape == {"b": ((1,), ())}
    assert str(report).splitlines() == [
        "1 tensors match",
        "1 missing in the file: c",
        "1 unknown to the network: z",
        "1 of another shape: b (file [1], network [])",
    ]
    with pytest.raises(WeightsError, match="do not fit the network: 1 tensors match\n1 missing"):
        report.require()


def test_long_lists_are_shortened() -> None:
    report = match_keys({"a": A}, {f"k{i:02}": (1,) for i in range(12)} | {"a": (2, 3)})
    assert "12 missing in the file: k00, k01" in str(report)
    assert str(report).endswith("k09, and 2 more")


@pytest.mark.parametrize(
    ("found", "expected", "options", "fits"),
    [
        ({"a": A, "b": B}, {"a": (2, 3), "b": ()}, {}, True),
        ({"a": A, "b": B}, {"a": (2, 3)}, {}, False),
        ({"a": A, "b": B}, {"a": (2, 3)}, {"allow_unexpected": True}, True),
        ({"a": A}, {"a": (2, 3), "b": ()}, {"allow_unexpected": True}, False),
        ({"a": A}, {"a": (3, 2)}, {"allow_unexpected": True}, False),
        ({}, {}, {}, False),
    ],
)
def test_what_is_required(found: Any, expected: Any, options: Any, fits: bool) -> None:
    report = match_keys(found, expected)
    if fits:
        report.require(**options)
    else:
        with pytest.raises(WeightsError, match="do not fit the network"):
            report.require(**options)


def test_ignored_names_count_on_neither_side() -> None:
    found = {"a": A, "mlp_v.0.weight": B}
    report = match_keys(found, {"a": (2, 3), "fc.weight": (5,)}, ignore=[r"mlp_", r"fc\."])
    assert (report.matched, report.missing, report.unexpected) == (("a",), (), ())
    assert match_keys(found, {"a": (2, 3)}, ignore=["weight"]).unexpected == ("mlp_v.0.weight",)


def test_the_fingerprint_is_what_it_says() -> None:
    digest = hashlib.sha256()
    digest.update(b"a\0<f4\0(2, 3)\0" + A.tobytes())
    digest.update(b"b\0<i8\0()\0" + B.tobytes())
    assert fingerprint({"b": B, "a": A}) == digest.hexdigest()


def test_the_fingerprint_ignores_layout_and_byte_order_but_no_content() -> None:
    tensors = {"a": A, "b": B}
    same = [
        {"a": np.asfortranarray(A), "b": B},
        {"a": A.astype(">f4"), "b": B},
        {"a": np.stack([A, A], -1)[..., 0], "b": B},
    ]
    assert {fingerprint(other) for other in same} == {fingerprint(tensors)}
    different: list[dict[str, Any]] = [
        {"a": A, "c": B},
        {"a": A.astype(np.float64), "b": B},
        {"a": A.reshape(3, 2), "b": B},
        {"a": A + np.float32(1e-6), "b": B},
        {"a": A},
    ]
    assert len({fingerprint(other) for other in [tensors, *different]}) == 6


def test_safetensors_round_trip(tmp_path: Path) -> None:
    tensors = {
        "f4": A,
        "fortran": np.asfortranarray(A),
        "big endian": A.astype(">f8"),
        "half": A.astype(np.float16),
        "i8": B,
        "bool": np.array([True, False]),
        "u1": np.arange(3, dtype=np.uint8),
        "empty": np.zeros((0, 3)),
    }
    path = tmp_path / "new" / "encoder.safetensors"
    write_safetensors(path, tensors, {"architecture": '{"depth": 18}'})
    found, metadata = read_safetensors(path)
    assert metadata == {"architecture": '{"depth": 18}'}
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        assert found[name].flags.writeable
    assert fingerprint(found) == fingerprint(tensors)
    assert [p.name for p in path.parent.iterdir()] == ["encoder.safetensors"]
    assert fingerprint(read_weights(path)) == fingerprint(tensors)


def test_torch_reads_what_is_written_and_the_reverse(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    write_safetensors(tmp_path / "a.safetensors", {"a": A}, {})
    loaded = safetensors_torch.load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(loaded["a"].numpy(), A)
    tensor = torch.tensor([1.5, -3e38, 1e-40]).to(torch.bfloat16)
    safetensors_torch.save_file({"b": tensor}, tmp_path / "b.safetensors")
    found, _ = read_safetensors(tmp_path / "b.safetensors")
    assert found["b"].dtype == np.float32
    np.testing.assert_array_equal(found["b"], tensor.float().numpy())


def test_an_export_has_the_fingerprint_of_its_source(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save({"model": net.state_dict()}, tmp_path / "w.pth")
    source = select_tensors(read_weights(tmp_path / "w.pth"))
    write_safetensors(tmp_path / "w.safetensors", source, {})
    export = select_tensors(read_weights(tmp_path / "w.safetensors"))
    assert fingerprint(export) == fingerprint(source)


def test_a_type_that_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="tensor 'a' has type complex64; it cannot be saved"):
        write_safetensors(tmp_path / "a.safetensors", {"a": A.astype(np.complex64)}, {})
    assert list(tmp_path.iterdir()) == []


def test_one_changed_byte_of_an_export_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": A}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="do not match their checksum; get the file again"):
        read_safetensors(path)


def header(document: Any, length: int | None = None) -> bytes:
    text = json.dumps(document).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "content",
    [
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + bytes(7),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + bytes(9),
        header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}) + bytes(8),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}) + bytes(12),
        header({"a": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 8]}}) + bytes(8),
        header({}, length=90_000_000),
        header({"a": 1}),
        header({"__metadata__": {"a": [1]}}),
    ],
)
def test_damaged_safetensors_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    for read in (read_safetensors, read_weights):
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            read(path)
