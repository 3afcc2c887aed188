"""`python -m gdt_stica audio-svm`: what frozen features of sound are worth (specification f)."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ssvideo_core import config as configs
from ssvideo_core.errors import EXIT_OK, DecodeError, exit_code

from gdt_stica.audio_config import AudioSVM
from gdt_stica.method import METHOD

if TYPE_CHECKING:
    from ssvideo_core.results import Result

    from gdt_stica.audio_data import Fold, SoundFile
    from gdt_stica.encoders import GDTEncoder

PROG = "gdt_stica audio-svm"
PROTOCOL = "audio-svm/1"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(PROG, lambda: _run(words), resumes=False)


def _run(words: Sequence[str]) -> int:
    config = configs.parse(AudioSVM, words, prog=PROG)
    from ssvideo_core.files import replacing
    from ssvideo_core.results import append_results

    from gdt_stica.audio_data import find_sounds, make_folds

    if config.out is not None:
        append_results(config.out / "results.jsonl", [])  # found out before the work
    files = find_sounds(config.dataset, config.root_dir)
    folds = make_folds(files)
    encoder = _encoder(config)
    embeddings = embed_files(encoder, [file.path for file in files], config)
    results = evaluate(embeddings, files, folds, config, encoder)
    for result in results:
        print(result.describe())
    if config.out is not None:
        with replacing(config.out / "features.npz") as file:
            np.savez(file, values=embeddings, files=[str(sound.path) for sound in files])
        append_results(config.out / "results.jsonl", results)
    return EXIT_OK


def _encoder(config: AudioSVM) -> GDTEncoder:
    from ssvideo_core.views import Samples

    from gdt_stica.encoders import load_encoder

    encoder = load_encoder(
        config.weights,
        modality="sound",
        architecture=config.architecture,
        output=config.output,
        device=config.device,
        seed=config.seed,
        download=config.download,
    )
    if encoder.published is not None:
        print(f"{config.weights}: licence of these weights: {encoder.published.licence}")
    time = encoder.clip.time
    assert isinstance(time, Samples), "a clip of sound has samples"
    num_samples = round(config.clip_s * time.rate_hz)
    encoder.clip = replace(encoder.clip, time=Samples(num_samples, time.rate_hz))
    return encoder


def embed_files(
    encoder: GDTEncoder, paths: Sequence[Path], config: AudioSVM
) -> NDArray[np.float32]:
    """Features [files, clips, D]. Raises DecodeError for a file that cannot be read."""
    from ssvideo_core.loading import ordered_map
    from ssvideo_core.views import Samples

    from gdt_stica.audio_data import read_clips

    time = encoder.clip.time
    assert isinstance(time, Samples), "a clip of sound has samples"
    starts_s = np.linspace(0, config.last_start, config.clips).tolist()
    read = partial(
        read_clips, starts_s=starts_s, num_samples=time.num_samples, rate_hz=time.rate_hz
    )
    features: list[NDArray[np.float32]] = []
    for clips in ordered_map(read, paths, workers=config.workers, name=str):
        if not np.isfinite(clips).all():
            raise DecodeError(f"{paths[len(features)]}: its sound holds values that are no numbers")
        size = config.batch_size
        parts = [encoder.embed(clips[i : i + size]) for i in range(0, len(clips), size)]
        features.append(np.concatenate(parts))
    return np.stack(features)


@dataclass(frozen=True)
class FoldScores:
    """scores: mean decision values of the test files, [n, K] float64; correct: [n] bool."""

    name: str
    scores: NDArray[np.float64]
    correct: NDArray[np.bool_]


def score_fold(
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    fold: Fold,
    *,
    C: float,
    standardize: bool,
    seed: int,
) -> FoldScores:
    """Fit on every clip of the training files, average over the clips of each test file.

    embeddings: [files, clips, D]; labels: [files].
    """
    from sklearn.preprocessing import StandardScaler
    from ssvideo_core.evaluate.svm import fit_linear_svc

    num_clips, size = embeddings.shape[1:]
    train = embeddings[fold.train].reshape(-1, size)
    test = embeddings[fold.test].reshape(-1, size)
    if standardize:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    classifier = fit_linear_svc(train, np.repeat(labels[fold.train], num_clips), C, seed=seed)
    decision = classifier.decision(test).reshape(len(fold.test), num_clips, -1).mean(axis=1)
    predicted = classifier.classes[decision.argmax(axis=1)]
    return FoldScores(fold.name, decision, predicted == labels[fold.test])


def evaluate(
    embeddings: NDArray[np.float32],
    files: Sequence[SoundFile],
    folds: Sequence[Fold],
    config: AudioSVM,
    encoder: GDTEncoder,
) -> list[Result]:
    """top1 of every fold, and their mean where there are several."""
    from ssvideo_core.evaluate.intervals import bootstrap_interval
    from ssvideo_core.feature_writer import software
    from ssvideo_core.features import clip_to_json
    from ssvideo_core.results import Key, Provenance, Result, canonical_json

    labels = np.array([file.label for file in files])
    described = [[file.path.name, file.label, file.fold, file.group] for file in files]
    settings = configs.to_json(config)
    named = ("C", "standardize", "clip_s", "output")
    provenance = Provenance(
        fingerprint=encoder.fingerprint,
        data_hash=hashlib.sha256(canonical_json(described).encode()).hexdigest(),
        clip=clip_to_json(encoder.clip),
        options={
            **{name: settings[name] for name in named},
            "num_clips": config.clips,
            "last_start_s": config.last_start,
            "architecture": encoder.architecture.to_json(),
        },
        seed=config.seed,
        fidelity="default",
        code_version=f"gdt_stica {METHOD.version}, core {software()['ssvideo-core']}",
    )
    key = Key(
        method=METHOD.name,
        weights=config.weights,
        backbone=METHOD.backbones["sound"],
        modality="sound",
        dataset=config.dataset,
        split="",
        protocol=f"{PROTOCOL}@{config.clips}x1",
        metric="top1",
    )
    results = []
    for fold in folds:
        found = score_fold(
            embeddings, labels, fold, C=config.C, standardize=config.standardize, seed=config.seed
        )
        groups = [files[index].group for index in fold.test]
        interval = None
        if len(set(groups)) > 1:
            interval = bootstrap_interval(found.correct, groups, seed=config.seed)
        results.append(
            Result(
                key=replace(key, split=fold.name),
                value=float(found.correct.mean()),
                interval=interval,
                n=len(fold.test),
                provenance=provenance,
                details={"train": len(fold.train), "classes": found.scores.shape[1]},
            )
        )
    if len(results) > 1:
        mean = float(np.mean([result.value for result in results]))
        counted = sum(result.n or 0 for result in results)
        results.append(Result(replace(key, split="mean"), mean, n=counted, provenance=provenance))
    return results


if __name__ == "__main__":
    raise SystemExit(main())
