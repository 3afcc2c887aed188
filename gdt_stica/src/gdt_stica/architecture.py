"""The choices that make one network of this family, without a framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from ssvideo_core.errors import ConfigError

VIDEO_BLOCKS = {"r2plus1d_18": (2, 2, 2, 2), "r2plus1d_34": (3, 4, 6, 3)}
AUDIO_BLOCKS = {"resnet9": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2)}
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "model": ("av_gdt", "vid_text_gdt", "stica", "finetune"),
    "base": ("av_gdt", "vid_text_gdt", "stica"),
    "vid_base_arch": tuple(VIDEO_BLOCKS),
    "aud_base_arch": tuple(AUDIO_BLOCKS),
    "aud_spec_type": (1, 2),
}
STICA_DEFAULTS = {"num_layer": 2, "aud_spec_type": 2, "z_normalize": False}
MAX_TOKENS = 64
MINIMA = {
    "num_classes": 1,
    "embedding_rows": 2,
    "num_layer": 0,
    "num_head": 1,
    "transformer_time_dim": 1,
}


@dataclass(frozen=True)
class Architecture:
    """Options under the names of the original programs' flags, plus `width`.

    model: "av_gdt" (video and sound), "vid_text_gdt" (video and text), "stica" (video and sound,
        the video pooled by a transformer), "finetune" (a video trunk with a classifier).
    base: of a fine-tuned network, the model that it was before; only "stica" has a pooling.
    vid_base_arch, aud_base_arch: the trunks. use_mlp: two-layer heads, else one linear layer.
    norm_feat: projections have length 1.
    aud_spec_type: 1 is a bank of 40 filters, 2 one of 257. z_normalize: of log energies, by the
        constants of the pre-training.
    width: of both trunks; 1.0 is published, 0.25 starts with 16 channels instead of 64.
    num_layer, num_head, positional_emb, qkv_mha: of the transformer that pools the video, for
        "stica" and what was fine-tuned from it; with 0 layers the video is averaged.
    transformer_time_dim: its tokens; as many as the last map has frames (`map_frames`).
    embedding_rows: of the table of words, the row of the empty word included.
    num_classes, use_bn, use_l2_norm, use_dropout: of a fine-tuned classifier.

    Raises ConfigError for a value that does not exist and for options that exclude each other.
    """

    model: str = "av_gdt"
    base: str = "av_gdt"
    vid_base_arch: str = "r2plus1d_18"
    aud_base_arch: str = "resnet9"
    use_mlp: bool = True
    norm_feat: bool = True
    aud_spec_type: int = 1
    z_normalize: bool = True
    width: float = 1.0
    num_layer: int = 0
    num_head: int = 4
    positional_emb: bool = False
    qkv_mha: bool = False
    transformer_time_dim: int = 4
    embedding_rows: int = 66250
    num_classes: int = 400
    use_bn: bool = False
    use_l2_norm: bool = False
    use_dropout: bool = False

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if kind is float and type(value) is int:
                object.__setattr__(self, name, float(value))
            elif type(value) is not kind:
                raise ConfigError(
                    f"architecture option {name}={value!r}: expected {_expected(name, kind)}"
                )
            if name in CHOICES and value not in CHOICES[name]:
                raise ConfigError(
                    f"architecture option {name}={value!r}: expected {_expected(name, kind)}"
                )
        if not (math.isfinite(self.width) and 64 * self.width >= 1):
            raise ConfigError(f"width={self.width}: expected at least 1/64 (one channel)")
        for name, least in MINIMA.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least {least}")
        if self.has_transformer:
            self._check_transformer()

    def _check_transformer(self) -> None:
        size = 8 * first_channels(self.width)
        if size % self.num_head:
            raise ConfigError(
                f"num_head={self.num_head} does not divide the {size} channels of the map (512 at "
                "width 1); give a divisor of them"
            )
        if self.positional_emb and self.transformer_time_dim > MAX_TOKENS:
            raise ConfigError(
                f"transformer_time_dim={self.transformer_time_dim}: there are positions for "
                f"{MAX_TOKENS} tokens; give fewer, or positional_emb=false"
            )

    @property
    def has_transformer(self) -> bool:
        """Whether a transformer pools the video."""
        pooled = self.model == "stica" or (self.model == "finetune" and self.base == "stica")
        return pooled and self.num_layer > 0

    @property
    def num_filters(self) -> int:
        """Rows of the spectrogram."""
        return 40 if self.aud_spec_type == 1 else 257

    def to_json(self) -> dict[str, Any]:
        """All options; `from_options` reads them."""
        return asdict(self)


def from_options(options: Mapping[str, Any]) -> Architecture:
    """What is not given has the default of the model's own training: see `STICA_DEFAULTS`.

    Raises ConfigError for a name or value that is none, listing those that are.
    """
    unknown = sorted(options.keys() - {field.name for field in fields(Architecture)})
    if unknown:
        raise ConfigError(f"no architecture option {', '.join(unknown)}; there are: {choices()}")
    defaults = STICA_DEFAULTS if options.get("model") == "stica" else {}
    return Architecture(**{**defaults, **options})


def first_channels(width: float) -> int:
    """Channels of the first layer; the last has 8 times as many."""
    return int(64 * width)


def map_frames(num_frames: int) -> int:
    """Frames of the trunk's last map: three convolutions halve them, rounding up.

    4, 8, 12 and 15 for the published clips of 30, 60, 90 and 120 frames.
    """
    return math.ceil(num_frames / 8)


def check_num_frames(architecture: Architecture, num_frames: int) -> None:
    """Raise ConfigError unless a clip's map has a frame for each token of STiCA's transformer.

    Fine-tuned networks take any number: the published one repeats the frames of shorter maps.
    """
    tokens, found = architecture.transformer_time_dim, map_frames(num_frames)
    if architecture.model == "stica" and architecture.has_transformer and tokens != found:
        raise ConfigError(
            f"clips of {num_frames} frames make a map of {found}, and the transformer takes "
            f"transformer_time_dim={tokens}: give clips of {8 * tokens - 7} to {8 * tokens} "
            f"frames, or transformer_time_dim={found} if the network was trained with these"
        )


def choices() -> str:
    """Every option with its values, for messages."""
    hints = get_type_hints(Architecture)
    return "; ".join(f"{name}: {_expected(name, kind)}" for name, kind in hints.items())


def _expected(name: str, kind: type) -> str:
    if name in CHOICES:
        return " or ".join(map(str, CHOICES[name]))
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
