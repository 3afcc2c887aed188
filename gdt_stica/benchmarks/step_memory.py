"""Peak memory of a training step on the CPU: python gdt_stica/benchmarks/step_memory.py

Networks of full width, clips of 30 x 56 x 56 with a second of sound, float32, one process each.
Prints CSV: MB that the step adds to the process' peak (beyond the network and its optimiser), a
clip's share of it, and seconds. Hypothesis 1 has one copy of a clip, 8 has four.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator

from ssvideo_core.testing.benchmarks import peak_mb, publish

CASES = ("gdt h1", "gdt h8", "stica, average", "stica, two layers")
FRAMES, SIZE, FILTERS, SOUND_FRAMES = 30, 56, 40, 99


def measure(case: str, batch: int) -> None:
    """Print what one step of `case` adds, in a process of its own."""
    import torch
    from ssvideo_torch.start import Process

    torch.set_num_threads(1)
    process = Process(0, 1, 0, torch.device("cpu"))
    step = gdt_step(case, batch, process) if case.startswith("gdt") else stica_step(case, batch)
    before, began = peak_mb(), time.monotonic()
    step()
    added, seconds = peak_mb() - before, time.monotonic() - began
    print(f"{added:.0f} {added / batch:.0f} {seconds:.1f}")


def gdt_step(case, batch, process):
    import torch
    from gdt_stica.architecture import Architecture
    from gdt_stica.model import build
    from gdt_stica.objective import HYPOTHESES
    from gdt_stica.training import make_state, train_step

    hypothesis = int(case[-1])
    options = {"momentum": 0.9, "weight_decay": 1e-5, "sync_bn": False, "precision": "float32"}
    state = make_state(build(Architecture()), process, **options)
    copies = {
        copy: (
            torch.randn(batch, 3, FRAMES, SIZE, SIZE),
            torch.randn(batch, 1, FILTERS, SOUND_FRAMES),
        )
        for copy in HYPOTHESES[hypothesis].copies
    }
    return lambda: train_step(
        state,
        copies,
        process,
        step=0,
        rate=0.01,
        hypothesis=hypothesis,
        temperature=0.07,
        negatives="released",
        precision="float32",
        seed=0,
    )


def stica_step(case, batch):
    import numpy as np
    import torch
    from gdt_stica.architecture import Architecture
    from gdt_stica.feature_crops import draw_boxes
    from gdt_stica.model_stica import STiCA
    from gdt_stica.stica_embeddings import StepEmbeddings
    from gdt_stica.stica_objective import stica_step_loss
    from ssvideo_torch.start import Process

    layers = 2 if "two" in case else 0
    network = STiCA(Architecture(model="stica", num_layer=layers)).train()
    numbers = {"num_large": 2, "num_small": 4, "num_large_t": 2, "num_small_t": 1}
    boxes = tuple(
        draw_boxes(np.random.default_rng(view), **numbers, map_size=(4, 7, 7), rule="released")
        for view in range(2)
    )
    videos = tuple(torch.randn(batch, 3, FRAMES, SIZE, SIZE) for _ in range(2))
    sound = torch.randn(batch, 1, FILTERS, SOUND_FRAMES)
    options = {"temperature": 0.5, "alpha": 0.5, "precision": "float32"}
    process = Process(0, 1, 0, torch.device("cpu"))
    forward = StepEmbeddings(network)
    return lambda: stica_step_loss(
        forward, videos, sound, boxes, process, **options
    ).loss.backward()


def rows(batch: int) -> Iterator[list[object]]:
    for case in CASES:
        words = [sys.executable, __file__, "--case", case, "--batch", str(batch)]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        yield [case, batch, *done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        measure(options.case, options.batch)
        return
    columns = ("step", "clips", "added_mb", "mb_a_clip", "seconds")
    publish("step_memory", columns, rows(options.batch), packages=("torch", "numpy"))


if __name__ == "__main__":
    main()
