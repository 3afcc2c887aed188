"""The flags of `main_gdt`, under their original spellings.

Flags that never had an effect are accepted, because published scripts pass them; the run names
those that were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.config import option
from ssvideo_core.errors import ConfigError

from gdt_stica.flags import check_numbers, flag, ignored

HYPOTHESES = (
    "cross_modal_baseline",
    "v_reversal",
    "i_reversal",
    "v_shift",
    "i_shift",
    "v_reversal_v_shift",
    "i_reversal_v_shift",
    "v_reversal_i_shift",
    "i_reversal_i_shift",
)
# Numbers of frequency masks and of time masks, then the widths they stay below.
SPEC_AUGMENT = {"mild": (1, 1, 2, 5), "medium": (1, 1, 3, 6), "heavy": (2, 2, 3, 6), "na": None}
RATES_HZ = (1000, 51_200)  # a frame of 20 ms has to fit into a spectrum of 1024 samples


def read_hypothesis(text: str) -> int:
    """ "1" to "9", or a name such as "v_reversal", to the number."""
    if text in HYPOTHESES:
        return HYPOTHESES.index(text) + 1
    if text.isdecimal() and 1 <= int(text) <= len(HYPOTHESES):
        return int(text)
    raise ValueError(f"'{text}' is neither 1 to 9 nor one of {', '.join(HYPOTHESES)}")


def read_milestones(text: str) -> tuple[int, ...]:
    """ "150,175" to (150, 175)."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"'{text}' is not a list of epochs such as 150,175")
    return tuple(int(part) for part in parts)


@dataclass(frozen=True)
class MainGDT:
    """Train GDT: networks for video and sound, or text, that agree on what belongs together.

    One process, or several under torchrun, torch.distributed.launch or srun. The same command goes
    on where an interrupted one stopped; SIGTERM and SIGUSR1 write a checkpoint and exit with 75.
    """

    root_dir: Path | None = flag(
        "root_dir", None, "folder CLASS/video or train/CLASS/video, or a CSV list", metavar="DIR"
    )
    output_dir: Path | None = flag(
        "output_dir", None, "the run's folder (default: runs/main_gdt-DIGEST)", operational=True
    )
    dataset: str = flag(
        "dataset",
        "kinetics",
        "ht100m: videos DIR/ID.mp4 with captions, at 32 frames a second; any other name is for "
        "records only",
        operational=True,
    )
    ht100m_csv: Path = flag(
        "ht100m_csv",
        Path("datasets/data/howto.csv"),
        "of ht100m: the list of videos, a CSV with the column video_id",
        metavar="CSV",
    )
    ht100m_caption_root: Path | None = flag(
        "ht100m_caption_root",
        None,
        "of ht100m: folder of captions ID.csv, with the columns start, end, text",
        metavar="DIR",
    )
    word2vec_dir: Path = flag(
        "word2vec_dir",
        Path("datasets/data"),
        "of ht100m: folder of word2vec.pth and dict.npy",
        metavar="DIR",
    )
    num_data_samples: int | None = flag("num_data_samples", None, "keep the first n videos")
    workers: int = flag("workers", 0, "processes that decode", operational=True)

    hypothesis: int = flag(
        "hypothesis", 1, "1 to 9, or its name", read=read_hypothesis, metavar="H"
    )
    nce_t: float = flag("nce_t", 0.07, "temperature")
    clip_len: int = flag("clip_len", 30, "frames of a clip")
    target_fps: int = flag("target_fps", 30, "frames a second")
    sample_rate: int = flag("sample_rate", 1, "stride between frames")
    train_crop_size: int = flag("train_crop_size", 112, "pixels per side")
    center_crop: bool = flag(
        "center_crop", False, "of ht100m: squares from the middle, not from anywhere"
    )
    num_candidates: int = flag(
        "num_candidates", 1, "of ht100m: captions, nearest in time, whose words make one text"
    )
    short_side: tuple[int, ...] = flag(
        "short_side",
        (),
        "range of the shorter side before the crop (default: 128 160 for crops of 112 and 128, "
        "else 256 320)",
        metavar="PIXELS",
    )
    aud_sample_rate: int = flag("aud_sample_rate", 24_000, "samples of sound a second")
    aud_spec_type: int = flag("aud_spec_type", 1, "1: 40 filters, any other number: 257")
    num_sec: int = flag("num_sec", 1, "seconds of sound")
    use_volume_jittering: bool = flag("use_volume_jittering", True, "volume times 0.9 to 1.1")
    use_temporal_jittering: bool = flag(
        "use_temporal_jittering", False, "move the sound by up to half a second"
    )
    z_normalize: bool = flag("z_normalize", True, "standardise log energies")
    aug_audio: bool = flag("aug_audio", True, "mask the spectrogram (SpecAugment)")
    audio_augtype: str = flag("audio_augtype", "medium", "how much", choices=tuple(SPEC_AUGMENT))
    decode_audio: bool = flag("decode_audio", True, "read the sound; av_gdt needs it")

    model: str = flag(
        "model", "av_gdt", "what is compared with video", choices=("av_gdt", "vid_text_gdt")
    )
    vid_base_arch: str = flag(
        "vid_base_arch", "r2plus1d_18", "video trunk", choices=("r2plus1d_18", "r2plus1d_34")
    )
    aud_base_arch: str = flag(
        "aud_base_arch", "resnet9", "audio trunk", choices=("resnet9", "resnet18")
    )
    width: float = flag("width", 1.0, "of both trunks; 0.25 starts with 16 channels")
    use_mlp: bool = flag("use_mlp", True, "heads of two layers")
    head_dropout: float = flag("head_dropout", 0.3, "in the heads")
    norm_feat: bool = flag("norm_feat", True, "projections of length 1")
    sync_bn: bool = flag("sync_bn", True, "batch statistics over all processes")

    batch_size: int = flag("batch_size", 16, "clips per process")
    epochs: int = flag("epochs", 200, "passes over the data")
    lr: float = flag("lr", 0.01, "learning rate of one process")
    momentum: float = flag("momentum", 0.9, "of SGD")
    weight_decay: float = flag("weight_decay", 1e-5, "on every parameter")
    use_scheduler: bool = flag("use_scheduler", True, "change the rate over the epochs")
    scheduler_type: str = flag(
        "scheduler_type", "multi_step", "how", choices=("multi_step", "cosine")
    )
    lr_milestones: Sequence[int] = option(
        (150, 175),
        flags=("--lr_milestones",),
        help="epochs of the drops",
        read=read_milestones,
        metavar="E,E",
        shown="150,175",
    )
    lr_gamma: float = flag("lr_gamma", 0.1, "factor of a drop")
    lr_warmup_epochs: int = flag("lr_warmup_epochs", 10, "epochs until the full rate")
    seed: int = flag("seed", 0, "of weights, order and draws")

    fidelity: str = flag(
        "fidelity",
        "default",
        "the released code's slips: kept (released), mended (fixed)",
        choices=("default", "released", "fixed"),
    )
    negatives: str | None = flag(
        "negatives", None, "of other processes", choices=("released", "unique")
    )
    schedule: str | None = flag("schedule", None, "of the rate", choices=("released", "exact"))
    warm_up: str | None = flag("warm_up", None, "of one process", choices=("released", "nonzero"))
    color_jitter: str | None = flag(
        "color_jitter", None, "which axes it mixes", choices=("released", "per_frame")
    )
    random_crop: str | None = flag(
        "random_crop", None, "whether the last place is drawn", choices=("released", "inclusive")
    )

    device: str = flag("device", "cuda", "cuda, or cpu", operational=True)
    apex: bool = flag("apex", False, "mixed precision, by PyTorch's own autocast")
    apex_opt_level: str = flag(
        "apex_opt_level", "O1", "O0: none, O1: float16", choices=("O0", "O1")
    )
    precision: str | None = flag(
        "precision", None, "of the networks", choices=("float32", "bfloat16", "float16")
    )
    checkpoint_steps: int = flag(
        "checkpoint_steps", 0, "save every n steps too, not only after an epoch", operational=True
    )
    print_freq: int = flag("print_freq", 10, "steps between lines", operational=True)
    resume_anyway: bool = option(
        False,
        flags=("--resume-anyway", "--resume_anyway"),
        help="go on in a folder of other settings",
        operational=True,
    )
    dist_url: str = flag(
        "dist_url", "env://", "where processes meet: env://, tcp://, file://", operational=True
    )
    world_size: int | None = flag(
        "world_size", None, "processes, with tcp:// or file://", operational=True
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

    num_negatives: int = ignored("num_negatives", -1)
    colorjitter: bool = ignored("colorjitter", False)
    distributed: bool = ignored("distributed", False, "the launcher says it")
    start_epoch: int = ignored("start_epoch", 0, "a run goes on from its newest checkpoint")
    bash: bool = ignored("bash", False, "the launcher says it")
    dualdata: bool = ignored("dualdata", False)
    fold: int = ignored("fold", 1)
    clips_per_video: int = ignored("clips_per_video", 1)
    use_scale_jittering: bool = ignored("use_scale_jittering", False)
    augtype: int = ignored("augtype", 1)
    use_temp_jitter: bool = ignored("use_temp_jitter", False)
    pretrained: bool = ignored("pretrained", False)
    headcount: int = ignored("headcount", 1)
    use_max_pool: bool = ignored("use_max_pool", False)
    mlptype: int = ignored("mlptype", 0)
    warmup_bn: bool = ignored("warmup_bn", False)
    resume: str = ignored("resume", "")
    dist_backend: str = ignored("dist_backend", "")
    debug_slurm: bool = ignored("debug_slurm", False)
    master_port: int = ignored("master_port", -1)

    def __post_init__(self) -> None:
        self._check_data()
        self._check_numbers()
        if self.aug_audio and self.audio_augtype == "na":
            raise ConfigError("--audio_augtype na: to mask nothing, give --aug_audio False")
        if self.short_side and not self._fits():
            raise ConfigError(
                f"--short_side {' '.join(map(str, self.short_side))}: expected two numbers of "
                f"pixels, the smaller first, from the crop's {self.train_crop_size}"
            )

    def _check_data(self) -> None:
        if self.has_text != (self.dataset == "ht100m"):
            raise ConfigError(
                f"--model {self.model} --dataset {self.dataset}: only ht100m has texts; give "
                "--model vid_text_gdt --dataset ht100m, or neither"
            )
        if self.has_text and self.ht100m_caption_root is None:
            raise ConfigError("which captions? Give --ht100m_caption_root, the folder of ID.csv")
        if not self.has_text and not self.decode_audio:
            raise ConfigError("--decode_audio False: av_gdt compares video with its sound")

    def _check_numbers(self) -> None:
        counts = ("batch_size", "epochs", "clip_len", "target_fps", "sample_rate", "print_freq")
        more = ("train_crop_size", "num_sec", "nce_t", "width", "num_candidates")
        others = ("workers", "lr_warmup_epochs", "checkpoint_steps", "seed")
        check_numbers(
            self,
            positive=(*counts, *more, "num_data_samples"),
            not_negative=(*others, "lr", "weight_decay", "lr_gamma"),
            below_one=("head_dropout", "momentum"),
            between={"aud_sample_rate": RATES_HZ},
        )

    def _fits(self) -> bool:
        sizes = self.short_side
        return len(sizes) == 2 and self.train_crop_size <= sizes[0] <= sizes[1]

    @property
    def has_text(self) -> bool:
        """Whether video is compared with text, not with sound."""
        return self.model == "vid_text_gdt"

    @property
    def network_precision(self) -> str:
        """float32 unless --precision or --apex say otherwise."""
        if self.precision is not None:
            return self.precision
        return "float16" if self.apex and self.apex_opt_level != "O0" else "float32"

    @property
    def spec_augment(self) -> tuple[int, int, int, int] | None:
        """What `audio_augtype` stands for, None when nothing is masked."""
        return SPEC_AUGMENT[self.audio_augtype] if self.aug_audio else None
