from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import brave.training
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.config_files import PACKAGED, load_config
from brave.distributed import start
from brave.experiment_settings import settings_of
from brave.optim import make_optimizer
from brave.training import _Due, _rows, make_model, run_settings
from brave.training_state import TrainingState, from_tree, to_tree
from ssvideo_core.checkpoint_tree import flatten, restore
from ssvideo_core.errors import ConfigError
from ssvideo_core.samples import Batch, BatchView


def settings(*words: str) -> Any:
    return settings_of(load_config(PACKAGED, words))


def test_a_state_comes_back_from_what_a_checkpoint_holds(tmp_path: Path) -> None:
    norm = {"scale": jnp.ones((1, 2)), "offset": jnp.zeros((1, 2))}
    params = {"m": {"w": jnp.zeros((2, 3)), "b": jnp.ones(3), "norm": norm}}
    state = {"m": {"norm": {"~": {"mean_ema": {"counter": jnp.int32(4)}}}}}
    optimizer = make_optimizer(settings().optimizer)
    before = TrainingState(params, state, optimizer.init(params))
    _, momentum = optimizer.update(jax.tree.map(jnp.ones_like, params), before.optimizer, params)
    before = before._replace(optimizer=momentum)
    arrays, structure = flatten(to_tree(before))
    after = from_tree(restore(structure, arrays), before, where=tmp_path)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert "state/m/norm/~/mean_ema/counter" in arrays
    other = before._replace(params={"m": {"w": jnp.zeros((2, 4))}})
    with pytest.raises(ConfigError, match=r"params: 4 arrays differ .* such as m/b"):
        from_tree(restore(structure, arrays), other, where=tmp_path)


def test_a_run_is_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    words = (
        *("--config.experiment.global_batch_size=4", "--config.training_steps=11"),
        "--config.optimizer.schedule.warmup_steps=2",
    )
    with start(None, "cpu:0") as processes:
        run = run_settings(settings(*words), processes, folder=tmp_path, num_samples=10)
        assert run.epochs * (10 // 4) == 11
        assert (run.batch_size, run.seed) == (4, 42)
        with pytest.raises(ConfigError, match="global batch size is 4, expected 1 to 3"):
            run_settings(settings(*words), processes, folder=tmp_path, num_samples=3)


def test_checkpoints_are_due_after_seconds_and_after_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(brave.training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with start(None, "cpu:0") as processes:
        due = _Due(processes, 10, _since=0.0)
        found = []
        for now[0], stop in ((4, False), (11, False), (12, False), (20, False), (21, False)):
            assert due.agreed(stop) is False
            found.append(due.now)
        assert found == [False, True, False, False, True]
        assert due.agreed(True) is True
        assert due.now
        never = _Due(processes, 0, _since=0.0)
        never.agreed(False)
        assert not never.now


def test_parts_of_a_batch_are_contiguous() -> None:
    view = BatchView(
        np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1, 1),
        np.zeros((4, 2), np.int64),
        None,
        np.zeros(4, np.int64),
        {"flip": np.array([True, False, True, True])},
    )
    batch = Batch(np.arange(4), np.full(4, -1), (view,), ())
    part = _rows(batch, 1, 2)
    assert part.index.tolist() == [2, 3]
    assert part.views[0].frames is not None
    assert part.views[0].frames.ravel().tolist() == [2, 3]
    assert part.views[0].params["flip"].tolist() == [True, True]


def test_options_of_the_networks_reach_them() -> None:
    words = (
        *("--config.model.precision=bfloat16", "--config.model.remat=yes"),
        *("--config.model.separate_heads=yes", "--config.model.tsm_resnet_width_multiplier=2"),
        *("--config.model.output_dims=7", "--config.model.head_hidden_size=9"),
    )
    model = make_model(settings(*words))
    found = dataclasses.asdict(model)
    assert found["dtype"] == jnp.bfloat16
    assert (found["remat"], found["separate_heads"]) == (True, True)
    assert (found["output_dims"], found["hidden_size"]) == (7, 9)
    assert model.narrow.width == 2
    assert model.broad[0].width == 1
