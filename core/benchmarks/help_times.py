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

from ssvideo_core.methods import discover

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
    print("command,median_s,longest_s")
    for command in commands:
        words = [word for word in command if word]
        times = [seconds(words) for _ in range(RUNS)]
        print(f"{' '.join(words)},{statistics.median(times):.2f},{max(times):.2f}", flush=True)


if __name__ == "__main__":
    main()
