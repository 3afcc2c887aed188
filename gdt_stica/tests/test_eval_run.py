"""What eval_video needs, says and leaves, on real files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.architecture import from_options
from gdt_stica.checkpoints import read_checkpoint
from gdt_stica.encoders import load_encoder
from gdt_stica.eval_video import main
from gdt_stica.model import build
from ssvideo_core.datasets.splits import read_splits
from ssvideo_core.features import open_features
from ssvideo_core.results import read_results
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.views import Pixels, Spread

STICA = from_options({"model": "stica", "num_layer": 1, "width": 1 / 32})
TINY = [
    *("--device", "cpu", "--batch-size", "4", "--epochs", "1", "--workers", "0"),
    *("--clip-len", "4", "--target-fps", "4", "--train-crop-size", "16"),
    *("--train-clips-per-video", "1", "--val-clips-per-video", "2", "--num-spatial-crops", "1"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSVIDEO_CACHE", str(folder / "cache"))
        yield write_dataset(folder / "embedded", num_train=16, num_test=16, size=32, num_frames=8)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory) -> Path:
    """STiCA fine-tuned for an epoch; nothing but its file says that it is STiCA."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    torch.save({"state_dict": build(STICA).state_dict(), "epoch": 3}, folder / "mine.pth.tar")
    flags = ["--weights-path", str(folder / "mine.pth.tar")]
    assert evaluate(data, data / "videos", folder / "run", *flags) == 0
    return folder / "run"


def evaluate(data: Path, root: Path, out: Path, *flags: str) -> int:
    places = ["--root_dir", root, "--hmdb51-annotation-path", data / "splits", "--output-dir", out]
    return main([*map(str, places), *TINY, *flags])


def scores(run: Path) -> np.ndarray:
    return open_features(run / "hmdb51-fold1" / "scores" / "epoch-00").matrix()[1]


def test_weights_of_stica_are_fine_tuned_as_stica(run: Path) -> None:
    trained = read_checkpoint(str(run / "hmdb51-fold1")).architecture
    assert (trained.base, trained.num_layer) == ("stica", 1)
    assert {r.provenance.options["model"] for r in read_results(run / "results.jsonl")} == {"stica"}


def test_only_the_test_needs_no_training_videos(
    data: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for video in read_splits(data / "splits", dataset="hmdb51")["1"].test:
        (tmp_path / "videos" / video).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / video).symlink_to(data / "videos" / video)
    flags = ["--test-only", "--resume", str(run)]
    assert evaluate(data, tmp_path / "videos", tmp_path / "test", *flags) == 0
    np.testing.assert_array_equal(scores(tmp_path / "test"), scores(run))
    assert [line for line in caplog.messages if "test videos" in line and "classes" in line] == [
        "hmdb51 fold 1: 16 test videos, 8 classes"
    ]
    (top1, _) = read_results(tmp_path / "test" / "results.jsonl")
    assert (top1.n, top1.details["train"], top1.details["classes"]) == (16, None, 8)


def test_a_fold_without_an_end_is_its_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    """With the clips and the architecture that the fold began with."""
    fold = tmp_path / "fold"
    shutil.copytree(run / "hmdb51-fold1", fold)
    ended = load_encoder(str(fold), output="logits")
    for name in ("encoder.safetensors", "encoder-best.safetensors"):
        (fold / name).unlink()
    checkpoint = load_encoder(str(fold), output="logits")
    assert (checkpoint.clip.time, checkpoint.clip.pixels) == (Spread(4, 1.0), Pixels(16, 16, 16))
    assert checkpoint.architecture == ended.architecture
    assert checkpoint.fingerprint == ended.fingerprint
