"""The example that writes training data, and the command that does the same."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from brave.convert_training_data import main as convert_data
from brave.training_data import TrainingRecords
from brave.views import ViewSpec
from ssvideo_core.formats.sequence_examples import parse_record
from ssvideo_core.formats.tfrecord import RecordFiles, find_shards, write_records
from ssvideo_core.samples import Task
from ssvideo_core.testing.synthetic import write_dataset


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[1] / "examples" / "write_training_data.py"
    spec = importlib.util.spec_from_file_location("write_training_data", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return write_dataset(folder, num_train=16, num_test=16, size=32, num_frames=6)


@pytest.fixture(autouse=True)
def no_files_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))


def few(dataset: Path, root: Path) -> Path:
    """A class folder with three videos of two classes."""
    taken = sorted((dataset / "videos").glob("*/*.mp4"))
    for path in (*taken[:2], taken[-1]):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.parent.name)
    return root


def test_a_folder_with_flow(
    dataset: Path, tmp_path: Path, example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="needs opencv-contrib-python-headless")
    videos = few(dataset, tmp_path / "videos")
    words = ["--videos", str(videos), "--out", str(tmp_path / "out"), "--num-shards", "2"]
    assert example.main([*words, "--flow", "dis"]) == 0
    printed = capsys.readouterr().out.splitlines()
    records = RecordFiles(find_shards(str(tmp_path / "out" / "train-*")))
    read = [parse_record(records.read(index)) for index in range(3)]
    assert printed[0] == f"{tmp_path / 'out'}: 3 records in 2 files"
    first = read[0]
    assert first.waveform is not None and first.waveform.dtype == np.float32
    # One sample for every 1/48000 s of the frames at 25 a second.
    assert len(first.waveform) == len(first.frames) * 48_000 // 25
    assert len(first.flow) == len(first.frames)
    assert [record.labels.tolist() for record in read] == [[0], [1], [0]]
    assert printed[1] == (
        f"first record: {len(first.frames)} frames, {len(first.waveform)} samples of sound, "
        f"{len(first.flow)} pictures of flow, label [0]"
    )
    assert printed[2].startswith("view narrow: rgb, [16, ") and printed[2].endswith("uint8")
    assert printed[3] == "view audio: sound, [491520] float32"
    assert printed[4].startswith("view flow: flow, [64, ")
    assert printed[5].startswith("view video: rgb, [64, ")
    assert len(printed) == 6


def test_another_folder_is_left_alone(
    dataset: Path, tmp_path: Path, example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    words = ["--videos", str(dataset / "videos"), "--out", str(tmp_path)]
    assert example.main(words) == 2
    assert "is not empty" in capsys.readouterr().err


def test_arrays_of_another_program(tmp_path: Path, example: ModuleType) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 40, 56, 3), np.uint8)
    sound = np.linspace(-1, 1, 10 * 1920, dtype=np.float32)
    write_records(tmp_path / "own", [example.record_from_arrays(frames, sound, label=3)])
    audio = ViewSpec("audio", "sound", 2, 2, 0, "audio_resnet")
    narrow = ViewSpec("narrow", "rgb", 10, 1, 16, "tsm_resnet")
    loader = TrainingRecords(str(tmp_path / "own"), narrow, [audio])
    clip = loader(Task(epoch=0, index=0)).clips[1]
    np.testing.assert_array_equal(clip.sound, sound[: 4 * 1920])
    record = parse_record(RecordFiles([tmp_path / "own"]).read(0))
    assert record.labels.tolist() == [3]
    assert parse_record(example.record_from_arrays(frames, sound)).labels.tolist() == []


def test_the_command_reads_a_list(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few(dataset, tmp_path / "videos")
    videos = sorted(tmp_path.glob("videos/*/*.mp4"))[:2]
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}\n" for path in videos]
    (tmp_path / "list.csv").write_text("video,label\n" + "".join(rows))
    words = ["--videos", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")]
    assert convert_data([*words, "--short-side", "32", "--num-shards", "1"]) == 0
    assert "2 records in 1 files, 0 videos failed" in capsys.readouterr().out
    record = parse_record(RecordFiles([tmp_path / "out" / "list-00000-of-00001"]).read(1))
    assert record.waveform is not None and record.flow == ()
    assert convert_data([*words, "--short-side", "0"]) == 2
    assert capsys.readouterr().err.startswith("brave convert-data: short_side is 0")
