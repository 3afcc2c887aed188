from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core.blocks import MEAN_OF_VIEWS, Block, Failure, block_path, block_span, num_blocks
from ssvideo_core.errors import DataError
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import (
    FeatureSet,
    clip_from_json,
    clip_to_json,
    info_from_json,
    join,
    mean_of_views,
    mean_scores,
    open_features,
)
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread, Steps

RGB = ClipSpec("rgb", Spread(8, 2.56), Pixels(256, 256, 224, "bicubic"), "repeat_last")
FLOW = ClipSpec("flow", Steps(32, 2, 25.0), Pixels(240, 224, 128), "pad_first")
SOUND = ClipSpec("sound", Samples(24000, 24000), None, "zeros")


def request(**other: Any) -> dict[str, Any]:
    return {
        "method": "toy",
        "weights": "random",
        "backbone": "none",
        "modality": "rgb",
        "kind": "features",
        "fingerprint": "f" * 64,
        "clip": clip_to_json(RGB),
        "views": [2, 3],
        "keep": "video",
        "feature_size": 4,
        "batch_size": 8,
        "seed": 5,
        "output": "embedding",
        **other,
    }


def entries(count: int) -> list[tuple[str, str | None, str | None]]:
    return [
        (f"c{i % 3}/{i}.mp4", f"c{i % 3}", f"g{i % 7}" if i % 2 else None) for i in range(count)
    ]


def write_set(
    folder: Path,
    values: NDArray[np.float32],
    failures: tuple[Failure, ...] = (),
    rows: list[tuple[str, str | None, str | None]] | None = None,
    **other: Any,
) -> FeatureSet:
    """A complete folder; values: [N, D], or [N, V, D] for keep="views"; rows of failures unused."""
    writer = FeatureWriter(
        folder, request(feature_size=values.shape[-1], **other), rows or entries(len(values))
    )
    failed = {failure.video for failure in failures}
    for number in range(num_blocks(len(values))):
        span = block_span(number, len(values))
        videos = [video for video in span if video not in failed]
        view = range(values.shape[1]) if values.ndim == 3 else [MEAN_OF_VIEWS]
        writer.write(
            Block(
                number,
                values[videos].reshape(-1, values.shape[-1]),
                np.repeat(np.array(videos, np.int64), len(view)),
                np.tile(np.array(view, np.int32), len(videos)),
                tuple(failure for failure in failures if failure.video in span),
                missing_samples=number + 1,
            )
        )
    features = writer.finish()
    assert features is not None
    return features


def draw(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_folder_says_all_about_its_features(tmp_path: Path) -> None:
    values = draw(300, 4)
    failures = (
        Failure(2, "c2/2.mp4", "cannot open"),
        Failure(280, "c1/280.mp4", "no sound", False),
    )
    write_set(tmp_path / "f", values, failures)
    features = open_features(tmp_path / "f")
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [
        "block-000000.safetensors",
        "block-000001.safetensors",
        "extract.json",
        "failures.csv",
        "features.json",
        "videos.csv",
    ]
    rows = entries(300)
    assert features.video_ids == [row[0] for row in rows]
    assert features.labels == [row[1] for row in rows]
    assert features.groups == [row[2] for row in rows]
    assert features.failed == {"c2/2.mp4": "cannot open", "c1/280.mp4": "no sound"}
    info = features.info
    assert (info.method, info.weights, info.backbone, info.modality) == (
        *("toy", "random", "none", "rgb"),
    )
    assert (info.clip, info.views, info.keep, info.kind) == (RGB, (2, 3), "video", "features")
    assert (info.videos, info.bad, info.no_sound, info.missing_samples) == (300, 1, 1, 3)
    work_list = (tmp_path / "f" / "videos.csv").read_bytes()
    assert info.provenance == {
        "fingerprint": "f" * 64,
        "data_hash": hashlib.sha256(work_list).hexdigest(),
        "clip": clip_to_json(RGB),
        "options": {
            "batch_size": 8,
            "keep": "video",
            "kind": "features",
            "output": "embedding",
            "views": [2, 3],
        },
        "seed": 5,
        "fidelity": "default",
        "code_version": f"toy 0, core {info.versions['ssvideo-core']}",
    }
    assert info_from_json(json.loads(json.dumps(info.to_json()))) == info
    assert [(block.number, len(block.values)) for block in features.blocks()] == [(0, 255), (1, 43)]


def test_matrix_is_one_row_a_video_in_the_order_of_the_list(tmp_path: Path) -> None:
    values = draw(300, 4)
    failures = (Failure(0, "c0/0.mp4", "x"), Failure(299, "c2/299.mp4", "no sound", False))
    ids, matrix = write_set(tmp_path, values, failures).matrix()
    assert ids == [row[0] for row in entries(300)[1:299]]
    np.testing.assert_array_equal(matrix, values[1:299])
    assert matrix.dtype == np.float32


def plain_mean(views: NDArray[np.float32], kind: str) -> list[float]:
    total = [0.0] * views.shape[1]
    for row in views.tolist():
        length = sum(x * x for x in row) ** 0.5 if kind == "features" else 1.0
        total = [t + (x / length if length else 0.0) for t, x in zip(total, row, strict=True)]
    return [t / len(views) for t in total]


@pytest.mark.parametrize("kind", ["features", "scores"])
def test_stored_views_are_averaged(tmp_path: Path, kind: str) -> None:
    values = draw(260, 3, 4)
    values[7, 1] = 0
    values[8] = 0
    failures = tuple(Failure(video, entries(260)[video][0], "x") for video in (0, 258))
    features = write_set(tmp_path, values, failures, keep="views", kind=kind)
    ids, matrix = features.matrix()
    kept = [video for video in range(260) if video not in (0, 258)]
    assert ids == [entries(260)[video][0] for video in kept]
    expected = [plain_mean(values[video], kind) for video in kept]
    np.testing.assert_allclose(matrix, expected, rtol=1e-6, atol=1e-7)
    stored = np.stack([mean_of_views(values[video], kind) for video in kept])
    np.testing.assert_array_equal(matrix, stored)


def test_mean_of_views_by_hand() -> None:
    views = np.array([[3, 4], [0, 0], [0, 2e-30], [1e38, 0]], np.float32)
    np.testing.assert_allclose(mean_of_views(views, "features"), [0.4, 0.45], rtol=1e-7)
    np.testing.assert_array_equal(
        mean_of_views(np.array([[3, 4], [0, 0]], np.float32), "scores"), [1.5, 2]
    )
    np.testing.assert_array_equal(mean_of_views(np.zeros((3, 2), np.float32), "features"), [0, 0])


def test_a_set_in_which_nothing_succeeded(tmp_path: Path) -> None:
    failures = tuple(Failure(i, entries(2)[i][0], "no sound", False) for i in range(2))
    for keep, values in (("video", draw(2, 4)), ("views", draw(2, 3, 4))):
        ids, matrix = write_set(tmp_path / keep, values, failures, keep=keep).matrix()
        assert (ids, matrix.shape) == ([], (0, 4))


def test_strange_names_survive(tmp_path: Path) -> None:
    names = [
        "a,b.mp4",
        'say "hi".mp4',
        "zwei\nzeilen.mp4",
        "cr\rhere.mp4",
        "ü 视频.mp4",
        "\udcff.mp4",
    ]
    rows = [(name, name, None) for name in names]
    values = draw(6, 4)
    features = write_set(tmp_path, values, (Failure(3, names[3], "why\r, so"),), rows)
    again = open_features(tmp_path)
    assert again.video_ids == names and again.labels == names
    assert again.failed == features.failed == {names[3]: "why\r, so"}


@pytest.mark.parametrize("clip", [RGB, FLOW, SOUND], ids=lambda clip: clip.modality)
def test_clip_specs_survive_json(clip: ClipSpec) -> None:
    assert clip_from_json(json.loads(json.dumps(clip_to_json(clip)))) == clip


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_what_is_no_complete_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent holds no features: expected a folder"):
        open_features(tmp_path / "absent")
    write_set(tmp_path, draw(600, 4))
    (tmp_path / "features.json").unlink()
    block_path(tmp_path, 1).unlink()
    with pytest.raises(
        DataError, match=r"is incomplete: 2 of 3 blocks \(600 videos\) are done. Run"
    ):
        open_features(tmp_path)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    values = draw(300, 4)
    failures = (Failure(3, "c0/3.mp4", "cannot open"),)

    def broken(name: str) -> Path:
        write_set(tmp_path / name, values, failures)
        return tmp_path / name

    def refused(folder: Path, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_features(folder)

    folder = broken("missing block")
    block_path(folder, 1).unlink()
    refused(folder, "block-000001.safetensors is missing")

    folder = broken("other weights")
    write_set(tmp_path / "other", values, failures, fingerprint="0" * 64)
    block_path(tmp_path / "other", 0).replace(block_path(folder, 0))
    refused(
        folder, "block-000000.safetensors is a block of features with request [0-9a-f]{64}, not"
    )

    folder = broken("schema")
    change_json(folder / "features.json", schema=2)
    refused(folder, "schema 2, this version reads 1")

    folder = broken("json")
    (folder / "features.json").write_text('{"schema": 1}')
    refused(folder, r"features.json is damaged \(KeyError")

    folder = broken("size")
    change_json(folder / "features.json", feature_size=5)
    refused(folder, "features of size 4, features.json says 5")

    folder = broken("list")
    text = (folder / "videos.csv").read_text()
    (folder / "videos.csv").write_text(text.replace("c1/1.mp4,c1", "c1/1.mp4,c2"))
    refused(folder, "is not the work list of these features: its sha256 is")
    (folder / "videos.csv").unlink()
    refused(folder, "videos.csv is missing")

    folder = broken("counts")
    change_json(folder / "features.json", no_sound=1)
    refused(folder, "blocks list 1 bad videos and 0 without sound, features.json 1 and 1")

    folder = broken("value")
    content = bytearray(block_path(folder, 1).read_bytes())
    content[-1] ^= 1
    block_path(folder, 1).write_bytes(content)
    refused(folder, r"block-000001.*its content differs from its checksum")


def test_a_list_with_a_video_twice_is_refused(tmp_path: Path) -> None:
    rows = [("a", None, None), ("b", None, None), ("a", None, None)]
    with pytest.raises(DataError, match="lists 'a' more than once"):
        write_set(tmp_path, draw(3, 4), rows=rows)


def plain_stream(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)
    return np.stack([row / np.sqrt(np.sum(row**2)) for row in centred])


def test_join_centres_and_normalises_what_both_have(tmp_path: Path) -> None:
    left, right = draw(9, 4) + 3, 100 * draw(9, 6, seed=1)
    rgb = write_set(tmp_path / "rgb", left, (Failure(2, "c2/2.mp4", "x"),))
    flow = write_set(tmp_path / "flow", right, (Failure(5, "c2/5.mp4", "x"),), modality="flow")
    ids, joined = join(rgb, flow)
    both = [0, 1, 3, 4, 6, 7, 8]
    assert ids == [entries(9)[video][0] for video in both]
    expected = np.concatenate([plain_stream(left[both]), plain_stream(right[both])], axis=1)
    np.testing.assert_allclose(joined, expected, rtol=1e-5, atol=1e-6)
    assert joined.dtype == np.float32


def test_mean_scores_by_video(tmp_path: Path) -> None:
    left, right = draw(5, 4), draw(5, 4, seed=1)
    a = write_set(tmp_path / "a", left, (Failure(0, "c0/0.mp4", "x"),), kind="scores")
    b = write_set(tmp_path / "b", right, (Failure(4, "c1/4.mp4", "x"),), kind="scores")
    ids, mean = mean_scores(a, b)
    assert ids == [row[0] for row in entries(5)[1:4]]
    np.testing.assert_allclose(mean, (left[1:4].astype(float) + right[1:4]) / 2, rtol=1e-6)


def test_streams_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    a = write_set(tmp_path / "a", draw(4, 4))
    shorter = write_set(tmp_path / "b", draw(3, 4))
    with pytest.raises(
        DataError, match=r"different work lists: 4 and 3 videos, video_ids differ.*3"
    ):
        join(a, shorter)
    rows = [*entries(3), ("c0/3.mp4", "another", "g3")]
    with pytest.raises(DataError, match="labels differ first at row 3"):
        join(a, write_set(tmp_path / "c", draw(4, 4), rows=rows))
    scores = write_set(tmp_path / "d", draw(4, 4), kind="scores")
    with pytest.raises(DataError, match="d holds scores, expected features"):
        join(a, scores)
    with pytest.raises(DataError, match="a holds features, expected scores"):
        mean_scores(a, scores)
    with pytest.raises(DataError, match=r"scores of 4 classes, .* of 5"):
        mean_scores(scores, write_set(tmp_path / "e", draw(4, 5), kind="scores"))
    first = tuple(Failure(i, entries(4)[i][0], "x") for i in (0, 1))
    last = tuple(Failure(i, entries(4)[i][0], "x") for i in (2, 3))
    with pytest.raises(DataError, match="no video with features in common"):
        join(
            write_set(tmp_path / "f", draw(4, 4), first),
            write_set(tmp_path / "g", draw(4, 4), last),
        )


def test_importing_features_is_light() -> None:
    code = "import sys, ssvideo_core.features; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"av", "PIL", "sklearn", "scipy", "torch", "jax"} & set(loaded.stdout.split())
