from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core.testing.processes import (
    PoolError,
    ProcessPool,
    pool_of,
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
