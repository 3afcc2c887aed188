"""STiCA's learning rate, which follows iterations; its optimiser is `optim.make_sgd`."""

from __future__ import annotations

import math

from gdt_stica.choices import check_choice

KINDS = ("constant", "cosine")


def iteration_rate(
    iteration: int,
    *,
    iterations_per_epoch: int,
    epochs: int,
    base_rate: float,
    warmup_epochs: int = 10,
    start_rate: float = 1e-3,
    final_rate: float = 0.0,
    kind: str = "constant",
) -> float:
    """The learning rate of an iteration (counted from 0 over the whole run).

    The warm-up goes evenly from start_rate to base_rate, both included; so base_rate comes once
    before the warm-up ends. A warm-up of 0 epochs, with which the original crashes, is none; one of
    a single iteration stays at start_rate.
    kind: "constant" stays at base_rate, "cosine" falls slowly to final_rate, which the iteration
    after the last one would have. Rates are not scaled by the batch or the number of processes.
    Raises ConfigError for an unknown kind.
    """
    check_choice(f"kind '{kind}'", kind, KINDS)
    warm_up = iterations_per_epoch * warmup_epochs
    if iteration < warm_up:
        share = iteration / max(warm_up - 1, 1)
        return start_rate + (base_rate - start_rate) * share
    if kind == "constant":
        return base_rate
    length = iterations_per_epoch * epochs - warm_up
    cosine = math.cos(math.pi * (iteration - warm_up) / length)
    return final_rate + (base_rate - final_rate) * (1 + cosine) / 2
