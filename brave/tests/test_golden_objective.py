"""The original code's values for its training: networks, loss, optimiser (golden/CASES.md)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from brave.model import SHARED_HEADS, BraVe
from brave.networks.audio_resnet import AudioResNet
from brave.networks.heads import ProjectAndPredict
from brave.networks.initial import variable_shapes
from brave.networks.layers import temporal_shift_of_images, temporal_shift_time_major
from brave.objective import mean_loss, pair_losses, regression_loss, total_loss
from brave.optim import learning_rate, make_optimizer
from brave.optimizer_settings import OptimizerSettings, ScheduleSettings
from brave.released_files import with_dead_heads
from brave.views import ViewSpec
from flax.traverse_util import flatten_dict, unflatten_dict
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.fill import fill
from ssvideo_core.testing.rekey import check_renamed

NETWORKS = ("checkpoint_keys", "temporal_shift_variants", "audio_backbone", "heads")
LOSSES = ("regression_loss", "pair_loss", "total_loss")
KINDS = (*NETWORKS, *LOSSES, "optimizer", "lr_schedule")

golden = reference_cases("brave", KINDS)


def filled(shapes: Mapping[str, Any], root: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Variables whose values follow from the published names; `root` is the start of these."""
    made = {}
    for collection, tree in shapes.items():
        for name, leaf in flatten_dict(tree, sep="/").items():
            value = fill(f"{root}{name}", leaf.shape, **options)
            made[f"{collection}/{name}"] = value.astype(leaf.dtype)
    return unflatten_dict(made, sep="/")


def state_summaries(state: Mapping[str, Any], root: str) -> dict[str, np.ndarray]:
    """What CASES.md lists of each moving average of a trained network."""
    averages: dict[str, dict[str, np.ndarray]] = {}
    for name, leaf in flatten_dict(state, sep="/").items():
        path, _, part = name.rpartition("/")
        averages.setdefault(path, {})[part] = np.asarray(leaf).ravel()
    made = {}
    for path, ema in averages.items():
        average = ema["average"]
        picks = average[[0, len(average) // 2, -1]]
        numbers = [average.mean(), average.std(), *picks, ema["hidden"][0], ema["counter"][0]]
        made[f"state:{root}{path}"] = np.array(numbers)
    return made


@functools.cache
def forward(network: Any, train: bool) -> Callable[..., Any]:
    return jax.jit(functools.partial(network.apply, train=train, mutable=["state"]))


def run(network: Any, case: Case, root: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Outputs of a network with filled variables, and its state as CASES.md lists it."""
    x = case.input
    variables = filled(variable_shapes(network, jnp.zeros(x.shape)), root, case.fill_options)
    outputs, after = forward(network, case.train)(variables, x)
    return outputs, state_summaries(after["state"], root)


def make_model(case: Case, axis_name: str | None = None) -> BraVe:
    """The views of a case; sizes of inputs are those of its arrays."""
    views = {
        "narrow": ViewSpec("narrow", "rgb", 1, 1, 1, "tsm_resnet", case.width),
        "video": ViewSpec("video", "rgb", 1, 1, 1, "tsm_resnet", case.width),
        "audio": ViewSpec("audio", "sound", 1, 1, 1, "audio_resnet"),
    }
    broad = tuple(views[name] for name in case.broad)
    return BraVe(views["narrow"], broad, output_dims=case.output_dims, axis_name=axis_name)


# ---- networks -----------------------------------------------------------------------------


@golden.kind("checkpoint_keys")
def _(case: Case) -> dict[str, Any]:
    shapes = flatten_dict(make_model(case).shapes(), sep="/")
    ours = {name.split("/")[1] for name in shapes}
    with_dead = with_dead_heads(shapes)
    assert {name.split("/")[1] for name in with_dead} - ours == set(case.dead_heads)
    made: dict[str, Any] = {"params": {}, "state": {}}
    for name, leaf in with_dead.items():
        collection, _, rest = name.partition("/")
        module, _, part = rest.rpartition("/")
        made[collection].setdefault(module, {})[part] = list(leaf.shape)
    sizes = [math.prod(leaf.shape) for name, leaf in with_dead.items() if name.startswith("params")]
    return {**made, "num_params": sum(sizes)}


@golden.kind("temporal_shift_variants")
def _(case: Case) -> dict[str, Any]:
    x = jnp.asarray(case.input)
    time_major = x.reshape(case.batch, case.frames, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
    return {
        f"deflated_{case.alpha}": temporal_shift_of_images(
            x, alpha=case.alpha, fraction=case.fraction
        ),
        "tpu_time_major": temporal_shift_time_major(
            time_major, num_frames=case.frames, fraction=case.fraction
        ),
    }


@golden.kind("audio_backbone")
def _(case: Case) -> dict[str, Any]:
    features, states = run(AudioResNet(), case, f"{case.root}/res_net_v2/")
    return {"features": features, **states}


@golden.kind("heads")
def _(case: Case) -> dict[str, Any]:
    (z, h), states = run(ProjectAndPredict(case.output_dims), case, f"{case.root}/")
    return {"z": z, "h": h, **states}


# ---- losses -------------------------------------------------------------------------------


@golden.kind("regression_loss")
def _(case: Case) -> dict[str, Any]:
    loss = functools.partial(regression_loss, epsilon=case.eps)
    value, (grad_x, grad_y) = jax.value_and_grad(loss, argnums=(0, 1))(case.x, case.y)
    return {"loss": value, "grad_x": grad_x, "grad_y": grad_y}


@golden.kind("pair_loss")
def _(case: Case) -> dict[str, Any]:
    letters = {"narrow": "n", "video": "v", "audio": "a"}

    def loss(inputs: Mapping[str, jax.Array]) -> Any:
        embeddings = {
            name: (inputs[f"z_{letter}"], inputs[f"h_{letter}"]) for name, letter in letters.items()
        }
        terms = pair_losses(embeddings, case.broad)
        return mean_loss(terms), jnp.stack(list(terms.values()))

    (value, terms), gradients = jax.value_and_grad(loss, has_aux=True)(case.inputs)
    return {"loss": value, "terms": terms, **{f"grad:{n}": g for n, g in gradients.items()}}


@functools.cache
def train_program(model: BraVe) -> Callable[..., Any]:
    """Gradients, metrics and states of replicas that share statistics.

    The gradient of the mean is the mean of the gradients, computed without one for each replica.
    """
    replicated = jax.vmap(
        functools.partial(total_loss, model), in_axes=(None, None, 0), axis_name="replicas"
    )

    def mean(params: Any, state: Any, inputs: Any) -> Any:
        losses, (metrics, after) = replicated(params, state, inputs)
        return losses.mean(), (jax.tree.map(jnp.mean, metrics), after)

    return jax.jit(jax.grad(mean, has_aux=True))


@golden.kind("total_loss")
def _(case: Case) -> dict[str, Any]:
    model = make_model(case, "replicas")
    shapes = model.shapes()
    params = filled({"params": shapes["params"]}, "", case.fill_options)["params"]
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes["state"])
    inputs = {name.removeprefix("broad_"): array for name, array in case.inputs.items()}
    gradients, (metrics, after) = train_program(model)(params, state, inputs)
    flat = flatten_dict(gradients, sep="/")
    wanted = [np.asarray(flat[str(name)]) for name in case.grad_names]
    found = {f"metric:{name}": np.asarray(value) for name, value in metrics.items()}
    for name, leaf in flatten_dict(after[SHARED_HEADS], sep="/").items():
        first, *others = np.asarray(leaf)
        assert all(np.array_equal(first, other) for other in others), name
        kept = first if not first.ndim else first.ravel()[: case.state_elements]
        found[f"state:{SHARED_HEADS}/{name}"] = kept
    return {
        **found,
        "grad_norms": np.array([np.linalg.norm(g.astype(np.float64)) for g in wanted]),
        "grad_first": np.array([g.ravel()[0] for g in wanted]),
    }


# ---- optimiser ----------------------------------------------------------------------------


def schedule_settings(case: Case) -> ScheduleSettings:
    options = dict(case.schedule)
    scales = options.pop("boundaries_and_scales", None) or {}
    boundaries = {int(step): scale for step, scale in scales.items()}
    return ScheduleSettings(**options, boundaries_and_scales=boundaries)


@golden.kind("optimizer")
def _(case: Case) -> dict[str, Any]:
    names = ("name", "masks", "weight_decay", "momentum", "nesterov", "trust_coefficient")
    options = {name: case.get(name) for name in (*names, "b1", "b2", "eps")}
    settings = OptimizerSettings(
        **{name: value for name, value in options.items() if value is not None},
        schedule=schedule_settings(case),
        rate_rules=tuple((pattern, factor) for pattern, factor in case.rate_rules),
    )
    optimizer = make_optimizer(settings)

    @jax.jit
    def update(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def tree(group: Mapping[str, np.ndarray]) -> Any:
        return unflatten_dict({name: jnp.asarray(group[name]) for name in case.names}, sep="/")

    params = tree(case.init)
    state = optimizer.init(params)
    found = {}
    for t, gradients in enumerate(case.grads):
        params, state = update(params, state, tree(gradients))
        for name, leaf in flatten_dict(params, sep="/").items():
            found[f"step{t}:{name}"] = np.asarray(leaf)
    return found


@golden.kind("lr_schedule")
def _(case: Case) -> dict[str, Any]:
    settings = OptimizerSettings(schedule=schedule_settings(case))
    return {"lr": jax.vmap(functools.partial(learning_rate, settings))(jnp.asarray(case.steps))}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
