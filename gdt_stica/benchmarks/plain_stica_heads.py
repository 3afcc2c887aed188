"""What the released STiCA does from its feature maps on: written again, one crop at a time.

Every crop is a call of its own of pooling and head, and all small crops that were drawn are encoded
again for each large one. Every pair loss gathers and compares by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from gdt_stica.feature_crops import FeatureBoxes
from gdt_stica.model_stica import STiCA, cropped
from torch import Tensor


def encode(
    network: STiCA, feature_map: Tensor, boxes: FeatureBoxes, *, repeat: bool
) -> dict[str, list[Tensor]]:
    """All crops of a view and its whole map. repeat: the small ones for each large one."""
    found: dict[str, list[Tensor]] = {}
    for place in ("space", "time"):
        drawn = [*getattr(boxes, f"{place}_small"), *getattr(boxes, f"{place}_unused")]
        small = drawn if repeat else getattr(boxes, f"{place}_small")
        found |= {f"{place}_large": [], f"{place}_small": []}
        for i, box in enumerate(getattr(boxes, f"{place}_large")):
            found[f"{place}_large"].append(network.embed_map(cropped(feature_map, box)))
            if repeat or i == 0:
                found[f"{place}_small"] += [
                    network.embed_map(cropped(feature_map, b)) for b in small
                ]
    return {**found, "full": [network.embed_map(feature_map)]}


def pair_loss(
    first: Tensor, second: Tensor, others: Tensor, *, symmetric: bool, temperature: float
) -> Tensor:
    """others: (M, D), the remote embeddings of either side; a copy stands for gathering them."""
    labels = torch.arange(len(first), device=first.device)
    keys = torch.cat([first, others.clone()]).detach()
    loss = F.cross_entropy(second @ keys.T / temperature, labels)
    if not symmetric:
        return loss
    keys = torch.cat([second, others.clone()]).detach()
    return (loss + F.cross_entropy(first @ keys.T / temperature, labels)) / 2


def loss(
    network: STiCA,
    maps: Sequence[Tensor],
    sound: Tensor,
    boxes: Sequence[FeatureBoxes],
    others: Tensor,
    *,
    alpha: float = 0.5,
    repeat: bool = True,
) -> Tensor:
    f, g = (encode(network, m, b, repeat=repeat) for m, b in zip(maps, boxes, strict=True))
    crops = []
    for place in ("space", "time"):
        large, small = f[f"{place}_large"], g[f"{place}_small"]
        for i, key in enumerate(large):
            if i == 1:
                again = g[f"{place}_large"][i]
                crops.append(pair_loss(again, key, others, symmetric=True, temperature=0.5))
            for query in small[: len(getattr(boxes[1], f"{place}_small"))]:
                crops.append(
                    pair_loss(key.detach(), query, others, symmetric=False, temperature=0.5)
                )
    views = []
    for view in (f, g):
        heard = F.normalize(network.mlp_a(sound), dim=1)
        views.append(pair_loss(view["full"][0], heard, others, symmetric=True, temperature=0.1))
    return (1 - alpha) * torch.stack(crops).mean() + alpha * torch.stack(views).mean()
