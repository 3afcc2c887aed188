"""The command as users and clusters run it, in processes of its own, on networks that are short."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from brave.config_files import PACKAGED, load_config
from brave.experiment import main
from brave.experiment_settings import RELEASED_KEYS, settings_of
from brave.optimizer_settings import OptimizerSettings
from ssvideo_core.errors import ConfigError
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record
from ssvideo_core.formats.tfrecord import write_records
from ssvideo_core.testing.battery import (
    check_random_kills,
    check_ranks,
    check_resume,
    check_signal,
    check_workers,
)
from ssvideo_core.testing.programs import Launch, run_command
from ssvideo_core.views import ClipSpec, Pixels, Steps
from ssvideo_core.weights import read_safetensors

SCRIPT = str(Path(__file__).with_name("tiny_experiment.py"))
TINY = {
    "training_steps": 11,
    "experiment.global_batch_size": 4,
    "log_steps": 1,
    "checkpoint_steps": 3,  # of 2 steps an epoch: every second checkpoint is within one
    "model.num_frames_narrow": 2,
    "model.step_narrow": 1,
    "model.image_size_narrow": 16,
    "model.num_frames_broad": 4,
    "model.step_broad": 2,
    "model.image_size_broad": 16,
    "model.input_audio_sample_rate": 4000,
    "model.tsm_resnet_width_multiplier": 1 / 64,
    "model.audio_resnet_width_multiplier": 1 / 64,
    "model.head_hidden_size": 8,
    "model.output_dims": 4,
    "optimizer.schedule.warmup_steps": 2,
}


def words(**changed: object) -> list[str]:
    """TINY as flags; a changed key has __ for its dots."""
    values = TINY | {key.replace("__", "."): value for key, value in changed.items()}
    return [f"--config.{key}={value}" for key, value in values.items()]


def record(seed: int, *, sound: bool = True) -> bytes:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (5, 6, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = [simplejpeg.encode_jpeg(np.roll(picture, shift, axis=1)) for shift in range(12)]
    wave = rng.uniform(-1, 1, 12 * 160).astype(np.float32) if sound else None
    return encode_record(VideoRecord(frames, waveform=wave, labels=np.array([seed % 2])))


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs are compiled once for all processes of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        patch.setenv("JAX_PLATFORMS", "cpu")
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(2):
        write_records(folder / f"train-{shard}", [record(5 * shard + i) for i in range(5)])
    return f"{folder}/train-*"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the battery's undisturbed run is made once."""
    return tmp_path_factory.mktemp("runs")


class Command:
    """The training command on `shards`, as the battery builds it."""

    def __init__(self, shards: str, **changed: object):
        self.flags = [*words(model__dataset_shards=shards, **changed), "--device", "cpu"]

    def __call__(self, out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
        own = ["--workdir", str(out), "--workers", str(workers), *extra]
        return [sys.executable, SCRIPT, "--config=brave/config.py", *self.flags, *own]


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_run_ends_as_one_that_ran_through(shards: str, runs: Path) -> None:
    check_resume(Command(shards), runs, ["batch:6", "save:2"])


def test_a_signal_saves_and_asks_to_be_queued_again(shards: str, runs: Path) -> None:
    check_signal(Command(shards), runs)


def test_workers_change_nothing(shards: str, runs: Path) -> None:
    check_workers(Command(shards), runs, workers=[2])


@pytest.mark.stress
def test_random_kills(shards: str, runs: Path) -> None:
    check_random_kills(Command(shards), runs)


def made(shards: str, runs: Path) -> Path:
    """The battery's undisturbed run."""
    run = runs / "straight"
    if not run.exists():
        code, printed = run_command(Command(shards)(run))
        assert code == 0, printed
    return run


def test_the_run_folder(shards: str, runs: Path) -> None:
    run = made(shards, runs)
    lines = metrics(run)
    assert [line["step"] for line in lines] == list(range(1, 12))
    rates = [0.0, 0.5, *(0.5 + 0.5 * np.cos(np.pi * k / 9) for k in range(9))]
    np.testing.assert_allclose([line["lr"] for line in lines], rates, rtol=1e-5, atol=1e-7)
    for line in lines:
        terms = (line["loss_b_to_n_2"], line["loss_n_to_b_2"])
        np.testing.assert_allclose(line["loss"], np.mean(terms), rtol=1e-6)
    assert {"config.json", "command.txt", "environment.json"} <= {p.name for p in run.iterdir()}
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["ckpt-00000009", "ckpt-00000011"]
    found = [read_safetensors(run / f"encoder{end}.safetensors") for end in ("", "-untrained")]
    modules = {name.split("/")[1] for name in found[0][0]}
    assert modules == {"narrow_video_embedding", "broad_audio_embedding", "shared_project"}
    assert json.loads(found[0][1]["config"]).keys() == set(RELEASED_KEYS)
    assert found[0][1]["fingerprint"] != found[1][1]["fingerprint"]
    counters = {a.item() for name, a in found[0][0].items() if name.endswith("/counter")}
    assert counters == {11, 22}  # shared heads see two views a step


def test_the_probe_adds_a_line_for_each_checkpoint(shards: str, runs: Path) -> None:
    run = made(shards, runs)
    probed = {f"experiment__probe_{part}_shards": shards for part in ("train", "test")}
    code, printed = run_command(Command(shards, **probed)(run, extra=["--jaxline_mode=eval"]))
    assert code == 0, printed
    lines = [json.loads(text) for text in (run / "probe.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [9, 11]
    names = {"step", "top_1_train", "top_5_train", "top_1_test", "top_5_test"}
    for line in lines:
        assert line.keys() == names
        assert line["top_5_test"] == 1  # of two classes


def test_two_devices_and_two_processes_do_what_one_device_does(shards: str, tmp_path: Path) -> None:
    """One step at full rate: momentum holds the gradients, moving averages the statistics."""
    changed = {
        "training_steps": 1,
        "optimizer__schedule__name": "piecewise_constant",
        "optimizer__schedule__init_value": 1,
    }
    command = Command(shards, **changed)
    one, two, processes = (tmp_path / name for name in ("one", "two", "processes"))
    single = command(one)
    devices = [Launch(command(two), {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})]
    tolerances = {"rtol": 1e-3, "atol": 1e-4}
    check_ranks(single, devices, single_out=one, distributed_out=two, **tolerances)
    python, script, *flags = command(processes)
    several = [Launch([python, script, "--processes", "2", *flags])]
    check_ranks(["true"], several, single_out=one, distributed_out=processes, **tolerances)
    for run in (two, processes):
        for expected, found in zip(metrics(one), metrics(run), strict=True):
            np.testing.assert_allclose(
                [found[key] for key in sorted(found)],
                [expected[key] for key in sorted(expected)],
                rtol=1e-5,
            )
    facts = [json.loads((run / "config.json").read_text()) for run in (one, two, processes)]
    assert len({one["digest"] for one in facts}) == 1
    assert [one["config"]["num_devices"] for one in facts] == [1, 2, 2]
    assert [one["config"]["num_processes"] for one in facts] == [1, 1, 2]


@pytest.mark.parametrize(
    ("share_shards", "message"),
    [
        (False, "the number of records: 10 in process 0, 5 in process 1"),
        (True, "the step to go on from: 11 in process 0, 0 in process 1"),
    ],
)
def test_machines_that_do_not_share_their_files_are_refused(
    shards: str, runs: Path, tmp_path: Path, share_shards: bool, message: str
) -> None:
    shutil.copytree(made(shards, runs), tmp_path / "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ["--coordinator", f"127.0.0.1:{free.getsockname()[1]}", "--num_processes", "2"]
    patterns = [shards, shards if share_shards else shards.replace("train-*", "train-0")]
    processes = [
        subprocess.Popen(
            Command(pattern)(tmp_path / str(rank), extra=[*place, "--process_id", str(rank)]),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, pattern in enumerate(patterns)
    ]
    for process in processes:
        printed = process.communicate(timeout=120)[1]
        assert process.returncode == 2, printed
        assert f"the processes differ in {message}" in printed


def test_other_settings_in_the_same_folder_are_refused(
    shards: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(shards, random_seed=5)(made(shards, runs))
    assert main(command[2:]) == 2
    assert "random_seed: 42 there, 5 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model__dataset_shards": ""}, "there is nothing to train on"),
        ({"model__dataset_shards": "/no/such-*"}, "/no/such-"),
        ({"experiment__global_batch_size": 11}, "global batch size is 11, expected 1 to 10"),
        ({"experiment__global_batch_size": 1}, "global_batch_size=1, expected 2 or more"),
        ({"model__include_audio_in_broad_view": "no"}, "the broad views are none"),
        ({"model__tsm_resnet_width_multiplier": 2}, "shared heads need features of one size"),
        ({"model__precision": "float16"}, "expected float32 or bfloat16"),
        ({"model__broad_views": "depth"}, "names that begin with video, audio, flow"),
        ({"optimizer__masks": "none"}, "optimizer.masks=none: expected released or intended"),
        ({"optimizer__schedule__warmup_steps": 11}, "fewer steps of warm-up"),
        ({"optimizer__rate_rules": "a,b"}, "are lists of pairs"),
        ({"model__output_dim": 3}, "similar ones are model.output_dims"),
    ],
)
def test_errors_come_before_anything_is_written(
    shards: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, object],
    message: str,
) -> None:
    out = tmp_path / "out"
    flags = words(**{"model__dataset_shards": shards, **changed})
    assert main([*flags, "--workdir", str(out), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_records_without_sound_are_refused_for_a_broad_view_of_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "silent", [record(i, sound=False) for i in range(4)])
    flags = words(model__dataset_shards=tmp_path / "silent")
    assert main([*flags, "--workdir", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "no sound" in capsys.readouterr().err


def test_a_batch_that_devices_cannot_share_is_refused(shards: str, tmp_path: Path) -> None:
    command = Command(shards, experiment__global_batch_size=4)(tmp_path / "out")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    code, printed = run_command(command, env=flags)
    assert code == 2, printed
    assert "global_batch_size=4 is shared by 3 devices; give a multiple" in printed


def test_check_only_reads_all_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words(), "--check-only"]) == 0
    assert main(["--config.model.remat=x", "--check-only"]) == 2
    assert "expected yes or no" in capsys.readouterr().err
    both = ["--config.model.dataset_shards=train-*", "--videos", "videos", "--check-only"]
    assert main(both) == 2
    assert "are both given" in capsys.readouterr().err


def test_fidelity_and_single_keys_decide_the_quirks() -> None:
    def optimizer(*overrides: str) -> tuple[str, str, str]:
        settings = settings_of(load_config(PACKAGED, overrides))
        made = settings.optimizer
        return made.masks, made.rate_rules_at, settings.placement

    assert optimizer() == ("intended", "before_trust", "start")
    assert optimizer("--config.fidelity=released") == ("released", "before_trust", "start")
    assert optimizer("--config.fidelity=fixed") == ("intended", "after_trust", "start")
    mixed = optimizer("--config.fidelity=fixed", "--config.optimizer.masks=released")
    assert mixed == ("released", "after_trust", "start")
    with pytest.raises(ConfigError, match="fidelity=best: expected default or released or fixed"):
        optimizer("--config.fidelity=best")


def test_the_default_settings_are_the_released_ones() -> None:
    settings = settings_of(load_config(PACKAGED))
    assert settings.optimizer == OptimizerSettings()
    assert [view.name for view in settings.views] == ["narrow", "audio"]
    assert settings.clip == ClipSpec("rgb", Steps(32, 2, 25.0), Pixels(256, 224, 224), "loop")
    assert tuple(settings.released_config()) == RELEASED_KEYS


def test_broad_views_by_name() -> None:
    words = ["--config.model.broad_views=video,video_2,flow,audio"]
    settings = settings_of(load_config(PACKAGED, words))
    found = [
        (view.name, view.modality, view.num_frames, view.image_size) for view in settings.broad
    ]
    assert found == [
        ("video", "rgb", 64, 112),
        ("video_2", "rgb", 64, 112),
        ("flow", "flow", 64, 112),
        ("audio", "sound", 64, 112),
    ]
