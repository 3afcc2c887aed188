"""What the flags of `eval_video` mean: network, clips, draws, inputs, learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Spread, View
from ssvideo_torch.loader import TorchView
from torch import Tensor

from gdt_stica.architecture import Architecture
from gdt_stica.clip_augmentations import augment_clips
from gdt_stica.clip_sampling import ClipSampler
from gdt_stica.eval_config import EvalVideo
from gdt_stica.eval_views import test_views
from gdt_stica.finetune import KINDS, fine_tuning_rate
from gdt_stica.quirks import EVAL, quirks_of, resolve
from gdt_stica.sampling import short_side_range

# Where neither flags nor weights tell; layers of STiCA's transformer.
DEFAULT_MODEL, DEFAULT_LAYERS = "av_gdt", 2

Quirks = Mapping[str, str]
DrawTestViews = Callable[..., list[View]]


def eval_quirks(config: EvalVideo) -> dict[str, str]:
    """--fidelity, and the options that override it."""
    overrides = {quirk.name: getattr(config, quirk.name) for quirk in quirks_of(EVAL)}
    return resolve(config.fidelity, overrides, command=EVAL)


def architecture_of(
    config: EvalVideo,
    num_classes: int,
    *,
    model: str = DEFAULT_MODEL,
    known: Architecture | None = None,
) -> Architecture:
    """The network that is trained.

    model: what it was before, of `eval_config.MODELS`. known: of the weights, for what the flags do
    not say.
    """
    width, num_layer = (1.0, DEFAULT_LAYERS) if known is None else (known.width, known.num_layer)
    if config.num_layer is not None:
        num_layer = config.num_layer
    return Architecture(
        model="finetune",
        base=model,
        vid_base_arch=config.vid_base_arch,
        width=width if config.width is None else config.width,
        num_layer=num_layer if model == "stica" else 0,
        num_head=config.num_head,
        positional_emb=config.positional_emb,
        qkv_mha=config.qkv_mha,
        transformer_time_dim=config.num_tokens,
        num_classes=num_classes,
        use_bn=config.use_bn,
        use_l2_norm=config.use_l2_norm,
        use_dropout=config.use_dropout,
    )


def clip_of(config: EvalVideo) -> ClipSpec:
    """What the network is trained and tested on, and its encoder will expect."""
    span_s = config.clip_len * config.steps_bet_clips / config.target_fps
    size = config.train_crop_size
    return ClipSpec("rgb", Spread(config.clip_len, span_s), Pixels(size, size, size), "repeat_last")


def sampler_of(config: EvalVideo, quirks: Quirks) -> ClipSampler:
    """What is drawn for a training clip."""
    return ClipSampler(
        num_views=1,
        num_frames=config.clip_len,
        target_fps=config.target_fps,
        sample_rate=config.steps_bet_clips,
        crop_size=config.train_crop_size,
        random_resize_crop=config.use_random_resize_crop,
        random_crop="released" if quirks["random_crop"] == "released" else "inclusive",
        color_jitter=config.colorjitter,
        grayscale=config.use_grayscale,
        gaussian=config.use_gaussian,
    )


def draw_test_views(config: EvalVideo, quirks: Quirks) -> DrawTestViews:
    """The test clips of a video, from its facts and `rng`; picklable, for workers.

    Raises ConfigError for released clips whose crop may be larger than their shorter side.
    """
    smallest, _ = short_side_range(config.train_crop_size)
    if quirks["test_aug"] == "released" and config.train_crop_size > smallest:
        raise ConfigError(
            f"--train-crop-size {config.train_crop_size}: the released test scales the shorter "
            f"side to {smallest} pixels or more; give at most that, or --test-aug deterministic"
        )
    return partial(
        test_views,
        temporal=config.val_clips_per_video,
        spatial=config.num_spatial_crops,
        crop_size=config.train_crop_size,
        num_frames=config.clip_len,
        target_fps=config.target_fps,
        sample_rate=config.steps_bet_clips,
        mode="released" if quirks["test_aug"] == "released" else "deterministic",
        color_jitter=config.colorjitter,
    )


def input_of(config: EvalVideo, quirks: Quirks, *, blurs: bool) -> Callable[[TorchView], Tensor]:
    """From clips and what was drawn for them to the network's input, (B, 3, T, S, S).

    blurs: whether some clips may be blurred, as in training with --use-gaussian.
    """
    how: Literal["released", "fixed"] = "released" if quirks["blur"] == "released" else "fixed"
    return partial(
        augment_clips,
        crop_size=config.train_crop_size,
        colours="released" if quirks["clip_colors"] == "released" else "fixed",
        blur=how if blurs else "none",
    )


def rates_of(config: EvalVideo, quirks: Quirks, epoch: int) -> dict[str, float]:
    """By kind of parameter, the learning rate of an epoch; the flags' without --use-scheduler."""
    rates = dict(zip(KINDS, (config.head_lr, config.base_lr, config.tsf_lr), strict=True))
    if not config.use_scheduler:
        return rates
    options: dict[str, Any] = {
        "epochs": config.epochs,
        "warmup_epochs": config.lr_warmup_epochs,
        "milestones": config.lr_milestones,
        "gamma": config.lr_gamma,
        "schedule": quirks["schedule"],
    }
    return {kind: fine_tuning_rate(epoch, rate, **options) for kind, rate in rates.items()}


def weight_decay_of(config: EvalVideo) -> dict[str, float]:
    """By kind of parameter."""
    return dict(zip(KINDS, (config.weight_decay, config.wd_base, config.wd_tsf), strict=True))
