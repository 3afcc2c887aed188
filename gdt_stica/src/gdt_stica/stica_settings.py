"""What the flags of `main_stica` mean: networks, draws, inputs, learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread
from ssvideo_torch.loader import TorchBatch
from torch import Tensor

from gdt_stica.architecture import Architecture, check_num_frames, map_frames
from gdt_stica.clip_augmentations import Blur, augment_clips
from gdt_stica.clip_sampling import ClipSampler
from gdt_stica.feature_crops import MapSize, check_crops
from gdt_stica.quirks import STICA, resolve
from gdt_stica.quirks import quirks_of as quirks_of_command
from gdt_stica.spectrograms import spectrograms
from gdt_stica.stica_config import MainSTiCA
from gdt_stica.stica_optim import iteration_rate

NUM_VIEWS = 2
PIXELS_A_PLACE = 16  # on the feature map, per side


def architecture_of(config: MainSTiCA) -> Architecture:
    """The networks. Raises ConfigError when clips and transformer do not fit each other."""
    architecture = Architecture(
        model="stica",
        vid_base_arch="r2plus1d_18",
        aud_base_arch="resnet9",
        aud_spec_type=1 if config.aud_spec_type == 1 else 2,
        z_normalize=config.z_normalize,
        width=config.width,
        num_layer=config.num_layer,
        num_head=config.num_head,
        positional_emb=config.positional_emb,
        qkv_mha=config.qkv_mha,
        transformer_time_dim=config.transformer_time_dim,
    )
    check_num_frames(architecture, config.num_frames)
    return architecture


def clips_of(config: MainSTiCA) -> dict[str, ClipSpec]:
    """By modality, what the networks are trained on and their encoders will expect."""
    size, rate_hz = config.train_crop_size, config.aud_sample_rate
    time = Spread(config.num_frames, config.span_s)
    samples = Samples(config.num_sec_aud * rate_hz, rate_hz)
    return {
        "rgb": ClipSpec("rgb", time, Pixels(size, size, size), "repeat_last"),
        "sound": ClipSpec("sound", samples, None, "zeros"),
    }


def quirks_of(config: MainSTiCA) -> dict[str, str]:
    """--fidelity, and the options that override it."""
    options = {quirk.name: getattr(config, quirk.name) for quirk in quirks_of_command(STICA)}
    return resolve(config.fidelity, options, command=STICA)


def map_size_of(config: MainSTiCA) -> MapSize:
    """Time, height and width of the feature map. Raises ConfigError for crops that do not fit it
    and for numbers of crops that leave no loss."""
    side = math.ceil(config.train_crop_size / PIXELS_A_PLACE)
    size = (map_frames(config.num_frames), side, side)
    check_crops(**crop_numbers(config), map_size=size, alpha=config.cross_modal_alpha)
    return size


def crop_numbers(config: MainSTiCA) -> dict[str, int]:
    """How many crops, as `feature_crops` calls them."""
    return {
        "num_large": config.num_large_crops,
        "num_small": config.num_small_crops,
        "num_large_t": config.num_large_tcrops,
        "num_small_t": config.num_small_tcrops,
    }


def sampler_of(config: MainSTiCA, quirks: Mapping[str, str]) -> ClipSampler:
    """What is drawn for a sample: two views and a sound."""
    return ClipSampler(
        num_views=NUM_VIEWS,
        num_frames=config.num_frames,
        target_fps=config.target_fps,
        sample_rate=config.sample_rate,
        crop_size=config.train_crop_size,
        random_resize_crop=config.use_random_resize_crop,
        short_side=(config.short_side[0], config.short_side[1]) if config.short_side else None,
        random_crop="released" if quirks["random_crop"] == "released" else "inclusive",
        color_jitter=config.colorjitter,
        grayscale=config.use_grayscale,
        gaussian=config.use_gaussian,
        num_sec=config.num_sec_aud if config.cross_modal_alpha > 0 else 0,
        sound_rate_hz=config.aud_sample_rate,
        volume_jitter=config.use_volume_jittering,
        temporal_jitter=config.use_audio_temp_jittering,
    )


def videos_of(batch: TorchBatch, config: MainSTiCA, quirks: Mapping[str, str]) -> list[Tensor]:
    """The clips of both views, (B, 3, T, S, S) each."""
    blur: Blur = "released" if quirks["blur"] == "released" else "fixed"
    return [
        augment_clips(
            view,
            crop_size=config.train_crop_size,
            colours="released" if quirks["clip_colors"] == "released" else "fixed",
            blur=blur if config.use_gaussian else "none",
        )
        for view in batch.views
    ]


def spectrograms_of(batch: TorchBatch, config: MainSTiCA) -> Tensor | None:
    """The sound of both views, (B, 1, F, frames); None if the loss does not hear it."""
    view = batch.views[0]
    if view.sound is None:
        return None
    return spectrograms(
        view.sound,
        view.params,
        sample_rate_hz=config.aud_sample_rate,
        num_filters=architecture_of(config).num_filters,
        z_normalize=config.z_normalize,
    )


def rate_of(config: MainSTiCA, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over the whole run."""
    return iteration_rate(
        step,
        iterations_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        base_rate=config.base_lr,
        warmup_epochs=config.warmup_epochs if config.use_warmup_scheduler else 0,
        start_rate=config.start_warmup,
        final_rate=config.final_lr,
        kind="cosine" if config.use_lr_scheduler else "constant",
    )
