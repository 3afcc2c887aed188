"""How long `--help` takes: python core/benchmarks/help_times.py

Prints CSV: command, median and longest of several runs in seconds, start of the interpreter
included. Every installed method and its subcommands; each should stay below 1 s.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from ssvideo_core.methods import discover
from ssvideo_core.testing.benchmarks import publish

RUNS = 5
SUBCOMMANDS = ("", "extract", "evaluate", "recipes")


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", *words, "--help"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> None:
    commands = [[name, word] for name in discover() for word in SUBCOMMANDS]
    commands += [["ssvideo_core", ""], ["ssvideo_core", "check-data"]]
    if importlib.util.find_spec("shared_eval") is not None:
        commands += [["shared_eval", ""], ["shared_eval", "run"]]

    def rows() -> Iterator[tuple[object, ...]]:
        for command in commands:
            words = [word for word in command if word]
            times = [seconds(words) for _ in range(RUNS)]
            yield " ".join(words), f"{statistics.median(times):.2f}", f"{max(times):.2f}"

    publish("help_times", ("command", "median_s", "longest_s"), rows(), packages=["ssvideo-core"])


if __name__ == "__main__":
    main()
