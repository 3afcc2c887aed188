from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.networks.initial import initial_variables, variable_shapes
from brave.networks.layers import BatchNorm, Conv, initial_kernel, max_pool, temporal_shift
from brave.networks.tsm_resnet import OUTPUTS, UNITS, TSMResNet
from flax.traverse_util import flatten_dict

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 1 / 64
CLIPS = np.random.default_rng(0).uniform(0, 1, (2, 3, 24, 20, 3)).astype(np.float32)


@functools.cache
def program(output: str = "embedding", train: bool = False, axis_name: str | None = None) -> Any:
    network = TSMResNet(WIDTH, axis_name)

    @jax.jit
    def run(variables: Mapping[str, Any], clips: jax.Array) -> Any:
        mutable = ["state"] if train else False
        return network.apply(variables, clips, train=train, output=output, mutable=mutable)

    return run


@functools.cache
def variables() -> dict[str, Any]:
    """Untrained, with averages that are not those of normalised values."""
    made = initial_variables(TSMResNet(WIDTH), seed=1)
    rng = np.random.default_rng(2)
    noise = functools.partial(rng.uniform, 0.5, 1.5)
    made["state"] = jax.tree.map(
        lambda leaf: noise(leaf.shape).astype(np.float32) if leaf.ndim else leaf, made["state"]
    )
    return made


def assert_each_equal(replicas: Any, tree: Any, **tolerance: float) -> None:
    """Every replica of `replicas`, whose leaves have one more axis in front, is `tree`."""

    def compare(leaves: jax.Array, leaf: jax.Array) -> None:
        np.testing.assert_allclose(leaves, np.broadcast_to(leaf, leaves.shape), **tolerance)

    jax.tree.map(compare, replicas, tree)


# ---- layers -------------------------------------------------------------------------------


def plain_shift(clips: np.ndarray, n: int) -> np.ndarray:
    """(B, T, C), one value at a time."""
    shifted = np.zeros_like(clips)
    num_clips, num_frames, channels = clips.shape
    for b in range(num_clips):
        for t in range(num_frames):
            row = []
            for c in range(channels - n, channels):
                row.append(clips[b, t + 1, c] if t + 1 < num_frames else 0)
            row += [clips[b, t, c] for c in range(n, channels - n)]
            row += [clips[b, t - 1, c] if t > 0 else 0 for c in range(n)]
            shifted[b, t] = row
    return shifted


@pytest.mark.parametrize(
    ("channels", "fraction", "n"), [(16, 0.125, 2), (20, 0.125, 2), (7, 0.125, 0), (8, 0.5, 4)]
)
def test_temporal_shift(channels: int, fraction: float, n: int) -> None:
    clips = np.arange(3 * 4 * channels, dtype=np.float32).reshape(3, 4, channels) + 1
    x = jnp.asarray(clips.reshape(12, 1, 1, channels)) * jnp.ones((1, 2, 3, 1))
    shifted = np.asarray(temporal_shift(x, num_frames=4, fraction=fraction))
    assert shifted.shape == (12, 2, 3, channels)
    want = plain_shift(clips, n).reshape(12, 1, 1, channels)
    np.testing.assert_array_equal(shifted, np.broadcast_to(want, shifted.shape))


def plain_conv(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    """One output pixel at a time, on (H, W, C) in float64, TensorFlow's SAME padding."""
    k = w.shape[0]
    sizes = [math.ceil(n / stride) for n in x.shape[:2]]
    totals = [max((s - 1) * stride + k - n, 0) for s, n in zip(sizes, x.shape[:2], strict=True)]
    (top, bottom), (left, right) = [(total // 2, total - total // 2) for total in totals]
    padded = np.pad(x.astype(np.float64), ((top, bottom), (left, right), (0, 0)))
    out = np.zeros((*sizes, w.shape[3]))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            window = padded[i * stride : i * stride + k, j * stride : j * stride + k]
            out[i, j] = np.einsum("hwi,hwio->o", window, w.astype(np.float64))
    return out


@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize("size", [(8, 6), (9, 7), (2, 2)])
def test_convolutions_pad_as_tensorflow_does(kernel, stride, size) -> None:
    x = np.random.default_rng(0).standard_normal((1, *size, 2)).astype(np.float32)
    conv = Conv(3, kernel, stride)
    made = conv.init(jax.random.key(0), x)
    assert list(made["params"]) == ["w"]
    want = plain_conv(x[0], np.asarray(made["params"]["w"]), stride)
    np.testing.assert_allclose(conv.apply(made, x)[0], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (1, 2)])
def test_max_pool_pads_with_nothing(size) -> None:
    x = np.random.default_rng(0).standard_normal((1, *size, 2)).astype(np.float32) - 9
    rows, columns = (math.ceil(n / 2) for n in size)
    want = np.zeros((rows, columns, 2))
    for i in range(rows):
        for j in range(columns):
            # An even size has all of its padding at the end, an odd one has some at both.
            y, z = 2 * i - size[0] % 2, 2 * j - size[1] % 2
            want[i, j] = x[0, max(y, 0) : y + 3, max(z, 0) : z + 3].max(axis=(0, 1))
    np.testing.assert_array_equal(max_pool(jnp.asarray(x))[0], want)


def test_moving_averages_are_corrected_for_their_start() -> None:
    norm = BatchNorm(decay=0.8, epsilon=1e-3)
    rng = np.random.default_rng(0)
    steps = [rng.normal(3, 2, (4, 5, 6, 3)).astype(np.float32) for _ in range(3)]
    made = norm.init(jax.random.key(0), steps[0], train=True)
    assert int(made["state"]["~"]["mean_ema"]["counter"]) == 0
    state = made["state"]
    for x in steps:
        out, after = norm.apply(
            {"params": made["params"], "state": state}, x, train=True, mutable=["state"]
        )
        state = after["state"]
        values = x.astype(np.float64).reshape(-1, 3)
        want = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-3)
        np.testing.assert_allclose(np.reshape(out, (-1, 3)), want, rtol=1e-4, atol=1e-5)
    for name, statistic in (("mean_ema", np.mean), ("var_ema", np.var)):
        values = [statistic(x.astype(np.float64).reshape(-1, 3), axis=0) for x in steps]
        hidden = 0.2 * (0.64 * values[0] + 0.8 * values[1] + values[2])
        found = state["~"][name]
        assert int(found["counter"]) == 3
        assert found["average"].shape == (1, 1, 1, 3)
        np.testing.assert_allclose(found["hidden"].ravel(), hidden, rtol=1e-5)
        np.testing.assert_allclose(found["average"].ravel(), hidden / (1 - 0.8**3), rtol=1e-5)


def test_evaluation_uses_the_averages_and_keeps_them() -> None:
    norm = BatchNorm()
    x = np.random.default_rng(0).normal(3, 2, (4, 3)).astype(np.float32)
    fresh = norm.init(jax.random.key(0), x, train=False)
    out, after = norm.apply(fresh, x, train=False, mutable=["state"])
    np.testing.assert_allclose(out, x / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, after["state"], fresh["state"]))


def test_statistics_are_those_of_all_devices_in_one_collective() -> None:
    norm = BatchNorm(axis_name="devices")
    x = np.random.default_rng(0).normal(1, 2, (8, 3, 3, 4)).astype(np.float32)
    made = BatchNorm().init(jax.random.key(0), x, train=True)

    def step(norm: BatchNorm, x: jax.Array) -> Any:
        return norm.apply(made, x, train=True, mutable=["state"])

    whole, state = step(BatchNorm(), x)
    parts, states = jax.vmap(functools.partial(step, norm), axis_name="devices")(
        x.reshape(2, 4, 3, 3, 4)
    )
    np.testing.assert_allclose(np.reshape(parts, x.shape), whole, rtol=1e-5, atol=1e-6)
    assert_each_equal(states, state, rtol=1e-5)
    trace = jax.make_jaxpr(functools.partial(step, norm), axis_env=[("devices", 2)])(x)
    assert len(re.findall(r"\bpsum\w*\[", str(trace))) == 1


# ---- the whole network --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "module", "width"),
    [
        ("checkpoint_va_w1.json", "narrow_video_embedding", 1),
        ("checkpoint_vv_w1.json", "broad_video_embedding", 1),
        ("checkpoint_vv_w2.json", "narrow_video_embedding", 2),
    ],
)
def test_names_and_shapes_are_the_published(file: str, module: str, width: int) -> None:
    lists = json.loads((GOLDEN / file).read_text())
    shapes = variable_shapes(TSMResNet(width))
    for collection in ("params", "state"):
        want = {
            f"{path.removeprefix(f'{module}/TSMResNetV2/')}/{name}": tuple(shape)
            for path, entries in lists[collection].items()
            if path.startswith(f"{module}/")
            for name, shape in entries.items()
        }
        found = flatten_dict(shapes[collection], sep="/")
        assert {name: leaf.shape for name, leaf in found.items()} == want


@pytest.mark.parametrize(("width", "count"), [(1, 23_500_352), (2, 93_891_712)])
def test_parameter_counts(width: int, count: int) -> None:
    leaves = jax.tree.leaves(variable_shapes(TSMResNet(width))["params"])
    assert sum(math.prod(leaf.shape) for leaf in leaves) == count


def test_width_scales_every_layer() -> None:
    published = flatten_dict(variable_shapes(TSMResNet(1))["params"], sep="/")
    quarter = flatten_dict(variable_shapes(TSMResNet(0.25))["params"], sep="/")
    assert quarter.keys() == published.keys()
    for name, leaf in quarter.items():
        *kernel, size_in, size_out = published[name].shape
        size_in = size_in if size_in in (1, 3) else size_in // 4
        assert leaf.shape == (*kernel, size_in, size_out // 4), name


def plain_embedding(made: Mapping[str, Any], clips: np.ndarray) -> dict[str, np.ndarray]:
    """Every unit's mean, from float64 layers on one image at a time."""
    flat = flatten_dict(made, sep="/")
    num_clips, num_frames = clips.shape[:2]

    def weights(name: str) -> np.ndarray:
        return np.asarray(flat[f"params/{name}/w"], np.float64)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        mean, variance = (
            flat[f"state/{name}/~/{part}/average"].ravel().astype(np.float64)
            for part in ("mean_ema", "var_ema")
        )
        scale, offset = (flat[f"params/{name}/{part}"].ravel() for part in ("scale", "offset"))
        return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * scale + offset, 0)

    def conv(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        return np.stack([plain_conv(image, weights(name), stride) for image in x])

    def shift(x: np.ndarray) -> np.ndarray:
        positions = np.moveaxis(x.reshape(num_clips, num_frames, -1, x.shape[-1]), 2, 0)
        n = x.shape[-1] // 8
        shifted = np.stack([plain_shift(position, n) for position in positions])
        return np.moveaxis(shifted, 0, 2).reshape(x.shape)

    x = conv(clips.reshape(-1, *clips.shape[2:]), "tsm_resnet_stem", 2)
    x = np.asarray(max_pool(jnp.asarray(x, jnp.float32)), np.float64)
    found = {}
    for unit, num_blocks in zip(UNITS, (3, 4, 6, 3), strict=True):
        for i in range(num_blocks):
            block = f"{unit}/block_{i}"
            stride = 2 if i == 0 and unit != UNITS[0] else 1
            activated = norm(x, f"{block}/batch_norm")
            shortcut = conv(activated, f"{block}/shortcut_conv", stride) if i == 0 else x
            y = norm(conv(shift(activated), f"{block}/conv_0"), f"{block}/batch_norm_1")
            y = norm(conv(y, f"{block}/conv_1", stride), f"{block}/batch_norm_2")
            x = shortcut + conv(y, f"{block}/conv_2")
        found[unit] = x.mean(axis=(1, 2)).reshape(num_clips, num_frames, -1).mean(axis=1)
    last = norm(x, "batch_norm").mean(axis=(1, 2))
    return {**found, "embedding": last.reshape(num_clips, num_frames, -1).mean(axis=1)}


def test_outputs_equal_plain_layers() -> None:
    want = plain_embedding(variables(), CLIPS)
    assert set(want) == set(OUTPUTS)
    for output in ("tsm_resnet_unit_0", "tsm_resnet_unit_2", "embedding"):
        found = program(output)(variables(), CLIPS)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, want[output], rtol=1e-4, atol=1e-5, err_msg=output)


def test_an_output_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"no output 'layer5'; there are embedding, tsm_resnet_"):
        program("layer5")(variables(), CLIPS)


def test_training_updates_every_state() -> None:
    _, after = program(train=True)(variables(), CLIPS)
    before, moved = (flatten_dict(s, sep="/") for s in (variables()["state"], after["state"]))
    assert moved.keys() == before.keys()
    for name, leaf in moved.items():
        if name.endswith("/counter"):
            assert int(leaf) == 1, name
        else:
            assert not np.array_equal(leaf, before[name]), name


def test_training_on_two_devices_is_training_on_one() -> None:
    clips = np.random.default_rng(3).uniform(0, 1, (4, 2, 40, 40, 3)).astype(np.float32)
    run = program(train=True, axis_name="devices")
    parts, states = jax.vmap(run, in_axes=(None, 0), axis_name="devices")(
        variables(), clips.reshape(2, 2, 2, 40, 40, 3)
    )
    whole, state = program(train=True)(variables(), clips)
    np.testing.assert_allclose(np.reshape(parts, whole.shape), whole, rtol=1e-3, atol=1e-4)
    assert_each_equal(states, state, rtol=1e-3, atol=1e-4)


def test_constants_are_those_of_flax() -> None:
    network = TSMResNet(WIDTH)
    ours = flatten_dict(initial_variables(network, seed=0), sep="/")

    @jax.jit
    def constants() -> dict[str, jax.Array]:
        made = network.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))
        flat = flatten_dict(made, sep="/")
        return {name: leaf for name, leaf in flat.items() if not name.endswith("/w")}

    assert ours.keys() == flatten_dict(variable_shapes(network), sep="/").keys()
    for name, leaf in constants().items():
        assert ours[name].dtype == leaf.dtype, name
        np.testing.assert_array_equal(ours[name], leaf, err_msg=name)


def test_kernels_are_from_a_normal_cut_at_two_deviations() -> None:
    made = flatten_dict(initial_variables(TSMResNet(WIDTH), seed=0)["params"], sep="/")
    kernels = [leaf for name, leaf in made.items() if name.endswith("/w")]
    ours = [np.ravel(leaf) * math.sqrt(math.prod(leaf.shape[:-1])) for leaf in kernels]
    shape = (3, 3, 16, 32)
    flaxs = [np.ravel(initial_kernel(jax.random.key(0), shape)) * math.sqrt(3 * 3 * 16)]
    for draws in map(np.concatenate, (ours, flaxs)):
        assert np.abs(draws).max() <= 2.0001
        # The standard deviation of a standard normal without its tails past 2.
        np.testing.assert_allclose([draws.mean(), draws.std()], [0, 0.8796], atol=0.03)


def test_initial_values_are_a_function_of_the_seed() -> None:
    first, again, other = (
        flatten_dict(initial_variables(TSMResNet(WIDTH), seed=seed), sep="/") for seed in (0, 0, 1)
    )
    assert all(np.array_equal(again[name], leaf) for name, leaf in first.items())
    kernels = [name for name in first if name.endswith("/w")]
    assert not any(np.array_equal(other[name], first[name]) for name in kernels)
