"""STiCA from its feature maps to gradients: python gdt_stica/benchmarks/stica_heads.py

Pooling, heads and losses of two views, forward and backward, for the published crops (2 large and
4 small in space, 2 large and 1 small in time) on maps of 512 x 4 x 7 x 7. Released: one call
for each crop, small ones again for each large one. Separate: the same without the repetition.
Ours: what the losses need, together. Losses and gradients are asserted equal first, in float64.
Prints CSV; one thread for all, seconds of that thread on a processor. --device cuda: on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.feature_crops import FeatureBoxes, draw_boxes
from gdt_stica.model_stica import STiCA
from gdt_stica.stica_embeddings import embed_parts
from gdt_stica.stica_objective import plan_terms, stica_loss
from measuring import median_seconds, start
from plain_stica_heads import loss as plain_loss
from ssvideo_core.testing.benchmarks import publish
from torch import Tensor

NUMBERS = {"num_large": 2, "num_small": 4, "num_large_t": 2, "num_small_t": 1}
MAP_SIZE, CHANNELS, REMOTE = (4, 7, 7), 512, 504
REPEATS = 5


def ours(
    network: STiCA, maps: list[Tensor], sound: Tensor, boxes: list[FeatureBoxes], others: Tensor
) -> Tensor:
    terms = plan_terms(boxes, sound=True)
    remote = [(others, others if term.symmetric else None) for term in terms]
    return stica_loss(embed_parts(network, maps, [sound], boxes), terms, remote).loss


class Stored:
    """Feature maps of two views, and all else that the losses are computed from."""

    def __init__(self, batch: int, num_layer: int, device: str, dtype: torch.dtype):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device, dtype)

        torch.manual_seed(0)
        options = {"model": "stica", "num_layer": num_layer}
        self.network = STiCA(Architecture(**options), dropout=0.0).to(device, dtype)
        self.maps = [draw(batch, CHANNELS, *MAP_SIZE).requires_grad_() for _ in range(2)]
        self.sound = draw(batch, CHANNELS).requires_grad_()
        self.others = torch.nn.functional.normalize(draw(REMOTE, 256), dim=1)
        rng = np.random.default_rng(0)
        self.boxes = [draw_boxes(rng, **NUMBERS, map_size=MAP_SIZE) for _ in range(2)]

    def gradients(self, loss: Callable[..., Tensor]) -> list[Tensor]:
        """The loss, and its gradients for maps, sound and weights."""
        found = loss(self.network, self.maps, self.sound, self.boxes, self.others)
        heads = [self.network.video_pooling, self.network.mlp_v, self.network.mlp_a]
        weights = [weight for head in heads for weight in head.parameters()]
        return [found, *torch.autograd.grad(found, [*self.maps, self.sound, *weights])]


def separate(*arguments: object) -> Tensor:
    return plain_loss(*arguments, repeat=False)


def compare(batch: int, num_layer: int, device: str) -> tuple[float, float, float]:
    """Seconds of a step: released, separate, ours."""
    exact = Stored(2, num_layer, device, torch.float64)
    wanted = exact.gradients(plain_loss)
    for other in (separate, ours):
        for found, want in zip(exact.gradients(other), wanted, strict=True):
            torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-10)
    stored = Stored(batch, num_layer, device, torch.float32)
    ways = [lambda way=way: stored.gradients(way) for way in (plain_loss, separate, ours)]
    released, alone, together = (
        median_seconds(way, repeats=REPEATS, device=device) for way in ways
    )
    return released, alone, together


def rows(device: str) -> Iterator[list[object]]:
    for num_layer, batch in ((0, 8), (2, 8)):
        times = compare(batch, num_layer, device)
        ratios = (f"{times[0] / times[2]:.1f}", f"{times[1] / times[2]:.1f}")
        yield [num_layer, batch, *(f"{1000 * s:.1f}" for s in times), *ratios]


def main() -> None:
    device, hardware = start(__doc__)
    times = ("released_ms", "separate_ms", "ours_ms")
    columns = ("layers", "clips", *times, "ratio", "ratio_to_separate")
    publish(f"stica_heads{hardware}", columns, rows(device), packages=("torch", "numpy"))


if __name__ == "__main__":
    main()
