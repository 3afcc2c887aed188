"""Many crops of a feature map at once: pooled together, and through a head together.

Cutting, averaging over space and bringing to a number of steps in time is linear, so all crops of a
map are two products with it, one over its places and one over its times. A head's batch norm takes
its statistics over each crop alone, as if it saw one crop after the other.

Axes: N crops, B clips, C channels, T' H' W' of the feature map, K steps of a pooled crop, D values
of a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

Box = tuple[int, int, int, int, int, int]
"""t0, t1, y0, y1, x0, x1 on a feature map, stops excluded."""


def pooled_steps(pooling: nn.Sequential) -> int:
    """K of `networks.pooling.make_pooling`: tokens of its transformer, 1 for an average."""
    size: Any = pooling[0].output_size
    return size if isinstance(size, int) else int(size[0])


def pool_crops(feature_map: Tensor, boxes: Sequence[Box], *, steps: int) -> Tensor:
    """AdaptiveAvgPool3d((K, 1, 1)) of every crop of a map.

    feature_map: (B, C, T', H', W'). boxes: N of them. steps: K. Returns (N, B, C, K), at least
    float32 under autocast too: half of a mean's digits would go to the weights of its places.
    """
    dtype = torch.promote_types(feature_map.dtype, torch.float32)
    places, times = (
        torch.from_numpy(weights).to(feature_map.device, dtype)
        for weights in _weights(boxes, tuple(feature_map.shape[2:]), steps)
    )
    with torch.autocast(feature_map.device.type, enabled=False):
        by_place = feature_map.to(dtype).flatten(3) @ places  # (B, C, T', N)
        return torch.einsum("bctn,ntk->nbck", by_place, times)


def _weights(
    boxes: Sequence[Box], map_size: tuple[int, ...], steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of places [H' W', N] and of times [N, T', K]; what each crop and step averages sums to 1."""
    times, height, width = map_size
    of_places = np.zeros((len(boxes), height, width))
    of_times = np.zeros((len(boxes), times, steps))
    for n, (t0, t1, y0, y1, x0, x1) in enumerate(boxes):
        of_places[n, y0:y1, x0:x1] = 1 / ((y1 - y0) * (x1 - x0))
        length = t1 - t0
        for k in range(steps):
            # Adaptive pooling: bins may overlap, and repeat times where there are fewer than steps.
            start, stop = k * length // steps, -(-(k + 1) * length // steps)
            of_times[n, t0 + start : t0 + stop, k] = 1 / (stop - start)
    return of_places.reshape(len(boxes), -1).T.copy(), of_times


def pool_together(pooling: nn.Sequential, pooled: Tensor) -> Tensor:
    """Crops (N, B, C, K) of `pool_crops` to embeddings (N, B, C), by `make_pooling`'s network."""
    flat: Tensor = pooling(pooled.flatten(0, 1)[..., None, None])  # its average changes nothing
    return flat.view(*pooled.shape[:2], -1)


def head_of_each(head: nn.Module, embeddings: Tensor) -> Tensor:
    """The head's projections of N batches in one pass, as if each were a call of its own.

    embeddings: (N, B, C). Returns (N, B, D). While training, a batch norm takes the statistics of
    each batch alone, over all processes if it is a synchronised one; its running statistics
    take in one batch after the other. Dropout is drawn for each value.
    """
    layers = getattr(head, "block_forward", [head])
    for layer in layers:
        norm = isinstance(layer, _BatchNorm) and layer.training
        embeddings = _norm_of_each(layer, embeddings) if norm else _flat(layer, embeddings)
    return embeddings


def _flat(layer: nn.Module, x: Tensor) -> Tensor:
    outputs: Tensor = layer(x.flatten(0, 1))
    return outputs.view(*x.shape[:2], -1)


def _norm_of_each(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Batch norm of (N, B, C) over B: that of (B, N C), whose channels are those of all batches."""
    batches, _, channels = x.shape
    kind: Any = type(norm)  # PyTorch's for GPUs, ours for CPUs, or a plain one
    # Momentum 1: its running statistics become those of the batches.
    wide = kind(batches * channels, eps=norm.eps, momentum=1.0, device="meta")
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: getattr(norm, name).repeat(batches) for name in names}
    counter = norm.num_batches_tracked
    assert counter is not None, "these networks track running statistics"
    state["num_batches_tracked"] = torch.zeros_like(counter)
    outputs = functional_call(wide, state, x.transpose(0, 1).flatten(1))
    for name in ("running_mean", "running_var"):
        _take_in(getattr(norm, name), state[name].view(batches, channels), norm.momentum)
    counter.add_(batches)
    normed: Tensor = outputs.view(-1, batches, channels).transpose(0, 1)
    return normed


def _take_in(running: Tensor, found: Tensor, momentum: float | None) -> None:
    assert momentum is not None, "cumulative averages are not used in these networks"
    for one in found:
        running.lerp_(one, momentum)
