from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ssvideo_core.blocks import MEAN_OF_VIEWS, Block, Failure
from ssvideo_core.datasets.splits import Split
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import FeatureSet, clip_to_json
from ssvideo_core.views import ClipSpec, Pixels, Spread
from ssvideo_core.weights import read_weights
from ssvideo_torch.__main__ import main
from ssvideo_torch.export import export_pth

CLIP = ClipSpec("rgb", Spread(8, 2.56), Pixels(256, 256, 256), "repeat_last")
IDS = [f"{name}/{i}.avi" for name in ("walk", "Run", "fly") for i in range(4)]
SPLIT = Split(
    "mine",
    "all",
    train=("Run/1.avi", "walk/0.avi", "fly/3.avi", "walk/1.avi"),
    test=("walk/2.avi", "fly/0.avi", "Run/0.avi"),
)
VALUES = np.random.default_rng(0).normal(2, 1, (12, 6, 5)).astype(np.float32)  # [N, V, D]
NAMES = [
    f"{part}_{what}.pth" for part in ("train", "val") for what in ("features", "ids", "labels")
]


def make(
    folder: Path,
    *,
    ids: list[str] = IDS,
    failed: tuple[str, ...] = (),
    labelled: bool = True,
    values: NDArray[np.float32] = VALUES,
    **request: Any,
) -> FeatureSet:
    """Views of all videos, or the first of each where keep is "video"."""
    request = {"keep": "views", "kind": "features", **request}
    full = {
        "method": "sce",
        "weights": "random",
        "backbone": "r3d50",
        "modality": "rgb",
        "fingerprint": "f" * 64,
        "clip": clip_to_json(CLIP),
        "views": [2, 3],
        "feature_size": values.shape[-1],
        "batch_size": 8,
        **request,
    }
    rows = [(video, video.split("/")[0] if labelled else None, None) for video in ids]
    kept = np.array([i for i, video in enumerate(ids) if video not in failed])
    view = np.arange(6) if request["keep"] == "views" else np.array([MEAN_OF_VIEWS])
    block = Block(
        0,
        values[kept][:, : len(view)].reshape(-1, values.shape[-1]),
        kept.repeat(len(view)),
        np.tile(view.astype(np.int32), len(kept)),
        tuple(Failure(ids.index(v), v, "no sound", bad=False) for v in failed),
    )
    writer = FeatureWriter(folder, full, rows)
    writer.write(block)
    features = writer.finish()
    assert features is not None
    return features


def load(folder: Path, name: str) -> torch.Tensor:
    tensor = torch.load(folder / f"{name}.pth", weights_only=True)
    assert type(tensor) is torch.Tensor
    return tensor


def means(videos: tuple[str, ...]) -> NDArray[np.float64]:
    return np.stack([VALUES[IDS.index(video)].astype(np.float64).mean(axis=0) for video in videos])


def test_six_files_of_plain_tensors(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_pth(make(tmp_path / "f"), SPLIT, out) == {"train": 4, "val": 3}
    assert sorted(path.name for path in out.iterdir()) == NAMES
    for part, videos in (("train", SPLIT.train), ("val", SPLIT.test)):
        features = load(out, f"{part}_features")
        assert features.dtype == torch.float32 and features.is_contiguous()
        np.testing.assert_allclose(features.numpy(), means(videos), rtol=1e-6)
        assert features.untyped_storage().nbytes() == features.numel() * 4  # nothing else is stored
    # Labels by sorted names: Run, fly, walk.
    assert load(out, "train_labels").tolist() == [0, 2, 1, 2]
    assert load(out, "val_labels").tolist() == [2, 1, 0]
    assert load(out, "train_ids").tolist() == [0, 1, 2, 3]
    assert load(out, "train_labels").dtype == load(out, "val_ids").dtype == torch.int64


def test_our_own_reader_opens_them(tmp_path: Path) -> None:
    export_pth(make(tmp_path / "f"), SPLIT, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        expected = torch.load(path, weights_only=True).numpy()
        found = read_weights(path)
        assert found.dtype == expected.dtype and np.array_equal(found, expected)


def test_videos_that_failed_are_missing_among_the_ids(tmp_path: Path) -> None:
    features = make(tmp_path / "f", failed=("walk/0.avi", "Run/0.avi", "fly/1.avi"))
    counts = export_pth(features, SPLIT, tmp_path / "out")
    assert counts == {"train": 3, "val": 2}
    assert load(tmp_path / "out", "train_ids").tolist() == [0, 2, 3]
    assert load(tmp_path / "out", "train_labels").tolist() == [0, 1, 2]
    rows = means(tuple(SPLIT.train[i] for i in (0, 2, 3)))
    np.testing.assert_allclose(load(tmp_path / "out", "train_features").numpy(), rows, rtol=1e-6)


def test_the_mean_of_unit_views_must_be_asked_for(tmp_path: Path) -> None:
    views, single = make(tmp_path / "views"), make(tmp_path / "video", keep="video")
    for name, features in (("a", views), ("b", single)):
        export_pth(features, SPLIT, tmp_path / name, average="unit")
        found = load(tmp_path / name, "val_features").numpy()
        stored = dict(zip(*features.matrix(), strict=True))
        assert np.array_equal(found, np.stack([stored[video] for video in SPLIT.test]))
    unit = VALUES / np.linalg.norm(VALUES, axis=2, keepdims=True)
    expected = unit[[IDS.index(video) for video in SPLIT.test]].mean(axis=1)
    np.testing.assert_allclose(load(tmp_path / "a", "val_features").numpy(), expected, rtol=1e-5)
    with pytest.raises(DataError, match="Extract with --keep views, or ask for --average unit"):
        export_pth(single, SPLIT, tmp_path / "c")
    with pytest.raises(ConfigError, match="average is 'mean', expected one of plain, unit"):
        export_pth(views, SPLIT, tmp_path / "c", average="mean")


def test_scores_are_averaged_as_they_are(tmp_path: Path) -> None:
    for keep in ("video", "views"):
        features = make(tmp_path / keep, kind="scores", keep=keep)
        export_pth(features, SPLIT, tmp_path / f"{keep}-out")
    first = VALUES[[IDS.index(video) for video in SPLIT.test], 0]
    assert np.array_equal(load(tmp_path / "video-out", "val_features").numpy(), first)
    found = load(tmp_path / "views-out", "val_features").numpy()
    np.testing.assert_allclose(found, means(SPLIT.test), rtol=1e-6)


def test_official_classes_keep_their_official_numbers(tmp_path: Path) -> None:
    ids = ["Hammering/a.avi", "HammerThrow/a.avi", "ApplyEyeMakeup/a.avi", "YoYo/a.avi"]
    features = make(tmp_path / "f", ids=ids, values=VALUES[:4])
    export_pth(features, Split("ucf101", "1", tuple(ids[:2]), tuple(ids[2:])), tmp_path / "out")
    # 35 Hammering and 36 HammerThrow in classInd.txt, though "HammerT" sorts before "Hammeri".
    assert load(tmp_path / "out", "train_labels").tolist() == [34, 35]
    assert load(tmp_path / "out", "val_labels").tolist() == [0, 100]
    export_pth(
        features,
        Split("ucf101", "1", tuple(ids[:2]), tuple(ids[2:])),
        tmp_path / "own",
        classes=["YoYo", "HammerThrow", "Hammering", "ApplyEyeMakeup"],
    )
    assert load(tmp_path / "own", "train_labels").tolist() == [2, 1]


@pytest.mark.parametrize(
    ("options", "split", "message"),
    [
        (
            {},
            Split("mine", "all", ("x.avi", "y.avi"), SPLIT.test),
            "2 videos of mine split all are",
        ),
        ({"labelled": False}, SPLIT, "4 of 4 train videos have no label .*'Run/1.avi' with None"),
        (
            {},
            Split("hmdb51", "1", SPLIT.train, SPLIT.test),
            "2 of 4 train .* none of the 51 .*'Run'",
        ),
        ({"failed": SPLIT.test}, SPLIT, "all 3 val videos failed"),
    ],
)
def test_splits_that_cannot_be_exported(
    tmp_path: Path, options: dict[str, Any], split: Split, message: str
) -> None:
    features = make(tmp_path / "f", **options)
    with pytest.raises(DataError, match=message):
        export_pth(features, split, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "f")
    rows = ["video,split1,split2"]
    rows += [f"{video},{'train' if video in SPLIT.train else 'test'},train" for video in IDS[:-1]]
    rows += [f"{IDS[-1]},train,test"]
    (tmp_path / "s.csv").write_text("\n".join(rows) + "\n")
    words = ["export", "--features", str(tmp_path / "f"), "--split-files", str(tmp_path / "s.csv")]
    out = str(tmp_path / "out")
    assert main([*words, "--out", out]) == 2
    assert "name it with --split, one of 1, 2" in capsys.readouterr().err
    assert main([*words, "--out", out, "--split", "1"]) == 0
    assert capsys.readouterr().out == f"{out}: 4 train, 8 val videos, 5 numbers of each\n"
    assert main([*words, "--out", out, "--split", "1"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["exprot"]) == 2
    assert "no command 'exprot'" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom ssvideo_torch.__main__ import main\n"
        "try:\n    main(['export', '--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("usage: ") and done.stdout.endswith("False\n")
