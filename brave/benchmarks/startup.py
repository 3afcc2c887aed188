"""How long commands take to answer `--help`, and imports: python brave/benchmarks/startup.py

Each in a fresh process of an interpreter that starts in about 20 ms. Prints CSV: median and longest
of several runs by the clock, the median of the processor's time (which other work on the machine
hardly changes), all in seconds, and which of the heavy libraries were loaded. `--help` and
`import brave` should stay below 1 s and load no framework.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from ssvideo_core.testing.benchmarks import publish

RUNS = 5
HEAVY = ("jax", "flax", "optax", "torch", "tensorflow", "sklearn", "av", "ml_collections")
SUBCOMMANDS = (
    *("describe", "extract", "evaluate", "recipes"),
    *("check-data", "convert", "convert-data"),
)
COMMANDS = ("experiment", "evaluate_video_embeddings", "download_hmdb")
STATEMENTS = (
    "import brave",
    "import brave; brave.load_encoder",
    "import jax",
)
# Runs a module with --help as `python -m` does.
HELP = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
"""
LOADED = f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"


def run(words: Sequence[str]) -> tuple[float, float]:
    """Seconds of a process by the clock and of the processor."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-P", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def loaded(code: str, words: Sequence[str]) -> str:
    """Those of `HEAVY` that are loaded after `code`."""
    command = [sys.executable, "-P", "-c", code + LOADED, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return " ".join(done.stderr.split()) or "none"


def measure(name: str, words: Sequence[str], frameworks: str) -> tuple[object, ...]:
    walls, processor = zip(*(run(words) for _ in range(RUNS)), strict=True)
    times = statistics.median(walls), max(walls), statistics.median(processor)
    return name, *(f"{seconds:.2f}" for seconds in times), frameworks


def rows() -> Iterator[tuple[object, ...]]:
    commands = [["brave"], *(["brave", word] for word in SUBCOMMANDS)]
    commands += [[f"brave.{name}"] for name in COMMANDS]
    for command in commands:
        words = [*command, "--help"]
        yield measure(" ".join(words), ["-m", *words], loaded(HELP, words))
    for statement in STATEMENTS:
        yield measure(statement, ["-c", statement], loaded(statement, []))


def main() -> None:
    columns = ("what", "median_s", "longest_s", "processor_s", "loaded")
    publish("startup", columns, rows(), packages=["ssvideo-brave", "jax", "flax"])


if __name__ == "__main__":
    main()
