"""The original's networks in numbers (tests/golden/CASES.md says what each kind is)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brave.networks.initial import variable_shapes
from brave.networks.layers import BatchNorm, temporal_shift
from brave.networks.tsm_resnet import TSMResNet
from flax.traverse_util import flatten_dict, unflatten_dict
from ssvideo_core.testing.cases import Case, load_cases, reference_cases
from ssvideo_core.testing.fill import fill
from ssvideo_core.testing.rekey import check_renamed

KINDS = ("video_backbone", "temporal_shift", "syncbn_ema")
golden = reference_cases("brave", KINDS)


def filled(shapes: Mapping[str, Any], root: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Variables whose values follow from the published names."""
    made = {}
    for collection, tree in shapes.items():
        for name, leaf in flatten_dict(tree, sep="/").items():
            value = fill(f"{root}/{name}", leaf.shape, **options)
            made[f"{collection}/{name}"] = value.astype(leaf.dtype)
    return unflatten_dict(made, sep="/")


@functools.cache
def program(width: float, train: bool) -> Callable[..., Any]:
    network = TSMResNet(width)

    @jax.jit
    def run(variables: Mapping[str, Any], clips: jax.Array) -> Any:
        return network.apply(variables, clips, train=train, mutable=["state"])

    return run


@golden.kind("video_backbone")
def _(case: Case) -> dict[str, Any]:
    root = f"{case.root}/TSMResNetV2"
    variables = filled(variable_shapes(TSMResNet(case.width)), root, case.fill_options)
    features, after = program(case.width, case.train)(variables, case.input)
    averages: dict[str, dict[str, np.ndarray]] = {}
    for name, leaf in flatten_dict(after["state"], sep="/").items():
        path, _, part = name.rpartition("/")
        averages.setdefault(path, {})[part] = np.asarray(leaf).ravel()
    states = {}
    for path, ema in averages.items():
        average = ema["average"]
        picks = average[[0, len(average) // 2, -1]]
        states[f"state:{root}/{path}"] = np.array(
            [average.mean(), average.std(), *picks, ema["hidden"][0], ema["counter"][0]]
        )
    return {"features": np.asarray(features), **states}


@golden.kind("temporal_shift")
def _(case: Case) -> dict[str, Any]:
    shifted = temporal_shift(
        jnp.asarray(case.input), num_frames=case.frames, fraction=case.fraction
    )
    return {"gpu": np.asarray(shifted)}


@golden.kind("syncbn_ema")
def _(case: Case) -> dict[str, Any]:
    norm = BatchNorm(decay=case.decay, epsilon=case.eps, axis_name="replicas")
    x = jnp.asarray(case.input)
    shapes = jax.eval_shape(functools.partial(norm.init, train=False), jax.random.key(0), x[0])
    params = filled({"params": shapes["params"]}, case["name"], case.fill_options)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes["state"])

    def step(state: Any, x: jax.Array) -> Any:
        out, after = norm.apply({**params, "state": state}, x, train=True, mutable=["state"])
        return out, after["state"]

    found: dict[str, Any] = {}
    for s in range(case.steps):
        replicated = jax.vmap(step, in_axes=(None, 0), axis_name="replicas")
        found[f"out{s}"], states = replicated(state, x * case.step_scale[s])
        state = jax.tree.map(lambda leaf: leaf[0], states)
        for path, leaf in flatten_dict(state, sep="/").items():
            found[f"step{s}:{case['name']}/{path}"] = leaf
    found["eval_after_3_steps"] = norm.apply({**params, "state": state}, x[0], train=False)
    return {name: np.asarray(value) for name, value in found.items()}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)


def test_every_kind_has_an_adapter() -> None:
    """Kinds are shared among the test files called test_golden*."""
    tests = Path(__file__).parent
    text = "".join(path.read_text() for path in tests.glob("test_golden*.py"))
    cases = load_cases(tests / "golden")
    assert {case.kind for case in cases} == set(re.findall(r'@golden\.kind\("(\w+)"\)', text))
