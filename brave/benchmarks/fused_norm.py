"""A training step on two devices with one collective for each batch norm, or two.

    python brave/benchmarks/fused_norm.py

V/A with narrow networks (4 x 32 x 32 and 64 x 80 of sound, --width) on two devices that XLA makes
of this machine's processor. Plain averages a batch norm's mean and its mean of squares over the
devices one after the other (plain_norm.py), as the original's layer does. Ours averages both at
once. All else is the same: `training.make_train_step`. What a step makes of weights, momentum and
moving averages is asserted equal first.

Prints CSV: all-reduces in the step as it is lowered, and in what XLA compiles of it; seconds to
compile; medians of a step's milliseconds by the clock and of the processor over rounds that
alternate; the median of the rounds' ratios, plain to ours, by the clock. XLA itself combines
all-reduces that do not wait for each other; --no-combiner keeps it from that.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
import plain_norm
from brave.distributed import AXIS, Processes, start
from brave.model import BraVe
from brave.optim import make_optimizer
from brave.optimizer_settings import OptimizerSettings, ScheduleSettings
from brave.training import make_train_step
from brave.training_state import TrainingState, initial_state
from brave.views import ViewSpec
from ssvideo_core.testing.benchmarks import publish

# A rate from the first step on, and no factor that hides differences of small gradients.
OPTIMIZER = OptimizerSettings(
    weight_decay=0.0,
    trust_coefficient=1.0,
    schedule=ScheduleSettings(name="piecewise_constant", init_value=0.01),
)
STEPS = 3  # of a round
HIDDEN_SIZE = 512


class Way:
    """A compiled step with a state of its own."""

    def __init__(self, model: BraVe, processes: Processes, inputs: dict[str, Any]) -> None:
        state = processes.replicate(initial_state(model, make_optimizer(OPTIMIZER), 0))
        step = make_train_step(model, OPTIMIZER, processes)
        lowered = step.lower(state, inputs, np.int32(0))
        self.lowered = count(r"stablehlo\.all_reduce", lowered.as_text())
        began = time.perf_counter()
        self.step = lowered.compile()
        self.compiling_s = time.perf_counter() - began
        self.compiled = count(r" all-reduce(?:-start)?\(", self.step.as_text())
        self.state, self.inputs = state, inputs

    def run(self, number: int) -> TrainingState:
        for _ in range(number):
            self.state, _ = self.step(self.state, self.inputs, np.int32(0))
        return jax.block_until_ready(self.state)

    def seconds(self) -> tuple[float, float]:
        """Of a step, by the clock and of the processor."""
        began, worked = time.perf_counter(), time.process_time()
        self.run(STEPS)
        return (time.perf_counter() - began) / STEPS, (time.process_time() - worked) / STEPS


def count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


def make_inputs(batch: int, processes: Processes) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inputs = {
        "narrow": rng.random((batch, 4, 32, 32, 3), np.float32),
        "audio": rng.random((batch, 64, 80), np.float32),
    }
    return jax.device_put(inputs, processes.spread)


def assert_equal(found: TrainingState, wanted: TrainingState) -> None:
    paths, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(wanted))
    for (path, want), got in zip(paths, jax.tree.leaves(jax.device_get(found)), strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6, err_msg=name)


def measure(width: float, batch: int, rounds: int) -> Iterator[tuple[object, ...]]:
    model = BraVe(
        ViewSpec("narrow", "rgb", 4, 2, 32, "tsm_resnet", width),
        (ViewSpec("audio", "sound", 8, 2, 32, "audio_resnet", width),),
        axis_name=AXIS,
        hidden_size=HIDDEN_SIZE,
    )
    with start(None, "cpu") as processes:
        inputs = make_inputs(batch, processes)
        ours = Way(model, processes, inputs)
        with patch("brave.networks.layers._statistics", plain_norm.statistics):
            plain = Way(model, processes, inputs)
        assert_equal(ours.run(1), plain.run(1))
        times = np.array([(plain.seconds(), ours.seconds()) for _ in range(rounds)])
    ratio = np.median(times[:, 0, 0] / times[:, 1, 0])
    for name, way, medians in zip(
        ("plain", "ours"), (plain, ours), np.median(times, 0), strict=True
    ):
        steps = (f"{1000 * seconds:.0f}" for seconds in medians)
        yield name, way.lowered, way.compiled, f"{way.compiling_s:.0f}", *steps, f"{ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--batch", type=int, default=4, help="of both devices together")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-combiner", action="store_true")
    options = parser.parse_args()
    flags = ["--xla_force_host_platform_device_count=2"]
    flags += [
        "--xla_disable_hlo_passes=all-reduce-combiner,cpu-all-reduce-combiner"
    ] * options.no_combiner
    # Before the first device is asked for, which is when XLA reads them.
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
    publish(
        "fused_norm" + "-no_combiner" * options.no_combiner,
        ("way", "lowered", "compiled", "compiling_s", "step_ms", "processor_ms", "ratio"),
        measure(options.width, options.batch, options.rounds),
        packages=["jax", "flax", "numpy"],
    )


if __name__ == "__main__":
    main()
