"""BraVe: a backbone for every view, and heads that project and predict.

    inputs["narrow"]  (B, T, S, S, 3)                   ─ backbone ─ heads ─ (z, h)
    inputs[NAME]      of a broad view (`views.ViewSpec`) ─ backbone ─ heads ─ (z, h)

Variables are nested dictionaries; their names joined with "/" are those of the published files:
`narrow_video_embedding/TSMResNetV2/…`, `broad_audio_embedding/res_net_v2/…`, `shared_project/…`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from ssvideo_core.errors import ConfigError

from brave.networks.audio_resnet import AudioResNet
from brave.networks.heads import HIDDEN_SIZE, ProjectAndPredict
from brave.networks.initial import draw_variables, variable_shapes
from brave.networks.tsm_resnet import TSMResNet
from brave.views import MODULES, NARROW, ViewSpec, check_views

SHARED_HEADS = "shared_project"
Tree = dict[str, Any]
Embedding = tuple[Array, Array]


@dataclass(frozen=True)
class BraVe:
    """The networks of a narrow and one or more broad views; holds no arrays.

    output_dims: of z and h. separate_heads: one projector and predictor for each view, else one
        pair for all, the paper's best setting and the released code's. Shared heads need features
        of one size, so a narrow backbone of width 2 trains with sound only if they are separate.
    axis_name: of the devices that batches are spread over, in `jax.vmap` or `jax.shard_map`: batch
        norms use the statistics of all of them. Not needed under `jax.jit` with a sharded batch,
        which is one array.
    remat: keep only the inputs of residual blocks for the backward pass. dtype: of the layers,
        float32 or bfloat16; variables, statistics, z and h are float32.
    hidden_size: of the heads.

    Raises ConfigError for views that do not go together (`views.check_views`), and for shared heads
    of features of several sizes.
    """

    narrow: ViewSpec
    broad: tuple[ViewSpec, ...]
    output_dims: int = 128
    separate_heads: bool = False
    axis_name: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32
    hidden_size: int = HIDDEN_SIZE

    def __post_init__(self) -> None:
        check_views(self.narrow, self.broad)
        sizes = {view.name: view.feature_size for view in self.views}
        if len(set(sizes.values())) > 1 and not self.separate_heads:
            raise ConfigError(
                f"shared heads need features of one size, but those of the views are {sizes}: "
                "give the views one width, or give each view its own heads (separate_heads)"
            )

    @property
    def views(self) -> tuple[ViewSpec, ...]:
        """The narrow view, then the broad ones."""
        return self.narrow, *self.broad

    def init(self, key: Array) -> tuple[Tree, Tree]:
        """Untrained (params, state), NumPy arrays on the host that `key` determines."""
        made = draw_variables(self.shapes(), key)
        return made["params"], made["state"]

    def shapes(self) -> Tree:
        """ "params" and "state" with shapes and dtypes instead of arrays; computes nothing."""
        return variable_shapes(_Networks(self), {view.name: _smallest(view) for view in self.views})

    def embeddings(
        self, params: Tree, state: Tree, inputs: Mapping[str, Array], train: bool = True
    ) -> tuple[dict[str, Embedding], Tree]:
        """(z, h) of every view by name, each (B, output_dims) float32; and the state after it.

        inputs: one float32 array for each view, as `views.ViewSpec` says. train: statistics of the
        batch, and moving averages that advance; else the moving averages, and `state` as it is.

        The moving averages advance in the released order: the narrow backbone, then for each broad
        view its backbone, the heads with its features, the heads with the narrow features. Shared
        heads therefore count two steps for each broad view, and what they saw last weighs most.

        Raises ValueError when an input is missing, or one is of no view.
        """
        names = [view.name for view in self.views]
        if set(inputs) != set(names):
            raise ValueError(f"inputs are {sorted(inputs)}, expected those of the views {names}")
        networks, variables = _Networks(self), {"params": params, "state": state}
        if not train:
            embedded: dict[str, Embedding] = networks.apply(variables, inputs, train=False)  # type: ignore[assignment]
            return embedded, state
        embedded, after = networks.apply(variables, inputs, train=True, mutable=["state"])  # type: ignore[assignment]
        return embedded, after["state"]


class _Networks(nn.Module):
    """All networks as one module, so that names and state are those of one tree."""

    model: BraVe

    @nn.compact
    def __call__(self, inputs: Mapping[str, Array], train: bool = False) -> dict[str, Embedding]:
        features = self._features(self.model.narrow, inputs, train)
        shared = None if self.model.separate_heads else self._heads(SHARED_HEADS)
        narrow_heads = shared or self._heads("narrow_project")
        embedded: dict[str, Embedding] = {}
        for view in self.model.broad:
            heads = shared or self._heads(f"broad_{view.name}_project")
            embedded[view.name] = heads(self._features(view, inputs, train), train=train)
            # Again and again the same values for the loss; shared averages advance each time.
            if shared or NARROW not in embedded:
                embedded[NARROW] = narrow_heads(features, train=train)
        return embedded

    def _features(self, view: ViewSpec, inputs: Mapping[str, Array], train: bool) -> Array:
        return _Backbone(self.model, view, name=view.module)(inputs[view.name], train=train)

    def _heads(self, name: str) -> ProjectAndPredict:
        m = self.model
        return ProjectAndPredict(m.output_dims, m.hidden_size, m.axis_name, m.dtype, name=name)


class _Backbone(nn.Module):
    """The network of a view under the name of its kind."""

    model: BraVe
    view: ViewSpec

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        make = {"tsm_resnet": TSMResNet, "audio_resnet": AudioResNet}[self.view.backbone]
        network = make(
            width=self.view.width,
            axis_name=self.model.axis_name,
            remat=self.model.remat,
            dtype=self.model.dtype,
            name=MODULES[self.view.backbone],
        )
        features: Array = network(x, train=train)
        return features


def _smallest(view: ViewSpec) -> Array:
    shape = (1, 8, 8) if view.modality == "sound" else (1, 1, 8, 8, view.channels)
    return jnp.zeros(shape)
