"""The command as users and clusters run it, on real files, in processes of its own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.__main__ import main as gdt_stica_main
from gdt_stica.encoders import load_encoder
from gdt_stica.main_stica import main
from ssvideo_core.features import open_features
from ssvideo_core.testing.battery import (
    check_random_kills,
    check_ranks,
    check_resume,
    check_signal,
    check_workers,
    ranks,
)
from ssvideo_core.views import Samples, Spread

TINY = [
    *("--device", "cpu", "--width", "0.03125", "--batch_size", "4", "--epochs", "4"),
    *("--num_frames", "16", "--target_fps", "16", "--train_crop_size", "24", "--print_freq", "1"),
    *("--num_layer", "1", "--num_head", "2", "--transformer_time_dim", "2", "--dp", "0.1"),
    *("--num_small_crops", "1", "--num_large_tcrops", "2", "--num_small_tcrops", "1"),
    *("--feature_crops", "inclusive", "--warmup_epochs", "2", "--start_warmup", "0.001"),
]
GROUPS = {"crop_loss/L-L", "crop_loss/S-L", "crop_loss/TL-TL", "crop_loss/TS-TL"}
RELEASED_WRAPPER = [
    *("--num_large_crops", "1", "--num_small_crops", "0"),
    *("--num_large_tcrops", "0", "--num_small_tcrops", "0"),
]
RATES = [0.001, *(0.001 + 0.009 * k / 7 for k in range(1, 8)), *[0.01] * 8]


@pytest.fixture(scope="module")
def data(embedded: Path) -> Path:
    return embedded / "videos"


class Command:
    """The training command on `data`, as the battery builds it."""

    def __init__(self, data: Path, *flags: str):
        self.flags = ["--root_dir", str(data / "train1.csv"), *TINY, *flags]

    def __call__(self, out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
        words = ["--dump_path", str(out), "--workers", str(workers), *extra]
        return [sys.executable, "-m", "gdt_stica.main_stica", *self.flags, *words]


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_run_ends_as_one_that_ran_through(data: Path, runs: Path) -> None:
    check_resume(Command(data), runs, ["batch:7", "save:2"])


def test_a_signal_saves_and_asks_to_be_queued_again(data: Path, runs: Path) -> None:
    check_signal(Command(data), runs)


def test_workers_change_nothing(data: Path, runs: Path) -> None:
    check_workers(Command(data), runs, workers=[2])


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path) -> None:
    """Data, statistics, keys and gradients over the command; float64 is in test_stica_training.

    Large crops of the released rule are the same in every process. One step of small clips, of
    which no value is at the corner of a rectifier: what rounding does there is no small change.
    """
    flags = ["--num_data_samples", "8", "--epochs", "1", "--warmup_epochs", "0"]
    crops = ["--feature_crops", "released", "--num_small_crops", "0", "--num_small_tcrops", "0"]
    plain = ["--colorjitter", "no", "--use_grayscale", "no", "--use_gaussian", "no"]
    still = ["--dp", "0", "--head_dropout", "0", "--batch_size", "8", "--train_crop_size", "32"]
    command = Command(data, *flags, *crops, *plain, *still)
    one, two = tmp_path / "one", tmp_path / "two"
    check_ranks(
        command(one),
        ranks(command(two, extra=["--batch_size", "4"]), 2),
        single_out=one,
        distributed_out=two,
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.stress
def test_random_kills(data: Path, runs: Path) -> None:
    check_random_kills(Command(data), runs)


def made(data: Path, runs: Path) -> Path:
    """The battery's undisturbed run."""
    run = runs / "straight"
    if not run.exists():
        assert main(Command(data)(run)[3:]) == 0
    return run


def test_the_run_folder(data: Path, runs: Path) -> None:
    run = made(data, runs)
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "command.txt", "environment.json", "left-out.csv"} <= names
    untrained = load_encoder(str(run / "encoder-untrained.safetensors"))
    for modality, time in (("rgb", Spread(16, 1.0)), ("sound", Samples(24_000, 24_000))):
        encoder = load_encoder(str(run), modality=modality)
        assert encoder.clip.time == time
        assert encoder.architecture.model == "stica"
        assert encoder.architecture.num_head == 2
    assert untrained.fingerprint != load_encoder(str(run)).fingerprint


def test_metrics(data: Path, runs: Path) -> None:
    lines = metrics(made(data, runs))
    assert [line["step"] for line in lines] == list(range(1, 17))
    np.testing.assert_allclose([line["lr"] for line in lines], RATES)
    for line in lines:
        assert set(line) == {"step", "loss", "crop_loss", "av_loss", "lr", *GROUPS}
        loss = (line["crop_loss"] + line["av_loss"]) / 2
        np.testing.assert_allclose(line["loss"], loss, rtol=1e-5)
        kinds = [line[f"crop_loss/{kind}"] for kind in ("L-L", "S-L", "TL-TL", "TS-TL")]
        np.testing.assert_allclose(line["crop_loss"], np.dot(kinds, [1, 2, 1, 2]) / 6, rtol=1e-5)


def test_extract_reads_a_run(data: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    words = ["--weights", str(made(data, runs)), "--videos", str(data), "--views", "1x1"]
    assert gdt_stica_main(["extract", *words, "--out", str(out)]) == 0
    ids, matrix = open_features(out).matrix()
    assert matrix.shape == (len(ids), 16)


def test_the_smoke_recipe(data: Path, tmp_path: Path) -> None:
    words = ["recipes", "run", "stica-smoke", "--data", str(data / "train1.csv")]
    assert gdt_stica_main([*words, "--out", str(tmp_path / "run")]) == 0
    assert load_encoder(str(tmp_path / "run")).clip.time == Spread(30, 1.0)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--cross_modal_alpha", "0"], {"crop_loss", *GROUPS}),
        (
            [
                *("--cross_modal_alpha", "1", "--num_large_crops", "0", "--num_small_crops", "0"),
                *("--num_large_tcrops", "0", "--num_small_tcrops", "0"),
            ],
            {"av_loss"},
        ),
        (
            ["--num_large_crops", "1", "--num_large_tcrops", "0"],
            {"crop_loss", "crop_loss/S-L", "av_loss"},
        ),
        (
            [
                *("--fidelity", "released", "--positional_emb", "yes", "--qkv_mha", "yes"),
                *("--use_random_resize_crop", "no", "--short_side", "26", "30"),
            ],
            {"crop_loss", "av_loss", *GROUPS},
        ),
        (
            [
                *("--fidelity", "fixed", "--num_layer", "0", "--use_audio_temp_jittering", "yes"),
                *("--colorjitter", "no", "--use_grayscale", "no", "--use_gaussian", "no"),
                *("--precision", "bfloat16", "--use_lr_scheduler", "yes"),
            ],
            {"crop_loss", "av_loss", *GROUPS},
        ),
    ],
)
def test_other_settings_train(
    data: Path, tmp_path: Path, flags: list[str], names: set[str]
) -> None:
    few = ["--num_data_samples", "4", "--epochs", "1"]
    assert main(Command(data, *few, *flags)(tmp_path / "run")[3:]) == 0
    (line,) = metrics(tmp_path / "run")
    assert set(line) == {"step", "loss", "lr", *names}
    assert all(np.isfinite(list(line.values())))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch_size", "17"], "the global batch size is 17"),
        (["--batch_size", "1"], "batch norms need two clips"),
        (["--transformer_time_dim", "4"], "make a map of 2, and the transformer takes"),
        (["--num_head", "3"], "num_head=3 does not divide the 16 channels"),
        (["--num_frames", "32"], "give --num_sec 2"),
        (["--num_large_crops", "3"], "--num_large_crops 3: expected at most 2"),
        (RELEASED_WRAPPER, "no two crops to compare"),
        (["--train_crop_size", "16"], "too small to be cut in space"),
        (["--short_side", "8", "20", "--use_random_resize_crop", "no"], "short_side 8 to 20"),
        (["--short_side", "40"], "--short_side 40: expected two numbers"),
        (["--multi_crop", "no"], "--multi_crop False"),
        (["--use_fp16", "yes"], "precision float16 needs a GPU"),
        (["--seed", "-1"], "--seed -1"),
        (["--world_size", "2"], "only one is there"),
        (["--dist_url", "tcp://localhost:1"], "which of how many"),
        (["--root_dir", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    data: Path, tmp_path: Path, capsys, flags: list[str], message: str
) -> None:
    assert main(Command(data, *flags)(tmp_path / "run")[3:]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_settings_do_not_mix(data: Path, runs: Path, capsys) -> None:
    assert main(Command(data, "--base_lr", "0.5")(made(data, runs))[3:]) == 2
    message = "was made with other settings (base_lr: 0.01 there, 0.5 now)"
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_named(
    data: Path, runs: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made(data, runs), run)
    flags = ["--resume-anyway", "--num_layer", "2"]
    assert main(Command(data, *flags)(run)[3:]) == 2
    assert "its 'network' does not fit" in capsys.readouterr().err


def test_flags_without_effect_are_said(data: Path, tmp_path: Path, caplog) -> None:
    few = ["--num_data_samples", "4", "--epochs", "1", "--use_lars", "yes", "--eval_freq", "3"]
    caplog.set_level("INFO")
    assert main(Command(data, *few)(tmp_path / "run")[3:]) == 0
    assert "without effect (see --help): --use_lars --eval_freq" in caplog.text
