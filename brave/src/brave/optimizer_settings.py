"""The choices of the optimiser, without a framework. Defaults are the released configuration's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ssvideo_core.errors import ConfigError

SCHEDULES = ("warmup_cosine", "piecewise_constant")
OPTIMIZERS = ("lars", "adam")
MASKS = ("intended", "released")
PLACES = ("before_trust", "after_trust")


def _check(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{what} '{value}', expected {' or '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rate of a step, counted from 0; it does not grow with the batch.

    name: "warmup_cosine" rises linearly from init_value to peak_value in warmup_steps, then falls
        as half a cosine to end_value, which it reaches at total_steps and keeps.
        "piecewise_constant" starts at init_value; boundaries_and_scales says from which step on it
        is multiplied by what.

    The first rate of the default is 0, as released: the first step changes nothing.
    Raises ConfigError for another name, for steps that do not follow each other, and for a
    "piecewise_constant" that is 0 for ever.
    """

    name: str = "warmup_cosine"
    init_value: float = 0.0
    peak_value: float = 1.0
    end_value: float = 0.0
    warmup_steps: int = 5000
    total_steps: int = 300_000
    boundaries_and_scales: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("the learning rate schedule is", self.name, SCHEDULES)
        if self.name == "warmup_cosine" and not 0 <= self.warmup_steps < self.total_steps:
            raise ConfigError(
                f"the learning rate has warmup_steps={self.warmup_steps} and "
                f"total_steps={self.total_steps}, expected fewer steps of warm-up than in total"
            )
        if self.name == "piecewise_constant" and not self.init_value:
            raise ConfigError(
                "the learning rate is piecewise_constant with init_value=0, which stays 0 whatever "
                "it is multiplied by; expected another, such as "
                "--config.optimizer.schedule.init_value=0.1"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimiser and what it does to which parameters.

    name: "lars", or "adam" for AdamW (weight_decay, b1, b2, eps).
    masks: which parameters have weight decay and, with LARS, the trust ratio. "intended": all but
        biases and what belongs to a normalisation, as the paper says. "released": those alone, as
        the released code does it.
    rate_rules: (regular expression, factor). A parameter's rate is multiplied by the factors of all
        expressions that match its name "MODULE/NAME" from the start.
    rate_rules_at: "before_trust" multiplies the gradient first, as released, which neither the
        trust ratio nor Adam notices but for the weight decay; "after_trust" multiplies the update.

    Raises ConfigError for other names and for a rule that is no expression.
    """

    name: str = "lars"
    schedule: ScheduleSettings = ScheduleSettings()
    weight_decay: float = 1e-2
    momentum: float = 0.9
    nesterov: bool = True
    trust_coefficient: float = 0.001
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    masks: str = "intended"
    rate_rules: tuple[tuple[str, float], ...] = ((".*predictor.*", 10.0),)
    rate_rules_at: str = "before_trust"

    def __post_init__(self) -> None:
        _check("the optimiser is", self.name, OPTIMIZERS)
        _check("the masks are", self.masks, MASKS)
        _check("the place of the rate rules is", self.rate_rules_at, PLACES)
        for pattern, _ in self.rate_rules:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"the rate rule '{pattern}' is no regular expression: {error}"
                ) from None
