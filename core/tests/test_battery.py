from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.testing.battery import (
    assert_same_checkpoints,
    assert_same_runs,
    check_random_kills,
    check_ranks,
    check_resume,
    check_signal,
    check_workers,
    random_moments,
    ranks,
    straight_run,
    torchrun,
)
from ssvideo_core.testing.programs import Launch

PROGRAM = str(Path(__file__).parent / "tiny_training.py")


def command(out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
    return [sys.executable, PROGRAM, "--out", str(out), f"--workers={workers}", *extra]


def with_flags(*flags: str) -> Callable[..., list[str]]:
    def changed(out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
        return command(out, workers=workers, extra=[*flags, *extra])

    return changed


SLOWLY = ("--step_s", "0.1")  # 20 steps, so that a signal after the first one is in time


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one straight run serves several checks."""
    return tmp_path_factory.mktemp("battery")


def test_a_training_that_keeps_its_promises_passes(shared: Path) -> None:
    check_resume(command, shared, ["batch:5", "save:2", "batch:1"])
    check_workers(command, shared)
    check_signal(with_flags(*SLOWLY), shared)


def test_a_run_below_the_named_output_is_found(tmp_path: Path) -> None:
    check_resume(with_flags("--below", "vicc/run-1"), tmp_path, ["batch:4"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("momentum", "/state/momentum: 12 of 12 elements differ, by up to"),
        ("queue", "/state/weights: 12 of 12 elements differ"),
        ("position", "is of step .* expected step 20"),
        ("clock", "/weights: 12 of 12 elements differ"),
        ("metrics", "metrics.jsonl, line [45]: .*expected"),
        ("encoder", "encoder.safetensors is not the one of"),
    ],
)
def test_a_training_that_does_not_resume_is_caught(
    broken: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_resume(with_flags("--broken", broken), tmp_path, ["batch:5"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("deaf", "exit code 0, expected 75"),
        ("no-save", "after SIGTERM there is no complete checkpoint"),
        ("slow", "the run was over when SIGTERM was heeded"),
        ("momentum", "/momentum: 12 of 12 elements differ"),
    ],
)
def test_a_training_that_does_not_stop_well_is_caught(
    broken: str, message: str, tmp_path: Path
) -> None:
    straight_run(with_flags("--broken", broken), tmp_path)
    with pytest.raises(AssertionError, match=message):
        check_signal(with_flags("--broken", broken, *SLOWLY), tmp_path)


def test_draws_that_depend_on_the_worker_are_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="with 1 workers differs:\n/state/weights: 12 of 12"):
        check_workers(with_flags("--broken", "process"), tmp_path, workers=[1])


def test_ranks_agree_up_to_rounding(tmp_path: Path) -> None:
    one, four = tmp_path / "one", tmp_path / "four"
    check_ranks(
        command(one),
        [Launch(command(four, extra=["--shares=4"]))],
        single_out=one,
        distributed_out=four,
        rtol=1e-12,
    )
    with pytest.raises(AssertionError, match=r"/weights: \d+ of 12 elements differ"):
        assert_same_checkpoints(one, four)


def test_ranks_that_do_not_share_their_gradients_well_are_caught(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(AssertionError, match="/weights: 12 of 12 elements differ"):
        check_ranks(
            command(one),
            [Launch(command(two, extra=["--shares=2", "--broken=share"]))],
            single_out=one,
            distributed_out=two,
            rtol=0.01,
        )


def test_a_command_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)exit code 2 of .*unrecognized arguments: --no"):
        straight_run(with_flags("--no"), tmp_path)


def test_a_straight_run_serves_all_checks_of_a_folder(shared: Path) -> None:
    out = straight_run(command, shared)
    assert straight_run(with_flags("--no"), shared) == out, "it was not run again"


def test_the_same_command_on_several_processes() -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    expected = ["python", *launcher, "-m", "vicc.main", "--seed", "1"]
    assert torchrun(["python", "-m", "vicc.main", "--seed", "1"], 2) == [Launch(expected)]


def test_ranks_are_told_their_places() -> None:
    first, second = ranks(["python", "-m", "vicc.main"], 2)
    assert first.command == second.command == ["python", "-m", "vicc.main"]
    assert [launch.env["RANK"] for launch in (first, second)] == ["0", "1"]
    assert [launch.env["LOCAL_RANK"] for launch in (first, second)] == ["0", "1"]
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")):
        assert first.env[name] == second.env[name] == value
    assert first.env["MASTER_PORT"] == second.env["MASTER_PORT"] != "0"


def test_random_moments_are_those_of_their_seed() -> None:
    moments = random_moments(60, 3, batches=7, saves=2, duration_s=1.5)
    assert moments == random_moments(60, 3, batches=7, saves=2, duration_s=1.5)
    assert moments != random_moments(60, 4, batches=7, saves=2, duration_s=1.5)
    drawn: dict[str, set[float]] = {"batch": set(), "save": set(), "time": set()}
    for moment in moments:
        kind, _, number = moment.partition(":")
        drawn[kind].add(float(number))
    assert drawn["batch"] == {1, 2, 3, 4, 5, 6, 7}
    assert drawn["save"] == {1, 2}
    assert len(drawn["time"]) > 10
    assert 0 < min(drawn["time"]) < max(drawn["time"]) <= 1.5


def test_random_kills_are_survived(tmp_path: Path) -> None:
    check_random_kills(with_flags("--step_s", "0.01"), tmp_path, n=3)


@pytest.mark.stress
def test_twenty_random_kills_are_survived(tmp_path: Path) -> None:
    check_random_kills(with_flags("--step_s", "0.05"), tmp_path, n=20, seed=1)


def test_random_kills_catch_what_is_not_survived(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"killed at .* differs:"):
        check_random_kills(with_flags("--broken", "queue"), tmp_path, n=6)


def run_with(folder: Path, state: object, *, metrics: str = "") -> Path:
    folder.mkdir()
    save_checkpoint(folder / "checkpoints", 1, state, facts={})
    (folder / "metrics.jsonl").write_text(metrics)
    return folder


def run_of_two_ranks(folder: Path, queues: Sequence[int]) -> Path:
    """A checkpoint of two ranks: the second one writes while the first one waits for it."""
    root = folder / "checkpoints"
    turns = itertools.count()

    def save(rank: int, barrier: Callable[[], object]) -> None:
        local = {"queue": np.array(queues[rank])}
        place = {"rank": rank, "world_size": 2}
        save_checkpoint(root, 1, {}, facts={}, local=local, barrier=barrier, **place)

    save(0, lambda: save(1, lambda: None) if next(turns) == 0 else None)
    (folder / "metrics.jsonl").touch()
    return folder


def test_what_each_rank_has_is_compared(tmp_path: Path) -> None:
    one = run_of_two_ranks(tmp_path / "one", [3, 4])
    assert_same_checkpoints(one, run_of_two_ranks(tmp_path / "same", [3, 4]))
    with pytest.raises(AssertionError, match="differs:\n/rank/1/queue: 1 of 1 elements differ"):
        assert_same_checkpoints(one, run_of_two_ranks(tmp_path / "other", [3, 5]))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": np.zeros(2, np.float32)}, r"/a: float32 \(2,\), expected float64 \(2,\)"),
        ({"a": np.zeros((2, 1))}, r"/a: float64 \(2, 1\), expected float64 \(2,\)"),
        ({"a": np.array([0.0, -0.0])}, "/a: 0 of 2 elements differ"),
        ({"a": np.zeros(2), "b": 1}, r"has besides \['/state/b'\]"),
        ({"b": np.zeros(2)}, r"lacks \['/state/a'\]"),
        ({"a": [0.0, 0.0]}, "lacks"),
    ],
)
def test_states_are_compared_bit_by_bit(
    state: dict[str, object], message: str, tmp_path: Path
) -> None:
    one = run_with(tmp_path / "one", {"a": np.zeros(2)})
    with pytest.raises(AssertionError, match=message):
        assert_same_checkpoints(one, run_with(tmp_path / "two", state))


def test_values_of_other_types_differ(tmp_path: Path) -> None:
    one = run_with(tmp_path / "one", {"epoch": 1, "rate": float("nan"), "by": {1: True}})
    same = run_with(tmp_path / "same", {"epoch": 1, "rate": float("nan"), "by": {1: True}})
    assert_same_checkpoints(one, same)
    for name, other in [("epoch", 1.0), ("epoch", True), ("rate", 0.5), ("by", {"1": True})]:
        found = run_with(
            tmp_path / f"{name}{other}",
            {"epoch": 1, "rate": float("nan"), "by": {1: True}, name: other},
        )
        with pytest.raises(AssertionError, match=name):
            assert_same_checkpoints(one, found)


def test_metrics_are_compared_without_times(tmp_path: Path) -> None:
    line = '{"step": 1, "loss": 0.5, "step_time_s": %s, "clips_per_s": %s, "waiting_share": %s}\n'
    one = run_with(tmp_path / "one", {}, metrics=line % (1, 2, 3))
    assert_same_runs(one, run_with(tmp_path / "two", {}, metrics=line % (4, 5, 6)))
    for number, (metrics, message) in enumerate(
        [
            (line.replace("0.5", "0.25") % (1, 2, 3), "line 1: .*0.25.*, expected .*0.5"),
            (2 * line % (1, 2, 3, 1, 2, 3), "has 2 lines, expected 1"),
            ("", "has 0 lines, expected 1"),
        ]
    ):
        found = run_with(tmp_path / str(number), {}, metrics=metrics)
        with pytest.raises(AssertionError, match=message):
            assert_same_runs(one, found)


def test_an_output_without_a_run_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"no run below .*: there is no metrics.jsonl"):
        assert_same_runs(tmp_path, tmp_path)
