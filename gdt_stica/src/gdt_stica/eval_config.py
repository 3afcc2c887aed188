"""The flags of `eval_video`, under their original spellings (most with hyphens).

Flags that never had an effect are accepted, because published scripts pass them; the run names
those that were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError

from gdt_stica.architecture import map_frames
from gdt_stica.config import read_milestones
from gdt_stica.flags import check_numbers, flag, ignored

DATASETS = ("hmdb51", "ucf101")
MODELS = ("av_gdt", "vid_text_gdt", "stica")
PROTOCOL = "gdt-finetune"
LONGEST_SHORT_CLIP = 32  # frames; above, the tokens of STiCA's pooling follow from the clip


def read_folds(text: str) -> tuple[int, ...]:
    """ "1,2,3" to (1, 2, 3)."""
    parts = [part.strip() for part in text.split(",")]
    folds = tuple(int(part) for part in parts if part.isdecimal())
    if len(folds) < len(parts) or 0 in folds or len(set(folds)) < len(folds):
        raise ValueError(f"'{text}' is not a list of folds such as 1 or 1,2,3")
    return folds


def _audio(name: str, default: Any) -> Any:
    return ignored(name, default, "the sound takes no part")


@dataclass(frozen=True)
class EvalVideo:
    """Fine-tune a video network on HMDB51 or UCF101 and test it on ten clips of three crops.

    One process, or several under torchrun, torch.distributed.launch or srun. The same command goes
    on where an interrupted one stopped; SIGTERM and SIGUSR1 write a checkpoint and exit with 75.
    Batch norms take their statistics from each process' share of a batch, as the original's did
    from each GPU's; --sync-bn yes takes those of the whole batch. Running statistics are rank 0's.
    """

    dataset: str = flag("dataset", "hmdb51", "what to fine-tune on", choices=DATASETS)
    fold: Sequence[int] = option(
        (1,),
        flags=("--fold",),
        help="official splits, one after the other: 1, or 1,2,3",
        read=read_folds,
        metavar="K,K",
        shown="1",
    )
    root_dir: Path | None = flag(
        "root_dir", None, "folder CLASS/video or SPLIT/CLASS/video", metavar="DIR"
    )
    ucf101_annotation_path: Path | None = flag(
        "ucf101-annotation-path",
        None,
        "folder of trainlist01.txt, testlist01.txt, … (default: the official lists)",
        metavar="DIR",
    )
    hmdb51_annotation_path: Path | None = flag(
        "hmdb51-annotation-path",
        None,
        "folder of CLASS_test_split1.txt, … (default: the official lists)",
        metavar="DIR",
    )
    output_dir: Path | None = flag(
        "output-dir", None, "the run's folder (default: runs/eval_video-DIGEST)", operational=True
    )
    num_data_samples: int | None = flag("num-data-samples", None, "the first n training videos")
    workers: int = flag("workers", 16, "processes that decode", operational=True)

    weights_path: str = flag(
        "weights-path",
        "",
        "what to begin with: published name, file or folder of a run; without, random weights",
    )
    ckpt_epoch: str = flag("ckpt-epoch", "0", "their epoch; recorded with the results, no more")
    model: str | None = flag(
        "model",
        None,
        "what the weights are of (default: what they tell, else av_gdt)",
        choices=MODELS,
    )
    vid_base_arch: str = flag(
        "vid-base-arch", "r2plus1d_18", "video trunk", choices=("r2plus1d_18", "r2plus1d_34")
    )
    width: float | None = flag("width", None, "of the trunk (default: that of the weights, else 1)")
    num_layer: int | None = flag(
        "num_layer",
        None,
        "transformer layers of stica, 0: average pooling (default: as the weights have, else 2)",
    )
    num_head: int = flag("num_head", 4, "attention heads")
    dp: float = flag("dp", 0.0, "dropout of the transformer")
    positional_emb: bool = flag("positional_emb", False, "learned positions of its tokens")
    qkv_mha: bool = flag("qkv_mha", False, "learned values and outputs of its attention")
    transformer_time_dim: int = flag(
        "transformer_time_dim",
        8,
        "its tokens; of clips of more than 32 frames always as many as their map has steps",
    )
    use_l2_norm: bool = flag("use-l2-norm", False, "features of length 1")
    use_dropout: bool = flag("use-dropout", False, "drop 9 features in 10")
    use_bn: bool = flag("use-bn", False, "batch norm before the classifier")
    feature_extract: bool = flag("feature-extract", False, "train the classifier only")

    clip_len: int = flag("clip-len", 32, "frames of a clip")
    target_fps: int = flag("target-fps", 30, "frames a second")
    steps_bet_clips: int = flag("steps-bet-clips", 1, "stride between frames")
    train_crop_size: int = flag("train-crop-size", 128, "pixels per side, in the test too")
    use_random_resize_crop: bool = flag(
        "use_random_resize_crop", True, "crops of 14 to 100 % of the area, else of one scale"
    )
    colorjitter: bool = flag("colorjitter", True, "change colours of 8 clips in 10")
    use_grayscale: bool = flag("use-grayscale", False, "make 2 clips in 10 gray")
    use_gaussian: bool = flag("use-gaussian", False, "blur every other clip")
    train_clips_per_video: int = flag(
        "train-clips-per-video", 10, "clips of each video in an epoch, each drawn anew"
    )
    val_clips_per_video: int = flag("val-clips-per-video", 10, "test clips over time")
    num_spatial_crops: int = flag("num-spatial-crops", 3, "test crops of each clip", choices=(1, 3))

    batch_size: int = flag("batch-size", 32, "clips of a step, shared by all processes")
    epochs: int = flag("epochs", 12, "passes over the training clips")
    head_lr: float = flag("head-lr", 0.0025, "learning rate of the classifier")
    base_lr: float = flag("base-lr", 0.00025, "of the trunk")
    tsf_lr: float = flag("tsf_lr", 0.00025, "of the transformer")
    weight_decay: float = flag("weight-decay", 0.005, "on the classifier")
    wd_base: float = flag("wd-base", 0.005, "on the trunk")
    wd_tsf: float = flag("wd_tsf", 0.005, "on the transformer")
    momentum: float = flag("momentum", 0.9, "of SGD")
    optim_name: str = flag("optim-name", "sgd", "how to learn", choices=("sgd",))
    use_scheduler: bool = flag("use-scheduler", True, "8 times the rates, then drops at milestones")
    lr_warmup_epochs: int = flag("lr-warmup-epochs", 2, "epochs until 8 times the rates")
    lr_milestones: Sequence[int] = option(
        (6, 10),
        flags=("--lr-milestones",),
        help="epochs of the drops",
        read=read_milestones,
        metavar="E,E",
        shown="6,10",
    )
    lr_gamma: float = flag("lr-gamma", 0.05, "factor of a drop")
    sync_bn: bool = flag("sync-bn", False, "batch statistics over all processes")
    test_from: int = flag("test-from", 7, "first epoch, from 0, that is tested; the last always is")
    seed: int = flag("seed", 0, "of weights, order and draws")

    fidelity: str = flag(
        "fidelity",
        "default",
        "the released code's slips: kept (released), mended (fixed)",
        choices=("default", "released", "fixed"),
    )
    test_aug: str | None = flag(
        "test-aug",
        None,
        "of test clips: random scale and colours, or neither",
        choices=("released", "deterministic"),
    )
    feature_bn: str | None = flag(
        "feature-bn",
        None,
        "whether batch norms of the trunk change under --feature-extract",
        choices=("released", "frozen"),
    )
    schedule: str | None = flag("schedule", None, "of the rates", choices=("released", "exact"))
    clip_colors: str | None = flag(
        "clip-colors", None, "weights and place of colour changes", choices=("released", "fixed")
    )
    blur: str | None = flag("blur", None, "its direction", choices=("released", "fixed"))
    random_crop: str | None = flag(
        "random-crop", None, "whether the last place is drawn", choices=("released", "inclusive")
    )

    test_only: bool = flag("test-only", False, "test a fine-tuned network, train nothing")
    resume: str = flag(
        "resume",
        "",
        "the fine-tuned network of --test-only: file, checkpoint or folder of a run (default: "
        "--weights-path); training goes on by itself",
    )
    device: str = flag("device", "cuda", "cuda, or cpu", operational=True)
    precision: str = flag(
        "precision",
        "float32",
        "of the network in training",
        choices=("float32", "bfloat16", "float16"),
    )
    print_freq: int = flag("print-freq", 10, "steps between lines", operational=True)
    checkpoint_steps: int = flag(
        "checkpoint-steps", 0, "save every n steps too, not only after an epoch", operational=True
    )
    download: bool = flag("download", False, "fetch published weights if absent", operational=True)
    resume_anyway: bool = flag(
        "resume-anyway", False, "go on in a folder of other settings", operational=True
    )
    dist_url: str = flag(
        "dist-url", "env://", "where processes meet: env://, tcp://, file://", operational=True
    )
    world_size: int | None = flag(
        "world-size", None, "processes, with tcp:// or file://", operational=True
    )
    rank: int | None = flag(
        "rank", None, "of this process, with tcp:// or file://", operational=True
    )
    local_rank: int = option(
        -1,
        flags=("--local_rank", "--local-rank"),
        help="of this process on its machine; launchers pass it",
        operational=True,
    )

    test_crop_size: int = ignored("test-crop-size", 128, "always --train-crop-size")
    test_time_cj: bool = ignored("test-time-cj", False, "--test-aug says it")
    multi_crop: bool = ignored("multi-crop", False, "one view of each clip")
    num_sec: int = ignored("num_sec", 2, "--transformer_time_dim says it")
    agg_model: bool = ignored("agg-model", False, "--model says it")
    aud_base_arch: str = ignored("aud-base-arch", "resnet9", "the sound takes no part")
    use_mlp: bool = ignored("use-mlp", False, "heads of the pre-training take no part")
    mlptype: int = ignored("mlptype", 0)
    headcount: int = ignored("headcount", 1)
    supervised: bool = ignored("supervised", False)
    start_epoch: int = ignored("start-epoch", 0, "a run goes on from its newest checkpoint")
    num_large_crops: int = ignored("num-large-crops", 2)
    num_small_crops: int = ignored("num-small-crops", 0)
    use_larger_last: bool = ignored("use_larger_last", False)
    cross_modal_nce: bool = ignored("cross_modal_nce", False)
    cross_modal_alpha: float = ignored("cross_modal_alpha", 0.5)
    fm_crop: bool = ignored("fm_crop", False)
    aud_sample_rate: int = _audio("aud-sample-rate", 24_000)
    aud_spec_type: int = _audio("aud-spec-type", 1)
    use_volume_jittering: bool = _audio("use-volume-jittering", False)
    use_temporal_jittering: bool = _audio("use-temporal-jittering", False)
    z_normalize: bool = _audio("z-normalize", False)
    aug_audio: bool = _audio("aug-audio", False)
    audio_augtype: str = _audio("audio-augtype", "none")
    decode_audio: bool = _audio("decode-audio", False)
    protocol: str = flag(
        "protocol", PROTOCOL, "what the numbers are called", choices=(PROTOCOL,), operational=True
    )
    pretrained: bool = flag("pretrained", False, "say no: --weights-path names the weights")

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.pretrained:
            raise ConfigError("--pretrained True: give the weights' file as --weights-path")
        if self.resume and not self.test_only:
            raise ConfigError(
                f"--resume {self.resume}: a run goes on from the newest checkpoint in its "
                "--output-dir; the flag names the network of --test-only"
            )
        if self.test_only and not self.tested_weights:
            raise ConfigError("--test-only: which network? Give --resume or --weights-path")

    def _check_numbers(self) -> None:
        counts = ("batch_size", "epochs", "clip_len", "target_fps", "steps_bet_clips", "print_freq")
        clips = ("train_crop_size", "train_clips_per_video", "val_clips_per_video")
        rates = ("head_lr", "base_lr", "tsf_lr", "weight_decay", "wd_base", "wd_tsf", "lr_gamma")
        others = ("workers", "num_layer", "lr_warmup_epochs", "checkpoint_steps", "seed")
        check_numbers(
            self,
            positive=(
                *counts,
                *clips,
                "num_head",
                "transformer_time_dim",
                "num_data_samples",
                "width",
            ),
            not_negative=(*rates, *others, "test_from"),
            below_one=("dp", "momentum"),
        )

    @property
    def annotation_path(self) -> Path | None:
        """Where the lists of this data set are; None for the official ones."""
        if self.dataset == "ucf101":
            return self.ucf101_annotation_path
        return self.hmdb51_annotation_path

    @property
    def tested_weights(self) -> str:
        """The network that --test-only tests."""
        return self.resume or self.weights_path

    @property
    def num_tokens(self) -> int:
        """Of the transformer; 60 frames give 8, 90 give 12, 120 give 15."""
        if self.clip_len <= LONGEST_SHORT_CLIP:
            return self.transformer_time_dim
        return map_frames(self.clip_len)
