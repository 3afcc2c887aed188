"""What training changes, as one tree of arrays, and as what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax  # type: ignore[import-untyped]
from numpy.typing import NDArray
from ssvideo_core.checkpoints import load_checkpoint, newest_checkpoint
from ssvideo_core.errors import ConfigError
from ssvideo_core.training_loop import Place, RunSettings, place_of

from brave.architecture import SOUND_OPTIONS
from brave.checkpoints import export, named
from brave.clips import training_clips
from brave.experiment_settings import ExperimentSettings
from brave.model import BraVe, Tree

Leaves = dict[str, NDArray[Any]]


class TrainingState(NamedTuple):
    """params, state: of the networks, state being the moving averages of batch norms.
    optimizer: momentum and the number of updates.
    """

    params: Tree
    state: Tree
    optimizer: Any


def initial_state(
    model: BraVe, optimizer: optax.GradientTransformation, seed: int
) -> TrainingState:
    """Untrained, NumPy arrays."""
    params, state = model.init(jax.random.key(seed))
    # One program: the arrays one by one would be one each.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        fresh = jax.jit(optimizer.init)(params)
    return TrainingState(params, state, jax.device_get(fresh))


def to_tree(state: TrainingState) -> dict[str, Leaves]:
    """For `ssvideo_core.checkpoints`: each part as {path of a leaf: NumPy array}."""
    return {name: _leaves(part) for name, part in state._asdict().items()}


def from_tree(tree: Mapping[str, Any], like: TrainingState, *, where: Path) -> TrainingState:
    """The state of a checkpoint, in the form of `like`; arrays are NumPy's.

    Raises ConfigError when names or shapes differ: it is of other networks or another optimiser.
    """
    return TrainingState(
        *(
            _restored(tree.get(name, {}), part, f"{where}: {name}")
            for name, part in like._asdict().items()
        )
    )


def read_newest(
    like: TrainingState, settings: RunSettings, world_size: int, num_samples: int
) -> tuple[TrainingState, Place] | None:
    """State and place of the newest checkpoint of a run, in the form of `like`; None without one.

    num_samples: records trained on. Raises ConfigError for a checkpoint of other networks, and as
    `place_of` does.
    """
    newest = newest_checkpoint(settings.checkpoints)
    if newest is None:
        return None
    saved = load_checkpoint(newest)
    place = place_of(newest, saved.step, saved.facts, settings, world_size, num_samples)
    return from_tree(saved.state, like, where=newest), place


def export_encoder(path: Path, state: TrainingState, settings: ExperimentSettings) -> None:
    """Write all networks for `load_encoder`, which reads that of one view, and for `convert`."""
    sound = {name: settings[f"model.{name}"] for name in SOUND_OPTIONS}
    export(
        path,
        named(state.params),
        named(state.state),
        replace(settings.architecture, **sound),
        clip=settings.clip,
        broad=training_clips(settings),
        config=settings.released_config(),
    )


def _leaves(part: Any) -> Leaves:
    paths, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(part))
    return {_name(path): np.asarray(leaf) for path, leaf in paths}


def _restored(found: Mapping[str, NDArray[Any]], part: Any, where: str) -> Any:
    paths, form = jax.tree_util.tree_flatten_with_path(part)
    shapes = {_name(path): np.shape(leaf) for path, leaf in paths}
    wrong = sorted(
        name
        for name in shapes.keys() | found.keys()
        if name not in found or found[name].shape != shapes.get(name)
    )
    if wrong:
        raise ConfigError(
            f"{where}: {len(wrong)} arrays differ from those of this configuration, such as "
            f"{', '.join(wrong[:3])}; go on with the configuration it began with"
        )
    return jax.tree_util.tree_unflatten(form, [found[name] for name in shapes])


def _name(path: Any) -> str:
    return str(jax.tree_util.keystr(path, simple=True, separator="/"))
