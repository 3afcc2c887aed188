"""The loop: what is logged, saved and asked in which order, alone and where it goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ssvideo_core.batches import Position, Replaced, Sample, Task, batches
from ssvideo_core.errors import EXIT_OK, EXIT_REQUEUE, ConfigError, DataError
from ssvideo_core.interruption import Interruption
from ssvideo_core.training_loop import Place, RunSettings, facts_of, place_of, run_loop

NUM_SAMPLES, BATCH = 7, 3  # two steps an epoch
START = Place()


class Alone:
    is_main, world_size = True, 1

    def agreed(self, flag: bool) -> bool:
        return flag


@dataclass
class Counting:
    """Writes down what the loop asks of it; a signal arrives during step `signal_at`."""

    events: list[Any] = field(default_factory=list)
    signal_at: int = -1

    def step(self, batch: Any, *, step: int, epoch: int) -> Mapping[str, float]:
        self.events.append(("step", step, epoch, len(batch.index)))
        if step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 10.0 - step, "lr": 0.5}

    def end_epoch(self, epoch: int) -> None:
        self.events.append(("end", epoch))

    def save(self, place: Place, forever: bool) -> None:
        self.events.append(("save", place, forever))


def load(task: Task) -> Sample:
    return Sample(task.index, 0, (), ())


def run(trainer: Counting, folder: Path, *, place: Place = START, **changes: Any) -> int:
    settings = RunSettings(folder=folder, batch_size=BATCH, epochs=3, seed=0, **changes)
    made = batches(
        load,
        num_samples=NUM_SAMPLES,
        global_batch_size=BATCH,
        epochs=settings.epochs,
        seed=0,
        position=place.position,
    )
    with Interruption() as interruption:
        return run_loop(
            trainer,
            made,
            place=place,
            steps=settings.epochs * (NUM_SAMPLES // BATCH),
            num_samples=NUM_SAMPLES,
            settings=settings,
            processes=Alone(),
            mean=lambda values: {name: float(value) for name, value in values.items()},
            save=trainer.save,
            interruption=interruption,
        )


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_epochs_end_before_their_checkpoints(tmp_path: Path) -> None:
    trainer = Counting()
    assert run(trainer, tmp_path, keep_every_epochs=2) == EXIT_OK
    assert trainer.events[:4] == [
        ("step", 0, 0, BATCH),
        ("step", 1, 0, BATCH),
        ("end", 0),
        ("save", Place(Position(1), 2), False),
    ]
    saved = [event[1:] for event in trainer.events if event[0] == "save"]
    assert saved == [(Place(Position(e), 2 * e), e == 2) for e in (1, 2, 3)]


def test_lines_come_every_few_steps_and_at_the_end(tmp_path: Path) -> None:
    run(Counting(), tmp_path, print_freq=4)
    assert [line["step"] for line in metrics(tmp_path)] == [4, 6]
    assert metrics(tmp_path)[0] == {"step": 4, "loss": 7.0, "lr": 0.5}


def test_checkpoints_between_epochs_are_not_kept_for_good(tmp_path: Path) -> None:
    trainer = Counting()
    run(trainer, tmp_path, checkpoint_steps=1, keep_every_epochs=1)
    saved = [event[1:] for event in trainer.events if event[0] == "save"]
    assert saved[:2] == [(Place(Position(0, BATCH), 1), False), (Place(Position(1), 2), True)]


def test_a_signal_saves_and_stops_and_the_rest_follows(tmp_path: Path) -> None:
    straight, first, second = Counting(), Counting(signal_at=2), Counting()
    run(straight, tmp_path / "straight", print_freq=1)
    assert run(first, tmp_path / "run", print_freq=1) == EXIT_REQUEUE
    kind, place, forever = first.events[-1]
    assert (kind, place, forever) == ("save", Place(Position(1, BATCH), 3), False)
    assert run(second, tmp_path / "run", print_freq=1, place=place) == EXIT_OK
    assert first.events[:-1] + second.events == straight.events
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")


def test_a_signal_in_the_last_step_ends_the_run(tmp_path: Path) -> None:
    assert run(Counting(signal_at=5), tmp_path) == EXIT_OK


def test_too_many_bad_videos_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_bad(task: Task) -> Sample:
        return Sample(task.index, 0, (), (), (Replaced(f"video{task.index}", "damaged"),))

    monkeypatch.setattr(f"{__name__}.load", all_bad)
    with pytest.raises(DataError, match="videos cannot be read"):
        run(Counting(), tmp_path)


def test_the_batches_are_closed(tmp_path: Path) -> None:
    closed = []

    class Failing:
        def __iter__(self) -> Iterator[Any]:
            raise ValueError("no more")

        def close(self) -> None:
            closed.append(True)

    with Interruption() as interruption, pytest.raises(ValueError, match="no more"):
        run_loop(
            Counting(),
            Failing(),
            place=START,
            steps=NUM_SAMPLES // BATCH,
            num_samples=NUM_SAMPLES,
            settings=RunSettings(folder=tmp_path, batch_size=BATCH, epochs=1, seed=0),
            processes=Alone(),
            mean=dict,
            save=lambda place, forever: None,
            interruption=interruption,
        )
    assert closed == [True]


def test_a_place_is_what_its_facts_say(tmp_path: Path) -> None:
    settings = RunSettings(folder=tmp_path, batch_size=4, epochs=1, seed=0)
    place = Place(Position(3, 8), 17)
    facts = json.loads(json.dumps(facts_of(place, settings, 2, 40)))
    assert place_of(tmp_path, 17, facts, settings, 2, 40) == place
    with pytest.raises(ConfigError, match=r"8 clips a step, now it would be 4 \(1 processes"):
        place_of(tmp_path, 17, facts, settings, 1, 40)
    with pytest.raises(ConfigError, match="trained on 40 samples an epoch, now there are 41"):
        place_of(tmp_path, 17, facts, settings, 2, 41)
    anyway = RunSettings(folder=tmp_path, batch_size=4, epochs=1, seed=0, resume_anyway=True)
    assert place_of(tmp_path, 17, facts, anyway, 1, 41) == place


@dataclass
class Lost(Counting):
    """Its weights are lost in step 2."""

    def step(self, batch: Any, *, step: int, epoch: int) -> Mapping[str, float]:
        loss = float("nan") if step > 1 else 1.0
        return {**super().step(batch, step=step, epoch=epoch), "loss": loss}


@pytest.mark.parametrize(("print_freq", "steps"), [(1, 4), (100, 6)])
def test_a_lost_run_is_an_error(tmp_path: Path, print_freq: int, steps: int) -> None:
    trainer = Lost()
    with pytest.raises(DataError, match=rf"the loss is nan at step {steps}; "):
        run(trainer, tmp_path, print_freq=print_freq)
    assert ("save", Place(Position(steps // 2), steps), False) not in trainer.events
