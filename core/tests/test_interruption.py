from __future__ import annotations

import logging
import os
import signal
import stat
from pathlib import Path

import pytest
from ssvideo_core.interruption import Interruption, ending_at_once, requeue

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    with Interruption() as interruption:
        assert interruption.requested is None
        os.kill(os.getpid(), number)
        assert interruption.requested is number
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert f"{number.name}: stopping after this step" in capfd.readouterr().err


def test_the_first_signal_counts() -> None:
    with Interruption() as interruption:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert interruption.requested is signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_back_after_an_error() -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    with pytest.raises(ZeroDivisionError), Interruption():
        _ = 1 / 0
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name which notes its arguments; the file of notes."""
    program, notes = tmp_path / "scontrol", tmp_path / "notes"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {notes}\ntest "$2" != 13 || {{ echo no >&2; exit 1; }}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return notes


def test_slurm_is_asked_to_queue_the_job_again(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    for number in (signal.SIGTERM, signal.SIGINT, None):
        requeue(number)
    assert not scontrol.exists()
    requeue(signal.SIGUSR1)
    assert scontrol.read_text() == "requeue 42\n"
    assert caplog.messages == ["SLURM job 42 is queued again"]


def test_outside_slurm_nothing_happens(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    requeue(signal.SIGUSR1)
    assert not scontrol.exists()


def test_a_refusal_is_said(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    requeue(signal.SIGUSR1)
    assert "scontrol requeue 13 failed (no\n)" in caplog.text
    monkeypatch.setenv("PATH", "/nowhere")
    requeue(signal.SIGUSR1)
    assert "No such file" in caplog.messages[1]
    monkeypatch.setenv("SLURM_JOB_ID", "42; rm -r x")
    requeue(signal.SIGUSR1)
    assert "expected a number" in caplog.messages[2]
    assert scontrol.read_text() == "requeue 13\n"


@pytest.mark.parametrize(
    ("number", "rank", "queued"),
    [
        (signal.SIGUSR1, {}, True),
        (signal.SIGUSR1, {"SLURM_PROCID": "0"}, True),
        (signal.SIGUSR1, {"SLURM_PROCID": "1"}, False),
        (signal.SIGUSR1, {"SLURM_PROCID": "0", "RANK": "3"}, False),
        (signal.SIGTERM, {}, False),
        (signal.SIGINT, {}, False),
    ],
)
def test_a_job_that_ends_before_its_first_step_is_queued_again(
    number: signal.Signals,
    rank: dict[str, str],
    queued: bool,
    scontrol: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"SLURM_JOB_ID": "42", **rank}.items():
        monkeypatch.setenv(name, value)
    # A job in the background of a shell begins with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ending_at_once():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGINT, before)
    assert scontrol.exists() == queued


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_where_nothing_is_lost_a_signal_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ending_at_once():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
