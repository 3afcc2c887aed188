"""The original code's values for samples: captions, words, and the order of their copies.

tests/golden/CASES.md says what each kind is. Samples go through the production sampler and
`pairing`; only decoding, scaling, augmentation and spectrograms are stubs that number the frames.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.captions import Caption, candidate_numbers, window
from gdt_stica.config import MainGDT
from gdt_stica.pairing import VideoAndSound, VideoAndText
from gdt_stica.settings import quirks_of
from gdt_stica.words import Vocabulary
from ssvideo_core.samples import Sample, SampleLoader, Task, collate
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.rekey import check_renamed
from ssvideo_core.views import Clip, VideoEntry, VideoInfo, View
from ssvideo_torch.loader import to_device
from torch import Tensor

from gdt_stica import pairing

KINDS = ["words", "captions", "gdt_item", "ht100m_item"]
EVERY_COPY = 6  # the number of a hypothesis that needs V1, R1, V2 and R2

golden = reference_cases("gdt_stica", KINDS)


@golden.kind("words")
def _(case: Case) -> dict[str, Any]:
    vocabulary = Vocabulary(case.vocab, max_words=case.max_words)
    return {"ids": np.stack([vocabulary.numbers(sentence) for sentence in case.sentences])}


@golden.kind("captions")
def _(case: Case) -> dict[str, Any]:
    vocabulary = Vocabulary(case.vocab, max_words=case.max_words)
    rows = zip(case.start, case.end, case.text, strict=True)
    captions = [Caption(*row) for row in rows]
    return {
        "window_start_end": [window(c, min_seconds=case.min_seconds) for c in captions],
        "token_ids": np.stack([
            candidate_numbers(captions, row, vocabulary, num_candidates=case.num_candidates)
            for row in range(len(captions))
        ]),
    }  # fmt: skip


class OneVideo:
    """A source of `length` equal videos whose decoding is a stub."""

    def __init__(self, length: int, read: Any) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def entry(self, index: int) -> VideoEntry:
        return VideoEntry(f"{index}.mp4")

    def info(self, index: int) -> VideoInfo:
        pts = np.arange(1000, dtype=np.int64)
        base = Fraction(1, 30)
        return VideoInfo("x.mp4", 1000, 1000, 1 / base, base, 1000, pts, 8, 8, 24_000, 0.0, 33.0)

    def read(self, index: int, views: list[View]) -> list[Clip]:
        return [self._read(number, view) for number, view in enumerate(views)]


def numbered(view: View, base: int) -> np.ndarray:
    """[T, 1, 1, 3] the place of each frame in its clip, plus base: backwards in a reversal."""
    assert view.frames is not None
    places = np.argsort(np.argsort(view.frames, kind="stable"), kind="stable") + base
    return np.repeat(places, 3).reshape(-1, 1, 1, 3)


def sample_of(case: Case, sampler: Any, read: Any) -> Sample:
    count = case.index + 1
    labels = [case.label if index == case.index else -1 for index in range(count)]
    load = SampleLoader(OneVideo(count, read), sampler, seed=0, labels=labels)
    return load(Task(0, case.index))


def outputs(
    sample: Sample, copies: Mapping[int, tuple[Tensor, Tensor]]
) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """(12, T) video, the others of the four copies, [label, video, item]."""
    video = torch.cat([copies[copy][0][0, :, :, 0, 0] for copy in range(4)]).numpy()
    others = [copies[copy][1][0].numpy() for copy in range(4)]
    return video, others, [sample.label, sample.index, sample.index]


def channels_first(frames: Tensor) -> Tensor:
    return frames.permute(0, 4, 1, 2, 3)


class Replayed:
    """A generator whose first whole numbers are those that Python's `random` draws after a seed."""

    def __init__(self, rng: np.random.Generator, seed: int) -> None:
        self._rng, self._seed = rng, seed
        self.drawn: list[int] = []

    def integers(self, low: int, high: int | None = None, **options: Any) -> Any:
        if self.drawn:
            return self._rng.integers(low, high, **options)
        assert high is not None
        random.seed(self._seed)
        self.drawn = [random.randint(low, high - 1) for _ in range(options["size"])]
        return np.array(self.drawn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)


@golden.kind("gdt_item")
def _(case: Case) -> dict[str, Any]:
    config = MainGDT(clip_len=case.num_frames, hypothesis=EVERY_COPY, color_jitter="per_frame")
    made = VideoAndSound(config, quirks_of(config))
    draws: list[int] = []

    def sampler(info: VideoInfo, rng: np.random.Generator) -> list[View]:
        replayed = Replayed(rng, case.python_seed)
        views = made.sampler(info, replayed)  # type: ignore[arg-type]
        draws.extend(replayed.drawn)
        return views

    def read(number: int, view: View) -> Clip:
        shift = made.sampler.copies[number] // 2
        sound = None
        if view.sound is not None:
            sound = (np.arange(case.spec_frames) + case.audio_base[shift]).astype(np.float32)
        return Clip(numbered(view, case.video_base[shift]), sound)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "augment", lambda frames, *_, **__: channels_first(frames))
        patch.setattr(pairing, "spectrograms", lambda sound, *_, **__: sound[:, None, None])
        sample = sample_of(case, sampler, read)
        copies = made.copies(to_device(collate([sample]), "cpu"))
    video, sounds, numbers = outputs(sample, copies)
    return {
        "time_index_draws": draws,
        "video": video,
        "audio": np.stack([sound[0, 0] for sound in sounds]),
        "label_video_item": numbers,
    }


@golden.kind("ht100m_item")
def _(case: Case) -> dict[str, Any]:
    np.save(case.tmp_path / "dict.npy", np.array(["word"]))
    torch.save(torch.zeros(2, 300), case.tmp_path / "word2vec.pth")
    (case.tmp_path / "x.csv").write_text("start,end,text\n1,9,word\n")
    config = MainGDT(
        model="vid_text_gdt",
        dataset="ht100m",
        ht100m_caption_root=case.tmp_path,
        word2vec_dir=case.tmp_path,
        clip_len=case.num_frames,
        sample_rate=2,
        hypothesis=EVERY_COPY,
    )
    made = VideoAndText(config)

    def read(number: int, view: View) -> Clip:
        return Clip(numbered(view, case.video_base[made.sampler.clips[number]]), None)

    sample = sample_of(case, made.sampler, read)
    params = [
        {**drawn, "words": np.arange(case.num_words) + case.text_base[clip]}
        for clip, drawn in zip(made.sampler.clips, sample.params, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "text_clips", lambda frames, *_, **__: channels_first(frames))
        batch = collate([replace(sample, params=tuple(params))])
        copies = made.copies(to_device(batch, "cpu"))
    video, words, numbers = outputs(sample, copies)
    return {"video": video, "text": np.concatenate(words), "label_video_item": numbers}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
