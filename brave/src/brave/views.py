"""The views of a clip that a model is trained on: one narrow, one or more broad, no framework.

Axes: B clips, T frames, S pixels a side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ssvideo_core.errors import ConfigError

from brave.architecture import feature_size

NARROW = "narrow"
BACKBONES = {"rgb": "tsm_resnet", "flow": "tsm_resnet", "sound": "audio_resnet"}
MODULES = {"tsm_resnet": "TSMResNetV2", "audio_resnet": "res_net_v2"}  # names in published files
CHANNELS = {"rgb": 3, "flow": 2, "sound": 1}


@dataclass(frozen=True)
class ViewSpec:
    """One view: what is seen of a clip, and the network that sees it.

    name: "narrow", or any other word for a broad view; "video", "audio" and "flow" give the
        published module names.
    modality: "rgb" (B, T, S, S, 3) in [0, 1], "flow" (B, T, S, S, 2), or "sound" (B, frames, bins),
        a log-mel spectrogram.
    num_frames, step: frames of the stored video and the gap between them; of sound they give the
        span, num_frames · step stored frames.
    image_size: S; a view of sound does not use it.
    backbone: "tsm_resnet" for rgb and flow, "audio_resnet" for sound.
    width: multiplies the channels of every layer, as in `architecture.Architecture`; released
        audio networks have 1.

    Raises ConfigError for values that are none of these.
    """

    name: str
    modality: str
    num_frames: int
    step: int
    image_size: int
    backbone: str
    width: float = 1.0

    def __post_init__(self) -> None:
        start = f"view '{self.name}'"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ConfigError(f"{start}: expected a name of small letters, digits and _")
        if self.modality not in BACKBONES:
            raise ConfigError(
                f"{start}: modality '{self.modality}', expected {', '.join(BACKBONES)}"
            )
        if self.backbone != BACKBONES[self.modality]:
            raise ConfigError(
                f"{start}: backbone '{self.backbone}' cannot see {self.modality}, expected "
                f"'{BACKBONES[self.modality]}'"
            )
        sizes = {"num_frames": self.num_frames, "step": self.step}
        if self.modality != "sound":
            sizes["image_size"] = self.image_size
        for option, value in sizes.items():
            if value < 1:
                raise ConfigError(f"{start}: {option}={value}, expected 1 or more")
        object.__setattr__(self, "width", float(self.width))
        feature_size(self.width)

    @property
    def module(self) -> str:
        """The first part of the backbone's parameter names."""
        return "narrow_video_embedding" if self.name == NARROW else f"broad_{self.name}_embedding"

    @property
    def feature_size(self) -> int:
        """Channels of the backbone's features."""
        return feature_size(self.width)

    @property
    def channels(self) -> int:
        """Of the backbone's input; a spectrogram is a picture with one."""
        return CHANNELS[self.modality]


def check_views(narrow: ViewSpec, broad: Sequence[ViewSpec]) -> None:
    """Raises ConfigError unless the narrow view is of pictures and each view has its own name."""
    if narrow.name != NARROW or narrow.modality != "rgb":
        raise ConfigError(
            f"the narrow view is '{narrow.name}' of {narrow.modality}, expected '{NARROW}' of rgb"
        )
    names = [view.name for view in broad]
    if not names or NARROW in names or len(set(names)) < len(names):
        raise ConfigError(
            f"the broad views are {names or 'none'}; expected one or more, with different names "
            f"that are not '{NARROW}'"
        )
