from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core.blocks import MEAN_OF_VIEWS, Block, Failure, block_span, num_blocks
from ssvideo_core.errors import ConfigError, DataError, exit_code
from ssvideo_core.feature_files import export_csv, export_npz, main, new_folder
from ssvideo_core.feature_import import import_features
from ssvideo_core.feature_import import main as main_import
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import FeatureSet, Row, clip_to_json, info_from_json
from ssvideo_core.views import ClipSpec, Pixels, Spread

RGB = ClipSpec("rgb", Spread(8, 1.0), Pixels(64, 56, 56), "repeat_last")
BAD = 1  # the video of a set that failed


def make(
    folder: Path, count: int = 300, size: int = 3, views: int = 0, rows: list[Row] | None = None
) -> FeatureSet:
    """A complete folder of `count` videos; views 0: one row each. Video BAD has none."""
    rows = rows or [(f"c{i % 3}/{i}.mp4", f"c{i % 3}", f"g{i % 7}") for i in range(count)]
    request = {
        "method": "toy",
        "weights": "random",
        "backbone": "none",
        "modality": "rgb",
        "kind": "features",
        "fingerprint": "f" * 64,
        "clip": clip_to_json(RGB),
        "views": [views or 2, 1],
        "keep": "views" if views else "video",
        "feature_size": size,
        "batch_size": 8,
    }
    values = values_of(len(rows), max(views, 1), size)
    writer = FeatureWriter(folder, request, rows)
    for number in range(num_blocks(len(rows))):
        span = block_span(number, len(rows))
        videos = [video for video in span if video != BAD]
        view = np.arange(views) if views else np.array([MEAN_OF_VIEWS])
        failed = (Failure(BAD, rows[BAD][0], "cannot open"),) if BAD in span else ()
        writer.write(
            Block(
                number,
                values[videos].reshape(-1, size),
                np.repeat(np.array(videos, np.int64), len(view)),
                np.tile(view.astype(np.int32), len(videos)),
                failed,
            )
        )
    features = writer.finish()
    assert features is not None
    return features


def values_of(count: int, views: int, size: int) -> NDArray[np.float32]:
    """[N, V, D] over forty orders of magnitude, with zeros and the least of numbers."""
    rng = np.random.default_rng(0)
    exponent = rng.integers(-30, 10, (count, views, size))
    values = (rng.normal(size=exponent.shape) * 10.0**exponent).astype(np.float32)
    values[0, 0, :2] = [0, np.finfo(np.float32).smallest_subnormal]
    return values


def imported(source: Path | list[Path], out: Path, **options: Any) -> FeatureSet:
    return import_features(source, out, method="theirs", weights="w1", **options)


def arrays(**other: Any) -> dict[str, Any]:
    return {
        "values": np.arange(8, dtype=np.float64).reshape(4, 2),
        "video_id": np.array(["b/1.mp4", "a/1.mp4", "a/2.mp4", "b/2.mp4"]),
        **other,
    }


def npz(path: Path, **content: Any) -> Path:
    np.savez(path, **content)
    return path


def test_an_archive_holds_every_row_in_the_order_of_the_work_list(tmp_path: Path) -> None:
    features = make(tmp_path / "f")
    assert export_npz(features, tmp_path / "f.npz") == 299
    ids, matrix = features.matrix()
    with np.load(tmp_path / "f.npz") as file:
        assert sorted(file.files) == ["group", "info", "label", "values", "video_id", "view"]
        assert file["video_id"].tolist() == ids
        assert file["values"].dtype == np.float32
        assert np.array_equal(file["values"], matrix)
        assert file["view"].tolist() == [MEAN_OF_VIEWS] * 299
        assert file["label"].tolist() == [video[:2] for video in ids]
        assert file["group"].tolist() == [f"g{int(v[3:-4]) % 7}" for v in ids]
        assert info_from_json(json.loads(str(file["info"]))) == features.info


def test_equal_features_are_equal_archives(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_npz(make(tmp_path / name, 20), tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_views_are_rows_of_their_own(tmp_path: Path) -> None:
    features = make(tmp_path / "f", 270, views=2)
    assert export_npz(features, tmp_path / "f.npz") == 538
    kept = np.delete(values_of(270, 2, 3), BAD, axis=0)
    with np.load(tmp_path / "f.npz") as file:
        assert np.array_equal(file["values"], kept.reshape(-1, 3))
        assert file["view"].tolist() == [0, 1] * 269
        assert file["video_id"][:4].tolist() == ["c0/0.mp4", "c0/0.mp4", "c2/2.mp4", "c2/2.mp4"]


def test_each_video_has_its_table(tmp_path: Path) -> None:
    features = make(tmp_path / "f", 5, views=2)
    assert export_csv(features, tmp_path / "csv") == 8
    found = sorted(p.relative_to(tmp_path / "csv").as_posix() for p in tmp_path.glob("csv/**/*.*"))
    names = ["c0/0.mp4.csv", "c0/3.mp4.csv", "c1/4.mp4.csv", "c2/2.mp4.csv", "info.json"]
    assert found == names
    with (tmp_path / "csv/c2/2.mp4.csv").open(newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["video_id", "label", "group", "view", "0", "1", "2"]
    assert first[:4] == ["c2/2.mp4", "c2", "g2", "0"] and second[3] == "1"
    numbers = np.array([first[4:], second[4:]], np.float64).astype(np.float32)
    assert np.array_equal(numbers, values_of(5, 2, 3)[2])
    info = json.loads((tmp_path / "csv/info.json").read_text())
    assert info_from_json(info) == features.info


@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_what_was_exported_can_be_imported(tmp_path: Path, kind: str, views: int) -> None:
    features = make(tmp_path / "f", 270, views=views)
    target = tmp_path / ("out.npz" if kind == "npz" else "out")
    (export_npz if kind == "npz" else export_csv)(features, target)
    grid = (2, 1) if views else (1, 1)
    found = imported(target, tmp_path / "again", clip=RGB, views=grid)
    ids, matrix = features.matrix()
    again_ids, again = found.matrix()
    order = [again_ids.index(video) for video in ids]  # tables of a folder are read by name
    assert np.array_equal(again[order], matrix)
    facts = dict(zip(found.video_ids, zip(found.labels, found.groups, strict=True), strict=True))
    rows = zip(features.video_ids, zip(features.labels, features.groups, strict=True), strict=True)
    assert facts == {video: row for video, row in rows if video not in features.failed}
    assert found.info.keep == features.info.keep
    assert (found.info.clip, found.info.views, found.failed) == (RGB, grid, {})


def test_numbers_survive_a_table_to_the_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 40_000, np.uint32).view(np.float32)
    values = bits[np.isfinite(bits)][:30_000].reshape(-1, 10)
    ids = np.array([f"{i}.mp4" for i in range(len(values))])
    first = imported(npz(tmp_path / "a.npz", values=values, video_id=ids), tmp_path / "a")
    export_csv(first, tmp_path / "csv")
    second = imported(tmp_path / "csv", tmp_path / "b")
    row = {video: i for i, video in enumerate(second.video_ids)}
    again = second.matrix()[1][[row[video] for video in ids.tolist()]]
    assert again.tobytes() == values.tobytes()


def test_an_import_says_where_it_came_from(tmp_path: Path) -> None:
    source = npz(tmp_path / "x.npz", **arrays(label=np.array([7, 3, 3, 7])))
    features = imported(source, tmp_path / "f", backbone="r50", kind="scores", views=(4, 3))
    info = features.info
    assert (info.method, info.weights, info.backbone, info.kind) == (
        "theirs",
        "w1",
        "r50",
        "scores",
    )
    assert (info.keep, info.views, info.videos, info.bad) == ("video", (4, 3), 4, 0)
    assert info.clip.time.num_frames == 0 and info.clip.pixels is None  # type: ignore[union-attr]
    assert features.video_ids == ["b/1.mp4", "a/1.mp4", "a/2.mp4", "b/2.mp4"]
    assert features.labels == ["7", "3", "3", "7"] and features.groups == [None] * 4
    assert features.matrix()[1].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert info.fingerprint.startswith("imported:") and len(info.fingerprint) == 9 + 64


def test_another_content_is_another_fingerprint(tmp_path: Path) -> None:
    ids = arrays()["video_id"]
    changes = {
        "same": arrays(label=np.array(["x"] * 4)),
        "values": arrays(values=arrays()["values"] + 1),
        "ids": arrays(video_id=np.array([*ids[:3], "b/3.mp4"])),
        "order": arrays(video_id=ids[::-1].copy()),
        "views": arrays(view=np.array([0, 0, 0, 0])),
    }
    found = {
        name: imported(npz(tmp_path / f"{name}.npz", **content), tmp_path / name).info.fingerprint
        for name, content in {"plain": arrays(), **changes}.items()
    }
    assert found.pop("same") == found["plain"]
    assert len(set(found.values())) == 5


def test_several_sources_are_one_set_and_rows_may_come_in_any_order(tmp_path: Path) -> None:
    first = arrays(view=np.array([1, 1, 0, 0]))
    first["video_id"] = np.array(["b", "a", "b", "a"])
    text = "1, video_id ,view,0\n9,c,1,8\n7,c,0,6\n"
    (tmp_path / "more.csv").write_text("\ufeff" + text, encoding="utf-8")
    sources = [npz(tmp_path / "one.npz", **first), tmp_path / "more.csv"]
    features = imported(sources, tmp_path / "f", views=(1, 2))
    assert features.video_ids == ["b", "a", "c"]
    (block,) = features.blocks()
    assert block.video.tolist() == [0, 0, 1, 1, 2, 2] and block.view.tolist() == [0, 1] * 3
    assert block.values.tolist() == [[4, 5], [0, 1], [6, 7], [2, 3], [6, 7], [8, 9]]


def test_views_of_sound_are_clips_over_time_alone(tmp_path: Path) -> None:
    content = arrays(view=np.array([0, 1, 0, 1]))
    content["video_id"] = np.array(["a", "a", "b", "b"])
    source = npz(tmp_path / "x.npz", **content)
    assert imported(source, tmp_path / "f", modality="sound", views=(2, 3)).info.views == (2, 3)
    with pytest.raises(DataError, match=r"with views \[0, 1\], expected with views 0 to 5"):
        imported(source, tmp_path / "g", views=(2, 3))


NAN = np.array([[0, 1], [2, np.nan], [np.inf, 0], [1, 2]])
TWICE = np.array(["a", "b", "a", "c"])
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pickled": (
        arrays(video_id=np.array(["a", "b", "c", None], object)),
        r"no archive of plain arrays .* never as Python objects",
    ),
    "nan": (arrays(values=NAN), r"2 of 4 rows hold NaN, .* first: row 1, 'a/1.mp4'"),
    "beyond float32": (arrays(values=np.full((4, 2), 1e39)), r"4 of 4 rows hold NaN"),
    "counts": (arrays(video_id=np.array(["a", "b"])), r"found .*'video_id': 2.* as many of each"),
    "counts of views": (arrays(view=np.array([0, 0])), "as many of each"),
    "no rows": (arrays(values=np.empty((0, 2)), video_id=np.array([], "U1")), "at least one"),
    "no columns": (arrays(values=np.empty((4, 0))), "at least one"),
    "integers": (
        arrays(values=np.ones((4, 2), np.int64)),
        r"values is int64 \(4, 2\), expected fl",
    ),
    "three axes": (arrays(values=np.ones((4, 2, 1))), r"expected floating point \[M, D\]"),
    "bytes": (arrays(video_id=np.array([b"a", b"b", b"c", b"d"])), r"video_id is \|S1"),
    "fractions of views": (arrays(view=np.zeros(4)), "view is float64"),
    "other array": (arrays(labels=np.zeros(4, int)), "has the arrays labels, values, video_id"),
    "no ids": ({"values": np.ones((2, 2))}, "has the arrays values; expected values and video_id"),
    "twice": (arrays(video_id=TWICE), "'a' is there 2 times, expected once"),
    "view twice": (
        arrays(video_id=TWICE, view=np.array([0, 0, 0, 0])),
        r"'a' is there with views \[0, 0\], expected with views 0 to 0",
    ),
    "absent view": (arrays(view=np.array([0, 1, 0, 0])), r"'a/1.mp4' is there with views \[1\]"),
    "some labels": (
        arrays(label=np.array(["x", "", "x", ""])),
        "2 of 4 videos have no label, first: 'a/1.mp4'",
    ),
    "two labels": (
        arrays(video_id=TWICE, view=np.array([0, 0, 1, 0]), label=np.array(list("xyzx"))),
        r"rows of 'a' say \(label, group\) \('x', None\) and \('z', None\)",
    ),
    "leaves": (arrays(video_id=np.array(["a", "../b", "c", "d"])), r"'\.\./b' is no path below"),
    "absolute": (arrays(video_id=np.array(["a", "/b", "c", "d"])), "'/b' is no path below"),
    "no name": (arrays(video_id=np.array(["a", "", "c", "d"])), "'' is no path below"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_archives_that_are_refused(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    source = npz(tmp_path / "x.npz", **content)
    with pytest.raises(DataError, match=message) as caught:
        imported(source, tmp_path / "f")
    assert "x.npz" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


TABLES = {
    "no header": ("", "has the columns none; expected video_id and 0, 1"),
    "no numbers": ("video_id,label\na,x\n", "at least one"),
    "gap": ("video_id,0,2\na,1,2\n", "has the columns video_id, 0, 2; expected"),
    "twice": ("video_id,0,0\na,1,2\n", "has the columns video_id, 0, 0; expected"),
    "unknown": ("video_id,0,duration\na,1,2\n", "besides only label, group and view"),
    "no id": ("0,1\n1,2\n", "has the columns 0, 1; expected video_id"),
    "word": ("video_id,0\na,1\nb,one\n", "line 3: could not convert string to float: 'one'"),
    "cells": ("video_id,0\na,1\n\nb,1,2\n", "line 4: 3 cells, expected 2"),
    "view": ("video_id,view,0\na,1.5,2\n", "line 2: invalid literal for int"),
    "huge view": ("video_id,view,0\na,99999999999999999999,2\n", "line 2: .*too"),
    "quote": ('video_id,0\n"a,1\n', "unexpected end of data"),
    "nan": ("video_id,0\na,nan\n", "1 of 1 rows hold NaN, .* row 0, 'a'"),
    "nothing": ("video_id,0\n", "at least one"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_refused(tmp_path: Path, name: str) -> None:
    text, message = TABLES[name]
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        imported(tmp_path / "x.csv", tmp_path / "f")
    assert "x.csv" in str(caught.value)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "x.npz", **arrays()).read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 255
    contents = {
        "empty.npz": b"",
        "words.npz": b"values",
        "half.npz": whole[: len(whole) // 2],
        "flipped.npz": bytes(damaged),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} is no archive of plain arrays"):
            imported(tmp_path / name, tmp_path / "f")
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match=r"one\.npz is no archive"):
        imported(tmp_path / "one.npz", tmp_path / "f")
    for source, message in (
        (tmp_path / "absent.npz", "does not exist; expected .npz, .csv or a folder"),
        (tmp_path / "x.txt", "does not exist"),
        (tmp_path / "empty", "there is no .npz or .csv"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=message):
            imported(source, tmp_path / "f")
    with pytest.raises(DataError, match=r"there is no \.npz or \.csv"):
        imported([], tmp_path / "f")


def test_sources_of_other_sizes_or_columns_do_not_belong_together(tmp_path: Path) -> None:
    first = npz(tmp_path / "a.npz", **arrays())
    others = {
        "size": {"values": np.ones((1, 3)), "video_id": np.array(["z"])},
        "label": {"values": np.ones((1, 2)), "video_id": np.array(["z"]), "label": np.array([1])},
        "view": {"values": np.ones((1, 2)), "video_id": np.array(["z"]), "view": np.array([0])},
    }
    for name, content in others.items():
        second = npz(tmp_path / f"{name}.npz", **content)
        with pytest.raises(DataError, match=r"a.npz has video_id and 2 numbers a row: they do not"):
            imported([first, second], tmp_path / "f")


def test_nothing_is_written_over_and_nothing_is_left_half_done(tmp_path: Path) -> None:
    source = npz(tmp_path / "x.npz", **arrays())
    (tmp_path / "empty").mkdir()
    features = imported(source, tmp_path / "empty")
    with pytest.raises(ConfigError, match="is there already: choose another folder"):
        imported(source, tmp_path / "empty")
    with pytest.raises(ConfigError, match="is there already"):
        export_csv(features, tmp_path / "empty")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "late") as draft:
        (draft / "half").write_text("x")
        raise KeyboardInterrupt
    with pytest.raises(ConfigError, match="kind is 'logits', expected one of features, scores"):
        imported(source, tmp_path / "late", kind="logits")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "x.npz"]


def test_an_id_that_leaves_its_folder_is_not_exported(tmp_path: Path) -> None:
    features = make(tmp_path / "f", rows=[("../out.mp4", None, None), ("bad", None, None)])
    with pytest.raises(DataError, match=r"'\.\./out\.mp4' is no path below a folder"):
        export_csv(features, tmp_path / "csv")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_names_that_are_hard_to_write(tmp_path: Path) -> None:
    ids = ['a,"b"\n/c\r.mp4', "\udcff/é.mp4", " space .mp4"]
    rows: list[Row] = [(video, "class, one", None) for video in (ids[0], "bad", *ids[1:])]
    features = make(tmp_path / "f", rows=rows)
    export_csv(features, tmp_path / "csv")
    export_npz(features, tmp_path / "f.npz")
    for number, source in enumerate((tmp_path / "csv", tmp_path / "f.npz")):
        found = imported(source, tmp_path / str(number))
        assert set(found.video_ids) == set(ids)
        assert found.labels == ["class, one"] * 3


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = make(tmp_path / "f", 20)
    archive, out = str(tmp_path / "f.npz"), str(tmp_path / "again")
    assert main(["--features", str(features.folder), "--out", archive], "export") == 0
    assert (
        capsys.readouterr().out == f"{archive}: 19 rows of 3 numbers, 1 videos without features\n"
    )
    flags = ["--source", archive, "--out", out, "--method", "theirs", "--weights", "w1"]
    assert main_import([*flags, "--views", "2x1"], "import-features") == 0
    assert capsys.readouterr().out == f"{out}: 19 videos, 3 numbers of each, 3 labels\n"
    folder = ["--features", out, "--out", str(tmp_path / "csv"), "--format", "csv"]
    assert main(folder, "export") == 0
    assert len(list(tmp_path.glob("csv/*/*.csv"))) == 19


@pytest.mark.parametrize(
    ("name", "form"), [("f.csv", "npz"), ("f", "npz"), ("f.npz", "csv")], ids="-".join
)
def test_a_name_that_does_not_fit_the_format_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, form: str
) -> None:
    words = ["--features", str(tmp_path), "--out", str(tmp_path / name), "--format", form]
    assert exit_code("export", lambda: main(words, "export")) == 2
    assert "expected FILE.npz, or a folder for --format csv" in capsys.readouterr().err
