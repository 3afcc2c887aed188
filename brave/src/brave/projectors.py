"""The projectors of a file, which make of a backbone's features what training compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from ssvideo_core.errors import WeightsError

from brave.backbones import VIEWS, Tensors, loadable, variables_of
from brave.checkpoints import Checkpoint
from brave.model import SHARED_HEADS
from brave.networks.heads import ProjectAndPredict, Projector
from brave.networks.initial import variable_shapes
from brave.views import NARROW


@dataclass(frozen=True)
class FoundProjector:
    """tensors: by name in the file, checked. variables: what `network.apply` takes."""

    network: Projector
    tensors: Tensors
    variables: Mapping[str, Any]


def has_projector(checkpoint: Checkpoint) -> bool:
    """Whether the backbone that the checkpoint means has one."""
    return any(map(checkpoint.tensors_in, _modules(checkpoint.modality)))


def find_projector(checkpoint: Checkpoint) -> FoundProjector:
    """That of the view of the checkpoint's backbone: its own, else the one all views share.

    Raises WeightsError when there is none, and for other names or shapes than a projector of these
    features has.
    """
    modules = _modules(checkpoint.modality)
    module = next(filter(checkpoint.tensors_in, modules), modules[-1])
    found = checkpoint.tensors_in(module)
    kernels = [found.get(f"params/{module}{name}/w") for name in ("linear", "linear_1")]
    if any(kernel is None or kernel.ndim != 2 for kernel in kernels):
        raise WeightsError(
            f"{checkpoint.path}: output 'projection' needs the projector '{module}…', which these "
            "weights do not hold"
        )
    hidden_size, output_dims = (kernel.shape[1] for kernel in kernels if kernel is not None)
    features = jnp.zeros((1, checkpoint.architecture.feature_size))
    shapes = variable_shapes(ProjectAndPredict(output_dims, hidden_size), features)
    expected = {
        f"{collection}/{module}{name}": leaf.shape
        for collection, heads in shapes.items()
        for name, leaf in flatten_dict(heads["projector"], sep="/").items()  # type: ignore[no-untyped-call]
    }
    try:
        tensors = loadable(found, expected)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path}, its projector: {error}") from None
    network = Projector(output_dims, hidden_size, axis_name=None)
    return FoundProjector(network, tensors, variables_of(tensors, module))


def _modules(modality: str) -> tuple[str, str]:
    """Where `model.BraVe` has it: with separate heads, and with shared ones."""
    view = VIEWS[modality]
    own = f"{view}_project" if view == NARROW else f"broad_{view}_project"
    return f"{own}/projector/", f"{SHARED_HEADS}/projector/"
