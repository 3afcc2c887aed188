"""The protocol for sound: files, folds, clips, and a score made by hand."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.__main__ import main as gdt_stica_main
from gdt_stica.audio_data import Fold, find_sounds, make_folds, read_clips
from gdt_stica.audio_svm import main, score_fold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from ssvideo_core.errors import DataError, DecodeError
from ssvideo_core.results import read_results

RATE_HZ = 24_000
PITCHES_HZ = {"dog": 300, "rain": 1200, "sea": 4800}


def write_sound(path: Path, pitch_hz: float, *, duration_s: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    times_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    signal = np.sin(2 * np.pi * pitch_hz * times_s) + 0.1 * rng.standard_normal(len(times_s))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((8000 * signal).astype(np.int16).tobytes())


@pytest.fixture(scope="module")
def esc50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes in three folds, two files each, in ESC-50's layout."""
    root = tmp_path_factory.mktemp("ESC-50-master")
    rows = []
    for fold in (1, 2, 3):
        for target, (label, pitch_hz) in enumerate(PITCHES_HZ.items()):
            for take in "AB":
                name = f"{fold}-{100 + fold}-{take}-{target}.wav"
                write_sound(root / "audio" / name, pitch_hz, duration_s=5, seed=fold)
                rows.append([name, fold, target, label, "False", 100 + fold, take])
    (root / "meta").mkdir()
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        header = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
        csv.writer(file).writerows([header, *rows])
    return root


def test_esc50_is_five_folds_each_the_test_set_once(esc50: Path) -> None:
    files = find_sounds("esc50", esc50)
    folds = make_folds(files)
    assert len(files) == 18
    assert [fold.name for fold in folds] == ["1", "2", "3"]
    assert all(len(fold.train) == 12 and len(fold.test) == 6 for fold in folds)
    assert {files[index].fold for index in folds[1].test} == {"2"}
    assert files[0].group == "101"


def test_dcase_scenes_are_named_by_class(tmp_path: Path) -> None:
    for fold in ("train", "test"):
        for name in ("bus01.wav", "openairmarket02.wav"):
            write_sound(tmp_path / fold / name, 440, duration_s=0.1, seed=0)
    files = find_sounds("dcase2014", tmp_path)
    (fold,) = make_folds(files)
    assert [file.label for file in files] == ["bus", "openairmarket"] * 2
    assert (fold.name, fold.train.tolist(), fold.test.tolist()) == ("test", [0, 1], [2, 3])


def test_clips_are_stretches_of_the_file_and_zeros_beyond(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_sound(path, 440, duration_s=1, seed=0)
    with wave.open(str(path)) as file:
        stored = np.frombuffer(file.readframes(RATE_HZ), np.int16) / 2**15
    clips = read_clips(path, [0.0, 0.25, 0.75], num_samples=RATE_HZ // 2, rate_hz=RATE_HZ)
    np.testing.assert_allclose(clips[1], stored[RATE_HZ // 4 : 3 * RATE_HZ // 4], atol=1e-6)
    np.testing.assert_allclose(clips[2, : RATE_HZ // 4], stored[3 * RATE_HZ // 4 :], atol=1e-6)
    assert not clips[2, RATE_HZ // 4 :].any()


@pytest.mark.parametrize("standardize", [False, True])
def test_a_fold_is_scored_by_the_mean_of_decision_values(standardize: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"] * 6)
    centres = {label: rng.normal(size=8) for label in "abc"}
    x = np.stack([centres[label] + rng.normal(size=(4, 8)) for label in labels])
    fold = Fold("1", np.arange(9), np.arange(9, 18))
    found = score_fold(x, labels, fold, C=0.1, standardize=standardize, seed=0)

    train, test = x[:9].reshape(-1, 8), x[9:].reshape(-1, 8)
    if standardize:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    svm = LinearSVC(C=0.1, dual=True, random_state=0).fit(train, np.repeat(labels[:9], 4))
    wanted = svm.decision_function(test).reshape(9, 4, 3).mean(axis=1)
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-12)
    np.testing.assert_array_equal(found.correct, svm.classes_[wanted.argmax(1)] == labels[9:])


SMALL = ["--weights", "random", "--architecture", "width=0.0625", "--num-clips", "2"]


def test_the_command_tells_pitches_apart(esc50: Path, tmp_path: Path, capsys) -> None:
    words = [*SMALL, "--root_dir", str(esc50), "--out", str(tmp_path), "--C", "10"]
    assert gdt_stica_main(["audio-svm", *words, "--standardize"]) == 0
    results = read_results(tmp_path / "results.jsonl")
    assert [result.key.split for result in results] == ["1", "2", "3", "mean"]
    assert results[-1].value == 1.0, "the pitches are octaves apart"
    assert results[0].key.protocol == "audio-svm/1@2x1"
    assert "esc50 split mean" in capsys.readouterr().out
    with np.load(tmp_path / "features.npz") as stored:
        assert stored["values"].shape == (18, 2, 32)
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])["n"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--root_dir", "nowhere"], "nowhere/meta/esc50.csv does not exist"),
        (["--dataset", "dcase2014", "--root_dir", "."], "train has no sound files"),
        (["--C", "0"], "--C 0.0: expected more than 0"),
        (["--num-clips", "0"], "--num-clips 0"),
        (["--last-start-s", "-1"], "--last-start-s -1.0"),
    ],
)
def test_what_cannot_be_is_said(esc50: Path, capsys, words: list[str], message: str) -> None:
    assert main([*SMALL, "--root_dir", str(esc50), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_list_without_its_columns_and_files_that_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,label\na.wav,dog\n")
    with pytest.raises(DataError, match="expected rows with columns file, label, fold"):
        find_sounds("esc50", path)
    path.write_text("file,label,fold\na.wav,dog,1\n")
    with pytest.raises(DataError, match=r"1 of 1 files of .* are not there, first: .*a\.wav"):
        find_sounds("esc50", path)


@pytest.mark.parametrize("file", ["../a.wav", "/a.wav", ""])
def test_lists_name_files_below_their_folder(tmp_path: Path, file: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"file,label,fold\n{file},bus,train\n")
    with pytest.raises(DataError, match="expected a file below it"):
        find_sounds("esc50", path)


def test_folds_that_cannot_be_scored(esc50: Path) -> None:
    files = find_sounds("esc50", esc50)
    with pytest.raises(DataError, match="all files are of fold '1'"):
        make_folds(files[:6])
    with pytest.raises(DataError, match="fold 1: no training file is of class 'dog'"):
        make_folds([*files[:6], *files[8:12]])


def test_what_is_no_sound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"no sound")
    with pytest.raises(DecodeError, match=r"a\.wav"):
        read_clips(path, [0.0], num_samples=10, rate_hz=RATE_HZ)
