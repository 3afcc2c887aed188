from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brave.optim import learning_rate, make_optimizer
from brave.optimizer_settings import OptimizerSettings, ScheduleSettings
from flax.traverse_util import flatten_dict, unflatten_dict
from ssvideo_core.errors import ConfigError

_spec = importlib.util.spec_from_file_location(
    "plain_objective", Path(__file__).with_name("plain_objective.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

SHAPES = {
    "narrow_video_embedding/TSMResNetV2/tsm_resnet_stem/w": (3, 3, 2, 4),
    "narrow_video_embedding/TSMResNetV2/batch_norm/scale": (1, 1, 1, 4),
    "narrow_video_embedding/TSMResNetV2/batch_norm/offset": (1, 1, 1, 4),
    "shared_project/projector/linear/w": (4, 5),
    "shared_project/projector/linear/b": (5,),
    "shared_project/predictor/linear_1/w": (5, 2),
    "shared_project/predictor/linear_1/b": (2,),
    "shared_project/predictor/batch_norm/scale": (1, 5),
}
NAMES = tuple(SHAPES)
SHORT = ScheduleSettings(warmup_steps=2, total_steps=8)
RULES = ((".*predictor.*", 10.0), ("shared", 0.5), ("predictor", 100.0))


def draws(seed: int, zero: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {name: array * (name != zero) for name, array in made.items()}


PARAMS = draws(0, zero="shared_project/predictor/linear_1/b")
GRADIENTS = [draws(1), draws(2), draws(3, zero=NAMES[0]), draws(4)]


def tree(arrays: Mapping[str, np.ndarray]) -> Any:
    return unflatten_dict({name: jnp.asarray(array) for name, array in arrays.items()}, sep="/")


def train(settings: OptimizerSettings) -> list[dict[str, np.ndarray]]:
    """Parameters after each update."""
    optimizer = make_optimizer(settings)

    @jax.jit
    def update(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params = tree(PARAMS)
    state = optimizer.init(params)
    steps = []
    for gradients in GRADIENTS:
        params, state = update(params, state, tree(gradients))
        steps.append(flatten_dict(params, sep="/"))
    return steps


def short_rates() -> list[float]:
    options = {"start": 0.0, "peak": 1.0, "end": 0.0, "warmup": 2, "total": 8}
    return [plain.warmup_cosine(step, **options) for step in range(len(GRADIENTS))]


def assert_steps(found: list[dict[str, Any]], want: list[dict[str, np.ndarray]], **tol: Any):
    for step, (ours, theirs) in enumerate(zip(found, want, strict=True)):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_allclose(value, theirs[name], **tol, err_msg=f"{step} {name}")


CHOICES = [
    {},
    {"masks": "released"},
    {"rate_rules_at": "after_trust"},
    {"masks": "released", "rate_rules_at": "after_trust"},
    {"rate_rules": ()},
]


@pytest.mark.parametrize(
    "options", [*CHOICES, {"nesterov": False}, {"momentum": 0.5, "trust_coefficient": 0.1}], ids=str
)
def test_lars(options: dict[str, Any]) -> None:
    settings = OptimizerSettings(**{"schedule": SHORT, "rate_rules": RULES, **options})
    want = plain.lars(
        PARAMS,
        GRADIENTS,
        short_rates(),
        masks=settings.masks,
        rules=settings.rate_rules,
        rules_at=settings.rate_rules_at,
        weight_decay=1e-2,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        trust_coefficient=settings.trust_coefficient,
    )
    assert_steps(train(settings), want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_adamw(options: dict[str, Any]) -> None:
    settings = OptimizerSettings(
        **{"name": "adam", "schedule": SHORT, "rate_rules": RULES, "b2": 0.99, **options}
    )
    want = plain.adamw(
        PARAMS,
        GRADIENTS,
        short_rates(),
        masks=settings.masks,
        rules=settings.rate_rules,
        rules_at=settings.rate_rules_at,
        weight_decay=1e-2,
        b1=0.9,
        b2=0.99,
        eps=1e-8,
    )
    assert_steps(train(settings), want, rtol=1e-4, atol=5e-5)


def test_the_first_update_changes_nothing() -> None:
    for name, value in train(OptimizerSettings(schedule=SHORT))[0].items():
        np.testing.assert_array_equal(value, PARAMS[name], err_msg=name)


def test_what_the_released_masks_leave_to_plain_gradients() -> None:
    """Weight decay 0 and 100 train the weights alike, and only them."""
    constant = ScheduleSettings(name="piecewise_constant", init_value=0.1)
    options = {"masks": "released", "schedule": constant}
    first, other = (train(OptimizerSettings(**options, weight_decay=d))[0] for d in (0.0, 100.0))
    same = {name for name in NAMES if np.array_equal(first[name], other[name])}
    assert same == {name for name in NAMES if name.endswith("/w")} | {
        "shared_project/predictor/linear_1/b"
    }  # which starts at 0, so nothing decays


def test_rules_before_the_trust_ratio_have_no_effect_on_what_has_it() -> None:
    options = {"schedule": SHORT, "weight_decay": 0.0, "rate_rules": RULES}
    with_rules, without = (
        train(OptimizerSettings(**{**options, "rate_rules": rules}))[1] for rules in (RULES, ())
    )
    weights = [name for name in NAMES if name.endswith("/w")]
    for name in weights:
        np.testing.assert_allclose(with_rules[name], without[name], rtol=1e-5, atol=1e-7)
    bias = "shared_project/predictor/linear_1/b"
    np.testing.assert_allclose(with_rules[bias], 5 * without[bias], rtol=1e-5)


STEPS = (0, 1, 2, 3, 5, 8, 9, 20, 21, 22)


@pytest.mark.parametrize(
    "options",
    [
        {"start": 0.0, "peak": 1.0, "end": 0.0, "warmup": 5, "total": 20},
        {"start": 0.1, "peak": 0.7, "end": 0.2, "warmup": 3, "total": 21},
        {"start": 0.1, "peak": 0.7, "end": 0.0, "warmup": 0, "total": 9},
    ],
)
def test_warmup_cosine(options: dict[str, Any]) -> None:
    settings = ScheduleSettings(
        init_value=options["start"],
        peak_value=options["peak"],
        end_value=options["end"],
        warmup_steps=options["warmup"],
        total_steps=options["total"],
    )
    check_rates(settings, [plain.warmup_cosine(step, **options) for step in STEPS])


def test_piecewise_constant() -> None:
    scales = {2: 0.1, 8: 0.5}
    settings = ScheduleSettings(
        name="piecewise_constant", init_value=0.3, boundaries_and_scales=scales
    )
    want = [plain.piecewise_constant(step, start=0.3, scales=scales) for step in STEPS]
    check_rates(settings, want)


def check_rates(settings: ScheduleSettings, want: list[float]) -> None:
    rate = functools.partial(learning_rate, OptimizerSettings(schedule=settings))
    found = [rate(step) for step in STEPS]
    assert all(value.shape == () and value.dtype == jnp.float32 for value in found)
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-7)
    compiled = jax.jit(jax.vmap(rate))(jnp.asarray(STEPS))
    np.testing.assert_allclose(compiled, want, rtol=1e-6, atol=1e-7)


def test_the_rate_of_a_step_is_that_of_its_update() -> None:
    settings = OptimizerSettings(schedule=SHORT, rate_rules=(), momentum=0.0, masks="released")
    name = NAMES[0]
    before, rates = PARAMS[name], [learning_rate(settings, step) for step in range(len(GRADIENTS))]
    for after, gradients, rate in zip(train(settings), GRADIENTS, rates, strict=True):
        np.testing.assert_allclose(before - after[name], rate * gradients[name], atol=1e-6)
        before = after[name]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScheduleSettings(name="cosine"), "'cosine', expected warmup_cosine or piecewise_"),
        (lambda: ScheduleSettings(name="piecewise_constant"), "init_value=0, which stays 0"),
        (lambda: ScheduleSettings(warmup_steps=9, total_steps=9), "warmup_steps=9 and total_ste"),
        (lambda: ScheduleSettings(warmup_steps=-1), "warmup_steps=-1 and total_steps=300000"),
        (lambda: OptimizerSettings(name="sgd"), "the optimiser is 'sgd', expected lars or adam"),
        (lambda: OptimizerSettings(masks="none"), "'none', expected intended or released"),
        (lambda: OptimizerSettings(rate_rules_at="x"), "'x', expected before_trust or after_trust"),
        (lambda: OptimizerSettings(rate_rules=(("(", 2.0),)), r"'\(' is no regular expression"),
    ],
)
def test_wrong_settings(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
