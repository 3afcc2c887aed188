"""The flags of `main_stica`, under their original spellings.

Flags that mean the same as in `main_gdt` are taken from there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssvideo_core.errors import ConfigError

from gdt_stica.config import RATES_HZ, MainGDT
from gdt_stica.flags import check_numbers, flag, ignored


def _shared(name: str, default: Any = dataclasses.MISSING) -> Any:
    """The flag of `main_gdt`, with its default unless another one is given."""
    field = MainGDT.__dataclass_fields__[name]
    chosen = field.default if default is dataclasses.MISSING else default
    return dataclasses.field(default=chosen, metadata=field.metadata)


@dataclass(frozen=True)
class MainSTiCA:
    """Train STiCA: video that agrees with its sound, and with crops of its own feature map.

    One process, or several under torchrun, torch.distributed.launch or srun. The same command goes
    on where an interrupted one stopped; SIGTERM and SIGUSR1 write a checkpoint and exit with 75.
    """

    root_dir: Path | None = _shared("root_dir")
    dump_path: Path | None = flag(
        "dump_path", None, "the run's folder (default: runs/main_stica-DIGEST)", operational=True
    )
    dataset_name: str = flag(
        "dataset_name", "kinetics", "what the data is called in records", operational=True
    )
    num_data_samples: int | None = _shared("num_data_samples")
    workers: int = _shared("workers", 10)

    num_frames: int = flag("num_frames", 30, "frames of a clip; 30, 60, 90 or 120 in the paper")
    target_fps: int = _shared("target_fps")
    sample_rate: int = _shared("sample_rate")
    num_sec: int = flag("num_sec", 1, "seconds of a clip: num_frames / target_fps")
    train_crop_size: int = _shared("train_crop_size")
    use_random_resize_crop: bool = flag(
        "use_random_resize_crop", True, "crops of 14 to 100 % of the area, else of --short_side"
    )
    short_side: tuple[int, ...] = _shared("short_side")
    colorjitter: bool = flag("colorjitter", True, "change colours of 8 clips in 10")
    use_grayscale: bool = flag("use_grayscale", True, "make 2 clips in 10 gray")
    use_gaussian: bool = flag("use_gaussian", True, "blur every other clip")
    multi_crop: bool = flag("multi_crop", True, "two views of each clip; STiCA needs them")
    num_sec_aud: int = flag("num_sec_aud", 1, "seconds of sound")
    aud_sample_rate: int = _shared("aud_sample_rate")
    aud_spec_type: int = _shared("aud_spec_type", 2)
    use_volume_jittering: bool = _shared("use_volume_jittering")
    use_audio_temp_jittering: bool = flag(
        "use_audio_temp_jittering", False, "move the sound by up to half a second"
    )
    z_normalize: bool = _shared("z_normalize", False)

    num_large_crops: int = flag("num_large_crops", 2, "large crops in space, 0 to 2")
    num_small_crops: int = flag("num_small_crops", 0, "small crops in space")
    num_large_tcrops: int = flag("num_large_tcrops", 0, "large crops in time, 0 to 2")
    num_small_tcrops: int = flag("num_small_tcrops", 0, "small crops in time")
    temp: float = flag("temp", 0.5, "temperature between crops; 0.1 with sound")
    cross_modal_alpha: float = flag(
        "cross_modal_alpha", 0.5, "share of the loss with sound, 0 to 1; crops have the rest"
    )

    num_layer: int = flag("num_layer", 2, "transformer layers that pool the video; 0: average")
    num_head: int = flag("num_head", 4, "attention heads")
    dp: float = flag("dp", 0.0, "dropout of the transformer")
    positional_emb: bool = flag("positional_emb", False, "learned positions of its tokens")
    qkv_mha: bool = flag("qkv_mha", False, "learned values and outputs of its attention")
    transformer_time_dim: int = flag(
        "transformer_time_dim", 4, "its tokens: 4, 8, 12, 15 for 30, 60, 90, 120 frames"
    )
    width: float = _shared("width")
    head_dropout: float = _shared("head_dropout")

    batch_size: int = _shared("batch_size")
    epochs: int = _shared("epochs", 150)
    base_lr: float = flag("base_lr", 0.01, "learning rate, whatever the number of processes")
    use_warmup_scheduler: bool = flag("use_warmup_scheduler", True, "begin with lower rates")
    warmup_epochs: int = flag("warmup_epochs", 10, "epochs until the full rate")
    start_warmup: float = flag("start_warmup", 1e-3, "rate of the first step")
    use_lr_scheduler: bool = flag("use_lr_scheduler", False, "cosine down to --final_lr")
    final_lr: float = flag("final_lr", 0.0, "rate after the last step of the cosine")
    wd: float = flag("wd", 1e-5, "weight decay, on every parameter")
    seed: int = _shared("seed", 31)

    fidelity: str = _shared("fidelity")
    feature_crops: str | None = flag(
        "feature_crops",
        None,
        "whether the last place on the map is drawn",
        choices=("released", "inclusive"),
    )
    crop_passes: str | None = flag(
        "crop_passes", None, "of crops through the head", choices=("released", "needed")
    )
    clip_colors: str | None = flag(
        "clip_colors", None, "weights and place of colour changes", choices=("released", "fixed")
    )
    blur: str | None = flag("blur", None, "its direction", choices=("released", "fixed"))
    random_crop: str | None = _shared("random_crop")

    device: str = _shared("device")
    use_fp16: bool = flag("use_fp16", False, "float16, by PyTorch's own autocast")
    precision: str | None = _shared("precision")
    checkpoint_freq: int = flag(
        "checkpoint_freq", 20, "epochs between checkpoints that stay", operational=True
    )
    checkpoint_steps: int = _shared("checkpoint_steps")
    print_freq: int = _shared("print_freq")
    resume_anyway: bool = _shared("resume_anyway")
    dist_url: str = _shared("dist_url")
    world_size: int | None = _shared("world_size")
    rank: int | None = _shared("rank")
    local_rank: int = _shared("local_rank")

    test_crop_size: int = ignored("test_crop_size", 112, "training tests nothing")
    audio_augtype: str = ignored("audio_augtype", "none")
    vid_base_arch: str = ignored("vid_base_arch", "r2plus1d_18", "always r2plus1d_18")
    aud_base_arch: str = ignored("aud_base_arch", "resnet9", "always resnet9")
    use_mlp: bool = ignored("use_mlp", True, "always yes")
    mlp_dim: int = ignored("mlp_dim", 256, "always 256")
    sync_bn: bool = ignored("sync_bn", True, "always yes")
    resume: str = ignored("resume", "", "a run goes on from its newest checkpoint")
    bash: bool = ignored("bash", False, "the launcher says it")
    num_train_clips: int = ignored("num_train_clips", 1)
    dual_data: bool = ignored("dual_data", False)
    lr_milestones: str = ignored("lr_milestones", "")
    lr_gamma: float = ignored("lr_gamma", 0.1)
    use_lars: bool = ignored("use_lars", False)
    test_only: bool = ignored("test_only", False)
    eval_freq: int = ignored("eval_freq", 1)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_seconds()
        if len(self.short_side) not in (0, 2):
            given = " ".join(map(str, self.short_side))
            raise ConfigError(f"--short_side {given}: expected two numbers, the smaller first")
        if not self.multi_crop:
            raise ConfigError("--multi_crop False: STiCA compares two views of a clip")

    def _check_numbers(self) -> None:
        counts = ("batch_size", "epochs", "num_frames", "target_fps", "sample_rate", "num_sec")
        sizes = ("train_crop_size", "num_sec_aud", "num_head", "transformer_time_dim", "width")
        others = ("workers", "num_layer", "warmup_epochs", "checkpoint_steps", "seed")
        check_numbers(
            self,
            positive=(*counts, *sizes, "temp", "checkpoint_freq", "print_freq", "num_data_samples"),
            not_negative=(*others, "base_lr", "start_warmup", "final_lr", "wd"),
            below_one=("dp", "head_dropout"),
            between={"cross_modal_alpha": (0, 1), "aud_sample_rate": RATES_HZ},
        )

    def _check_seconds(self) -> None:
        expected = max(1, round(self.span_s))
        if self.num_sec != expected:
            raise ConfigError(
                f"--num_sec {self.num_sec}: {self.num_frames} frames, {self.sample_rate} apart at "
                f"{self.target_fps} a second, last {self.span_s:.3g} s; give --num_sec {expected}"
            )

    @property
    def span_s(self) -> float:
        """Seconds between the first frame of a clip and the one that would follow its last."""
        return self.num_frames * self.sample_rate / self.target_fps

    @property
    def network_precision(self) -> str:
        """float32 unless --precision or --use_fp16 say otherwise."""
        if self.precision is not None:
            return self.precision
        return "float16" if self.use_fp16 else "float32"
