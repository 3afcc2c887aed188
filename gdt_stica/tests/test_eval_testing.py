"""Scores of videos: means of logits, failures, workers, interruptions."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.clip_augmentations import augment_clips
from gdt_stica.eval_testing import LoadTestVideo, Scorer, score_videos, share_buffers
from ssvideo_core.blocks import BLOCK_VIDEOS, block_path
from ssvideo_core.errors import DataError
from ssvideo_core.features import FeatureSet, clip_to_json
from ssvideo_core.interruption import Interruption
from ssvideo_core.testing.fake_videos import HEIGHT, WIDTH, FakeVideos
from ssvideo_core.testing.processes import pool_of
from ssvideo_core.views import ClipSpec, Pixels, Spread, View
from ssvideo_torch.start import Process
from torch import Tensor, nn

from gdt_stica import eval_views

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain_eval.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

ALONE = Process(0, 1, 0, torch.device("cpu"))
CLASSES, CROP, FRAMES, TEMPORAL = 4, 4, 3, 5
CLIP = ClipSpec("rgb", Spread(FRAMES, 0.12), Pixels(CROP, CROP, CROP), "repeat_last")


class Pooled(nn.Module):
    """Logits that depend on every pixel's place, time and channel, and on a running statistic."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * FRAMES * CROP * CROP, CLASSES)
        self.norm = nn.BatchNorm1d(CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        return self.norm(self.linear(clips.flatten(1)))


def loader(
    source: FakeVideos, mode: str = "deterministic", epoch: int = 0, at_once: int = 4
) -> LoadTestVideo:
    draw = partial(
        eval_views.test_views,
        temporal=TEMPORAL,
        spatial=3,
        crop_size=CROP,
        num_frames=FRAMES,
        target_fps=25,
        mode=mode,
    )
    return LoadTestVideo(source, np.arange(len(source)), draw, 7, epoch, at_once)


def score(
    folder: Path,
    source: FakeVideos,
    *,
    network: nn.Module | None = None,
    process: Process = ALONE,
    workers: int = 0,
    interruption: Interruption | None = None,
    fingerprint: str = "f" * 64,
    **options: Any,
) -> FeatureSet | None:
    rows = [(entry.video_id, entry.label, None) for entry in map(source.entry, range(len(source)))]
    request = {
        "method": "gdt_stica",
        "weights": "random",
        "backbone": "",
        "modality": "rgb",
        "kind": "scores",
        "fingerprint": fingerprint,
        "clip": clip_to_json(CLIP),
        "views": [TEMPORAL, 3],
        "keep": "video",
        "feature_size": CLASSES,
        "batch_size": 4,
    }
    prepare = partial(augment_clips, crop_size=CROP, blur="none")
    return score_videos(
        Scorer(network or Pooled(), prepare, torch.device("cpu")),
        loader(source, **options),
        folder,
        request=request,
        rows=rows,
        num_classes=CLASSES,
        workers=workers,
        process=process,
        interruption=interruption or Interruption(),
    )


def plain_scores(source: FakeVideos, video: int) -> np.ndarray:
    """Ten clips of three crops, one after the other: a video's shorter side is CROP / 6 HEIGHT."""
    network = Pooled().eval()
    info, logits = source.info(video), []
    free = max(info.num_frames - FRAMES, 0)
    width = WIDTH * CROP // HEIGHT
    for clip in range(TEMPORAL):
        start = free * clip // TEMPORAL
        whole = source.read(video, [View(np.arange(start, start + FRAMES))])[0].frames
        x = torch.from_numpy(whole.astype(np.float32)).permute(0, 3, 1, 2)
        x = nn.functional.interpolate(x, (CROP, width), mode="bilinear", align_corners=False)
        for y, left in plain.crops(CROP, width, CROP, 3):
            crop = x[..., y : y + CROP, left : left + CROP].transpose(0, 1)
            with torch.no_grad():
                logits.append(network((crop[None] / 255 - 0.45) / 0.225)[0].numpy())
    return plain.mean_logits(logits)


def test_scores_are_the_plain_means(tmp_path: Path) -> None:
    source = FakeVideos(6)
    features = score(tmp_path / "scores", source)
    assert features is not None
    found, scores = features.matrix()
    assert found == [source.entry(i).video_id for i in range(6)]
    for video in range(6):
        wanted = plain_scores(source, video)
        np.testing.assert_allclose(scores[video], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"workers": 2}, {"at_once": 15}, {"at_once": 1}])
def test_workers_and_batches_change_nothing(tmp_path: Path, options: dict[str, int]) -> None:
    source = FakeVideos(5)
    one = score(tmp_path / "one", source).matrix()[1]
    other = score(tmp_path / "other", source, **options).matrix()[1]
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    if "workers" in options:
        np.testing.assert_array_equal(other, one)


def test_released_views_are_drawn_anew_each_epoch(tmp_path: Path) -> None:
    source, scores = FakeVideos(3), []
    for name, epoch in (("a", 0), ("b", 0), ("c", 1)):
        features = score(tmp_path / name, source, mode="released", epoch=epoch)
        scores.append(features.matrix()[1])
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).all(axis=1).all()
    assert (scores[0] != score(tmp_path / "d", source).matrix()[1]).all(axis=1).all()


def score_with_rank(process: Process, folder: str) -> np.ndarray | None:
    """Each rank has statistics of its own, which the test must not use."""
    network = Pooled()
    network.norm.running_mean.add_(process.rank)
    features = score(Path(folder), FakeVideos(7, bad_every=6), network=network, process=process)
    return None if features is None else features.matrix()[1]


def test_two_processes_score_as_one(tmp_path: Path) -> None:
    alone = score(tmp_path / "one", FakeVideos(7, bad_every=6))
    first, second = pool_of(2).run(score_with_rank, str(tmp_path / "two"))
    assert second is None
    np.testing.assert_allclose(first, alone.matrix()[1], rtol=1e-5, atol=1e-6)
    listed = (tmp_path / "two" / "failures.csv").read_text()
    assert listed == (tmp_path / "one" / "failures.csv").read_text()
    assert "0/0.mp4" in listed and "1/6.mp4" in listed


def share(process: Process) -> np.ndarray:
    network = Pooled()
    network.norm.running_var.fill_(process.rank + 2)
    share_buffers(network, process)
    return network.norm.running_var.numpy()


def test_buffers_are_those_of_the_first_rank() -> None:
    for found in pool_of(2).run(share):
        np.testing.assert_array_equal(found, np.full(CLASSES, 2, np.float32))


def test_videos_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    features = score(tmp_path / "scores", FakeVideos(9, bad_every=4))
    assert list(features.failed) == ["0/0.mp4", "4/4.mp4", "3/8.mp4"]
    assert len(features.matrix()[0]) == 6
    with pytest.raises(DataError, match="4 of 13 videos failed, 3 are allowed"):
        score(tmp_path / "other", FakeVideos(13, bad_every=4))


def test_scores_that_are_not_finite_name_the_cause(tmp_path: Path) -> None:
    network = Pooled()
    nn.init.constant_(network.linear.weight, float("nan"))
    with pytest.raises(DataError, match=r"0/0.mp4.*training diverged"):
        score(tmp_path / "scores", FakeVideos(2), network=network)


class Once(Interruption):
    """Asked to stop after some videos."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    @property
    def requested(self) -> Any:
        self.left -= 1
        return "SIGTERM" if self.left < 0 else None

    @requested.setter
    def requested(self, value: Any) -> None:
        assert value is None


def test_an_interrupted_test_goes_on_where_it_stopped(tmp_path: Path, monkeypatch) -> None:
    source = FakeVideos(BLOCK_VIDEOS + 3)
    straight = score(tmp_path / "straight", source, at_once=15)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        score(folder, source, interruption=Once(BLOCK_VIDEOS + 1), at_once=15)
    assert block_path(folder, 0).exists() and not (folder / "features.json").exists()
    calls = []
    original = Scorer.__call__
    monkeypatch.setattr(Scorer, "__call__", lambda self, x: calls.append(1) or original(self, x))
    features = score(folder, source, at_once=15)
    assert len(calls) == 3
    np.testing.assert_array_equal(features.matrix()[1], straight.matrix()[1])


def test_scores_of_another_network_are_replaced(tmp_path: Path) -> None:
    source, other = FakeVideos(2), Pooled()
    nn.init.zeros_(other.linear.weight)
    before = score(tmp_path / "scores", source).matrix()[1]
    after = score(tmp_path / "scores", source, network=other, fingerprint="e" * 64)
    assert after.info.fingerprint == "e" * 64
    assert (after.matrix()[1] != before).any()
