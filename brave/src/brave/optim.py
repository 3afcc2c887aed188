"""The optimiser and the learning rate. Factors that depend on a name are told from "MODULE/NAME".

One update of LARS, for each tensor p with the gradient g, averaged over devices by the caller:

    g ← factor · g             rate rules, with rate_rules_at="before_trust"
    g ← g + weight_decay · p   where the mask allows
    g ← trust · g              where the mask allows: trust = trust_coefficient · ‖p‖ / ‖g‖
    g ← −rate(step) · g        the rate enters before the momentum
    m ← g + momentum · m
    p ← p + g + momentum · m   without nesterov p + m
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from brave.optimizer_settings import OptimizerSettings, ScheduleSettings

Tree = Any


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """The chain above, or AdamW with the same masks and rules; its state counts the steps.

    Parameters are nested dictionaries with the names of `model`. Updates are added to them
    (`optax.apply_updates`).
    """
    rate = make_schedule(settings.schedule)
    decayed = _masks(settings.masks)
    if settings.name == "adam":
        rule = optax.adamw(
            rate,
            b1=settings.b1,
            b2=settings.b2,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            mask=decayed,
        )
    else:
        rule = optax.lars(
            rate,
            weight_decay=settings.weight_decay,
            weight_decay_mask=decayed,
            trust_coefficient=settings.trust_coefficient,
            trust_ratio_mask=decayed,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
        )
    scaled = scale_by_rules(settings.rate_rules)
    if settings.rate_rules_at == "before_trust":
        return optax.chain(scaled, rule)
    # A constant factor may come after the momentum as well as before it.
    return optax.chain(rule, scaled)


def learning_rate(settings: OptimizerSettings, step: int | Array) -> Array:
    """The rate of update `step`, counted from 0, before any rule; a float32 scalar.

    step: updates done before it, also as an array under `jax.jit`.
    """
    return jnp.asarray(make_schedule(settings.schedule)(step), jnp.float32)


def make_schedule(settings: ScheduleSettings) -> optax.Schedule:
    """The learning rate as a function of the step."""
    if settings.name == "piecewise_constant":
        return optax.piecewise_constant_schedule(
            settings.init_value, dict(settings.boundaries_and_scales)
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=settings.init_value,
        peak_value=settings.peak_value,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.total_steps,
        end_value=settings.end_value,
    )


def scale_by_rules(rules: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Multiply each tensor by the factors of all (regular expression, factor) that match its name.

    They match from the start of "MODULE/NAME"; those that match together multiply. No state.
    """

    def factor(name: str) -> float:
        return math.prod(value for pattern, value in rules if re.match(pattern, name))

    def scale(updates: Tree, params: Tree) -> Tree:
        factors = _by_name(factor, updates)
        return jax.tree.map(lambda update, by: update * by, updates, factors)

    return optax.stateless(scale)


def is_bias_or_normaliser(name: str) -> bool:
    """Whether "MODULE/NAME" is a bias, or belongs to a module whose path contains "norm"."""
    module, _, parameter = name.rpartition("/")
    return parameter == "b" or "norm" in module


def _masks(masks: str) -> Callable[[Tree], Tree]:
    """Which parameters have weight decay and trust ratio, as a tree of bool."""
    released = masks == "released"
    return lambda params: _by_name(lambda name: is_bias_or_normaliser(name) == released, params)


def _by_name(function: Callable[[str], Any], tree: Tree) -> Tree:
    """A tree of what `function` says of each name."""
    names = flatten_dict(tree, sep="/")  # type: ignore[no-untyped-call]
    made = {name: function(name) for name in names}
    return unflatten_dict(made, sep="/")  # type: ignore[no-untyped-call]
