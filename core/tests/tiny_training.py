"""A training command in NumPy that keeps every promise of the battery, or breaks a named one."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ssvideo_core import batches, checkpoints
from ssvideo_core.batches import Batch, Position, Sample, Task
from ssvideo_core.errors import EXIT_OK, EXIT_REQUEUE
from ssvideo_core.interruption import Interruption
from ssvideo_core.metrics import MetricsLog
from ssvideo_core.randomness import generator
from ssvideo_core.views import Clip
from ssvideo_core.weights.tensors import write_safetensors

NUM_SAMPLES, BATCH, EPOCHS, SAVE_EVERY = 20, 4, 4, 3
BREAKS = [
    *("momentum", "queue", "position", "clock", "metrics", "encoder"),
    *("deaf", "no-save", "slow", "process", "share"),
]


class Load:
    """Sample of a task: pixels of the index, a flip drawn for epoch and index."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def __call__(self, task: Task) -> Sample:
        seed = os.getpid() if self.broken == "process" else 1
        flip = generator(seed, task.epoch, task.index, "views").random()
        frames = generator(2, task.index).integers(0, 256, (1, 2, 2, 3), np.uint8)
        clip = Clip(frames, None)
        return Sample(task.index, task.index % 2, (clip,), ({"flip": np.array(flip)},))


def gradient(batch: Batch, weights: Any, shares: int, broken: str) -> tuple[float, Any]:
    """Loss and gradient of least squares; a mean over `shares` parts, as ranks would make it."""
    frames = batch.views[0].frames
    assert frames is not None
    inputs = frames.reshape(len(batch.label), -1) / 255 + batch.views[0].params["flip"][:, None]
    errors = inputs @ weights - batch.label
    parts = [
        (errors[part], inputs[part]) for part in np.array_split(np.arange(len(errors)), shares)
    ]
    total = sum(e @ x for e, x in parts) / (BATCH if broken != "share" else BATCH / shares)
    return float((errors**2).mean()), total


def fresh() -> dict[str, Any]:
    return {
        "weights": np.linspace(-0.1, 0.1, 12),
        "momentum": np.zeros(12),
        "position": Position().to_json(),
    }


def train(args: argparse.Namespace) -> int:
    run, broken = args.out / args.below, args.broken
    step, state, queue = 0, fresh(), np.zeros(6)
    if newest := checkpoints.newest_checkpoint(run / "checkpoints"):
        saved = checkpoints.load_checkpoint(newest)
        step, state, queue = saved.step, saved.state, saved.local["queue"]
        state["momentum"] = np.zeros(12) if broken == "momentum" else state["momentum"]
        queue = np.zeros(6) if broken == "queue" else queue
    position = Position.from_json(state["position"])
    if broken == "position":
        position = Position(position.epoch)

    def save() -> None:
        local = {"queue": queue}
        checkpoints.save_checkpoint(run / "checkpoints", step, state, facts={}, local=local)

    made = batches.batches(
        Load(broken),
        num_samples=NUM_SAMPLES,
        global_batch_size=BATCH,
        epochs=EPOCHS,
        seed=0,
        position=position,
        workers=args.workers,
    )
    lines_from = 10**6 if broken == "metrics" else step
    log = MetricsLog(run, step=lines_from, tensorboard=False)
    with closing(made), Interruption() as interruption, log:
        for after, batch in made:
            start_s = time.monotonic()
            time.sleep(args.step_s)
            loss, slope = gradient(batch, state["weights"], args.shares, broken)
            if broken == "clock":
                slope = slope * (1 + time.time() % 1)
            state["momentum"] = 0.9 * state["momentum"] + slope + 1e-3 * queue.mean()
            state["weights"] = state["weights"] - 0.01 * state["momentum"]
            queue = np.append(queue[1:], loss)
            state["position"], step = after.to_json(), step + 1
            log.write(step, {"loss": loss, "step_time_s": time.monotonic() - start_s})
            stopping = interruption.requested is not None and broken != "deaf"
            if step % SAVE_EVERY == 0 or (stopping and broken not in ("no-save", "slow")):
                save()
            if stopping and broken != "slow":
                return EXIT_REQUEUE
        save()
    encoder = {"weights": state["weights"] + (time.time() if broken == "encoder" else 0)}
    write_safetensors(run / "encoder.safetensors", encoder, {"architecture": "tiny", "clip": "1"})
    return EXIT_REQUEUE if broken == "slow" and interruption.requested else EXIT_OK


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--below", default=".", help="where in OUT the run folder is")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--shares", type=int, default=1)
    parser.add_argument("--step_s", type=float, default=0.0)
    parser.add_argument("--broken", choices=BREAKS, default="")
    return train(parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
