from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssvideo_core.blocks import Block, Failure, block_path, write_block
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.feature_writer import FeatureWriter, allowed_failures
from ssvideo_core.features import Row, clip_to_json
from ssvideo_core.views import ClipSpec, Steps

CLIP = ClipSpec("rgb", Steps(1), None, "loop")
REQUEST = {
    "method": "toy",
    "weights": "random",
    "backbone": "none",
    "modality": "rgb",
    "kind": "features",
    "fingerprint": "f" * 64,
    "clip": clip_to_json(CLIP),
    "views": (1, 1),
    "keep": "video",
    "feature_size": 2,
    "batch_size": 8,
}


def rows(count: int, label: str = "x") -> list[Row]:
    return [(f"{i}.mp4", label, None) for i in range(count)]


def block(number: int, videos: range, failures: tuple[Failure, ...] = ()) -> Block:
    kept = [video for video in videos if video not in {failure.video for failure in failures}]
    values = np.array([[video, 1] for video in kept], np.float32).reshape(-1, 2)
    return Block(number, values, np.array(kept, np.int64), np.full(len(kept), -1, "i4"), failures)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_is_complete_when_the_last_block_is_there(tmp_path: Path) -> None:
    first, second = (FeatureWriter(tmp_path, REQUEST, rows(300)) for _ in range(2))
    assert sorted(content(tmp_path)) == ["extract.json", "videos.csv"]
    assert (tmp_path / "videos.csv").read_text().startswith("video_id,label,group\n0.mp4,x,\n1.mp4")
    second.write(block(1, range(256, 300)))
    assert second.finish() is None
    assert not (tmp_path / "features.json").exists()
    first.write(block(0, range(256)))
    features = first.finish()
    assert features is not None and features.matrix()[1][:, 0].tolist() == list(range(300))
    before = content(tmp_path)
    again = second.finish()
    assert again is not None and again.info == features.info
    assert content(tmp_path) == before


def test_a_rewritten_block_makes_the_folder_incomplete(tmp_path: Path) -> None:
    writer = FeatureWriter(tmp_path, REQUEST, rows(3))
    writer.write(block(0, range(3)))
    assert writer.finish() is not None
    writer.write(block(0, range(3)))
    assert not (tmp_path / "features.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "other"}, r"\(weights: random there, other now\)\. Give the same request"),
        (
            {"views": (2, 1), "seed": 1},
            r"seed: None there, 1 now; views: \[1, 1\] there, \[2, 1\] ",
        ),
        ({"batch_size": 4}, r"batch_size: 8 there, 4 now\)\. Another batch size changes the last"),
    ],
)
def test_another_request_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    FeatureWriter(tmp_path, REQUEST, rows(3))
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=message):
        FeatureWriter(tmp_path, {**REQUEST, **change}, rows(3))
    assert content(tmp_path) == before


def test_another_work_list_is_refused(tmp_path: Path) -> None:
    FeatureWriter(tmp_path, REQUEST, rows(3))
    before = content(tmp_path)
    for other in (rows(4), rows(3, label="y"), rows(3)[::-1]):
        with pytest.raises(ConfigError, match=r"data_hash: .* The list of videos .* another one"):
            FeatureWriter(tmp_path, REQUEST, other)
    with pytest.raises(ConfigError, match="videos: 3 there, 4 now"):
        FeatureWriter(tmp_path, REQUEST, rows(4))
    assert content(tmp_path) == before


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="is or lies below a file: choose another folder"):
            FeatureWriter(folder, REQUEST, rows(3))
    write_block(tmp_path, block(0, range(3)), "unknown")
    with pytest.raises(ConfigError, match=r"holds blocks but no extract\.json"):
        FeatureWriter(tmp_path, REQUEST, rows(3))
    (tmp_path / "extract.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"extract\.json is not the record of an extraction"):
        FeatureWriter(tmp_path, REQUEST, rows(3))


def test_an_empty_list_and_an_incomplete_request(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no video to extract into .*empty"):
        FeatureWriter(tmp_path / "empty", REQUEST, [])
    assert content(tmp_path / "empty") == {}
    with pytest.raises(ValueError, match=r"needs \['clip', 'method'\]"):
        short = {name: REQUEST[name] for name in REQUEST if name not in ("method", "clip")}
        FeatureWriter(tmp_path, short, rows(3))


def test_other_software_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FeatureWriter(tmp_path, REQUEST, rows(3))
    path = tmp_path / "extract.json"
    record = json.loads(path.read_text())
    record["versions"]["av"] = "1.2.3"
    path.write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING):
        writer = FeatureWriter(tmp_path, REQUEST, rows(3))
    assert "was begun with" in caplog.text and "'av': '1.2.3'" in caplog.text
    writer.write(block(0, range(3)))
    features = writer.finish()
    assert features is not None and features.info.versions["av"] == "1.2.3"


def test_a_folder_with_too_many_bad_videos_is_never_complete(tmp_path: Path) -> None:
    assert [allowed_failures(n) for n in (1, 399, 400, 499, 1000)] == [3, 3, 4, 4, 10]

    def finish(name: str, bad: int, silent: int) -> FeatureWriter:
        writer = FeatureWriter(tmp_path / name, REQUEST, rows(200))
        failures = [Failure(i, f"{i}.mp4", "cut") for i in range(bad)]
        failures += [Failure(i, f"{i}.mp4", "no sound", False) for i in range(bad, bad + silent)]
        writer.write(block(0, range(200), tuple(failures)))
        return writer

    features = finish("three", 3, 150).finish()
    assert features is not None and (features.info.bad, features.info.no_sound) == (3, 150)
    with pytest.raises(DataError, match=r"four: 4 of 200 videos failed, 3 are allowed \(1 %, at"):
        finish("four", 4, 0).finish()
    assert not (tmp_path / "four" / "features.json").exists()
    assert (tmp_path / "four" / "failures.csv").read_text().splitlines()[1] == "0.mp4,cut"


def test_left_overs_of_a_kill_are_cleared(tmp_path: Path) -> None:
    writer = FeatureWriter(tmp_path, REQUEST, rows(3))
    (tmp_path / ".block-000000.safetensors.0123.tmp").write_bytes(b"half")
    (tmp_path / ".features.json.4567.tmp").write_bytes(b"half")
    writer.write(block(0, range(3)))
    assert writer.finish() is not None
    assert sorted(content(tmp_path)) == [
        block_path(tmp_path, 0).name,
        *("extract.json", "failures.csv", "features.json", "videos.csv"),
    ]
