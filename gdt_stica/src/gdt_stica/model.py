"""The models whose state dicts are published: two trunks with heads, and a fine-tuned trunk."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gdt_stica.architecture import AUDIO_BLOCKS, VIDEO_BLOCKS, Architecture
from gdt_stica.networks.audio import SpectrogramResNet
from gdt_stica.networks.heads import make_head
from gdt_stica.networks.trunk import Trunk
from gdt_stica.networks.video import R2Plus1D


class Network(nn.Module):
    """A trunk under the name `base`, a level that all published names have."""

    def __init__(self, base: Trunk):
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.base(x)
        return embedding


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

    def project_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, 256)."""
        return self._normalised(self.mlp_v(self.video_network(video)))

    def project_sound(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, F, T) log energies to (B, 256)."""
        return self._normalised(self.mlp_a(self.audio_network(spectrogram)))

    def _normalised(self, projection: Tensor) -> Tensor:
        return F.normalize(projection, dim=1) if self.norm_feat else projection


class FineTuned(nn.Module):
    """A video trunk with a classifier, as `eval_video` trains it.

    Between trunk and linear layer, each optional and in this order: L2 normalisation, dropout of
    0.9, batch norm. With batch norm its two layers have two names each in the state dict
    (`final_bn` and `classifier.0`, `linear_layer` and `classifier.1`), as in the original's files.
    """

    def __init__(self, architecture: Architecture, *, dropout: float = 0.9):
        super().__init__()
        self.base = make_video_trunk(architecture)
        self.use_l2_norm = architecture.use_l2_norm
        self.dropout = nn.Dropout(dropout if architecture.use_dropout else 0.0)
        linear = nn.Linear(self.base.feature_size, architecture.num_classes)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        if architecture.use_bn:
            self.final_bn = nn.BatchNorm1d(self.base.feature_size)
            self.linear_layer = linear
            self.classifier: nn.Module = nn.Sequential(self.final_bn, self.linear_layer)
        else:
            self.classifier = linear

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised pixels to (B, num_classes) logits."""
        return self.classify(self.base(video))

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, C) pooled outputs of the trunk to (B, num_classes) logits."""
        if self.use_l2_norm:
            embedding = F.normalize(embedding, dim=1)
        logits: Tensor = self.classifier(self.dropout(embedding))
        return logits


def build(
    architecture: Architecture, *, dropout: float | None = None
) -> AudioVisualGDT | FineTuned:
    """The model that `architecture` names, with random weights of PyTorch's global generator.

    dropout: None keeps the original's. For "vid_text_gdt" this is the audio-visual model too: its
    video side is the same, and its text side is not built.
    """
    options = {} if dropout is None else {"dropout": dropout}
    if architecture.model == "finetune":
        return FineTuned(architecture, **options)
    return AudioVisualGDT(architecture, **options)


def make_video_trunk(architecture: Architecture) -> R2Plus1D:
    """The trunk that `vid_base_arch` and `width` name, with random weights."""
    return R2Plus1D(VIDEO_BLOCKS[architecture.vid_base_arch], architecture.width)


def make_audio_trunk(architecture: Architecture) -> SpectrogramResNet:
    """The trunk that `aud_base_arch` and `width` name, with random weights."""
    return SpectrogramResNet(
        AUDIO_BLOCKS[architecture.aud_base_arch],
        architecture.width,
        unused_classifier=architecture.aud_base_arch == "resnet9",
    )
