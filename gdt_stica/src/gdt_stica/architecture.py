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
    "model": ("av_gdt", "vid_text_gdt", "finetune"),
    "vid_base_arch": tuple(VIDEO_BLOCKS),
    "aud_base_arch": tuple(AUDIO_BLOCKS),
    "aud_spec_type": (1, 2),
}


@dataclass(frozen=True)
class Architecture:
    """Options under the names of the original programs' flags, plus `width`.

    model: "av_gdt" (video and sound), "vid_text_gdt" (its video side; texts are not embedded),
        "finetune" (a video trunk with a classifier).
    vid_base_arch, aud_base_arch: the trunks. use_mlp: two-layer heads, else one linear layer.
    norm_feat: projections have length 1.
    aud_spec_type: 1 is a bank of 40 filters, 2 one of 257. z_normalize: of log energies, by the
        constants of the pre-training.
    width: of both trunks; 1.0 is published, 0.25 starts with 16 channels instead of 64.
    num_classes, use_bn, use_l2_norm, use_dropout: of a fine-tuned classifier.
    """

    model: str = "av_gdt"
    vid_base_arch: str = "r2plus1d_18"
    aud_base_arch: str = "resnet9"
    use_mlp: bool = True
    norm_feat: bool = True
    aud_spec_type: int = 1
    z_normalize: bool = True
    width: float = 1.0
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
        if self.num_classes < 1:
            raise ConfigError(f"num_classes={self.num_classes}: expected at least 1")

    @property
    def num_filters(self) -> int:
        """Rows of the spectrogram."""
        return 40 if self.aud_spec_type == 1 else 257

    def to_json(self) -> dict[str, Any]:
        """All options; `from_options` reads them."""
        return asdict(self)


def from_options(options: Mapping[str, Any]) -> Architecture:
    """Raises ConfigError for a name or value that is none, listing those that are."""
    unknown = sorted(options.keys() - {field.name for field in fields(Architecture)})
    if unknown:
        raise ConfigError(f"no architecture option {', '.join(unknown)}; there are: {choices()}")
    return Architecture(**options)


def choices() -> str:
    """Every option with its values, for messages."""
    hints = get_type_hints(Architecture)
    return "; ".join(f"{name}: {_expected(name, kind)}" for name, kind in hints.items())


def _expected(name: str, kind: type) -> str:
    if name in CHOICES:
        return " or ".join(map(str, CHOICES[name]))
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
