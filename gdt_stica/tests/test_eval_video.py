"""The command as users and clusters run it, on real files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.__main__ import main as gdt_stica_main
from gdt_stica.architecture import Architecture
from gdt_stica.encoders import load_encoder
from gdt_stica.eval_testing import Scorer
from gdt_stica.eval_video import main
from gdt_stica.model import AudioVisualGDT
from ssvideo_core.errors import EXIT_REQUEUE
from ssvideo_core.features import open_features
from ssvideo_core.recipes import load_recipes
from ssvideo_core.results import Result, read_results
from ssvideo_core.testing.battery import (
    check_random_kills,
    check_ranks,
    check_resume,
    check_signal,
    check_workers,
    ranks,
    straight_run,
)
from ssvideo_core.views import Pixels, Spread

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain_eval.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

NARROW = 1 / 32
TINY = [
    *("--device", "cpu", "--width", str(NARROW), "--batch-size", "4", "--epochs", "3"),
    *("--clip-len", "4", "--target-fps", "4", "--train-crop-size", "16"),
    *("--train-clips-per-video", "1", "--val-clips-per-video", "2", "--num-spatial-crops", "1"),
    *("--test-from", "1", "--lr-milestones", "2", "--print-freq", "1"),
]
ONE_EPOCH = ["--epochs", "1"]


@pytest.fixture(scope="module")
def data(embedded: Path) -> Path:
    return embedded


class Command:
    """The command on `data`, as the battery builds it."""

    def __init__(self, data: Path, *flags: str):
        places = ("--root_dir", str(data / "videos"), "--hmdb51-annotation-path", data / "splits")
        self.flags = [*map(str, places), *TINY, *flags]

    def __call__(self, out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
        words = ["--output-dir", str(out), "--workers", str(workers), *extra]
        return [sys.executable, "-m", "gdt_stica.eval_video", *self.flags, *words]

    def run(self, out: Path) -> int:
        """In this process."""
        return main(self(out)[3:])


def results(out: Path, protocol: str = "gdt-finetune/1@2x1") -> dict[tuple[str, str], Result]:
    found = read_results(out / "results.jsonl")
    return {(r.key.split, r.key.metric): r for r in found if r.key.protocol == protocol}


def scores(out: Path, epoch: int, fold: int = 1) -> tuple[list[str], np.ndarray]:
    return open_features(out / f"hmdb51-fold{fold}" / "scores" / f"epoch-{epoch:02d}").matrix()


def test_a_killed_run_ends_as_one_that_ran_through(data: Path, runs: Path) -> None:
    check_resume(Command(data), runs, ["batch:6", "save:2"])
    for epoch in (1, 2):
        np.testing.assert_array_equal(
            scores(runs / "killed", epoch)[1], scores(runs / "straight", epoch)[1]
        )
    assert results(runs / "killed") == results(runs / "straight")


def test_a_signal_saves_and_asks_to_be_queued_again(data: Path, runs: Path) -> None:
    check_signal(Command(data), runs)


def test_workers_change_nothing(data: Path, runs: Path) -> None:
    check_workers(Command(data), runs, workers=[2])
    straight = straight_run(Command(data), runs)
    np.testing.assert_array_equal(scores(runs / "workers-2", 2)[1], scores(straight, 2)[1])


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path) -> None:
    """Data, statistics, gradients and the shared test; float64 is in test_finetune."""
    # One step of clips that leave batch norms enough values: rounding would grow otherwise.
    size = ["--train-crop-size", "32", "--clip-len", "8", "--num-data-samples", "8"]
    command = Command(data, *ONE_EPOCH, *size, "--batch-size", "8", "--sync-bn", "yes")
    one, two = tmp_path / "one", tmp_path / "two"
    check_ranks(
        command(one),
        ranks(command(two), 2),
        single_out=one,
        distributed_out=two,
        rtol=1e-3,
        atol=1e-4,
    )
    assert scores(one, 0)[0] == scores(two, 0)[0]
    np.testing.assert_allclose(scores(two, 0)[1], scores(one, 0)[1], rtol=1e-3, atol=1e-3)


@pytest.mark.stress
def test_random_kills(data: Path, runs: Path) -> None:
    check_random_kills(Command(data), runs)


def test_the_run_folder(data: Path, runs: Path) -> None:
    run = straight_run(Command(data), runs)
    fold = run / "hmdb51-fold1"
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "command.txt", "environment.json", "left-out.csv"} <= names
    lines = [json.loads(line) for line in (fold / "metrics.jsonl").read_text().splitlines()]
    factors = plain.factors(3, milestones=(2,))
    np.testing.assert_allclose([line["lr"] for line in lines], np.repeat(factors, 4) * 0.0025)
    encoder = load_encoder(str(fold), output="logits")
    assert (encoder.clip.time, encoder.clip.pixels) == (Spread(4, 1.0), Pixels(16, 16, 16))
    assert encoder.fingerprint == results(run)["1", "top1"].details["fine_tuned"]


def test_last_and_best_epoch(data: Path, runs: Path) -> None:
    """Accuracies from the stored scores, in plain Python."""
    run = straight_run(Command(data), runs)
    fold = run / "hmdb51-fold1"
    classes = sorted(path.name for path in (data / "videos").iterdir() if path.is_dir())
    accuracy: dict[int, dict[str, float]] = {}
    for epoch in (1, 2):
        ids, values = scores(run, epoch)
        labels = [classes.index(video.partition("/")[0]) for video in ids]
        pairs = list(zip(values, labels, strict=True))
        accuracy[epoch] = {
            f"top{k}": float(np.mean([plain.is_in_top(row, label, k) for row, label in pairs]))
            for k in (1, 5)
        }
    lines = [json.loads(line) for line in (fold / "tests.jsonl").read_text().splitlines()]
    assert lines == [{"epoch": epoch, **accuracy[epoch]} for epoch in (1, 2)]
    best = max((1, 2), key=lambda epoch: (accuracy[epoch]["top1"], -epoch))
    for epoch, protocol, selected in (
        (2, "gdt-finetune/1@2x1", False),
        (best, "gdt-finetune-best/1@2x1", True),
    ):
        for metric in ("top1", "top5"):
            result = results(run, protocol)["1", metric]
            assert result.value == accuracy[epoch][metric]
            assert (result.selected_on_test, result.n, result.failed) == (selected, 16, 0)
            assert (result.key.weights, result.key.dataset) == ("random", "hmdb51")
    fine_tuned = load_encoder(str(fold / "encoder-best.safetensors"), output="logits")
    best_result = results(run, "gdt-finetune-best/1@2x1")["1", "top1"]
    assert fine_tuned.fingerprint == best_result.details["fine_tuned"]


def test_a_finished_run_given_again_adds_nothing(data: Path, runs: Path, capsys) -> None:
    run = straight_run(Command(data), runs)
    before = (run / "results.jsonl").read_bytes()
    assert Command(data).run(run) == 0
    assert (run / "results.jsonl").read_bytes() == before
    assert "mean over hmdb51 folds 1, gdt-finetune/1@2x1: top1" in capsys.readouterr().out


def test_folds_one_after_the_other_and_their_mean(data: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert Command(data, *ONE_EPOCH, "--fold", "3,1").run(run) == 0
    found = results(run)
    assert {split for split, _ in found} == {"1", "3"}
    summary = json.loads((run / "summary.json").read_text())
    mean = np.mean([found[split, "top1"].value for split in ("1", "3")])
    assert summary["means"]["gdt-finetune/1@2x1"]["top1"] == pytest.approx(mean)
    assert summary["folds"] == ["3", "1"]
    assert f"top1 {100 * mean:.2f} %" in capsys.readouterr().out.splitlines()[-2]
    assert len({result.provenance.fingerprint for result in found.values()}) == 1
    # All of one run stand in one folder, so each fold is tested by its own network.
    again = tmp_path / "again"
    flags = ["--fold", "1,3", "--test-only", "--resume", str(run)]
    assert Command(data, *ONE_EPOCH, *flags).run(again) == 0
    for fold in (1, 3):
        np.testing.assert_array_equal(scores(again, 0, fold)[1], scores(run, 0, fold)[1])


def test_only_the_test(data: Path, runs: Path, tmp_path: Path) -> None:
    """Of a run's network, and of the file that the original's program would have written."""
    fold = straight_run(Command(data), runs) / "hmdb51-fold1"
    original = tmp_path / "ours.pth"
    words = ["convert", "--weights", str(fold / "encoder.safetensors"), "--out", str(original)]
    assert gdt_stica_main(words) == 0
    for number, weights in enumerate((fold, original, fold / "checkpoints" / "ckpt-00000012")):
        flag = "--weights-path" if number else "--resume"
        out = tmp_path / str(number)
        assert Command(data, "--test-only", flag, str(weights)).run(out) == 0
        np.testing.assert_array_equal(scores(out, 2)[1], scores(fold.parent, 2)[1])
        assert not (out / "hmdb51-fold1" / "checkpoints").exists()
        found, wanted = (results(run)["1", "top1"] for run in (out, fold.parent))
        assert found.value == wanted.value
        assert found.details["fine_tuned"] == wanted.details["fine_tuned"]
        assert found.details["epoch"] is None
        assert results(out, "gdt-finetune-best/1@2x1") == {}


def test_a_signal_in_a_test_costs_no_training(data: Path, runs: Path, tmp_path: Path) -> None:
    straight, run = straight_run(Command(data), runs), tmp_path / "run"
    calls, original = [], Scorer.__call__

    def signalled(self: Scorer, batches: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scorer, "__call__", signalled)
        assert Command(data).run(run) == EXIT_REQUEUE
    assert len(calls) == 5
    lines = (run / "hmdb51-fold1" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 8  # two epochs, of which the second is tested
    assert Command(data).run(run) == 0
    for epoch in (1, 2):
        np.testing.assert_array_equal(scores(run, epoch)[1], scores(straight, epoch)[1])


def test_weights_to_begin_with(data: Path, tmp_path: Path, caplog) -> None:
    """Where only the head is trained, the trunk in the end is the file's."""
    caplog.set_level("INFO")
    gdt = AudioVisualGDT(Architecture(width=NARROW))
    path = tmp_path / "gdt_mine.pth"
    torch.save({"model": gdt.state_dict(), "epoch": 3}, path)
    command = Command(data, *ONE_EPOCH, "--weights-path", str(path), "--feature-extract", "yes")
    del command.flags[command.flags.index("--width") : command.flags.index("--width") + 2]
    assert command.run(tmp_path / "run") == 0
    encoder = load_encoder(str(tmp_path / "run" / "hmdb51-fold1"), output="layer4")
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)
    before = load_encoder(str(path), output="layer4", clip=encoder.clip)
    np.testing.assert_allclose(encoder.embed(clips), before.embed(clips), rtol=1e-5, atol=1e-6)
    assert {r.key.weights for r in read_results(tmp_path / "run" / "results.jsonl")} == {"gdt_mine"}
    assert "not used: audio_network" in caplog.text


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "stica", "--num_layer", "1", "--num_head", "2", "--transformer_time_dim", "3"],
        ["--model", "stica", "--num_layer", "0"],
        ["--use-bn", "yes", "--use-l2-norm", "yes", "--use-dropout", "yes"],
        ["--use_random_resize_crop", "no", "--use-gaussian", "yes", "--use-grayscale", "yes"],
        ["--precision", "bfloat16", "--use-scheduler", "no"],
    ],
)
def test_other_settings_train_and_come_back(data: Path, tmp_path: Path, flags: list[str]) -> None:
    settings = [*ONE_EPOCH, *flags]
    assert Command(data, *settings).run(tmp_path / "run") == 0
    resume = ["--test-only", "yes", "--resume", str(tmp_path / "run")]
    assert Command(data, *settings, *resume).run(tmp_path / "again") == 0
    np.testing.assert_array_equal(scores(tmp_path / "again", 0)[1], scores(tmp_path / "run", 0)[1])


def test_the_released_test_is_random(data: Path, runs: Path, tmp_path: Path) -> None:
    fold = straight_run(Command(data), runs) / "hmdb51-fold1"
    flags = ["--test-only", "--resume", str(fold), "--fidelity", "released"]
    assert Command(data, *flags).run(tmp_path / "one") == 0
    assert Command(data, *flags, "--seed", "1").run(tmp_path / "two") == 0
    found = [scores(out, 2)[1] for out in (tmp_path / "one", tmp_path / "two", fold.parent)]
    for one, other in ((0, 1), (0, 2)):
        assert (found[one] != found[other]).any(axis=1).all()


def test_a_test_video_that_cannot_be_read(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    shutil.copytree(data / "videos", root)
    lines = (data / "splits" / "blink_test_split1.txt").read_text().split("\n")
    video = next(line.split()[0] for line in lines if line.strip().endswith(" 2"))
    (root / "blink" / video).write_bytes(b"no video")
    command = Command(data, *ONE_EPOCH, "--root_dir", str(root))
    assert command.run(tmp_path / "run") == 0
    result = results(tmp_path / "run")["1", "top1"]
    assert (result.n, result.failed) == (15, 1)
    folder = tmp_path / "run" / "hmdb51-fold1" / "scores" / "epoch-00"
    assert f"blink/{video}" in (folder / "failures.csv").read_text()


def test_the_smoke_recipe(data: Path, tmp_path: Path) -> None:
    words = ["recipes", "run", "smoke-eval", "--data", str(data), "--out", str(tmp_path / "run")]
    assert gdt_stica_main(words) == 0
    assert results(tmp_path / "run")["1", "top1"].n == 16


@pytest.mark.parametrize("name", [n for n in load_recipes("gdt_stica") if n.startswith("eval-")])
def test_recipes_are_read(name: str) -> None:
    words = load_recipes("gdt_stica")[name].arguments(data="DATA", out="OUT")
    with pytest.raises(SystemExit) as end:
        main([*words, "--check-only"])
    assert end.value.code == 0


def test_flags_without_effect_are_said(data: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    flags = ["--agg-model", "True", "--num_sec", "3", "--aud-spec-type", "2", "--headcount", "10"]
    flags += ["--test-crop-size", "112", "--cross_modal_alpha", "0.1", "--mlptype", "1"]
    assert Command(data, *ONE_EPOCH, *flags).run(tmp_path / "run") == 0
    said = next(line for line in caplog.messages if "without effect" in line)
    assert all(flag in said for flag in flags[::2])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fold", "4"], "no split named 4"),
        (["--root_dir", "nowhere"], "nowhere does not exist"),
        (["--hmdb51-annotation-path", "nowhere"], "nowhere does not exist"),
        (["--dataset", "ucf101"], "of the 9537 that are listed are not there"),
        (["--weights-path", "none.pth"], "published names: gdt_K400"),
        (["--weights-path", "gdt_K400"], "https://dl.fbaipublicfiles.com/GDT/gdt_K400.pth"),
        (["--pretrained", "True"], "--weights-path"),
        (["--resume", "x"], "--test-only"),
        (["--test-only", "yes"], "which network"),
        (["--batch-size", "17"], "the global batch size is 17"),
        (["--batch-size", "1"], "batch norms need two clips"),
        (["--clip-len", "0"], "--clip-len 0"),
        (["--head-lr", "nan"], "--head-lr nan"),
        (["--wd_tsf", "-1"], "--wd_tsf -1"),
        (["--momentum", "1"], "--momentum 1"),
        (["--dp", "1"], "--dp 1"),
        (["--width", "0.001"], "width=0.001"),
        (["--model", "stica", "--num_head", "3"], "num_head=3"),
        (["--precision", "float16"], "float16 needs a GPU"),
        (["--use-gaussian", "yes", "--train-crop-size", "4"], "with a blur"),
        (["--test-aug", "released", "--train-crop-size", "300"], "--test-aug deterministic"),
        (["--world-size", "2"], "only one is there"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    data: Path, tmp_path: Path, capsys, flags: list[str], message: str
) -> None:
    assert Command(data, *flags).run(tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folds", ["0", "1,1", "one", "1,"])
def test_folds_that_are_none(capsys, folds: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--fold", folds])
    assert end.value.code == 2
    assert "is not a list of folds" in capsys.readouterr().err


def test_one_network_is_not_tested_on_several_folds(
    data: Path, runs: Path, tmp_path: Path, capsys
) -> None:
    network = straight_run(Command(data), runs) / "hmdb51-fold1" / "encoder.safetensors"
    flags = ["--fold", "1,2", "--test-only", "--resume", str(network)]
    assert Command(data, *flags).run(tmp_path / "run") == 2
    assert "test videos of the others" in capsys.readouterr().err


def test_what_a_network_was_trained_with_is_not_changed_for_its_test(
    data: Path, tmp_path: Path, capsys
) -> None:
    flags = ["--model", "stica", "--num_layer", "1", "--width", "0.0625", "--epochs", "1"]
    assert Command(data, *flags).run(tmp_path / "run") == 0
    again = [*flags, "--test-only", "yes", "--resume", str(tmp_path / "run")]
    for change in (["--use-l2-norm", "yes"], ["--transformer_time_dim", "2"], ["--num_head", "2"]):
        assert Command(data, *again, *change).run(tmp_path / "test") == 2
        assert f"{' '.join(change[:1])} " in capsys.readouterr().err
    assert not (tmp_path / "test").exists()
    assert Command(data, *again, "--batch-size", "1").run(tmp_path / "test") == 0
    assert {result.key.weights for result in results(tmp_path / "test").values()} == {"run"}


def test_other_settings_do_not_mix(data: Path, runs: Path, capsys) -> None:
    run = straight_run(Command(data), runs)
    assert Command(data, "--base-lr", "0.5").run(run) == 2
    assert "was made with other settings (base_lr: 0.00025 there" in capsys.readouterr().err
