"""Which checkpoints are probed, and with what; the probe itself is `test_evaluation`'s."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from brave.config_files import PACKAGED, load_config
from brave.experiment import main
from brave.experiment_settings import record_of, settings_of
from brave.probe import Probe, probe_run
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.runs import start_run

from brave import probe

SHORT = ("--config.training_steps=6", "--config.optimizer.schedule.warmup_steps=1")
SHARDS = tuple(f"--config.experiment.probe_{part}_shards=/no/such-*" for part in ("train", "test"))


def settings(*words: str) -> Any:
    return settings_of(load_config(PACKAGED, words))


def save(run: Path, step: int, *, keep: int = 9) -> Path:
    state = {"params": {"w": np.full(1, step)}, "state": {}}
    return save_checkpoint(run / "checkpoints", step, state, facts={}, keep=keep)


class Recording:
    """A probe whose accuracy is the step; what `during` says is saved while it looks at one."""

    settings: Mapping[str, int] = {"training_steps": 6}

    def __init__(self, run: Path, during: Mapping[int, int]) -> None:
        self.run, self.during = run, during

    def __call__(self, tensors: Mapping[str, Any], device: jax.Device) -> dict[str, float]:
        step = int(tensors["params/w"].item())
        if step in self.during:
            save(self.run, self.during[step], keep=2)
        return {"top_1_test": float(step)}


def probed(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "probe.jsonl").read_text().splitlines()]


def test_each_checkpoint_is_probed_once_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "probe.jsonl").write_text('{"step": 2, "top_1_test": 2.0}\n')
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    (save(tmp_path, 5) / "manifest.json").unlink()
    recording: Any = Recording(tmp_path, {1: 6})  # removes all complete ones but 4 and 6
    device = jax.devices("cpu")[0]
    probe_run(recording, tmp_path, device)
    assert probed(tmp_path) == [2, 1, 4, 6]
    with caplog.at_level(logging.INFO):
        probe_run(recording, tmp_path, device)
    assert probed(tmp_path) == [2, 1, 4, 6]
    assert f"steps 1, 2, 4, 6 are in {tmp_path / 'probe.jsonl'}; remove" in caplog.text
    assert "waiting" not in caplog.text


def test_checkpoints_before_the_last_step_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    coming = iter([3, 4, 6])
    clock = SimpleNamespace(sleep=lambda seconds: save(tmp_path, next(coming)))
    monkeypatch.setattr(probe, "time", clock)
    recording: Any = Recording(tmp_path, {})
    with caplog.at_level(logging.INFO):
        probe_run(recording, tmp_path, jax.devices("cpu")[0])
    assert probed(tmp_path) == [3, 4, 6]
    assert caplog.text.count("waiting for checkpoints of this run until its step 6") == 1


@pytest.mark.parametrize(("size", "short_side"), [(56, 64), (224, 256), (448, 512)])
def test_clips_show_what_those_of_the_encoder_show(
    monkeypatch: pytest.MonkeyPatch, size: int, short_side: int
) -> None:
    asked: dict[str, Any] = {}

    def evaluate(*_: object, **options: Any) -> Any:
        asked.update(options)
        return SimpleNamespace(ranks=SimpleNamespace(accuracies={"top_1_test": 0.5}))

    monkeypatch.setattr(probe, "evaluate", evaluate)
    monkeypatch.setattr(probe, "NarrowBackbone", lambda *_: None)
    nothing: Any = None
    config = settings(f"--config.model.image_size_narrow={size}")
    found = Probe(config, nothing, nothing, nothing, 0)({}, jax.devices("cpu")[0])
    assert found == {"top_1_test": 0.5}
    assert (asked["size"], asked["short_side"]) == (size, short_side)
    assert (asked["num_frames"], asked["step"]) == (32, 2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of `SHORT`."""
    return start_run(tmp_path / "run", record_of(settings(*SHORT), None, {}), ["command"])


def evaluation(run: Path, *words: str) -> list[str]:
    return [*words, "--jaxline_mode=eval", "--workdir", str(run), "--device", "cpu"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SHORT, "--config.model.tsm_resnet_width_multiplier=0.25"), "1.0 there, 0.25 now"),
        ((*SHORT, "--config.model.image_size_narrow=56"), "narrow: 224 there, 56 now"),
        ((*SHORT, "--seed", "7"), "random_seed: 42 there, 7 now"),
        ((), "training_steps: 6 there, 300000 now"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main(evaluation(run, *SHARDS, *words)) == 2
    printed = capsys.readouterr().err
    assert f"{run} was made with other settings (" in printed
    assert message in printed


def test_shards_and_what_changes_no_network_may_differ(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--config.model.dataset_shards=/other-*", "--config.experiment.global_batch_size=64")
    assert main(evaluation(run, *SHARDS, *SHORT, *words)) == 2
    assert "/no/such-" in capsys.readouterr().err


def test_a_probe_needs_shards_and_a_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluation(run, *SHORT)) == 2
    assert "the linear probe needs shards" in capsys.readouterr().err
    assert main(evaluation(tmp_path / "none", *SHARDS, *SHORT)) == 2
    assert "is no run" in capsys.readouterr().err
    (run / "config.json").write_text("[]")
    assert main(evaluation(run, *SHARDS, *SHORT)) == 2
    assert "is not a run's record" in capsys.readouterr().err


@pytest.mark.parametrize("slurm", [False, True])
def test_only_the_first_of_several_processes_probes(
    run: Path, monkeypatch: pytest.MonkeyPatch, slurm: bool
) -> None:
    def arguments(number: int) -> list[str]:
        words = evaluation(run, *SHARDS, *SHORT)
        if slurm:
            monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
            monkeypatch.setenv("SLURM_PROCID", str(number))
            return words
        place = ["--coordinator", "127.0.0.1:1", "--num_processes", "2", "--process_id"]
        return [*words, *place, str(number)]

    assert main(arguments(1)) == 0
    assert main(arguments(0)) == 2  # there are no shards
