"""What every training command must pass, whatever its method and framework.

A method's tests give a function that builds the command, and call the checks:

    def command(out, *, workers=0, extra=()):
        flags = ["--recipe", "smoke", "--output_dir", str(out), "--workers", str(workers)]
        return [sys.executable, "-m", "vicc.main_single", *flags, *extra]

    def test_resume(tmp_path):
        check_resume(command, tmp_path, ["batch:3", "save:1"])

Runs are compared by their last checkpoint (every array bit by bit), the lines of metrics.jsonl
without times, and encoder.safetensors if there is one. `out` is the run folder, or has one or
several anywhere below it. All checks raise AssertionError, with what the command printed or with
what differs.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.checkpoint_files import CHECKPOINTS
from ssvideo_core.checkpoints import Saved, load_checkpoint, locate_checkpoint, newest_checkpoint
from ssvideo_core.errors import EXIT_REQUEUE
from ssvideo_core.randomness import generator
from ssvideo_core.testing.programs import (
    Launch,
    end,
    kill_and_continue,
    run_command,
    run_together,
    start,
)

TIMEOUT_S = 600.0
_POLL_S = 0.003
_TIMES = re.compile(r"(^|_)(time|waiting)(_|$)|_s$")  # names of metrics that no two runs share


class TrainingCommand(Protocol):
    """Builds the argument list, from the interpreter on, of a run that writes to `out`."""

    def __call__(self, out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]: ...


def check_resume(command: TrainingCommand, tmp_path: Path, moments: Sequence[str]) -> None:
    """A run killed at each moment in turn, each time started again, ends as one that ran through.

    moments: as `programs.kill_and_continue` takes them; the run must be long enough for all.
    Like the other checks it uses what `straight_run` made before for the same tmp_path.
    """
    expected = straight_run(command, tmp_path)
    out = tmp_path / "killed"
    kill_and_continue(command(out), moments, timeout_s=TIMEOUT_S)
    assert_same_runs(expected, out)


def check_random_kills(
    command: TrainingCommand, tmp_path: Path, *, n: int = 20, seed: int = 0
) -> None:
    """`check_resume` for n runs, each killed once at a random moment. For the session `stress`.

    They import all that they need themselves, because a kill may come then, too.
    """
    expected = tmp_path / "random-straight"
    start_s = time.monotonic()
    _run(command(expected))
    duration_s = time.monotonic() - start_s
    finals = [locate_checkpoint(run) for run in _run_folders(expected)]
    moments = random_moments(
        n,
        seed,
        batches=sum(load_checkpoint(final).step for final in finals),
        saves=sum(len(list(final.parent.glob("ckpt-*"))) for final in finals),
        duration_s=duration_s,
    )
    for number, moment in enumerate(moments):
        out = tmp_path / f"random-{number}"
        kill_and_continue(command(out), [moment], timeout_s=TIMEOUT_S, cold=True)
        assert_same_runs(expected, out, told=f"killed at {moment}")


def random_moments(
    n: int, seed: int, *, batches: int = 4, saves: int = 1, duration_s: float = 4.0
) -> list[str]:
    """n moments for a run of that many batches and checkpoints, at least, and of about that time.

    The same for the same arguments. A third of them are times: those hit what nobody thought of,
    such as the import of the framework or the end of the run.
    """
    rng = generator(seed, "moments")
    kinds = rng.integers(3, size=n)
    counts = {
        0: lambda: f"batch:{rng.integers(1, batches + 1)}",
        1: lambda: f"save:{rng.integers(1, saves + 1)}",
        2: lambda: f"time:{rng.uniform(0.05, duration_s):.3f}",
    }
    return [counts[int(kind)]() for kind in kinds]


def check_signal(command: TrainingCommand, tmp_path: Path) -> None:
    """SIGTERM after the first line of metrics: a checkpoint and exit 75, and it goes on as before.

    The run must last for some steps after its first line, else the signal comes too late.
    """
    expected = straight_run(command, tmp_path)
    out = tmp_path / "signalled"
    code, printed = _terminate_after_first_line(command(out), out, tmp_path / "signalled.log")
    if code != EXIT_REQUEUE:
        raise AssertionError(
            f"after SIGTERM the command ended with exit code {code}, expected {EXIT_REQUEUE} (with "
            f"0 it may have been over: give it more steps): {' '.join(command(out))}\n{printed}"
        )
    for run in _run_folders(out):
        if newest_checkpoint(run / CHECKPOINTS) is None:
            raise AssertionError(f"after SIGTERM there is no complete checkpoint in {run}")
    if _steps(out) == _steps(expected):
        raise AssertionError(
            "the run was over when SIGTERM was heeded; it must stop at the next step, or needs more"
        )
    _run(command(out))
    assert_same_runs(expected, out)


def check_workers(
    command: TrainingCommand, tmp_path: Path, *, workers: Sequence[int] = (1, 4)
) -> None:
    """Any number of worker processes gives the checkpoint that none gives."""
    expected = straight_run(command, tmp_path)
    for count in workers:
        out = tmp_path / f"workers-{count}"
        _run(command(out, workers=count))
        assert_same_checkpoints(expected, out, told=f"with {count} workers")


def check_ranks(
    single: Sequence[str],
    distributed: Sequence[Launch],
    *,
    single_out: Path,
    distributed_out: Path,
    rtol: float,
    atol: float = 0.0,
) -> None:
    """A run of one process and one of several end at the same state, up to rounding.

    distributed: see `torchrun` and `ranks`. Compares what all ranks share in the last checkpoints:
    floats as numpy.allclose does with rtol and atol, everything else exactly. Each rank's own state
    is not compared, because it is another one.
    """
    _run(single)
    for launch, (code, printed) in zip(
        distributed, run_together(distributed, timeout_s=TIMEOUT_S), strict=True
    ):
        _require_success(launch.command, code, printed)
    for expected, found in _pairs(single_out, distributed_out):
        states = (_last(expected), _last(found))
        _compare(_leaves(states[0].state), _leaves(states[1].state), str(found), rtol, atol)


def torchrun(command: Sequence[str], processes: int) -> list[Launch]:
    """The same command on several processes of this machine, by PyTorch's launcher."""
    python, *rest = command
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [Launch([python, *launcher, *rest])]


def ranks(command: Sequence[str], processes: int) -> list[Launch]:
    """The same command on several processes that are told their places as `torchrun` tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    places = [{"RANK": rank, "LOCAL_RANK": rank, **shared} for rank in range(processes)]
    return [Launch(command, {name: str(v) for name, v in place.items()}) for place in places]


def straight_run(command: TrainingCommand, tmp_path: Path) -> Path:
    """The output of a run that nothing disturbed, made once for all checks in one tmp_path."""
    out, done = tmp_path / "straight", tmp_path / "straight.done"
    if not done.exists():
        _run(command(out))
        done.touch()
    return out


def assert_same_runs(expected: Path, found: Path, *, told: str = "") -> None:
    """The runs below two outputs have the same checkpoint, metrics and encoder."""
    assert_same_checkpoints(expected, found, told=told)
    for one, other in _pairs(expected, found):
        _compare_metrics(one / "metrics.jsonl", other / "metrics.jsonl")
        if _encoder(one) != _encoder(other):
            raise AssertionError(f"{other}: encoder.safetensors is not the one of {one}")


def assert_same_checkpoints(expected: Path, found: Path, *, told: str = "") -> None:
    """The last checkpoints below two outputs are equal, those of all ranks, bit by bit."""
    for one, other in _pairs(expected, found):
        last, same = _last(one), _last(other)
        where = f"{same.folder} {told}".rstrip()
        if (last.step, last.world_size) != (same.step, same.world_size):
            raise AssertionError(
                f"{where} is of step {same.step} by {same.world_size} ranks, expected step "
                f"{last.step} by {last.world_size}"
            )
        _compare(_leaves(_of_all_ranks(last)), _leaves(_of_all_ranks(same)), where)


def _run(command: Sequence[str]) -> None:
    _require_success(command, *run_command(command, timeout_s=TIMEOUT_S))


def _require_success(command: Sequence[str], code: int, printed: str) -> None:
    if code != 0:
        raise AssertionError(f"exit code {code} of {' '.join(command)}\n{printed}")


def _terminate_after_first_line(command: Sequence[str], out: Path, log: Path) -> tuple[int, str]:
    """Exit code and what was printed; the signal is not sent to a command that has ended."""
    until = time.monotonic() + TIMEOUT_S
    program = start(Launch(command), log)
    try:
        while program.poll() is None and not _has_line(out):
            if time.monotonic() > until:
                raise AssertionError(f"no line of metrics after {TIMEOUT_S:g} s below {out}")
            time.sleep(_POLL_S)
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
        code = program.wait(TIMEOUT_S)
    finally:
        end(program)
    return code, log.read_text(errors="replace")


def _has_line(out: Path) -> bool:
    return any(b"\n" in file.read_bytes() for file in out.glob("**/metrics.jsonl"))


def _run_folders(out: Path) -> list[Path]:
    found = sorted(file.parent for file in out.glob("**/metrics.jsonl"))
    if not found:
        raise AssertionError(f"no run below {out}: there is no metrics.jsonl")
    return found


def _pairs(expected: Path, found: Path) -> list[tuple[Path, Path]]:
    ours, theirs = _run_folders(expected), _run_folders(found)
    names = [
        [str(run.relative_to(out)) for run in runs]
        for out, runs in ((expected, ours), (found, theirs))
    ]
    if names[0] != names[1]:
        raise AssertionError(f"below {found} there are runs {names[1]}, expected {names[0]}")
    return list(zip(ours, theirs, strict=True))


def _last(run: Path) -> Saved:
    return load_checkpoint(locate_checkpoint(run))


def _of_all_ranks(saved: Saved) -> dict[str, Any]:
    of = saved.world_size
    ranks = [load_checkpoint(saved.folder, rank=rank, world_size=of) for rank in range(of)]
    return {"state": saved.state, "rank": [loaded.local for loaded in ranks]}


def _steps(out: Path) -> list[int]:
    return [_last(run).step for run in _run_folders(out)]


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every array and value of a tree by its path; empty containers count as values."""
    if isinstance(tree, Mapping):
        items = [(key if isinstance(key, str) else repr([key]), tree[key]) for key in tree]
    elif isinstance(tree, list | tuple):
        items = [(str(number), value) for number, value in enumerate(tree)]
    else:
        items = []
    if not items:
        return {path: tree}
    return {
        name: leaf for key, value in items for name, leaf in _leaves(value, f"{path}/{key}").items()
    }


def _compare(
    expected: Mapping[str, Any],
    found: Mapping[str, Any],
    where: str,
    rtol: float = 0.0,
    atol: float = 0.0,
) -> None:
    if expected.keys() != found.keys():
        raise AssertionError(
            f"{where} lacks {sorted(expected.keys() - found.keys())} and has besides "
            f"{sorted(found.keys() - expected.keys())}"
        )
    problems = [
        f"{path}: {problem}"
        for path, value in expected.items()
        if (problem := _difference(value, found[path], rtol, atol))
    ]
    if problems:
        raise AssertionError("\n".join([f"{where} differs:", *problems]))


def _difference(expected: Any, found: Any, rtol: float, atol: float) -> str | None:
    if not (isinstance(expected, np.ndarray) and isinstance(found, np.ndarray)):
        close = isinstance(expected, float) and np.allclose(found, expected, rtol, atol)
        same = type(expected) is type(found) and (close or repr(expected) == repr(found))
        return None if same else f"{found!r}, expected {expected!r}"
    if (expected.dtype, expected.shape) != (found.dtype, found.shape):
        return f"{found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
    if expected.tobytes() == found.tobytes():
        return None
    return _array_difference(expected, found, rtol, atol)


def _array_difference(
    expected: NDArray[Any], found: NDArray[Any], rtol: float, atol: float
) -> str | None:
    # Not np.floating, because bfloat16 is no kind of NumPy's own.
    inexact = expected.dtype.kind not in "biuSU"
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    ours, theirs = expected.astype(wide), found.astype(wide)
    if inexact and (rtol or atol) and np.allclose(theirs, ours, rtol, atol, equal_nan=True):
        return None
    differing = np.count_nonzero(ours != theirs)
    return (
        f"{differing} of {ours.size} elements differ, by up to "
        f"{float(np.max(np.abs(ours - theirs))):.3g}; the largest is "
        f"{float(np.max(np.abs(ours))):.3g}"
    )


def _compare_metrics(expected: Path, found: Path) -> None:
    ours, theirs = _metrics(expected), _metrics(found)
    for number, (line, other) in enumerate(zip(ours, theirs, strict=False), 1):
        if line != other:
            raise AssertionError(f"{found}, line {number}: {other}, expected {line}")
    if len(ours) != len(theirs):
        raise AssertionError(f"{found} has {len(theirs)} lines, expected {len(ours)}")


def _metrics(path: Path) -> list[str]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{key: line[key] for key in sorted(line) if not _TIMES.search(key)} for line in lines]
    return [json.dumps(line) for line in kept]


def _encoder(run: Path) -> tuple[Any, bytes] | None:
    """Header, without the order of its entries, which may vary, and all tensors' bytes."""
    path = run / "encoder.safetensors"
    if not path.exists():
        return None
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]
