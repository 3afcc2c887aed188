from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core import checkpoints
from ssvideo_core.errors import ConfigError
from ssvideo_core.testing import kill_at
from ssvideo_core.testing.processes import (
    PoolError,
    ProcessPool,
    kill_and_continue,
    pool_of,
    run_command,
)

# The pools here know no framework: what functions get is only the rank's place.
SETUP = f"{__name__.rpartition('.')[2]}:Seat"
imported = 0


@dataclass
class Seat:
    rank: int
    world_size: int
    folder: Path
    runs: int = 0


@dataclass
class Shares:
    """A class of a test module, which crosses both ways."""

    values: NDArray[np.float64]


class TwoPartError(ValueError):
    """An error that pickle cannot build again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    sys.path.insert(0, str(Path(__file__).parent))  # from here to the ranks' path, for the setup
    try:
        with ProcessPool(2, SETUP) as made:
            made.run(place)
            yield made
    finally:
        sys.path.remove(str(Path(__file__).parent))


def place(seat: Seat) -> tuple[int, int, int]:
    return seat.rank, seat.world_size, os.getpid()


def share(seat: Seat, shares: Shares, factor: float) -> Shares:
    return Shares(shares.values[seat.rank :: seat.world_size] * factor)


def imports(seat: Seat) -> int:
    global imported
    imported += 1
    return imported


def fail(seat: Seat, ranks: list[int], kind: str) -> str:
    if seat.rank not in ranks:
        time.sleep(30 if kind == "wait" else 0)
        return "done"
    if kind == "two parts":
        raise TwoPartError("left", "right")
    if kind == "result":
        return lambda: None  # type: ignore[return-value]
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "sleep":
        time.sleep(30)
    if kind == "assert":
        pytest.fail("told to fail")
    raise KeyError("no such name")


def test_each_rank_runs_the_function_with_its_place(pool: ProcessPool) -> None:
    found = pool.run(place)
    assert [(rank, size) for rank, size, _ in found] == [(0, 2), (1, 2)]
    assert len({os.getpid(), *(pid for _, _, pid in found)}) == 3
    assert pool.run(place) == found, "the processes are kept"


def test_classes_of_the_test_module_cross(pool: ProcessPool) -> None:
    even, odd = pool.run(share, Shares(np.arange(5.0)), 2.0)
    assert isinstance(even, Shares)
    assert even.values.tolist() == [0.0, 4.0, 8.0]
    assert odd.values.tolist() == [2.0, 6.0]


def test_large_arguments_and_results_cross(pool: ProcessPool) -> None:
    values = np.random.default_rng(0).random(1_000_000)
    found = pool.run(share, Shares(values), 1.0)
    for rank in range(2):
        assert np.array_equal(found[rank].values, values[rank::2])


def test_the_file_is_imported_once(pool: ProcessPool) -> None:
    first = pool.run(imports)
    assert pool.run(imports) == [count + 1 for count in first]


def test_functions_that_ranks_cannot_find_are_refused(pool: ProcessPool) -> None:
    with pytest.raises(ValueError, match="top level"):
        pool.run(lambda seat: None)


def test_an_exception_of_all_ranks_keeps_its_type_and_the_pool(pool: ProcessPool) -> None:
    before = pool.run(place)
    with pytest.raises(KeyError, match="no such name") as caught:
        pool.run(fail, [0, 1], "raise")
    assert "On rank " in caught.value.__notes__[0]
    assert "in fail" in caught.value.__notes__[0], "the traceback of the rank"
    assert pool.run(place) == before


def test_an_exception_of_one_rank_ends_those_that_wait_for_it(pool: ProcessPool) -> None:
    before, start = pool.run(place), time.monotonic()
    with pytest.raises(KeyError) as caught:
        pool.run(fail, [1], "wait")
    assert time.monotonic() - start < 10
    assert "On rank 1" in caught.value.__notes__[0]
    assert "Ranks [0] had not answered" in caught.value.__notes__[0]
    after = pool.run(place)
    assert not {pid for *_, pid in before} & {pid for *_, pid in after}


def test_a_failure_of_pytest_inside_a_rank_is_told(pool: ProcessPool) -> None:
    with pytest.raises(PoolError, match="told to fail"):
        pool.run(fail, [0, 1], "assert")


@pytest.mark.parametrize("kind", ["two parts", "result"])
def test_what_pickle_cannot_carry_is_told_in_words(pool: ProcessPool, kind: str) -> None:
    with pytest.raises((PoolError, AttributeError)) as caught:
        pool.run(fail, [0, 1], kind)
    told = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert ("left and right" if kind == "two parts" else "lambda") in told


def test_a_dead_rank_is_reported(pool: ProcessPool) -> None:
    with pytest.raises(PoolError, match="rank 1 was ended by SIGKILL"):
        pool.run(fail, [1], "kill")
    assert len(pool.run(place)) == 2


def test_a_rank_that_died_between_two_runs_is_reported(pool: ProcessPool) -> None:
    os.kill(pool.run(place)[0][2], signal.SIGKILL)
    with pytest.raises(PoolError, match="rank 0 was ended by SIGKILL"):
        pool.run(place)
    assert len(pool.run(place)) == 2


def test_a_rank_that_does_not_answer_is_reported(pool: ProcessPool) -> None:
    with pytest.raises(TimeoutError, match=r"ranks \[0\] did not answer within 0.5 s"):
        pool.run(fail, [0], "sleep", timeout_s=0.5)


def test_a_setup_that_fails_is_raised_here() -> None:
    with (
        ProcessPool(1, "ssvideo_core.no_such_module:setup") as broken,
        pytest.raises(ModuleNotFoundError, match="no_such_module"),
    ):
        broken.run(place)


def test_pools_are_shared_by_size() -> None:
    assert pool_of(3, SETUP) is pool_of(3, SETUP)
    assert pool_of(3, SETUP) is not pool_of(2, SETUP)
    with pytest.raises(ValueError, match="at least 1"):
        ProcessPool(0)


PROGRAM = """
    import sys
    import time
    from pathlib import Path

    import numpy as np
    from ssvideo_core import batches, checkpoints

    SAMPLE = batches.Sample(index=0, label=0, clips=(), params=())

    if __name__ == "__main__":
        run, step_s, code = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
        newest = checkpoints.newest_checkpoint(run)
        done = checkpoints.load_checkpoint(newest).step if newest else 0
        with (run / "starts").open("a") as file:
            print(done, Path(sys.argv[0]).name, __spec__ and __spec__.name, file=file)
        for step in range(done + 1, 7):
            batches.collate([SAMPLE])
            time.sleep(step_s)
            if step % 2 == 0:
                checkpoints.save_checkpoint(run, step, {"x": np.arange(step)}, facts={})
        sys.exit(code)
"""


@dataclass(frozen=True)
class Program:
    """Six steps with a checkpoint after each second one; starts are noted in a file."""

    run: Path
    env: dict[str, str]

    def command(self, *, module: bool = True, step_s: float = 0.0, code: int = 0) -> list[str]:
        program = ["-m", "killed_program"] if module else [str(self.run / "killed_program.py")]
        return [sys.executable, *program, str(self.run), str(step_s), str(code)]

    def starts(self) -> list[str]:
        return (self.run / "starts").read_text().splitlines()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "killed_program.py").write_text(textwrap.dedent(PROGRAM))
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return Program(tmp_path, {"PYTHONPATH": os.pathsep.join(path)})


@pytest.mark.parametrize("module", [True, False])
def test_kills_come_at_their_batch_and_their_checkpoint(program: Program, module: bool) -> None:
    kill_and_continue(
        program.command(module=module), ["batch:4", "save:2", "batch:1"], env=program.env
    )
    name = "killed_program.py"
    spec = "killed_program" if module else "None"
    # Killed in step 4, before its checkpoint; in the checkpoint of step 6; in step 5; not at all.
    assert program.starts() == [f"{done} {name} {spec}" for done in (0, 2, 4, 4)]
    newest = checkpoints.newest_checkpoint(program.run)
    assert newest is not None
    assert checkpoints.load_checkpoint(newest).step == 6


def test_a_checkpoint_killed_halfway_is_a_draft_with_half_a_manifest(program: Program) -> None:
    killed = [sys.executable, "-m", "ssvideo_core.testing.kill_at", "save:1", "--"]
    code, _ = run_command([*killed, *program.command()[1:]], env=program.env)
    assert code == -signal.SIGKILL
    (manifest,) = program.run.glob("**/manifest.json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(manifest.read_text())
    assert checkpoints.newest_checkpoint(program.run) is None


def test_a_kill_after_a_time(program: Program) -> None:
    killed = [sys.executable, "-m", "ssvideo_core.testing.kill_at", "time:0.3", "--"]
    code, _ = run_command([*killed, *program.command(step_s=60)[1:]], env=program.env)
    assert code == -signal.SIGKILL


def test_a_time_after_the_end_kills_nothing(program: Program) -> None:
    kill_and_continue(program.command(), ["time:600", "batch:1"], env=program.env)
    assert len(program.starts()) == 1


def test_a_moment_that_does_not_come_is_a_failure(program: Program) -> None:
    with pytest.raises(AssertionError, match=r"expected a kill at 'batch:7'.* exit code 0"):
        kill_and_continue(program.command(), ["batch:7"], env=program.env)


def test_a_command_that_fails_after_the_kill_is_a_failure(program: Program) -> None:
    with pytest.raises(AssertionError, match=r"after kills at batch:1 .* exit code 3"):
        kill_and_continue(program.command(code=3), ["batch:1"], env=program.env)


@pytest.mark.parametrize("moment", ["batch:0", "batch:1.5", "save:-1", "time:nan", "step:1", ""])
def test_moments_that_make_no_sense_are_refused(moment: str) -> None:
    with pytest.raises(ConfigError, match="expected batch:N, save:N or time:SECONDS"):
        kill_at.arm(moment)


@pytest.mark.parametrize("arguments", [[], ["batch:1"], ["batch:1", "-m", "x"], ["time:9", "--"]])
def test_commands_that_cannot_be_read_are_refused(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ssvideo_core.testing.kill_at", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "MOMENT -- -m MODULE args" in done.stderr
