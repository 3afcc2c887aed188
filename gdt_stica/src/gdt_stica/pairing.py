"""What video is compared with, sound or text: its data, its draws, what the networks see of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ssvideo_core.errors import ConfigError
from ssvideo_core.samples import SampleViews
from ssvideo_torch.loader import TorchBatch
from torch import Tensor, nn

from gdt_stica.architecture import Architecture
from gdt_stica.augmentations import augment
from gdt_stica.caption_sampling import CaptionSampler
from gdt_stica.captions import CaptionFiles
from gdt_stica.config import MainGDT
from gdt_stica.data import TrainingVideos, find_videos
from gdt_stica.ht100m import find_captioned_videos
from gdt_stica.model import AudioVisualGDT
from gdt_stica.model_text import VideoTextGDT, load_word_table
from gdt_stica.objective import HYPOTHESES
from gdt_stica.sampling import GDTSampler
from gdt_stica.settings import architecture_of
from gdt_stica.spectrograms import spectrograms
from gdt_stica.text_clips import text_clips
from gdt_stica.training import Copies
from gdt_stica.words import read_vocabulary


class Pairing(Protocol):
    """One of the two. `copies` holds those that the hypothesis needs and no others."""

    architecture: Architecture

    @property
    def sampler(self) -> SampleViews: ...
    def find_videos(self) -> TrainingVideos: ...
    def build(self) -> nn.Module: ...
    def copies(self, batch: TorchBatch) -> Copies: ...


def pairing_of(config: MainGDT, quirks: Mapping[str, str]) -> Pairing:
    """Raises ConfigError and WeightsError for what does not fit or cannot be read."""
    return VideoAndText(config) if config.has_text else VideoAndSound(config, quirks)


class VideoAndSound:
    """Clips with their own sound; each copy has a place, a flip and colours of its own."""

    def __init__(self, config: MainGDT, quirks: Mapping[str, str]) -> None:
        self.architecture = architecture_of(config)
        self.sampler = sound_sampler(config, quirks)
        self._config, self._quirks = config, quirks

    def find_videos(self) -> TrainingVideos:
        return find_videos(
            self._config.root_dir,
            num_data_samples=self._config.num_data_samples,
            workers=self._config.workers,
        )

    def build(self) -> AudioVisualGDT:
        return AudioVisualGDT(self.architecture, dropout=self._config.head_dropout)

    def copies(self, batch: TorchBatch) -> Copies:
        """The spectrogram of a reversal is that of its clip, backwards."""
        videos: dict[int, Tensor] = {}
        sounds: dict[int, Tensor] = {}
        released = self._quirks["color_jitter"] == "released"
        for copy, view in zip(self.sampler.copies, batch.views, strict=True):
            assert view.frames is not None, "every copy has frames"
            videos[copy] = augment(
                view.frames,
                view.sizes,
                view.params,
                crop_size=self.sampler.crop_size,
                color_jitter="released" if released else "per_frame",
                gray="bgr" if released else "rgb",
            )
            if view.sound is None:
                sounds[copy] = sounds[copy - 1].flip(-1)
                continue
            sounds[copy] = spectrograms(
                view.sound,
                view.params,
                sample_rate_hz=self.sampler.sound_rate_hz,
                num_filters=self.sampler.num_filters,
                z_normalize=self._config.z_normalize,
            )
        order = HYPOTHESES[self._config.hypothesis].copies
        return {copy: (videos[copy], sounds[copy]) for copy in order}


class VideoAndText:
    """Clips with what is said in them; a reversal is its clip and its words, backwards."""

    def __init__(self, config: MainGDT) -> None:
        assert config.ht100m_caption_root is not None, "MainGDT asks for it"
        vocabulary = read_vocabulary(config.word2vec_dir / "dict.npy")
        self._table = load_word_table(config.word2vec_dir / "word2vec.pth")
        if len(self._table) < vocabulary.rows:
            raise ConfigError(
                f"{config.word2vec_dir}: dict.npy has {vocabulary.rows - 1} words, word2vec.pth "
                f"{len(self._table)} rows, expected one more than words; take both from one archive"
            )
        self.architecture = architecture_of(config, embedding_rows=len(self._table))
        self.sampler = CaptionSampler(
            copies=tuple(sorted(HYPOTHESES[config.hypothesis].copies)),
            captions=CaptionFiles(config.ht100m_caption_root, vocabulary),
            num_frames=config.clip_len,
            sample_rate=config.sample_rate,
            center_crop=config.center_crop,
            num_candidates=config.num_candidates,
        )
        self._config = config

    def find_videos(self) -> TrainingVideos:
        return find_captioned_videos(
            self._config.ht100m_csv,
            self._config.root_dir,
            self.sampler.captions,
            num_data_samples=self._config.num_data_samples,
            workers=self._config.workers,
        )

    def build(self) -> VideoTextGDT:
        return VideoTextGDT(
            self.architecture, dropout=self._config.head_dropout, word_table=self._table
        )

    def copies(self, batch: TorchBatch) -> Copies:
        """Texts are sets of words to the network, so that their reversal changes nothing."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for clip, view in zip(self.sampler.clips, batch.views, strict=True):
            assert view.frames is not None, "every clip has frames"
            video = text_clips(
                view.frames,
                view.sizes,
                view.params["num_shown"],
                size=self._config.train_crop_size,
            )
            words = view.params["words"]
            found[2 * clip] = video, words
            found[2 * clip + 1] = video.flip(2), words.flip(1)
        return {copy: found[copy] for copy in HYPOTHESES[self._config.hypothesis].copies}


def sound_sampler(config: MainGDT, quirks: Mapping[str, str]) -> GDTSampler:
    """What is drawn for a sample of video and sound."""
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
