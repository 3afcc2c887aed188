"""The whole model is compiled here as little as can be: most is read from its trace."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.model import BraVe, _Networks
from brave.networks.audio_resnet import AudioResNet, BlockGroup
from brave.networks.heads import ProjectAndPredict
from brave.networks.initial import draw_variables, variable_shapes
from brave.networks.layers import Linear
from brave.networks.tsm_resnet import Unit
from brave.objective import total_loss
from brave.views import ViewSpec
from flax.traverse_util import flatten_dict
from ssvideo_core.errors import ConfigError

_spec = importlib.util.spec_from_file_location(
    "plain_objective", Path(__file__).with_name("plain_objective.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 1 / 64
NARROW = ViewSpec("narrow", "rgb", 2, 2, 16, "tsm_resnet", WIDTH)
VIDEO = ViewSpec("video", "rgb", 3, 4, 16, "tsm_resnet", WIDTH)
SOUND = ViewSpec("audio", "sound", 3, 4, 0, "audio_resnet", WIDTH)
FLOW = ViewSpec("flow", "flow", 3, 4, 16, "tsm_resnet", WIDTH)
SMALL = BraVe(NARROW, (VIDEO, SOUND), output_dims=6, hidden_size=10)


def full(view: ViewSpec, width: float = 1.0) -> ViewSpec:
    return replace(view, width=width)


def inputs_of(model: BraVe, batch: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for view in model.views:
        shape = (view.num_frames, view.image_size, view.image_size, view.channels)
        shape = (48, 80) if view.modality == "sound" else shape
        made[view.name] = rng.uniform(0, 1, (batch, *shape)).astype(np.float32)
    return made


def sizes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in flatten_dict(tree, sep="/").items()}


# ---- names and first values ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "broad", "width"),
    [
        ("checkpoint_va_w1.json", (SOUND,), 1),
        ("checkpoint_vv_w2.json", (VIDEO,), 2),
        ("checkpoint_vva_w1.json", (VIDEO, SOUND), 1),
    ],
)
def test_names_and_shapes_are_the_published(file, broad, width) -> None:
    lists = json.loads((GOLDEN / file).read_text())
    model = BraVe(full(NARROW, width), tuple(full(view, width) for view in broad))
    for collection, tree in model.shapes().items():
        want = {
            f"{module}/{name}": tuple(shape)
            for module, entries in lists[collection].items()
            for name, shape in entries.items()
            if not re.match(r"shared_project_\d", module)
        }
        assert sizes(tree) == want


def test_parameter_counts_of_the_parts() -> None:
    counts: Counter[str] = Counter()
    model = BraVe(full(NARROW), (full(SOUND),))
    for name, shape in sizes(model.shapes()["params"]).items():
        counts[name.split("/")[0]] += int(np.prod(shape))
    assert counts == {
        "narrow_video_embedding": 23_500_352,
        "broad_audio_embedding": 23_494_080,
        "shared_project": 9_986_560,
    }


def test_flow_has_two_channels_and_networks_of_its_own() -> None:
    model = BraVe(NARROW, (FLOW, SOUND, replace(FLOW, name="flow_2")))
    shapes = sizes(model.shapes()["params"])
    stems = {name: shape for name, shape in shapes.items() if name.endswith("tsm_resnet_stem/w")}
    assert stems == {
        "narrow_video_embedding/TSMResNetV2/tsm_resnet_stem/w": (7, 7, 3, 1),
        "broad_flow_embedding/TSMResNetV2/tsm_resnet_stem/w": (7, 7, 2, 1),
        "broad_flow_2_embedding/TSMResNetV2/tsm_resnet_stem/w": (7, 7, 2, 1),
    }


def test_separate_heads_have_the_sizes_of_their_views() -> None:
    model = BraVe(full(NARROW, 2), (full(SOUND),), separate_heads=True)
    shapes = sizes(model.shapes()["params"])
    firsts = {name: s for name, s in shapes.items() if name.endswith("projector/linear/w")}
    assert firsts == {
        "narrow_project/projector/linear/w": (4096, 4096),
        "broad_audio_project/projector/linear/w": (2048, 4096),
    }


def test_shared_heads_refuse_features_of_several_sizes() -> None:
    with pytest.raises(ConfigError, match=r"\{'narrow': 4096, 'audio': 2048\}: give the views one"):
        BraVe(full(NARROW, 2), (full(SOUND),))


def test_views_are_checked() -> None:
    with pytest.raises(ConfigError, match="the broad views are none"):
        BraVe(NARROW, ())


def test_untrained_variables() -> None:
    params, state = SMALL.init(jax.random.key(0))
    shapes = SMALL.shapes()
    assert sizes(params) == sizes(shapes["params"])
    assert sizes(state) == sizes(shapes["state"])
    normal = []
    for name, leaf in flatten_dict(params, sep="/").items():
        part = name.rpartition("/")[2]
        assert leaf.dtype == np.float32
        if part == "w":
            normal.append(np.ravel(leaf) * np.sqrt(np.prod(leaf.shape[:-1])))
        else:
            np.testing.assert_array_equal(leaf, float(part == "scale"), err_msg=name)
    # The standard deviation of a standard normal without its tails past 2.
    np.testing.assert_allclose(np.std(np.concatenate(normal)), 0.8796, atol=0.02)
    again, other = SMALL.init(jax.random.key(0)), SMALL.init(jax.random.key(1))
    assert jax.tree.all(jax.tree.map(np.array_equal, again, (params, state)))
    first = "shared_project/projector/linear/w"
    assert not np.array_equal(*(flatten_dict(p, sep="/")[first] for p in (params, other[0])))


def test_linear_layers_start_as_flax_starts_them() -> None:
    made = Linear(200).init(jax.random.key(0), jnp.zeros((1, 100)))["params"]
    np.testing.assert_allclose(made["w"].std() * 10, 0.8796, atol=0.02)
    assert np.abs(made["w"]).max() <= 0.2001
    np.testing.assert_array_equal(made["b"], np.zeros(200))


# ---- what it computes ---------------------------------------------------------------------

FEATURES = {
    view.name: np.random.default_rng(i).uniform(0, 2, (5, view.feature_size)).astype(np.float32)
    for i, view in enumerate(SMALL.views)
}


def without_backbones(model: BraVe, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """(params, state) of the heads, biases and scales that matter; inputs are taken as features."""
    rng = np.random.default_rng(3)
    params, state = model.init(jax.random.key(0))
    noisy = jax.tree.map(lambda leaf: np.float32(leaf + rng.normal(0, 0.3, leaf.shape)), params)
    monkeypatch.setattr(_Networks, "_features", lambda self, view, inputs, train: inputs[view.name])
    heads = [{n: part for n, part in tree.items() if "project" in n} for tree in (noisy, state)]
    return heads[0], heads[1]


def check_heads(model: BraVe, monkeypatch: Any, calls: list[tuple[str, str]]) -> None:
    """Outputs and moving averages are those of the heads called with these views in order."""
    params, state = without_backbones(model, monkeypatch)
    embeddings, after = model.embeddings(params, state, FEATURES)
    weights, seen = flatten_dict(params, sep="/"), {}
    for heads, view in calls:
        want = plain.heads(FEATURES[view].astype(np.float64), weights, heads, seen)
        for found, value in zip(embeddings[view], want, strict=True):
            assert found.dtype == jnp.float32
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)
    averages = flatten_dict(after, sep="/")
    assert len(averages) == 6 * len(seen)
    for norm, steps in seen.items():
        for part in ("mean_ema", "var_ema"):
            found = {n: averages[f"{norm}/~/{part}/{n}"] for n in ("counter", "hidden", "average")}
            hidden, average = plain.moving_average([step[part] for step in steps])
            assert int(found["counter"]) == len(steps)
            np.testing.assert_allclose(found["hidden"].ravel(), hidden, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found["average"].ravel(), average, rtol=1e-4, atol=1e-6)


def test_shared_heads_see_each_broad_view_and_then_the_narrow(monkeypatch) -> None:
    order = ("video", "narrow", "audio", "narrow")
    check_heads(SMALL, monkeypatch, [("shared_project", view) for view in order])


def test_separate_heads_see_their_view_once(monkeypatch) -> None:
    heads = {"broad_video_project": "video", "narrow_project": "narrow"}
    calls = [*heads.items(), ("broad_audio_project", "audio")]
    check_heads(replace(SMALL, separate_heads=True), monkeypatch, calls)


def test_evaluation_uses_the_averages_and_keeps_them(monkeypatch) -> None:
    params, state = without_backbones(SMALL, monkeypatch)
    _, state = SMALL.embeddings(params, state, FEATURES)
    embeddings, after = SMALL.embeddings(params, state, FEATURES, train=False)
    assert after is state
    variables = {"params": params["shared_project"], "state": state["shared_project"]}
    heads = ProjectAndPredict(SMALL.output_dims, SMALL.hidden_size)
    assert embeddings.keys() == FEATURES.keys()
    for view, found in embeddings.items():
        for alone, together in zip(heads.apply(variables, FEATURES[view][:1]), found, strict=True):
            np.testing.assert_allclose(alone, together[:1], rtol=1e-5, atol=1e-6)


def test_every_average_of_the_backbones_advances_once() -> None:
    model = BraVe(NARROW, (FLOW, SOUND), output_dims=6, hidden_size=10)
    params, state = model.init(jax.random.key(0))

    @jax.jit
    def counters(inputs: Any) -> dict[str, jax.Array]:
        _, after = model.embeddings(params, state, inputs)
        flat = flatten_dict(after, sep="/")
        return {name: leaf for name, leaf in flat.items() if name.endswith("/counter")}

    counts = Counter(
        (name.split("/")[0], int(value)) for name, value in counters(inputs_of(model)).items()
    )
    assert counts == {
        ("narrow_video_embedding", 1): 98,
        ("broad_flow_embedding", 1): 98,
        ("broad_audio_embedding", 1): 98,
        ("shared_project", 4): 6,
    }


@pytest.mark.parametrize("names", [("narrow", "video"), ("narrow", "video", "audio", "flow")])
def test_wrong_inputs(names: tuple[str, ...]) -> None:
    inputs = dict.fromkeys(names, np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"expected those of the views \['narrow', 'video', 'audi"):
        SMALL.embeddings({}, {}, inputs)


# ---- how it computes ----------------------------------------------------------------------


def equations(jaxpr: Any) -> Iterator[Any]:
    """All of a program, those of its parts too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def program(model: BraVe, **options: Any) -> list[Any]:
    """Loss and gradients of a model, traced."""
    shapes = model.shapes()
    step = functools.partial(jax.value_and_grad(total_loss, argnums=1, has_aux=True), model)
    trace = jax.make_jaxpr(step, **options)(shapes["params"], shapes["state"], inputs_of(model))
    assert all(value.dtype in (jnp.float32, jnp.int32) for value in trace.out_avals)
    return list(equations(trace.jaxpr))


def test_statistics_of_devices_are_one_collective_a_norm() -> None:
    model = replace(SMALL, broad=(SOUND,), axis_name="devices")
    shapes = model.shapes()
    step = functools.partial(model.embeddings, train=True)
    trace = jax.make_jaxpr(step, axis_env=[("devices", 2)])(
        shapes["params"], shapes["state"], inputs_of(model)
    )
    collectives = [e for e in equations(trace.jaxpr) if e.primitive.name.startswith("psum")]
    assert len(collectives) == 2 * 49 + 2 * 3
    assert all(len(e.invars) == 1 for e in collectives)


def test_rematerialisation_is_of_every_residual_block() -> None:
    model = replace(SMALL, broad=(SOUND,))
    names = [
        Counter(equation.primitive.name for equation in program(one))
        for one in (model, replace(model, remat=True))
    ]
    without, with_remat = (sum(n for name, n in c.items() if "remat" in name) for c in names)
    assert (without, with_remat) == (0, 2 * 16)


def test_bfloat16_is_in_every_convolution_and_product() -> None:
    model = replace(SMALL, broad=(SOUND,), dtype=jnp.bfloat16)
    kinds = ("conv_general_dilated", "dot_general")
    products = [e for e in program(model) if e.primitive.name in kinds]
    assert len(products) > 3 * 2 * 53
    for equation in products:
        assert {str(v.aval.dtype) for v in equation.invars} == {"bfloat16"}, equation


@functools.cache
def block_gradients(make: Any, remat: bool, dtype: Any) -> tuple[Any, Any]:
    """Output, and gradients by the parameters, of a block."""
    frames = {"num_frames": 3} if make is Unit else {}
    blocks = make(channels=16, num_blocks=1, stride=2, remat=remat, **frames)
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 8)).astype(np.float32)
    key = jax.random.key(0)
    made = draw_variables(jax.eval_shape(functools.partial(blocks.init, train=True), key, x), key)

    def loss(params: Any) -> Any:
        variables = {"params": params, "state": made["state"]}
        out, _ = blocks.apply(variables, x.astype(dtype), train=True, mutable=["state"])
        assert out.dtype == dtype
        return jnp.mean(jnp.square(out.astype(jnp.float32))), out

    gradients, out = jax.jit(jax.grad(loss, has_aux=True))(made["params"])
    return out, gradients


@pytest.mark.parametrize("make", [Unit, BlockGroup])
def test_rematerialised_blocks_compute_the_same(make: Any) -> None:
    plainly, again = (block_gradients(make, remat, jnp.float32) for remat in (False, True))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plainly, again
    )


def test_bfloat16_blocks_are_close() -> None:
    exact, rough = (block_gradients(Unit, False, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    for want, found in zip(exact, rough, strict=True):
        want, found = (
            np.concatenate([np.float32(leaf).ravel() for leaf in jax.tree.leaves(tree)])
            for tree in (want, found)
        )
        difference = np.linalg.norm(found - want) / np.linalg.norm(want)
        assert 1e-4 < difference < 0.05


def test_audio_networks_scale_with_width() -> None:
    spectrogram = jnp.zeros((1, 8, 8))
    full_size, quarter = (
        sizes(variable_shapes(AudioResNet(width=width), spectrogram)["params"])
        for width in (1, 0.25)
    )
    assert quarter.keys() == full_size.keys()
    for name, (*kernel, size_in, size_out) in full_size.items():
        size_in = size_in if size_in == 1 else size_in // 4
        assert quarter[name] == (*kernel, size_in, size_out // 4), name
