"""What the keys of a configuration mean: views, networks, optimiser, clips of the encoder.

No framework is needed here, so that a wrong configuration is refused in a second.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Steps

from brave.architecture import Architecture
from brave.config_files import Config
from brave.optimizer_settings import OptimizerSettings, ScheduleSettings
from brave.quirks import QUIRKS, resolve
from brave.view_sampling import Placement
from brave.views import BACKBONES, NARROW, ViewSpec, check_views

MODALITIES = {"video": "rgb", "audio": "sound", "flow": "flow"}
_FORM = ("num_frames", "step", "image_size")  # of a view; keys of the configuration begin so
PRECISIONS = ("float32", "bfloat16")
# The paper's evaluation sees twice the frames of the narrow view, squares of 224 from 256 pixels.
EVALUATION_FRAMES, EVALUATION_SIDE = 2, 256 / 224

# The options of the released networks, in the order in which its files have them.
RELEASED_KEYS = (
    "include_video_in_broad_view",
    "include_audio_in_broad_view",
    "num_frames_narrow",
    "step_narrow",
    "image_size_narrow",
    "num_frames_broad",
    "step_broad",
    "image_size_broad",
    "output_dims",
    "tsm_resnet_width_multiplier",
    "num_spectrogram_bins",
    "fft_step",
    "dataset_shards",
    "input_video_sample_rate",
    "input_audio_sample_rate",
)

# Keys that change places, speed or what is written, but no result.
OPERATIONAL = (
    "checkpoint_dir",
    "save_checkpoint_interval",
    "checkpoint_steps",
    "keep_checkpoint_steps",
    "log_steps",
    "log_tensors_interval",
    "train_checkpoint_all_hosts",
    "best_model_eval_metric",
    "experiment.eval_modes",
    "experiment.probe_train_shards",
    "experiment.probe_test_shards",
    "experiment.probe_svm_regularization",
    "experiment.probe_epochs",
    "experiment.probe_batch_size",
)
_MOST_SEED = 2**32 - 1  # what scikit-learn takes
_LEAST = {
    "training_steps": 1,
    "random_seed": 0,
    "save_checkpoint_interval": 0,
    "checkpoint_steps": 0,
    "keep_checkpoint_steps": 0,
    "log_steps": 1,
    "experiment.global_batch_size": 2,  # batch norms need two clips
    "experiment.probe_epochs": 1,
    "experiment.probe_batch_size": 1,
    "model.output_dims": 1,
    "model.head_hidden_size": 1,
    "model.num_spectrogram_bins": 1,
    "model.fft_step": 1,
    "model.input_audio_sample_rate": 1,
}
_ABOVE_ZERO = ("model.input_video_sample_rate", "experiment.probe_svm_regularization")
_WORDS = {
    "model.dataset_shards": "/data/train-*",
    "model.broad_views": "video,audio",
    "experiment.eval_modes": "eval",
    "experiment.probe_train_shards": "/data/train-*",
    "experiment.probe_test_shards": "/data/test-*",
}


@dataclasses.dataclass(frozen=True)
class ExperimentSettings:
    """A configuration that was checked.

    config: all keys, quirks resolved. placement: of the narrow view. separate_heads, remat,
    precision: as in `model.BraVe`. clip: what the encoder of the run expects.
    """

    config: Config
    narrow: ViewSpec
    broad: tuple[ViewSpec, ...]
    placement: Placement
    optimizer: OptimizerSettings
    clip: ClipSpec

    def __getitem__(self, key: str) -> Any:
        return self.config[key]

    @property
    def views(self) -> tuple[ViewSpec, ...]:
        return self.narrow, *self.broad

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.narrow.width)

    def released_config(self) -> dict[str, Any]:
        """The options that a file of the original has, with exactly its names.

        They know one form of broad views: the frames of the first one, the pixels of the first one
        that has some.
        """
        made = {key: self.config[f"model.{key}"] for key in RELEASED_KEYS}
        first = self.broad[0]
        pictures = next((view for view in self.broad if view.modality != "sound"), first)
        width = made["tsm_resnet_width_multiplier"]
        names = [view.name for view in self.broad]
        return {
            **made,
            "include_video_in_broad_view": "video" in names,
            "include_audio_in_broad_view": "audio" in names,
            "num_frames_broad": first.num_frames,
            "step_broad": first.step,
            "image_size_broad": pictures.image_size,
            "tsm_resnet_width_multiplier": int(width) if width.is_integer() else width,
            "dataset_shards": list(made["dataset_shards"]),
        }


def settings_of(config: Config) -> ExperimentSettings:
    """Check a configuration of `config_files.load_config`.

    Raises ConfigError for values that do not exist or do not go together.
    """
    _check_values(config)
    if config["model.precision"] not in PRECISIONS:
        raise ConfigError(
            f"--config.model.precision={config['model.precision']}: expected "
            f"{' or '.join(PRECISIONS)}"
        )
    narrow, broad = _views(config)
    check_views(narrow, broad)
    quirks = resolve(
        config["fidelity"],
        {quirk.name: config[quirk.name] for quirk in QUIRKS},
        broad_video=any(view.modality == "rgb" for view in broad),
    )
    config = {**config, **quirks}
    return ExperimentSettings(
        config=config,
        narrow=narrow,
        broad=broad,
        placement=cast(Placement, config["model.narrow_placement"]),
        optimizer=_optimizer(config),
        clip=_clip(narrow, config["model.input_video_sample_rate"]),
    )


def _check_values(config: Config) -> None:
    """Raise ConfigError for numbers that are too small, too large or none, and words that are none.

    Types are those of the packaged configuration; what a list holds is not.
    """
    for key, least in _LEAST.items():
        if config[key] < least:
            raise ConfigError(f"--config.{key}={config[key]}, expected {least} or more")
    if config["random_seed"] > _MOST_SEED:
        raise ConfigError(
            f"--config.random_seed={config['random_seed']}, expected 0 to {_MOST_SEED}"
        )
    for key, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--config.{key}={value}, expected a finite number")
    for key in _ABOVE_ZERO:
        if config[key] <= 0:
            raise ConfigError(f"--config.{key}={config[key]}, expected a number above 0")
    for key, example in _WORDS.items():
        for word in config[key]:
            if not isinstance(word, str):
                raise ConfigError(
                    f"--config.{key} has {word!r}, expected words, such as --config.{key}={example}"
                )


def _views(config: Config) -> tuple[ViewSpec, tuple[ViewSpec, ...]]:
    words = config["model.broad_views"] or tuple(
        name for name in ("video", "audio") if config[f"model.include_{name}_in_broad_view"]
    )
    narrow = _view(config, NARROW, "rgb", [config[f"model.{key}_narrow"] for key in _FORM])
    return narrow, tuple(_broad_view(config, word) for word in words)


def _broad_view(config: Config, word: str) -> ViewSpec:
    """Of a name, which takes the common keys, or of NAME:FRAMES:STEP:SIZE; sound has no SIZE."""
    name, *numbers = word.split(":")
    modality = MODALITIES.get(name.partition("_")[0])
    if modality is None:
        raise ConfigError(
            f"--config.model.broad_views has '{word}', expected names that begin with "
            f"{', '.join(MODALITIES)}, such as video_2"
        )
    form = _FORM[:2] if modality == "sound" else _FORM
    if numbers and not (len(numbers) == len(form) and all(map(str.isdecimal, numbers))):
        raise ConfigError(
            f"--config.model.broad_views has '{word}', expected '{name}' or '{name}:' and the "
            f"whole numbers {':'.join(form)}, such as video:64:4:112 and audio:64:4"
        )
    common = [config[f"model.{key}_broad"] for key in _FORM]
    return _view(config, name, modality, [*map(int, numbers), *common[len(numbers) :]])


def _view(config: Config, name: str, modality: str, form: Sequence[int]) -> ViewSpec:
    """form: the values of _FORM."""
    num_frames, step, image_size = form
    backbone = BACKBONES[modality]
    width = config[f"model.{backbone}_width_multiplier"]
    return ViewSpec(name, modality, num_frames, step, image_size, backbone, width)


def _optimizer(config: Config) -> OptimizerSettings:
    given = {
        field.name: config[f"optimizer.{field.name}"]
        for field in dataclasses.fields(OptimizerSettings)
        if field.name != "schedule"
    }
    schedule = {
        field.name: config[f"optimizer.schedule.{field.name}"]
        for field in dataclasses.fields(ScheduleSettings)
    }
    schedule["total_steps"] = schedule["total_steps"] or config["training_steps"]
    try:
        schedule["boundaries_and_scales"] = {
            int(step): float(scale) for step, scale in schedule["boundaries_and_scales"]
        }
        given["rate_rules"] = tuple((str(name), float(by)) for name, by in given["rate_rules"])
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            "--config.optimizer: boundaries_and_scales and rate_rules are lists of pairs, such as "
            f"((1000, 0.1),) and (('.*predictor.*', 10.0),); found others ({error})"
        ) from None
    return OptimizerSettings(**given, schedule=ScheduleSettings(**schedule))


def _clip(narrow: ViewSpec, rate_hz: float) -> ClipSpec:
    """What the paper's evaluation would show a network with this narrow view."""
    size = narrow.image_size
    time = Steps(EVALUATION_FRAMES * narrow.num_frames, narrow.step, rate_hz)
    return ClipSpec("rgb", time, Pixels(round(size * EVALUATION_SIDE), size, size), "loop")


def record_of(
    settings: ExperimentSettings, videos: Path | None, operational: Mapping[str, Any]
) -> Any:
    """A dataclass for `ssvideo_core.runs.start_run`: each key a field, with _ for its dots.

    videos: where the shards come from. operational: flags that change no result.
    """
    values = {**settings.config, "videos": videos, **operational}
    kept = {key.replace(".", "_"): value for key, value in values.items()}
    free = {key.replace(".", "_") for key in (*OPERATIONAL, *operational)}
    fields = [(name, Any, option(help="", operational=name in free)) for name in kept]
    return dataclasses.make_dataclass("ExperimentRecord", fields, frozen=True)(**kept)


def check_one_source(settings: ExperimentSettings, videos: Path | None) -> None:
    """Raise ConfigError when both `videos` and shards are to be trained on."""
    if videos is not None and settings["model.dataset_shards"]:
        raise ConfigError(
            "--videos and --config.model.dataset_shards are both given; give one of them"
        )
