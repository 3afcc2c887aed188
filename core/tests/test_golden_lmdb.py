"""Databases that CoCLR's converter wrote with old and new packers, and JPEGs of its kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from ssvideo_core.formats.jpeg_frames import Jpeg
from ssvideo_core.formats.lmdb_records import (
    SHUFFLE_SEED,
    key_of,
    read_contents,
    reading,
    write_database,
)
from ssvideo_core.formats.msgpack_arrays import byte_spans, byte_strings, integers
from ssvideo_core.testing.cases import Case, load_cases, reference_cases
from ssvideo_core.testing.rekey import rekey

KINDS = ["lmdb_read", "lmdb_write", "jpeg_decode"]
vicc = reference_cases("vicc", kinds=KINDS)


def decoded(case: Case) -> np.ndarray:
    jpeg = Jpeg("jpeg", case.jpeg.tobytes())
    return jpeg.decode(jpeg.size())


def joined(parts: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(parts), np.uint8)


def sizes(parts: list[bytes]) -> list[int]:
    return [len(part) for part in parts]


@vicc.kind("lmdb_read")
def _(case: Case) -> dict[str, Any]:
    path = case.tmp_path / "database.lmdb"
    path.write_bytes(case.database.tobytes())
    contents, frames = read_contents(path), []
    with reading(path) as get:
        for number, count in enumerate(contents.num_frames):
            value = get(key_of(number))
            spans = byte_spans(value).tolist()
            assert len(spans) == count
            frames += [bytes(value[start : start + length]) for start, length in spans]
        keys = [key.decode() for key in byte_strings(get(b"__keys__"))]
        vlen = integers(get(b"__vlen__"))
    return {
        "names": list(contents.names),
        "counts": contents.num_frames,
        "frame_sizes": sizes(frames),
        "frame_bytes": joined(frames),
        "keys": keys,
        "vlen": vlen,
    }


@vicc.kind("lmdb_write")
def _(case: Case) -> dict[str, Any]:
    pieces = iter(np.split(case.frame_bytes, np.cumsum(case.frame_sizes)))
    for name, count in zip(case.names, case.counts, strict=True):
        folder = case.tmp_path / "frames" / name
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"image_{number + 1:05d}.jpg").write_bytes(next(pieces).tobytes())
    assert case.shuffle_seed == SHUFFLE_SEED
    path = case.tmp_path / "new.lmdb"
    write_database(path, case.tmp_path / "frames")
    options = {"subdir": False, "readonly": True, "lock": False}
    with lmdb.open(str(path), **options) as environment, environment.begin() as transaction:
        rows = [(bytes(key), bytes(value)) for key, value in transaction.cursor()]
    return {
        "row_keys": [key.decode() for key, _ in rows],
        "row_sizes": sizes([value for _, value in rows]),
        "row_bytes": joined([value for _, value in rows]),
    }


@vicc.kind("jpeg_decode")
def _(case: Case) -> dict[str, Any]:
    return {"decoded_rgb": decoded(case)}


test_vicc = vicc.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    if not vicc.cases:
        pytest.skip("this folder has none of these kinds")
    others = {case.kind for case in load_cases(vicc.folder)} - set(KINDS)
    moved = vicc.moved(rekey(vicc.folder, tmp_path / "moved", drop=others))
    assert len(moved.cases) == len(vicc.cases)
    for number, case in enumerate(moved.cases):
        (tmp_path / str(number)).mkdir()
        moved.check(case, tmp_path / str(number))


def test_pixels_are_pillows() -> None:
    """They are equal, not merely within a tolerance: OpenCV wrote the expected ones."""
    cases = [case for case in vicc.cases if case.kind == "jpeg_decode"]
    for case in cases:
        assert np.array_equal(decoded(case), case.expected("decoded_rgb"))
    assert cases
