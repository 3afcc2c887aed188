"""How long calls take, and what is asked of every script: one thread, --device."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch


def median_seconds(call: Callable[[], object], *, repeats: int, device: str = "cpu") -> float:
    """Of the processor for one thread, so that other work disturbs little; of the clock on a GPU.

    The first call is not counted.
    """
    clock = time.perf_counter if device == "cuda" else time.process_time
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for repeat in range(repeats + 1):
        wait()
        start = clock()
        call()
        wait()
        if repeat:
            times.append(clock() - start)
    return statistics.median(times)


def start(doc: str) -> tuple[str, str]:
    """Read --device and take one thread; returns the device, and what a table's name ends with.

    doc: of the script.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = str(parser.parse_args().device)
    torch.set_num_threads(1)
    return device, f"-{torch.cuda.get_device_name()}" if device == "cuda" else ""
