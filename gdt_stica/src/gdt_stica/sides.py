"""The sides of a network, video and sound: which tensors of a state dict belong to which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssvideo_core.errors import ConfigError
from ssvideo_core.views import Modality

from gdt_stica.architecture import Architecture

MODALITIES: tuple[Modality, ...] = ("rgb", "sound")
POOLING, FINE_POOLING = "video_pooling.", "pooling_arch."
WITH_SOUND = ("av_gdt", "stica")


@dataclass(frozen=True)
class Side:
    """The part of a state dict that one modality uses, by how its names start.

    pooling: STiCA's; networks with an average have no such tensors.
    """

    trunk: str
    head: tuple[str, ...]
    pooling: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (self.trunk, *self.pooling, *self.head)

    def select(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of trunk, pooling and head."""
        return {k: v for k, v in tensors.items() if k.startswith(self.prefixes)}

    def has_trunk(self, names: Mapping[str, Any]) -> bool:
        return any(name.startswith(self.trunk) for name in names)

    def has_head(self, names: Mapping[str, Any]) -> bool:
        return any(name.startswith(self.head) for name in names)


def side(architecture: Architecture, modality: str) -> Side:
    """Raises ConfigError for a modality that networks of this model do not have."""
    if modality not in MODALITIES:
        raise ConfigError(f"modality '{modality}': expected {' or '.join(MODALITIES)}")
    if modality == "sound":
        if architecture.model not in WITH_SOUND:
            raise ConfigError(
                f"modality 'sound': networks of model '{architecture.model}' have no sound side"
            )
        return Side("audio_network.base.", ("mlp_a.",))
    if architecture.model == "finetune":
        return Side("base.", ("classifier.", "final_bn.", "linear_layer."), (FINE_POOLING,))
    return Side("video_network.base.", ("mlp_v.",), (POOLING,))
