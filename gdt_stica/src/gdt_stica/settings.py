"""What the flags of `main_gdt` mean: networks, draws, inputs, learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread
from ssvideo_torch.loader import TorchBatch
from torch import Tensor

from gdt_stica.architecture import Architecture
from gdt_stica.augmentations import augment
from gdt_stica.config import MainGDT
from gdt_stica.objective import HYPOTHESES
from gdt_stica.optim import epoch_rate
from gdt_stica.quirks import QUIRKS, resolve
from gdt_stica.sampling import GDTSampler
from gdt_stica.spectrograms import spectrograms
from gdt_stica.training import Copies

FRAMES_MIXED = 3  # by the released colour jitter


def architecture_of(config: MainGDT) -> Architecture:
    """The networks."""
    return Architecture(
        model=config.model,
        vid_base_arch=config.vid_base_arch,
        aud_base_arch=config.aud_base_arch,
        use_mlp=config.use_mlp,
        norm_feat=config.norm_feat,
        aud_spec_type=1 if config.aud_spec_type == 1 else 2,
        z_normalize=config.z_normalize,
        width=config.width,
    )


def clips_of(config: MainGDT) -> dict[str, ClipSpec]:
    """By modality, what the networks are trained on and their encoders will expect."""
    span_s = config.clip_len * config.sample_rate / config.target_fps
    size, rate_hz = config.train_crop_size, config.aud_sample_rate
    pixels, samples = Pixels(size, size, size), Samples(config.num_sec * rate_hz, rate_hz)
    return {
        "rgb": ClipSpec("rgb", Spread(config.clip_len, span_s), pixels, "repeat_last"),
        "sound": ClipSpec("sound", samples, None, "zeros"),
    }


def quirks_of(config: MainGDT) -> dict[str, str]:
    """--fidelity, and the options that override it."""
    quirks = resolve(config.fidelity, {q.name: getattr(config, q.name) for q in QUIRKS})
    if quirks["color_jitter"] == "released" and config.clip_len < FRAMES_MIXED:
        raise ConfigError(
            f"--clip_len {config.clip_len}: the released colour jitter mixes the first "
            f"{FRAMES_MIXED} frames; give more, or --color_jitter per_frame"
        )
    return quirks


def sampler_of(config: MainGDT, quirks: Mapping[str, str]) -> GDTSampler:
    """What is drawn for a sample, for the copies that the hypothesis needs."""
    return GDTSampler(
        copies=tuple(sorted(HYPOTHESES[config.hypothesis].copies)),
        num_filters=architecture_of(config).num_filters,
        num_frames=config.clip_len,
        target_fps=config.target_fps,
        sample_rate=config.sample_rate,
        crop_size=config.train_crop_size,
        short_side=(config.short_side[0], config.short_side[1]) if config.short_side else None,
        num_sec=config.num_sec,
        sound_rate_hz=config.aud_sample_rate,
        temporal_jitter=config.use_temporal_jittering,
        volume_jitter=config.use_volume_jittering,
        spec_augment=config.spec_augment,
        random_crop="released" if quirks["random_crop"] == "released" else "inclusive",
    )


def copies_of(
    batch: TorchBatch, config: MainGDT, quirks: Mapping[str, str], sampler: GDTSampler
) -> Copies:
    """The networks' inputs, in the order in which the original's see them.

    The spectrogram of a reversal is that of its clip, backwards.
    """
    videos: dict[int, Tensor] = {}
    sounds: dict[int, Tensor] = {}
    released = quirks["color_jitter"] == "released"
    for copy, view in zip(sampler.copies, batch.views, strict=True):
        assert view.frames is not None, "every copy has frames"
        videos[copy] = augment(
            view.frames,
            view.sizes,
            view.params,
            crop_size=sampler.crop_size,
            color_jitter="released" if released else "per_frame",
            gray="bgr" if released else "rgb",
        )
        if view.sound is None:
            sounds[copy] = sounds[copy - 1].flip(-1)
            continue
        sounds[copy] = spectrograms(
            view.sound,
            view.params,
            sample_rate_hz=sampler.sound_rate_hz,
            num_filters=sampler.num_filters,
            z_normalize=config.z_normalize,
        )
    return {copy: (videos[copy], sounds[copy]) for copy in HYPOTHESES[config.hypothesis].copies}


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
