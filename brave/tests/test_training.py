from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import brave.training
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.config_files import PACKAGED, load_config
from brave.distributed import start
from brave.experiment_settings import settings_of
from brave.optim import make_optimizer
from brave.run import run_settings
from brave.training import BraVeTrainer, _Due, _exactly, _rows, make_model, run_training
from brave.training_state import TrainingState, from_tree, to_tree
from ssvideo_core.checkpoint_tree import flatten, restore
from ssvideo_core.checkpoints import newest_checkpoint
from ssvideo_core.errors import EXIT_OK, EXIT_REQUEUE, ConfigError
from ssvideo_core.samples import NO_LABEL, Batch, BatchView, Sample, Task


def settings(*words: str) -> Any:
    return settings_of(load_config(PACKAGED, words))


def test_a_state_comes_back_from_what_a_checkpoint_holds(tmp_path: Path) -> None:
    norm = {"scale": jnp.ones((1, 2)), "offset": jnp.zeros((1, 2))}
    params = {"m": {"w": jnp.zeros((2, 3)), "b": jnp.ones(3), "norm": norm}}
    state = {"m": {"norm": {"~": {"mean_ema": {"counter": jnp.int32(4)}}}}}
    optimizer = make_optimizer(settings().optimizer)
    before = TrainingState(params, state, optimizer.init(params))
    _, momentum = optimizer.update(jax.tree.map(jnp.ones_like, params), before.optimizer, params)
    before = before._replace(optimizer=momentum)
    arrays, structure = flatten(to_tree(before))
    after = from_tree(restore(structure, arrays), before, where=tmp_path)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert "state/m/norm/~/mean_ema/counter" in arrays
    other = before._replace(params={"m": {"w": jnp.zeros((2, 4))}})
    with pytest.raises(ConfigError, match=r"params: 4 arrays differ .* such as m/b"):
        from_tree(restore(structure, arrays), other, where=tmp_path)


def test_a_run_is_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    words = (
        *("--config.experiment.global_batch_size=4", "--config.training_steps=11"),
        "--config.optimizer.schedule.warmup_steps=2",
    )
    with start(None, "cpu:0") as processes:
        run = run_settings(settings(*words), processes, folder=tmp_path, num_samples=10)
        assert run.epochs * (10 // 4) == 11
        assert (run.batch_size, run.seed) == (4, 42)
        with pytest.raises(ConfigError, match="global batch size is 4, expected 1 to 3"):
            run_settings(settings(*words), processes, folder=tmp_path, num_samples=3)


def test_checkpoints_are_due_after_seconds_and_after_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(brave.training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with start(None, "cpu:0") as processes:
        due = _Due(processes, 10, _since=0.0)
        found = []
        for now[0], stop in ((4, False), (11, False), (12, False), (20, False), (21, False)):
            assert due.agreed(stop) is False
            assert not due.stopped
            found.append(due.now)
        assert found == [False, True, False, False, True]
        assert due.agreed(True) is True
        assert due.now and due.stopped
        never = _Due(processes, 0, _since=0.0)
        never.agreed(False)
        assert not never.now


class Records:
    """Samples without clips."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __call__(self, task: Task) -> Sample:
        return Sample(task.index, NO_LABEL, (), ())


@dataclasses.dataclass
class Counting(BraVeTrainer):
    """Trains nothing; a signal arrives during step `stop_at`."""

    interruption: Any = None
    stop_at: int = -1
    steps: list[int] = dataclasses.field(default_factory=list)

    def step(self, batch: Batch, *, step: int, epoch: int) -> Any:
        self.steps.append(step)
        if step == self.stop_at:
            self.interruption.requested = signal.SIGTERM
        return {"loss": 1.0, "lr": 0.0}


def train(
    folder: Path,
    *,
    records: int,
    batch: int,
    total: int,
    stop_at: int = -1,
    resume_anyway: bool = False,
    saved: Callable[[Path], None] = lambda checkpoint: None,
) -> tuple[int, list[int]]:
    """The exit code of a run that is begun or goes on in `folder`, and the steps it did."""
    config = settings(
        f"--config.experiment.global_batch_size={batch}",
        f"--config.training_steps={total}",
        "--config.optimizer.schedule.warmup_steps=1",
        "--config.checkpoint_steps=2",
    )
    interruption = SimpleNamespace(requested=None)
    with start(None, "cpu:0") as processes:
        state = processes.replicate(TrainingState({"w": np.zeros(2)}, {}, {}))
        update: Any = None
        trainer = Counting(config, processes, state, update, None, interruption, stop_at)
        run = run_settings(
            config, processes, folder=folder, num_samples=records, resume_anyway=resume_anyway
        )
        load: Any = Records(records)
        asked: Any = interruption
        code = run_training(trainer, load, settings=run, interruption=asked, saved=saved)
    return code, trainer.steps


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"records": 10, "batch": 5}, {"records": 10, "batch": 2}),
        ({"records": 10, "batch": 2}, {"records": 10, "batch": 5}),
        ({"records": 10, "batch": 2}, {"records": 20, "batch": 2}),
    ],
)
def test_a_run_that_goes_on_with_other_epochs_does_all_its_steps(
    tmp_path: Path, before: dict[str, int], after: dict[str, int]
) -> None:
    assert train(tmp_path, **before, total=20, stop_at=6) == (EXIT_REQUEUE, list(range(7)))
    found = train(tmp_path, **after, total=20, resume_anyway=True)
    assert found == (EXIT_OK, list(range(7, 20)))
    newest = newest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None and newest.name == "ckpt-00000020"


def test_another_number_of_records_is_refused(tmp_path: Path) -> None:
    train(tmp_path, records=10, batch=2, total=9, stop_at=3)
    with pytest.raises(
        ConfigError, match=r"ckpt-00000004 was trained on 10 samples .* now .* 12\."
    ):
        train(tmp_path, records=12, batch=2, total=9)
    assert train(tmp_path, records=10, batch=2, total=9) == (EXIT_OK, [4, 5, 6, 7, 8])


def test_a_run_that_has_done_more_steps_than_are_asked_for_is_over(tmp_path: Path) -> None:
    train(tmp_path, records=10, batch=2, total=9, stop_at=5)
    assert train(tmp_path, records=10, batch=2, total=4, resume_anyway=True) == (EXIT_OK, [])


def test_data_that_ends_early_is_an_error() -> None:
    made: Any = (number for number in range(2))
    with pytest.raises(RuntimeError, match="the data ended after 2 steps of 3"):
        list(_exactly(made, 3))
    assert list(_exactly((number for number in range(5)), 3)) == [0, 1, 2]  # type: ignore[misc]


def test_nobody_looks_at_the_checkpoint_of_a_signal(tmp_path: Path) -> None:
    seen: list[Path] = []
    code, _ = train(tmp_path, records=10, batch=2, total=9, stop_at=4, saved=seen.append)
    assert code == EXIT_REQUEUE
    assert [path.name for path in seen] == ["ckpt-00000002", "ckpt-00000004"]
    assert (tmp_path / "checkpoints" / "ckpt-00000005").is_dir()
    train(tmp_path, records=10, batch=2, total=9, saved=seen.append)
    assert [path.name for path in seen[2:]] == ["ckpt-00000006", "ckpt-00000008", "ckpt-00000009"]


def test_parts_of_a_batch_are_contiguous() -> None:
    view = BatchView(
        np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1, 1),
        np.zeros((4, 2), np.int64),
        None,
        np.zeros(4, np.int64),
        {"flip": np.array([True, False, True, True])},
    )
    batch = Batch(np.arange(4), np.full(4, -1), (view,), ())
    part = _rows(batch, 1, 2)
    assert part.index.tolist() == [2, 3]
    assert part.views[0].frames is not None
    assert part.views[0].frames.ravel().tolist() == [2, 3]
    assert part.views[0].params["flip"].tolist() == [True, True]


def test_options_of_the_networks_reach_them() -> None:
    words = (
        *("--config.model.precision=bfloat16", "--config.model.remat=yes"),
        *("--config.model.separate_heads=yes", "--config.model.tsm_resnet_width_multiplier=2"),
        *("--config.model.output_dims=7", "--config.model.head_hidden_size=9"),
    )
    model = make_model(settings(*words))
    found = dataclasses.asdict(model)
    assert found["dtype"] == jnp.bfloat16
    assert (found["remat"], found["separate_heads"]) == (True, True)
    assert (found["output_dims"], found["hidden_size"]) == (7, 9)
    assert model.narrow.width == 2
    assert model.broad[0].width == 1
