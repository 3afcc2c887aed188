"""All embeddings of a step of STiCA, in one call: views, their crops, their sound.

Axes: B clips of a process, T frames, S pixels, F filters, C channels, T' H' W' of a feature map,
D values of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt_stica.choices import check_choice
from gdt_stica.crop_pooling import Box, head_of_each, pool_crops, pool_together, pooled_steps
from gdt_stica.feature_crops import FeatureBoxes, MapSize
from gdt_stica.model_stica import STiCA
from gdt_stica.stica_objective import SPACE, TIME, Part, plan_terms

PASSES = ("released", "needed")


class StepEmbeddings(nn.Module):
    """All that a step of training encodes, in one call, because DistributedDataParallel wants one.

    Each view is a batch of its own for the trunk's batch norms, and each crop for those of the
    heads; running statistics take in one after the other, in the original's order: of view 0,
    then of view 1, a large crop, its small ones, the next large crop; space, time, the whole map.

    passes: "needed" encodes what the losses compare, once. "released" encodes all that is drawn,
    the small crops again for each large one, and the sound once per view. Embeddings are the same
    but for dropout; running statistics are those of the released code. Raises ConfigError for
    others.
    """

    def __init__(self, network: STiCA, *, passes: str = "needed"):
        super().__init__()
        check_choice(f"crop passes '{passes}'", passes, PASSES)
        self.network = network
        self.passes = passes

    def forward(
        self,
        videos: Sequence[Tensor],
        spectrograms: Tensor | None,
        boxes: Sequence[FeatureBoxes],
    ) -> dict[Part, Tensor]:
        """(B, D) of length 1, at least float32, for every part in `plan_terms`.

        videos: of both views, (B, 3, T, S, S) normalised pixels. spectrograms: (B, 1, F, frames)
        log energies, of both; None if no loss is about sound. boxes: of both views.
        """
        maps = [self.network.feature_map(video) for video in videos]
        sounds: list[Tensor] = []
        if spectrograms is not None:
            # The trunk has no dropout, so the second time would only move running statistics.
            times = 2 if self.passes == "released" else 1
            sounds = [self.network.audio_network(spectrograms) for _ in range(times)]
        return embed_parts(self.network, maps, sounds, boxes, passes=self.passes)


def embed_parts(
    network: STiCA,
    maps: Sequence[Tensor],
    sounds: Sequence[Tensor],
    boxes: Sequence[FeatureBoxes],
    *,
    passes: str = "needed",
) -> dict[Part, Tensor]:
    """The second half of `StepEmbeddings`: what follows the trunks.

    network: of it `video_pooling`, `mlp_v` and `mlp_a`. maps: (B, C, T', H', W') of both views.
    sounds: (B, C) pooled outputs of the audio trunk, one for both views or one each; or none.
    """
    needed = {p for t in plan_terms(boxes, sound=bool(sounds)) for p in (t.first, t.second)}
    map_size: MapSize = tuple(maps[0].shape[2:])  # type: ignore[assignment]
    steps = pooled_steps(network.video_pooling)
    parts, pooled = [], []
    for view, (feature_map, of_view) in enumerate(zip(maps, boxes, strict=True)):
        calls = _calls(view, of_view)
        if passes == "needed":
            calls = [part for part in dict.fromkeys(calls) if part in needed]
        parts += calls
        places = [_box(part, of_view, map_size) for part in calls]
        pooled.append(pool_crops(feature_map, places, steps=steps))
    embeddings = pool_together(network.video_pooling, torch.cat(pooled))
    found = _named(parts, head_of_each(network.mlp_v, embeddings))
    if sounds:
        both = torch.stack([sounds[0], sounds[-1]])
        found |= _named([Part(v, "audio") for v in range(2)], head_of_each(network.mlp_a, both))
    return found


def _named(parts: Iterable[Part], projections: Tensor) -> dict[Part, Tensor]:
    """Parts with their embeddings; of a part that is there twice, the first."""
    full = projections.to(torch.promote_types(projections.dtype, torch.float32))
    found: dict[Part, Tensor] = {}
    for part, embedding in zip(parts, F.normalize(full, dim=2), strict=True):
        found.setdefault(part, embedding)
    return found


def _calls(view: int, boxes: FeatureBoxes) -> list[Part]:
    """Every encoding of a view in the released code, in order; some come twice."""
    calls = []
    for place in (SPACE, TIME):
        numbers = {s: len(getattr(boxes, f"{place}_{s}")) for s in ("large", "small", "unused")}
        for i in range(numbers["large"]):
            calls.append(Part(view, f"{place}_large", i))
            for size in ("small", "unused"):
                calls += [Part(view, f"{place}_{size}", j) for j in range(numbers[size])]
    return [*calls, Part(view, "full")]


def _box(part: Part, boxes: FeatureBoxes, map_size: MapSize) -> Box:
    times, height, width = map_size
    if part.crop == "full":
        return 0, times, 0, height, 0, width
    row = [int(place) for place in getattr(boxes, part.crop)[part.row]]
    if part.crop.startswith(SPACE):
        return 0, times, row[0], row[1], row[2], row[3]
    return row[0], row[1], 0, height, 0, width
