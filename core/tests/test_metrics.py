from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ssvideo_core.errors import DataError
from ssvideo_core.metrics import LossWatch, MetricsLog, TrainingProgress


def lines(run: Path) -> list[dict[str, float | None]]:
    text = (run / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def write(run: Path, steps: range) -> None:
    with MetricsLog(run, tensorboard=False) as log:
        for step in steps:
            log.write(step, {"loss": step / 2})


def test_one_line_a_step(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "run", tensorboard=False) as log:
        log.write(1, {"loss": np.float32(0.5), "epoch": 3, "top1": np.array(0.25)})
        log.write(np.int64(2), {"loss": 0.1})  # type: ignore[arg-type]
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text == (
        '{"epoch": 3.0, "loss": 0.5, "step": 1, "top1": 0.25}\n{"loss": 0.1, "step": 2}\n'
    )


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.write(1, {"a": float("nan"), "b": float("inf"), "c": -np.float32("inf"), "d": 0.0})
    assert lines(tmp_path) == [{"step": 1, "a": None, "b": None, "c": None, "d": 0.0}]


def test_resuming_drops_the_steps_that_come_again(tmp_path: Path) -> None:
    write(tmp_path, range(1, 8))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1}\n{"loss": 4.0, "st')
    with MetricsLog(tmp_path, step=4, tensorboard=False) as log:
        log.write(5, {"loss": 9.0})
    kept = [{"step": step, "loss": step / 2} for step in range(1, 5)]
    assert lines(tmp_path) == [*kept, {"epoch": 1}, {"step": 5, "loss": 9.0}]


def test_a_last_line_without_its_end_stays_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    with MetricsLog(tmp_path, step=2, tensorboard=False) as log:
        log.write(3, {})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_new_run_in_the_same_folder_starts_empty(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    write(tmp_path, range(1, 2))
    assert lines(tmp_path) == [{"step": 1, "loss": 0.5}]


@pytest.mark.parametrize("line", ["{", "[1]", "", '{"step": null}', '{"step": "x"}', "\0\0"])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with (
        pytest.raises(DataError, match=r"metrics\.jsonl, line 2: .* delete that line"),
        MetricsLog(tmp_path, step=5, tensorboard=False),
    ):
        pass


def test_the_name_step_is_taken(tmp_path: Path) -> None:
    with (
        MetricsLog(tmp_path, tensorboard=False) as log,
        pytest.raises(ValueError, match='"step" is taken'),
    ):
        log.write(1, {"step": 2.0})


def test_other_ranks_touch_nothing(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "run", enabled=False) as log:
        log.write(1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()


def test_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorboard = pytest.importorskip("tensorboardX")
    written: list[tuple[str, float, int]] = []
    original = tensorboard.SummaryWriter.add_scalar

    def add_scalar(self: object, tag: str, value: float, step: int) -> None:
        written.append((tag, value, step))
        original(self, tag, value, step)

    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", add_scalar)
    with MetricsLog(tmp_path, step=3) as log:
        log.write(4, {"loss": 1.5, "lr": 0.1})
        log.write(5, {"loss": float("inf")})
    assert written == [("loss", 1.5, 4), ("lr", 0.1, 4), ("loss", float("inf"), 5)]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_no_tensorboard_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_what_the_lines_say() -> None:
    now, file = [0.0], io.StringIO()
    progress = TrainingProgress(10, step=6, every_s=5.0, file=file, clock=lambda: now[0])

    def batches() -> Iterator[int]:
        for batch in range(4):
            now[0] += 1.0
            yield batch

    for batch in progress.watch(batches()):
        now[0] += 3.0
        progress.advance({"loss": 1 / 3, "lr": np.float32(0.5)} if batch == 0 else None)
    assert file.getvalue() == (
        "step 8/10, 0.25 steps/s, 0 min 08 s left, 25 % of the time waiting for data, "
        "loss 0.3333, lr 0.5\n"
        "step 10/10, 0.25 steps/s, 0 min 00 s left, 25 % of the time waiting for data, "
        "loss 0.3333, lr 0.5\n"
    )
    assert progress.waiting_s == 4.0


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TrainingProgress(2, enabled=False)
    for _ in progress.watch([1, 2]):
        progress.advance({"loss": float("nan")})
    assert capsys.readouterr() == ("", "")


def test_a_loss_that_is_no_number_is_shown_as_it_is() -> None:
    file = io.StringIO()
    TrainingProgress(1, file=file).advance({"loss": float("nan")})
    assert file.getvalue().endswith("waiting for data, loss nan\n")


def test_a_loss_that_stays_lost_ends_the_run() -> None:
    watch = LossWatch(30)
    watch.check(math.nan, 40)
    watch.check(1.5, 50)
    watch.check(math.inf, 60)
    with pytest.raises(
        DataError, match=r"nan at step 70; .* in step 50\..* delete the later check"
    ):
        watch.check(math.nan, 70)


def test_a_loss_that_is_lost_at_the_end_ends_the_run() -> None:
    with pytest.raises(DataError, match=r"inf at step 10; none was finite since step 0,"):
        LossWatch().check(math.inf, 10, last=True)
