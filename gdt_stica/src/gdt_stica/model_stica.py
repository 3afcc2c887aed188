"""STiCA: crops of the video's last map, pooled by a transformer (arXiv 2103.10211, section 3).

Axes: B clips, C channels (512 at width 1), T' H' W' of the last map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt_stica.architecture import Architecture
from gdt_stica.feature_crops import FeatureBoxes
from gdt_stica.networks.audio import make_audio_trunk
from gdt_stica.networks.heads import make_head
from gdt_stica.networks.pooling import make_pooling
from gdt_stica.networks.trunk import MapNetwork, Network
from gdt_stica.networks.video import make_video_trunk

GROUPS = ("space_large", "space_small", "time_large", "time_small")


class STiCA(nn.Module):
    """Video and sound, each to 256 numbers of length 1.

    dropout: of the heads, 0.3 in the original. attention_dropout: of the pooling, 0 there.
    """

    def __init__(
        self, architecture: Architecture, *, dropout: float = 0.3, attention_dropout: float = 0.0
    ):
        super().__init__()
        video, audio = make_video_trunk(architecture), make_audio_trunk(architecture)
        self.video_network = MapNetwork(video)
        self.video_pooling = make_pooling(
            video.feature_size, architecture, attention_dropout=attention_dropout
        )
        self.audio_network = Network(audio)
        use_mlp = architecture.use_mlp
        self.mlp_v = make_head(video.feature_size, use_mlp=use_mlp, dropout=dropout)
        self.mlp_a = make_head(audio.feature_size, use_mlp=use_mlp, dropout=dropout)

    def forward(
        self, video: Tensor, spectrogram: Tensor, boxes: FeatureBoxes | None = None
    ) -> dict[str, Tensor]:
        """Projections by name: "video" and "audio" (B, 256), each of `GROUPS` (boxes, B, 256).

        video: (B, 3, T, H, W) normalised pixels. spectrogram: (B, 1, F, frames) log energies.
        Every crop is a batch of its own for batch norms; crops come first, group by group, the
        whole map after them. Groups without boxes are left out.
        """
        feature_map = self.feature_map(video)
        found = {}
        for group in GROUPS if boxes is not None else ():
            if rows := getattr(boxes, group).tolist():
                crops = [self.embed_map(cropped(feature_map, row)) for row in rows]
                found[group] = torch.stack(crops)
        found["video"] = self.embed_map(feature_map)
        return {**found, "audio": self.embed_sound(spectrogram)}

    def feature_map(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to the last map, (B, C, T', H', W')."""
        feature_map: Tensor = self.video_network(video)
        return feature_map

    def embed_map(self, feature_map: Tensor) -> Tensor:
        """A map or a crop of one, (B, C, t, h, w), to (B, 256) of length 1."""
        return F.normalize(self.mlp_v(self.video_pooling(feature_map)), dim=1)

    def embed_sound(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, F, frames) log energies to (B, 256) of length 1."""
        return F.normalize(self.mlp_a(self.audio_network(spectrogram)), dim=1)

    def project_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, 256) of length 1."""
        return self.embed_map(self.feature_map(video))

    def encode_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, C): the pooled map."""
        embedding: Tensor = self.video_pooling(self.feature_map(video))
        return embedding


def cropped(feature_map: Tensor, box: Sequence[int]) -> Tensor:
    """A part of (B, C, T', H', W'): rows and columns y0, y1, x0, x1, or frames t0, t1."""
    if len(box) == 2:
        return feature_map[:, :, box[0] : box[1]]
    y0, y1, x0, x1 = box
    return feature_map[..., y0:y1, x0:x1]
