"""What the encoder of each modality is shown, without a framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps

from brave.architecture import CLIP
from brave.experiment_settings import EVALUATION_SIDE, ExperimentSettings
from brave.view_sampling import sound_length
from brave.views import ViewSpec

# What of the released configuration makes the broad views, in the order in which it is taken.
_KEYS = (
    "num_frames_broad",
    "step_broad",
    "image_size_broad",
    "image_size_narrow",
    "input_video_sample_rate",
    "input_audio_sample_rate",
)


def broad_clips(config: Mapping[str, Any]) -> dict[str, ClipSpec]:
    """The broad views of a training as clips, by modality: "sound" and "flow".

    config: the released trainer's options; nothing is returned unless all that are needed are
    numbers above 0.
    """
    values: list[Any] = [config.get(key) for key in _KEYS]
    if not all(isinstance(value, int | float) and value > 0 for value in values):
        return {}
    num_frames, step, size, narrow_size, video_rate_hz, audio_rate_hz = values
    sound = ViewSpec("audio", "sound", num_frames, step, size, "audio_resnet")
    flow = ViewSpec("flow", "flow", num_frames, step, size, "tsm_resnet")
    return _clips((sound, flow), max(size, narrow_size), video_rate_hz, audio_rate_hz)


def training_clips(settings: ExperimentSettings) -> dict[str, ClipSpec]:
    """The broad views "audio" and "flow" of a training as clips, by modality."""
    views = [view for view in settings.broad if view.name in ("audio", "flow")]
    largest = max(view.image_size for view in settings.views if view.modality != "sound")
    rates = (settings[f"model.input_{kind}_sample_rate"] for kind in ("video", "audio"))
    return _clips(views, largest, *rates)


def _clips(
    views: Sequence[ViewSpec], largest: int, video_rate_hz: float, audio_rate_hz: int
) -> dict[str, ClipSpec]:
    """Sound is as long as its view. Flow has its frames; its pixels are those of the paper's
    evaluation, of videos that are stored as large as the largest view needs them.
    """
    clips = {}
    for view in views:
        if view.modality == "sound":
            length = sound_length(view, video_rate_hz, audio_rate_hz)
            clip = ClipSpec("sound", Samples(length, audio_rate_hz), None, "zeros")
        else:
            pixels = Pixels(round(largest * EVALUATION_SIDE), largest, view.image_size)
            time = Steps(view.num_frames, view.step, video_rate_hz)
            clip = ClipSpec("flow", time, pixels, "loop")
        clips[view.modality] = clip
    return clips


# Where weights tell nothing: the input of the paper's evaluation, the broad views of its training.
CLIPS: Mapping[str, ClipSpec] = {
    "rgb": CLIP,
    "sound": ClipSpec("sound", Samples(491_520, 48_000), None, "zeros"),
    "flow": ClipSpec("flow", Steps(64, 4, 25.0), Pixels(256, 224, 112), "loop"),
}
