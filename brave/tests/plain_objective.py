"""The heads, the loss and the optimiser written out in float64, one clip and one number at a time.

Axes: B clips, D numbers of a feature.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


def regression_loss(x: np.ndarray, y: np.ndarray, epsilon: float = 1e-5) -> float:
    total = 0.0
    for a, b in zip(np.asarray(x, np.float64), np.asarray(y, np.float64), strict=True):
        unit_a, unit_b = (v / max(math.sqrt(sum(v * v)), epsilon) for v in (a, b))
        total += 0.5 * sum((unit_a - unit_b) ** 2)
    return total / len(x)


def regression_gradient(x: np.ndarray, y: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    """Of `regression_loss`, by x: the difference, without its part along x where x was divided."""
    rows = []
    for a, b in zip(np.asarray(x, np.float64), np.asarray(y, np.float64), strict=True):
        norm_a, norm_b = (max(math.sqrt(sum(v * v)), epsilon) for v in (a, b))
        difference = a / norm_a - b / norm_b
        if norm_a > epsilon:
            difference = difference - (difference @ a) * a / norm_a**2
        rows.append(difference / norm_a / len(x))
    return np.array(rows)


def batch_norm(x: np.ndarray, weights: Arrays, name: str, seen: dict[str, list[Arrays]]) -> Any:
    """Training: (B, D) normalised with its own statistics, which are appended to seen[name]."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    seen.setdefault(name, []).append({"mean_ema": mean, "var_ema": variance})
    scale, offset = (weights[f"{name}/{part}"].ravel() for part in ("scale", "offset"))
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + offset


def heads(
    x: np.ndarray, weights: Arrays, root: str, seen: dict[str, list[Arrays]]
) -> tuple[np.ndarray, np.ndarray]:
    """(z, h) in training."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{root}/{name}/w"].astype(np.float64) + weights[f"{root}/{name}/b"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return batch_norm(x, weights, f"{root}/{name}", seen)

    hidden = np.maximum(norm(linear(x, "projector/linear"), "projector/batch_norm"), 0)
    z = norm(linear(hidden, "projector/linear_1"), "projector/batch_norm_1")
    hidden = np.maximum(norm(linear(z, "predictor/linear"), "predictor/batch_norm"), 0)
    return z, linear(hidden, "predictor/linear_1")


def moving_average(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(hidden, average) after these values in order."""
    hidden = sum(0.1 * 0.9 ** (len(values) - 1 - i) * value for i, value in enumerate(values))
    return np.asarray(hidden), np.asarray(hidden) / (1 - 0.9 ** len(values))


def warmup_cosine(step: int, *, start: float, peak: float, end: float, warmup: int, total: int):
    if step < warmup:
        return start + (peak - start) * step / warmup
    share = min((step - warmup) / (total - warmup), 1)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * share))


def piecewise_constant(step: int, *, start: float, scales: Mapping[int, float]) -> float:
    return start * math.prod(scale for boundary, scale in scales.items() if boundary <= step)


def factor(name: str, rules: Sequence[tuple[str, float]]) -> float:
    return math.prod(by for pattern, by in rules if re.match(pattern, name))


def is_bias_or_normaliser(name: str) -> bool:
    *modules, parameter = name.split("/")
    return parameter == "b" or any("norm" in module for module in modules)


def lars(
    params: Arrays,
    gradients: Sequence[Arrays],
    rates: Sequence[float],
    *,
    masks: str,
    rules: Sequence[tuple[str, float]],
    rules_at: str,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    trust_coefficient: float,
) -> list[dict[str, np.ndarray]]:
    """Parameters after each update."""
    now = {name: np.asarray(value, np.float64) for name, value in params.items()}
    moments = {name: np.zeros_like(value) for name, value in now.items()}
    steps = []
    for gradient, rate in zip(gradients, rates, strict=True):
        for name, p in now.items():
            by = factor(name, rules)
            g = np.asarray(gradient[name], np.float64) * (by if rules_at == "before_trust" else 1)
            if is_bias_or_normaliser(name) == (masks == "released"):
                g = g + weight_decay * p
                size_p, size_g = math.sqrt((p * p).sum()), math.sqrt((g * g).sum())
                if size_p and size_g:
                    g = g * trust_coefficient * size_p / size_g
            g = g * (by if rules_at == "after_trust" else 1) * -rate
            moments[name] = g + momentum * moments[name]
            now[name] = p + (g + momentum * moments[name] if nesterov else moments[name])
        steps.append(dict(now))
    return steps


def adamw(
    params: Arrays,
    gradients: Sequence[Arrays],
    rates: Sequence[float],
    *,
    masks: str,
    rules: Sequence[tuple[str, float]],
    rules_at: str,
    weight_decay: float,
    b1: float,
    b2: float,
    eps: float,
) -> list[dict[str, np.ndarray]]:
    """Parameters after each update."""
    now = {name: np.asarray(value, np.float64) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in now.items()}
    second = {name: np.zeros_like(value) for name, value in now.items()}
    steps = []
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        for name, p in now.items():
            by = factor(name, rules)
            g = np.asarray(gradient[name], np.float64) * (by if rules_at == "before_trust" else 1)
            first[name] = b1 * first[name] + (1 - b1) * g
            second[name] = b2 * second[name] + (1 - b2) * g * g
            update = (first[name] / (1 - b1**t)) / (np.sqrt(second[name] / (1 - b2**t)) + eps)
            if is_bias_or_normaliser(name) == (masks == "released"):
                update = update + weight_decay * p
            now[name] = p - rate * update * (by if rules_at == "after_trust" else 1)
        steps.append(dict(now))
    return steps
