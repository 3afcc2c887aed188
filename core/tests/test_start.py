from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ssvideo_core.errors import ConfigError, DataError, SSVideoError
from ssvideo_core.testing.processes import pool_of
from ssvideo_torch.place import Place
from ssvideo_torch.start import Process, choose_device, start

WAIT_S = 240

SECOND = Place(1, 4, 1, "env://", "torchrun")
TASK = Place(5, 8, 3, "tcp://a:1", "srun")


@pytest.mark.parametrize(
    ("device", "place", "num_gpus", "expected"),
    [
        ("cpu", Place(), 8, "cpu"),
        ("cpu", SECOND, 0, "cpu"),
        ("cuda", Place(), 2, "cuda:0"),
        ("cuda:1", Place(), 2, "cuda:1"),
        ("cuda", SECOND, 2, "cuda:1"),
        ("cuda", TASK, 4, "cuda:3"),
        ("cuda", TASK, 1, "cuda:0"),
    ],
)
def test_the_device_of_a_process(device: str, place: Place, num_gpus: int, expected: str) -> None:
    assert choose_device(device, place, num_gpus) == torch.device(expected)


@pytest.mark.parametrize(
    ("device", "place", "num_gpus", "message"),
    [
        ("cuda", Place(), 0, "finds no GPU on this machine; add --device cpu"),
        ("cuda:1", Place(), 1, "wants cuda:1, but this machine shows 1"),
        ("cuda", SECOND, 1, "wants cuda:1, but this machine shows 1"),
        ("cuda", TASK, 2, "wants cuda:3, but this machine shows 2"),
        ("cuda:0", SECOND, 4, "one GPU to all 4 processes"),
        ("cuda", Place(1, 2, None, "tcp://a:1", "flags"), 4, "add --local_rank=N"),
        ("gpu", Place(), 4, "--device is 'gpu', expected cpu, cuda or cuda:N"),
        ("meta", Place(), 4, "--device is 'meta', expected cpu, cuda or cuda:N"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    device: str, place: Place, num_gpus: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_device(device, place, num_gpus)


def test_a_lone_process_makes_no_group() -> None:
    with start("cpu") as process:
        assert not dist.is_initialized()
        assert (process.rank, process.world_size, process.local_rank) == (0, 1, 0)
        assert process.is_main
        process.barrier()
        values = torch.arange(3.0, requires_grad=True)
        gathered = process.gather(values)
        assert torch.equal(gathered, torch.tensor([[0.0, 1.0, 2.0]]))
        assert not gathered.requires_grad
        gathered.zero_()
        assert values.sum() == 3, "what was gathered is a copy"
        assert [process.agreed(flag) for flag in (False, True)] == [False, True]


def gather_shares(process: Process, dtype: torch.dtype) -> list[Any]:
    own = torch.full((2, 3), process.rank + 1.0, requires_grad=True).to(dtype)
    gathered = process.gather(own.T)
    number = process.gather(torch.tensor(process.rank))
    return [gathered, gathered.requires_grad, number, process.is_main, torch.get_num_threads()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_everyone_gathers_the_same(dtype: torch.dtype) -> None:
    expected = torch.stack([torch.full((3, 2), rank + 1.0) for rank in range(2)]).to(dtype)
    for rank, result in enumerate(pool_of(2).run(gather_shares, dtype)):
        gathered, requires_grad, number, is_main, threads = result
        assert gathered.dtype == dtype
        assert torch.equal(gathered, expected)
        assert not requires_grad
        assert number.tolist() == [0, 1]
        assert is_main == (rank == 0)
        assert threads == 1


def agree(process: Process, flags: Sequence[Sequence[bool]]) -> list[bool]:
    answers = []
    for step in flags:
        time.sleep(0.02 * process.rank)  # ranks are not at the same place
        answers.append(process.agreed(step[process.rank]))
    process.agreed(False)  # the answer to the last step, for the next test
    return answers


@pytest.mark.parametrize("speaker", [(0,), (1,), (0, 1)])
def test_all_ranks_stop_at_the_step_after_one_said_so(speaker: tuple[int, ...]) -> None:
    flags = [[step == 2 and rank in speaker for rank in range(2)] for step in range(5)]
    expected = [False, False, False, True, False]
    assert pool_of(2).run(agree, flags) == [expected, expected]


def wait_for_the_slow(process: Process, folder: Path) -> bool:
    if process.rank == 1:
        time.sleep(0.3)
        (folder / "done").touch()
    process.barrier()
    return (folder / "done").exists()


def test_a_barrier_waits_for_all(tmp_path: Path) -> None:
    assert pool_of(2).run(wait_for_the_slow, tmp_path) == [True, True]


PROGRAM = """
import argparse
import torch
import torch.distributed as dist
from ssvideo_core.errors import exit_code
from ssvideo_torch.start import start

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", "--local-rank", type=int, default=-1)
    parser.add_argument("--dist_url", default="env://")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--world_size", type=int)
    parser.add_argument("--fail", type=int, default=-1)
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with start("cpu", dist_url=args.dist_url, local_rank=args.local_rank, rank=args.rank,
               world_size=args.world_size, timeout_s=args.timeout) as process:
        values = process.gather(torch.tensor(float(process.rank))).tolist()
        process.agreed(True)
        line = f"rank {process.rank} local {process.local_rank} {dist.get_backend()} {values}"
        print(line, flush=True)
        if process.rank == args.fail:
            raise ValueError("a bug in one rank")
        if args.fail >= 0:
            process.barrier()
    assert not dist.is_initialized()
    return 0

raise SystemExit(exit_code("program", main))
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "program.py").write_text(PROGRAM)
    return str(tmp_path / "program.py")


def run(commands: Sequence[Sequence[str]], **environ: str) -> list[tuple[int, str]]:
    """All at the same time; exit code and output of each."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen([sys.executable, *c], env=env, **pipes) for c in commands]
    try:
        outputs = [process.communicate(timeout=WAIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, out) for process, out in zip(started, outputs, strict=True)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


LINES = [f"rank {rank} local {rank} gloo [0.0, 1.0]" for rank in range(2)]


def test_processes_of_a_launcher_of_torch_meet(program: str) -> None:
    """torch.distributed.launch is torchrun that passes --local-rank besides."""
    launcher = ["-m", "torch.distributed.launch", "--standalone", "--nproc_per_node=2"]
    ((code, printed),) = run([[*launcher, program]])
    assert code == 0, printed
    assert all(line in printed for line in LINES), printed


def test_processes_meet_by_flags_and_an_error_in_one_ends_the_others(program: str) -> None:
    flags = [program, "--dist_url", f"tcp://127.0.0.1:{free_port()}", "--world_size", "2"]
    flags += ["--fail=1", f"--timeout={10 * WAIT_S}"]  # else the end of it could be what ends them
    (first, told), (second, printed) = run(
        [[*flags, f"--rank={rank}", f"--local_rank={rank}"] for rank in range(2)]
    )
    assert LINES[0] in told
    assert LINES[1] in printed
    assert (first, second) == (2, 1)
    assert "rank 0 lost its connection to another process" in told
    assert "a bug in one rank" in printed


def test_a_rank_that_nobody_meets_says_so(program: str, tmp_path: Path) -> None:
    meeting = f"file://{tmp_path}/meeting"
    flags = [program, "--dist_url", meeting, "--world_size=2", "--rank=0", "--timeout=1"]
    ((code, printed),) = run([flags])
    assert code == 2, printed
    assert f"rank 0 of 2 did not meet the others at {meeting} within 1 s" in printed


def test_a_meeting_file_needs_its_folder(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'none' / 'x'}"
    with (
        pytest.raises(ConfigError, match="there is no folder"),
        start("cpu", dist_url=url, rank=0, world_size=2),
    ):
        pass


def say_together(process: Process, guilty: int) -> str:
    def action() -> str:
        if process.rank == guilty:
            raise DataError("the list is empty")
        return f"rank {process.rank} is done"

    try:
        return process.together(action)
    except SSVideoError as error:
        return f"{type(error).__name__}: {error}"


def test_together_everyone_hears_of_an_error() -> None:
    assert pool_of(2).run(say_together, 5) == ["rank 0 is done", "rank 1 is done"]
    assert pool_of(2).run(say_together, 1) == [
        "SSVideoError: rank 1: the list is empty",
        "DataError: the list is empty",
    ]
