"""The command with one block in each unit of the networks, which compiles in seconds.

python tiny_experiment.py FLAGS, or: python tiny_experiment.py --processes N FLAGS
"""

from __future__ import annotations

import socket
import subprocess
import sys

import brave.architecture


def shortened(words: list[str]) -> int:
    brave.architecture.UNIT_BLOCKS = (1, 1, 1, 1)
    from brave.experiment import main

    return main(words)


def several(number: int, words: list[str]) -> int:
    """The same command in processes that meet on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(number)]
    command = [sys.executable, __file__, *words, *place, "--process-id"]
    started = [subprocess.Popen([*command, str(i)]) for i in range(number)]
    return max(abs(process.wait()) for process in started)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--processes"]:
        raise SystemExit(several(int(given[1]), given[2:]))
    raise SystemExit(shortened(given))
