"""A run in PyTorch: it goes on from its newest checkpoint, and its values are means."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ssvideo_core.batches import Sample, Task
from ssvideo_core.errors import EXIT_OK, EXIT_REQUEUE, ConfigError, SSVideoError
from ssvideo_core.interruption import Interruption
from ssvideo_core.testing.processes import pool_of

torch = pytest.importorskip("torch")

from ssvideo_torch.start import Process  # noqa: E402
from ssvideo_torch.training_run import RunSettings, mean_over, run_training  # noqa: E402


class Averaging:
    """One weight that moves to the indices it sees."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.optimizer = torch.optim.SGD([self.weight], momentum=0.9)
        self.ended: list[int] = []
        self.signal_at = -1

    def parts(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "weight": self}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight.detach()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight.data.copy_(state["weight"])

    def step(self, batch: Any, *, step: int, epoch: int) -> dict[str, Any]:
        if step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        loss = (self.weight - batch.index.float().mean()).square()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "lr": 0.5}

    def end_epoch(self, epoch: int) -> None:
        self.ended.append(epoch)


def load(task: Task) -> Sample:
    return Sample(task.index, 0, (), ())


def run(
    folder: Path,
    *,
    epochs: int,
    batch_size: int = 4,
    num_samples: int = 9,
    signal_at: int = -1,
    anyway: bool = False,
) -> Averaging:
    trainer = Averaging()
    trainer.signal_at = signal_at
    with Interruption() as interruption:
        code = run_training(
            trainer,
            load,
            num_samples=num_samples,
            settings=RunSettings(
                folder=folder,
                batch_size=batch_size,
                epochs=epochs,
                seed=1,
                resume_anyway=anyway,
            ),
            process=Process(0, 1, 0, torch.device("cpu")),
            interruption=interruption,
        )
    assert code == (EXIT_OK if signal_at < 0 else EXIT_REQUEUE)
    return trainer


def test_a_longer_run_goes_on_where_a_shorter_one_ended(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight", epochs=4)
    run(tmp_path / "run", epochs=2)
    rest = run(tmp_path / "run", epochs=4)
    assert rest.ended == [2, 3]
    assert torch.equal(rest.weight, straight.weight)
    assert run(tmp_path / "run", epochs=4).ended == []


def test_another_batch_size_is_refused(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(ConfigError, match="4 clips a step, now it would be 3"):
        run(tmp_path, epochs=2, batch_size=3)


def test_another_number_of_samples_is_refused(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(ConfigError, match="trained on 9 samples an epoch, now there are 8"):
        run(tmp_path, epochs=2, num_samples=8)
    assert run(tmp_path, epochs=2, num_samples=8, anyway=True).ended == [1]


def go_on(process: Process, folders: list[Path]) -> str:
    settings = RunSettings(folder=folders[process.rank], batch_size=2, epochs=1, seed=1)
    options: Any = {"settings": settings, "process": process, "interruption": Interruption()}
    try:
        return str(run_training(Averaging(), load, num_samples=9, **options))
    except SSVideoError as error:
        return str(error)


def test_processes_that_see_other_checkpoints_do_not_train(tmp_path: Path) -> None:
    run(tmp_path / "seen", epochs=1)
    seen, unseen = tmp_path / "seen", tmp_path / "unseen"
    assert pool_of(2).run(go_on, [seen, seen]) == ["0", "0"]
    for told in pool_of(2).run(go_on, [seen, unseen]):
        assert "find checkpoints of the steps [2, 0], by rank" in told
    run(unseen, epochs=1, batch_size=3)
    first, second = pool_of(2).run(go_on, [seen, unseen])
    assert "was trained with 3 clips a step, now it would be 4" in second
    assert first == f"rank 1: {second}"


def test_a_run_that_goes_on_with_larger_batches_still_stops(tmp_path: Path) -> None:
    """Nine steps were done before, more than all epochs have with the larger batches."""
    run(tmp_path, epochs=1, batch_size=1)
    assert run(tmp_path, epochs=3, anyway=True, signal_at=10).ended == [1]
    assert run(tmp_path, epochs=3, anyway=True).ended == [2]


def mean_of_rank(process: Process) -> dict[str, float]:
    return mean_over({"loss": torch.tensor(float(process.rank)), "lr": 1 / 3}, process)


def test_values_are_means_over_processes() -> None:
    assert pool_of(2).run(mean_of_rank) == [{"loss": 0.5, "lr": 1 / 3}] * 2
