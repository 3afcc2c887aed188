"""What the flags of `main_gdt` mean: networks, their inputs, quirks, learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread

from gdt_stica.architecture import Architecture
from gdt_stica.caption_sampling import BASE_FPS
from gdt_stica.config import MainGDT
from gdt_stica.flags import given_flags
from gdt_stica.optim import epoch_rate
from gdt_stica.quirks import QUIRKS, resolve

FRAMES_MIXED = 3  # by the released colour jitter
# What only one of the two models looks at.
OF_TEXT = ("ht100m_csv", "ht100m_caption_root", "word2vec_dir", "center_crop", "num_candidates")
OF_SOUND = (
    *("target_fps", "short_side", "color_jitter", "random_crop", "aud_base_arch"),
    *("aud_sample_rate", "aud_spec_type", "num_sec", "z_normalize", "aug_audio", "audio_augtype"),
    *("use_volume_jittering", "use_temporal_jittering"),
)


def architecture_of(config: MainGDT, **more: Any) -> Architecture:
    """The networks. more: options that no flag has."""
    return Architecture(
        **more,
        model=config.model,
        vid_base_arch=config.vid_base_arch,
        aud_base_arch=config.aud_base_arch,
        use_mlp=config.use_mlp,
        norm_feat=config.norm_feat,
        aud_spec_type=1 if config.aud_spec_type == 1 else 2,
        z_normalize=config.z_normalize,
        width=config.width,
    )


def idle_flags(config: MainGDT) -> list[str]:
    """Flags of the other model that were given another value than their default."""
    return given_flags(config, OF_SOUND if config.has_text else OF_TEXT)


def clips_of(config: MainGDT) -> dict[str, ClipSpec]:
    """By modality, what the networks are trained on and their encoders will expect."""
    fps = BASE_FPS if config.has_text else config.target_fps
    span_s = config.clip_len * config.sample_rate / fps
    size, rate_hz = config.train_crop_size, config.aud_sample_rate
    pixels, samples = Pixels(size, size, size), Samples(config.num_sec * rate_hz, rate_hz)
    rgb = ClipSpec("rgb", Spread(config.clip_len, span_s), pixels, "repeat_last")
    if config.has_text:
        return {"rgb": rgb}
    return {"rgb": rgb, "sound": ClipSpec("sound", samples, None, "zeros")}


def quirks_of(config: MainGDT) -> dict[str, str]:
    """--fidelity, and the options that override it."""
    quirks = resolve(config.fidelity, {q.name: getattr(config, q.name) for q in QUIRKS})
    jitters = quirks["color_jitter"] == "released" and not config.has_text
    if jitters and config.clip_len < FRAMES_MIXED:
        raise ConfigError(
            f"--clip_len {config.clip_len}: the released colour jitter mixes the first "
            f"{FRAMES_MIXED} frames; give more, or --color_jitter per_frame"
        )
    return quirks


def rate_of(config: MainGDT, quirks: Mapping[str, str], epoch: int, world_size: int) -> float:
    """The learning rate of an epoch, counted from 0; --lr throughout without --use_scheduler."""
    if not config.use_scheduler:
        return config.lr
    return epoch_rate(
        epoch,
        config.lr,
        epochs=config.epochs,
        multiplier=world_size,
        warmup_epochs=config.lr_warmup_epochs,
        kind=config.scheduler_type,
        milestones=config.lr_milestones,
        gamma=config.lr_gamma,
        schedule=quirks["schedule"],
        warm_up=quirks["warm_up"],
    )
