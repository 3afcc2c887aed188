"""The command as users and clusters run it, on real files, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from gdt_stica.__main__ import main as gdt_stica_main
from gdt_stica.encoders import load_encoder
from gdt_stica.main_gdt import main
from ssvideo_core.errors import EXIT_REQUEUE
from ssvideo_core.testing.battery import (
    check_random_kills,
    check_ranks,
    check_resume,
    check_signal,
    check_workers,
    torchrun,
)
from ssvideo_core.views import Samples, Spread

TINY = [
    *("--device", "cpu", "--width", "0.03125", "--batch_size", "4", "--epochs", "4"),
    *("--clip_len", "4", "--target_fps", "4", "--train_crop_size", "16"),
    *("--short_side", "20", "24", "--print_freq", "1", "--lr_warmup_epochs", "2"),
]


@pytest.fixture(scope="module")
def data(embedded: Path) -> Path:
    return embedded / "videos"


class Command:
    """The training command on `data`, as the battery builds it."""

    def __init__(self, data: Path, *flags: str):
        self.flags = ["--root_dir", str(data / "train1.csv"), *TINY, *flags]

    def __call__(self, out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
        words = ["--output_dir", str(out), "--workers", str(workers), *extra]
        return [sys.executable, "-m", "gdt_stica.main_gdt", *self.flags, *words]


def test_a_killed_run_ends_as_one_that_ran_through(data: Path, runs: Path) -> None:
    check_resume(Command(data), runs, ["batch:7", "save:2"])


def test_a_signal_saves_and_asks_to_be_queued_again(data: Path, runs: Path) -> None:
    check_signal(Command(data), runs)


def test_workers_change_nothing(data: Path, runs: Path) -> None:
    check_workers(Command(data), runs)


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path) -> None:
    """Data, statistics, negatives and gradients over the command; float64 is in test_training.

    One step of clips that leave batch norms enough values: float32 rounding would grow otherwise.
    """
    flags = ["--num_data_samples", "8", "--epochs", "1", "--lr_warmup_epochs", "0"]
    size = ["--train_crop_size", "32", "--short_side", "32", "36", "--clip_len", "8"]
    command = Command(data, *flags, *size, "--head_dropout", "0", "--batch_size", "8")
    one, two = tmp_path / "one", tmp_path / "two"
    check_ranks(
        command(one),
        torchrun(command(two, extra=["--batch_size", "4"]), 2),
        single_out=one,
        distributed_out=two,
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.stress
def test_random_kills(data: Path, runs: Path) -> None:
    check_random_kills(Command(data), runs)


def test_the_run_folder(data: Path, runs: Path) -> None:
    run = runs / "straight"
    if not run.exists():
        assert main(Command(data)(run)[3:]) == 0
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "command.txt", "environment.json", "left-out.csv"} <= names
    untrained = load_encoder(str(run / "encoder-untrained.safetensors"))
    for modality, time in (("rgb", Spread(4, 1.0)), ("sound", Samples(24_000, 24_000))):
        encoder = load_encoder(str(run), modality=modality)
        assert encoder.clip.time == time
        assert encoder.architecture.width == 1 / 32
    assert untrained.fingerprint != load_encoder(str(run)).fingerprint
    rates = [json.loads(line)["lr"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(rates, np.repeat([1 / 300, 2 / 300, 0.01, 0.01], 4))


def test_the_smoke_recipe(data: Path, tmp_path: Path) -> None:
    words = ["recipes", "run", "smoke", "--data", str(data / "train1.csv")]
    assert gdt_stica_main([*words, "--out", str(tmp_path / "run")]) == 0
    assert load_encoder(str(tmp_path / "run")).clip.time == Spread(4, 1.0)


@pytest.mark.parametrize("hypothesis", ["i_reversal", "9"])
def test_other_hypotheses_train(data: Path, tmp_path: Path, hypothesis: str) -> None:
    flags = ["--hypothesis", hypothesis, "--num_data_samples", "4", "--epochs", "1"]
    assert main([*Command(data, *flags)(tmp_path)[3:]]) == 0


def test_milestones(data: Path, tmp_path: Path) -> None:
    flags = ["--num_data_samples", "4", "--lr_warmup_epochs", "0", "--lr_milestones", "1,3"]
    assert main(Command(data, *flags)(tmp_path)[3:]) == 0
    rates = [json.loads(x)["lr"] for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(rates, [1e-2, 1e-3, 1e-3, 1e-4])


def test_precisions(data: Path, tmp_path: Path) -> None:
    flags = ["--num_data_samples", "4", "--epochs", "1"]
    assert main(Command(data, *flags, "--precision", "bfloat16")(tmp_path)[3:]) == 0


def test_videos_without_sound_are_left_out(data: Path, silent: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "class"
    folder.mkdir(parents=True)
    for video in sorted(data.glob("*/*.mp4"))[:4]:
        shutil.copy(video, folder)
    shutil.copy(silent, folder / "silent.mp4")
    flags = ["--root_dir", str(tmp_path / "videos"), "--epochs", "1"]
    assert main(Command(data, *flags)(tmp_path / "run")[3:]) == 0
    assert "class/silent.mp4,no sound" in (tmp_path / "run" / "left-out.csv").read_text()


def test_a_list_without_classes(data: Path, tmp_path: Path) -> None:
    """As AudioSet's."""
    videos = [path.relative_to(data).as_posix() for path in sorted(data.glob("*/*.mp4"))[:4]]
    listed = data / "unlabelled.csv"
    listed.write_text("\n".join(["video", *videos]) + "\n")
    flags = ["--dataset", "audioset", "--root_dir", str(listed), "--epochs", "1"]
    assert main(Command(data, *flags)(tmp_path / "run")[3:]) == 0


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A video without sound."""
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width = stream.height = 32
        for _ in range(32):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch_size", "17"], "the global batch size is 17"),
        (["--short_side", "8", "20"], "--short_side 8 20"),
        (["--decode_audio", "False"], "--decode_audio False"),
        (["--audio_augtype", "na"], "--aug_audio False"),
        (["--clip_len", "2"], "--color_jitter per_frame"),
        (["--batch_size", "1"], "batch norms need two clips"),
        (["--seed", "-1"], "--seed -1"),
        (["--head_dropout", "2"], "--head_dropout 2"),
        (["--momentum", "-3"], "--momentum -3"),
        (["--lr_gamma", "nan"], "--lr_gamma nan"),
        (["--num_data_samples", "-2"], "--num_data_samples -2"),
        (["--aud_sample_rate", "96000"], "expected 1000 to 51200"),
        (["--aud_sample_rate", "30"], "expected 1000 to 51200"),
        (["--model", "vid_text_gdt"], "only ht100m has texts"),
        (["--world_size", "2"], "only one is there"),
        (["--dist_url", "tcp://localhost:99999", "--rank", "0", "--world_size", "2"], "65535"),
        (["--dist_url", "file:///none/x", "--rank", "0", "--world_size", "2"], "no folder /none"),
        (["--num_sec", "0"], "--num_sec 0"),
        (["--dist_url", "tcp://localhost:1"], "which of how many"),
        (["--root_dir", "nowhere"], "nowhere does not exist"),
        (["--precision", "float16"], "float16 needs a GPU"),
        (["--apex", "True"], "float16 needs a GPU"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    data: Path, tmp_path: Path, capsys, flags: list[str], message: str
) -> None:
    assert main(Command(data, *flags)(tmp_path / "run")[3:]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_settings_do_not_mix(data: Path, runs: Path, capsys) -> None:
    run = runs / "straight"
    if not run.exists():
        assert main(Command(data)(run)[3:]) == 0
    assert main(Command(data, "--lr", "0.5")(run)[3:]) == 2
    assert "was made with other settings (lr: 0.01 there, 0.5 now)" in capsys.readouterr().err


def test_no_root_names_the_flag(capsys, tmp_path: Path) -> None:
    assert main([*TINY, "--output_dir", str(tmp_path)]) == 2
    assert "--root_dir" in capsys.readouterr().err


def test_a_signal_before_the_first_step(data: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr("gdt_stica.pairing.find_videos", interrupted)
    assert main(Command(data)(tmp_path / "run")[3:]) == EXIT_REQUEUE
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_network_is_named(
    data: Path, runs: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "straight", run)
    flags = ["--resume-anyway", "--width", "0.0625"]
    assert main(Command(data, *flags)(run)[3:]) == 2
    assert "its 'network' does not fit" in capsys.readouterr().err
