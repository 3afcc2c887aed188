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

import pytest
from ssvideo_core import checkpoints
from ssvideo_core.errors import ConfigError
from ssvideo_core.testing import kill_at
from ssvideo_core.testing.programs import (
    Launch,
    kill_and_continue,
    preload,
    run_command,
    run_together,
    start,
)

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


SAYS = """
    import os
    import sys
    import time

    print(*sys.argv[1:], os.environ.get("PLACE"), os.getcwd(), flush=True)
    print("numpy" in sys.modules, __spec__.name, file=sys.stderr, flush=True)
    if "sleep" in sys.argv:
        time.sleep(60)
    sys.exit(3)
"""


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that says what it finds, and ends with 3."""
    (tmp_path / "says.py").write_text(textwrap.dedent(SAYS))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return [sys.executable, "-m", "says", "a b"]


@pytest.fixture
def warm() -> Iterator[None]:
    preload("numpy")
    yield
    preload()


@pytest.mark.parametrize("cold", [True, False])
def test_a_warm_program_differs_in_what_is_imported_only(
    says: list[str], warm: None, tmp_path: Path, cold: bool
) -> None:
    code, printed = run_command(says, cwd=tmp_path, env={"PLACE": "here"}, cold=cold)
    assert code == 3
    assert printed.splitlines() == [f"a b here {tmp_path}", f"{not cold} says"]


def test_a_warm_program_ends_by_a_signal(says: list[str], warm: None, tmp_path: Path) -> None:
    program = start(Launch([*says, "sleep"]), tmp_path / "log")
    until = time.monotonic() + 60
    while b"says" not in (tmp_path / "log").read_bytes() and time.monotonic() < until:
        time.sleep(0.01)
    assert program.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.01)
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == -signal.SIGTERM


def test_a_warm_program_is_killed_at_its_moment(program: Program, warm: None, monkeypatch) -> None:
    monkeypatch.syspath_prepend(program.run)
    kill_and_continue(program.command(), ["batch:4", "save:2"])
    assert program.starts() == [f"{done} killed_program.py killed_program" for done in (0, 2, 4)]


def test_one_that_fails_does_not_leave_the_others_waiting(says: list[str], warm: None) -> None:
    found = run_together([Launch([*says, "sleep"]), Launch(says, {"PLACE": "2"})])
    assert [code for code, _ in found] == [-signal.SIGKILL, 3]
    assert found[1][1].startswith("a b 2 ")


@pytest.mark.parametrize("cold", [True, False])
def test_a_program_that_takes_too_long(says: list[str], warm: None, cold: bool) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_command([*says, "sleep"], timeout_s=0.5, cold=cold)
