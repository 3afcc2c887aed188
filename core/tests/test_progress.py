from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from ssvideo_core.progress import Meter, Progress, ProgressLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_a_line_says() -> None:
    progress = Progress(done=30, total=100, resumed=10, failed=2, elapsed_s=40.0, waiting_s=10.0)
    assert (progress.rate, progress.waiting_share) == (0.5, 0.25)
    assert str(progress) == (
        "30/100 videos, 0.5/s, 2 min 20 s left, 25 % of the time waiting for data, "
        "2 without a result"
    )
    slow = Progress(done=1, total=7201, resumed=0, failed=0, elapsed_s=1.0, waiting_s=0.0)
    assert "2 h 00 min left" in str(slow)
    start = Progress(done=0, total=5, resumed=0, failed=0, elapsed_s=0.0, waiting_s=0.0)
    assert str(start).startswith("0/5 videos, 0.0/s, unknown time left, 0 % of")


def at(done: int) -> Progress:
    return Progress(done=done, total=5, resumed=0, failed=0, elapsed_s=1.0, waiting_s=0.0)


@pytest.mark.parametrize(("terminal", "shown"), [(False, [3, 5]), (True, [2, 3, 4, 5])])
def test_lines_come_at_intervals_and_at_the_end(terminal: bool, shown: list[int]) -> None:
    now = [0.0]
    file = Terminal() if terminal else io.StringIO()
    lines = ProgressLines(10.0, file, clock=lambda: now[0])
    for done, now[0] in enumerate([0.4, 5.0, 10.0, 10.6, 10.7], start=1):
        lines(at(done))
    if terminal:
        expected = "".join(f"\r\x1b[K{at(done)}" for done in shown) + "\n"
    else:
        expected = "".join(f"{at(done)}\n" for done in shown)
    assert file.getvalue() == expected


def test_the_meter_tells_waiting_from_working(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ssvideo_core.progress.time.monotonic", lambda: now[0])
    reports: list[Progress] = []
    meter = Meter(total=6, resumed=4, report=reports.append)

    def slow_items() -> Iterator[str]:
        for item in ("a", "b"):
            now[0] += 2
            yield item

    for item in meter.watch(slow_items()):
        now[0] += 3
        meter.advance(failed=item == "b")
    assert reports == [Progress(5, 6, 4, 0, 5.0, 2.0), Progress(6, 6, 4, 1, 10.0, 4.0)]
