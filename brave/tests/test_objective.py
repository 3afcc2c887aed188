from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.objective import mean_loss, pair_losses, regression_loss, total_loss

_spec = importlib.util.spec_from_file_location(
    "plain_objective", Path(__file__).with_name("plain_objective.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)


def rows(seed: int, num_rows: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_rows, size)).astype(np.float32)


X = rows(0, 6, 5) * np.float32([[1], [1], [1], [1e4], [1e-7], [0]])


@pytest.mark.parametrize("y", [rows(1, 6, 5), X, -X, X[::-1]], ids=["any", "same", "not", "turned"])
def test_regression_loss(y: np.ndarray) -> None:
    loss, gradients = jax.value_and_grad(regression_loss, argnums=(0, 1))(X, y)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, plain.regression_loss(X, y), rtol=1e-5, atol=1e-6)
    want = plain.regression_gradient(X, y), plain.regression_gradient(y, X)
    for x, found, gradient in zip((X, y), gradients, want, strict=True):
        norms = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-5)
        np.testing.assert_allclose(found * norms, gradient * norms, rtol=1e-4, atol=1e-6)


def test_regression_loss_of_known_angles() -> None:
    one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 3.0]])
    zero = np.zeros((1, 2))
    for x, y, want in (
        (one, 9 * one, 0.0), (one, other, 1.0), (one, -one, 2.0), (zero, one, 0.5),
        (one, zero, 0.5), (zero, zero, 0.0),
    ):  # fmt: skip
        np.testing.assert_allclose(regression_loss(jnp.asarray(x), jnp.asarray(y)), want, atol=1e-6)


def test_gradients_of_the_plain_loss_are_its_differences() -> None:
    x, y = X[:3].astype(np.float64), rows(1, 3, 5)
    gradient = plain.regression_gradient(x, y)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-6
        rise = plain.regression_loss(x + step, y) - plain.regression_loss(x - step, y)
        np.testing.assert_allclose(gradient[index], rise / 2e-6, rtol=1e-6, atol=1e-9)


VIEWS = ("narrow", "video", "audio", "flow")
EMBEDDINGS = {name: (rows(i, 4, 5), rows(9 + i, 4, 5)) for i, name in enumerate(VIEWS)}


def plain_terms(broad: str) -> tuple[float, float]:
    (z_narrow, h_narrow), (z_broad, h_broad) = EMBEDDINGS["narrow"], EMBEDDINGS[broad]
    return plain.regression_loss(h_broad, z_narrow), plain.regression_loss(h_narrow, z_broad)


def test_terms_of_the_broad_views_in_order() -> None:
    terms = pair_losses(EMBEDDINGS, ["flow", "audio", "video"])
    assert list(terms) == [
        *("loss_b_to_n_flow", "loss_n_to_b_flow"),
        *("loss_b_to_n_2", "loss_n_to_b_2", "loss_b_to_n_1", "loss_n_to_b_1"),
    ]
    want = [term for view in ("flow", "audio", "video") for term in plain_terms(view)]
    np.testing.assert_allclose(list(terms.values()), want, rtol=1e-5)
    np.testing.assert_allclose(mean_loss(terms), np.mean(want), rtol=1e-5)


def test_nothing_is_learnt_through_a_target() -> None:
    def loss(embeddings: Any) -> jax.Array:
        return mean_loss(pair_losses(embeddings, ["audio", "video"]))

    gradients = jax.grad(loss)(EMBEDDINGS)
    narrow = 0
    for view in ("audio", "video"):
        (z, h), (z_narrow, h_narrow) = EMBEDDINGS[view], EMBEDDINGS["narrow"]
        want = plain.regression_gradient(h, z_narrow) / 4
        np.testing.assert_allclose(gradients[view][1], want, rtol=1e-4, atol=1e-7)
        narrow += plain.regression_gradient(h_narrow, z) / 4
    np.testing.assert_allclose(gradients["narrow"][1], narrow, rtol=1e-4, atol=1e-7)
    for view in VIEWS:
        assert not np.any(gradients[view][0]), view
    assert not np.any(gradients["flow"][1])


class LinearModel:
    """Stands for `BraVe`: z = x · a, h = z · b for every view, and a state that counts steps."""

    broad = (SimpleNamespace(name="audio"), SimpleNamespace(name="video"))

    def embeddings(
        self, params: Any, state: Any, inputs: Mapping[str, jax.Array], train: bool = True
    ) -> Any:
        assert train
        projections = {name: x @ params["a"] for name, x in inputs.items()}
        return {name: (z, z @ params["b"]) for name, z in projections.items()}, state + 1


def test_total_loss() -> None:
    params = {"a": rows(1, 3, 5), "b": rows(2, 5, 5)}
    inputs = {name: rows(3 + i, 4, 3) for i, name in enumerate(("narrow", "audio", "video"))}
    gradients_of = jax.value_and_grad(total_loss, argnums=1, has_aux=True)
    (loss, (metrics, state)), gradients = gradients_of(LinearModel(), params, 7, inputs)
    assert state == 8

    def plain_loss(a: np.ndarray, b: np.ndarray, targets: np.ndarray) -> float:
        z = {name: x.astype(np.float64) @ targets for name, x in inputs.items()}
        h = {name: x.astype(np.float64) @ a @ b for name, x in inputs.items()}
        pairs = [("audio", "narrow"), ("narrow", "audio"), ("video", "narrow"), ("narrow", "video")]
        return np.mean([plain.regression_loss(h[one], z[other]) for one, other in pairs])

    a, b = params["a"].astype(np.float64), params["b"].astype(np.float64)
    want = plain_loss(a, b, a)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert metrics.keys() == {
        *("loss", "loss_b_to_n_2", "loss_n_to_b_2", "loss_b_to_n_1", "loss_n_to_b_1")
    }
    np.testing.assert_array_equal(metrics["loss"], loss)
    for name in ("a", "b"):
        for index in np.ndindex(params[name].shape):
            step = {"a": np.zeros_like(a), "b": np.zeros_like(b)}
            step[name][index] = 1e-6
            rise, fall = (plain_loss(a + s * step["a"], b + s * step["b"], a) for s in (1, -1))
            np.testing.assert_allclose(
                gradients[name][index], (rise - fall) / 2e-6, rtol=1e-3, atol=1e-5
            )
