"""The models by their names: GDT for video and sound, a fine-tuned trunk, and `build` for all.

`model_text` has GDT for video and text, `model_stica` STiCA.
"""

from __future__ import annotations

from typing import Union

import torch.nn.functional as F
from torch import Tensor, nn

from gdt_stica.architecture import Architecture
from gdt_stica.model_stica import STiCA
from gdt_stica.model_text import VideoTextGDT
from gdt_stica.networks.audio import make_audio_trunk
from gdt_stica.networks.heads import make_head
from gdt_stica.networks.pooling import make_pooling
from gdt_stica.networks.trunk import Network
from gdt_stica.networks.video import make_video_trunk

Model = Union["AudioVisualGDT", VideoTextGDT, STiCA, "FineTuned"]


class AudioVisualGDT(nn.Module):
    """GDT for video and sound (arXiv 2003.04298).

    Embeddings are the trunks' pooled outputs (512 at width 1); projections (256) are what the
    objective compares, of length 1 if `norm_feat`. dropout: of the heads, 0.3 in the original.
    """

    def __init__(self, architecture: Architecture | None = None, *, dropout: float = 0.3):
        super().__init__()
        options = architecture or Architecture()
        self.norm_feat = options.norm_feat
        video, audio = make_video_trunk(options), make_audio_trunk(options)
        self.video_network = Network(video)
        self.audio_network = Network(audio)
        self.mlp_v = make_head(video.feature_size, use_mlp=options.use_mlp, dropout=dropout)
        self.mlp_a = make_head(audio.feature_size, use_mlp=options.use_mlp, dropout=dropout)

    def forward(self, video: Tensor, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, H, W) and (B, 1, F, T) to the projections of both, (B, 256) each."""
        return self.project_video(video), self.project_sound(spectrogram)

    def encode_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, C): the trunk's pooled output."""
        embedding: Tensor = self.video_network(video)
        return embedding

    def project_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, 256)."""
        return self._normalised(self.mlp_v(self.encode_video(video)))

    def project_sound(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, F, T) log energies to (B, 256)."""
        return self._normalised(self.mlp_a(self.audio_network(spectrogram)))

    def _normalised(self, projection: Tensor) -> Tensor:
        return F.normalize(projection, dim=1) if self.norm_feat else projection


class FineTuned(nn.Module):
    """A video trunk with a classifier, as `eval_video` trains it.

    base: the trunk. pooling_arch: STiCA's pooling, only where `architecture.base` is "stica"; the
    others average. Between pooling and linear layer, each optional and in this order: L2
    normalisation, dropout of 0.9, batch norm. With batch norm its two layers have two names each
    in the state dict (`final_bn` and `classifier.0`, `linear_layer` and `classifier.1`), as in the
    original's files. attention_dropout: of the pooling.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        dropout: float = 0.9,
        attention_dropout: float = 0.0,
    ):
        super().__init__()
        self.architecture = architecture
        self.base = make_video_trunk(architecture)
        size = self.base.feature_size
        if architecture.base == "stica":
            self.pooling_arch = make_pooling(
                size, architecture, attention_dropout=attention_dropout
            )
        self.use_l2_norm = architecture.use_l2_norm
        self.dropout = nn.Dropout(dropout if architecture.use_dropout else 0.0)
        linear = nn.Linear(size, architecture.num_classes)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        if architecture.use_bn:
            self.final_bn = nn.BatchNorm1d(size)
            self.linear_layer = linear
            self.classifier: nn.Module = nn.Sequential(self.final_bn, self.linear_layer)
        else:
            self.classifier = linear

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, num_classes) logits."""
        return self.classify(self.encode_video(video))

    def encode_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, C): the pooled map."""
        pools = hasattr(self, "pooling_arch")
        embedding: Tensor = (
            self.pooling_arch(self.base.feature_map(video)) if pools else self.base(video)
        )
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, C) of `encode_video` to (B, num_classes) logits."""
        if self.use_l2_norm:
            embedding = F.normalize(embedding, dim=1)
        logits: Tensor = self.classifier(self.dropout(embedding))
        return logits


def build(
    architecture: Architecture,
    *,
    dropout: float | None = None,
    attention_dropout: float = 0.0,
    text_side: bool = True,
    word_table: Tensor | None = None,
) -> Model:
    """The model that `architecture` names, with random weights of PyTorch's global generator.

    dropout: of heads or classifier; None keeps the original's. attention_dropout: of STiCA's
    pooling. text_side, word_table: see `VideoTextGDT`.
    """
    options = {} if dropout is None else {"dropout": dropout}
    if architecture.model == "finetune":
        return FineTuned(architecture, attention_dropout=attention_dropout, **options)
    if architecture.model == "stica":
        return STiCA(architecture, attention_dropout=attention_dropout, **options)
    if architecture.model == "vid_text_gdt":
        return VideoTextGDT(architecture, text_side=text_side, word_table=word_table, **options)
    return AudioVisualGDT(architecture, **options)
