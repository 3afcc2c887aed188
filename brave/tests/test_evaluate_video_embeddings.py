"""The command on files, against a plain computation of one clip at a time."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import simplejpeg
from brave.backbones import backbone_shapes
from brave.checkpoints import convert, read_checkpoint
from brave.crops import TrainCrops
from brave.encoders import load_narrow_backbone
from brave.evaluate_video_embeddings import PROG, main
from brave.method import METHOD
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.errors import WeightsError
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record, parse_record
from ssvideo_core.formats.tfrecord import read_records, shard_path, write_records
from ssvideo_core.results import read_results
from ssvideo_core.testing.fill import fill
from ssvideo_core.testing.synthetic import CLASSES, render_video

from brave import evaluation, evaluation_results, weights_files

WIDTH, FRAMES, STEP, SIZE, EPOCHS = 0.125, 4, 2, 32, 2
NUM_VIDEOS = 16
SMALL = ("--num_video_frames", str(FRAMES), "--video_step", str(STEP), "--image_size", str(SIZE))
KEYS = ["top_1_train", "top_5_train", "top_1_test", "top_5_test"]


def record_of(number: int, seed: int) -> VideoRecord:
    """A video of 64 x 96 pixels; every third one is shorter than a clip."""
    label = number % len(CLASSES)
    num_frames = 5 if number % 3 == 0 else 12
    frames, _ = render_video(label, seed + number, size=64, num_frames=num_frames)
    wide = np.concatenate([frames, frames[:, :, :32]], axis=2)
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality=95) for f in wide]
    name = f"{CLASSES[label]}/v{number}.mp4"
    return VideoRecord(frames=jpegs, labels=np.array([label]), filename=name)


def write_shards(base: Path, records: Sequence[VideoRecord]) -> None:
    for index in range(2):
        payloads = [encode_record(record) for record in records[index::2]]
        write_records(shard_path(base, index, 2), payloads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train-*-of-00002, test-*-of-00002 and weights.npy, as the original stores them."""
    folder = tmp_path_factory.mktemp("brave")
    for part, seed in (("train", 0), ("test", 1000)):
        write_shards(folder / part, [record_of(n, seed) for n in range(NUM_VIDEOS)])
    tree: dict[str, Any] = {"params": {}, "state": {}, "config": {}}
    for name, shape in backbone_shapes("rgb", WIDTH).items():
        collection, _, path = name.partition("/")
        module, _, leaf = path.rpartition("/")
        array = fill(path, shape, layout="haiku", squeeze_leading_ones=True)
        tree[collection].setdefault(module, {})[leaf] = array
    np.save(folder / "weights.npy", np.array(tree, dtype=object), allow_pickle=True)
    return folder


def flags(data: Path, *more: str) -> list[str]:
    return [
        *("--checkpoint_path", str(data / "weights.npy"), "--batch_size", "8"),
        *("--train_dataset_shards", str(data / "train-*")),
        *("--test_dataset_shards", str(data / "test-*")),
        *("--svm_regularization", "0.0001", "--train-epochs", str(EPOCHS), *SMALL, *more),
    ]


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "plain_evaluation.py"
    spec = importlib.util.spec_from_file_location("plain_evaluation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_features(data: Path, part: str, plain: ModuleType) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each window decoded on its own, each clip embedded on its own."""
    backbone = load_narrow_backbone(read_checkpoint(str(data / "weights.npy")))
    paths = sorted(data.glob(f"{part}-*"))
    records = [parse_record(payload) for path in paths for payload in read_records(path)]
    clip: dict[str, int] = {"num_frames": FRAMES, "step": STEP, "size": SIZE}
    rows, labels = [], []
    for index, record in enumerate(records):
        if part == "train":
            clips = plain.train_clips(record.frames, index, seed=0, epochs=EPOCHS, **clip)
        else:
            clips = plain.test_clips(record.frames, **clip)
        own = [backbone(one[None])[0] for one in clips]
        rows += own
        labels += [int(record.labels[0])] * len(own)
    return np.array(rows), np.array(labels)


def test_equals_a_plain_computation(
    data: Path, plain: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for run, more in enumerate((["--workers", "2"], ["--device", "cpu"])):
        assert main(flags(data, *more, "--out", str(tmp_path / str(run)))) == 0
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1
        assert f"{NUM_VIDEOS}/{NUM_VIDEOS} videos" in printed.err
        lines.append(printed.out)
    assert lines[0] == lines[1]
    found = json.loads(lines[0])
    assert list(found) == KEYS

    expected = {}
    for part in ("train", "test"):
        values, labels = expected[part] = plain_features(data, part, plain)
        for run in range(2):
            with np.load(tmp_path / str(run) / f"{part}.npz") as stored:
                np.testing.assert_array_equal(stored["labels"], labels)
                scale = np.abs(values).max()
                np.testing.assert_allclose(stored["values"], values, rtol=1e-4, atol=1e-5 * scale)

    scaler = StandardScaler().fit(expected["train"][0])
    model = LinearSVC(C=0.0001, dual=True, random_state=0)
    model.fit(scaler.transform(expected["train"][0]), expected["train"][1])
    for part, group in (("train", 1), ("test", 30)):
        values, labels = expected[part]
        scores = model.decision_function(scaler.transform(values))
        scores = scores.reshape(-1, group, len(CLASSES)).mean(axis=1)
        best = np.argsort(scores, axis=1)[:, ::-1]
        right = best == labels[::group, None]
        for k in (1, 5):
            assert found[f"top_{k}_{part}"] == right[:, :k].any(axis=1).mean()


def test_results_and_features_are_kept(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convert(str(data / "weights.npy"), tmp_path / "encoder.safetensors")
    out = tmp_path / "out"
    named = ["--dataset", "synthetic", "--split", "1", "--out", str(out)]
    wanted = flags(data, *named)
    wanted[1] = str(tmp_path)  # the folder of a run
    assert main(wanted) == 0
    found = json.loads(capsys.readouterr().out)
    passing, evaluate = tmp_path / "passing.npy", evaluation.evaluate
    shutil.copy(data / "weights.npy", passing)

    def evaluate_without_file(*parts: Any, **options: Any) -> evaluation.Evaluation:
        passing.unlink()
        return evaluate(*parts, **options)

    monkeypatch.setattr(evaluation, "evaluate", evaluate_without_file)
    assert main(flags(data, *named, "--checkpoint_path", str(passing))) == 0
    capsys.readouterr()
    of_run, _, of_npy, _ = results = read_results(out / "results.jsonl")
    assert [(r.key.metric, r.value) for r in results[:2]] == [
        ("top1", found["top_1_test"]),
        ("top5", found["top_5_test"]),
    ]
    key = of_npy.key
    assert (key.method, key.dataset, key.split) == ("brave", "synthetic", "1")
    assert (key.protocol, key.backbone) == ("brave-svm/1@10x3", "TSM-ResNet-50 0.125X")
    assert of_run.provenance is not None and of_npy.provenance is not None
    assert of_run.provenance.fingerprint == of_npy.provenance.fingerprint
    assert of_run.provenance.digest == of_npy.provenance.digest
    assert of_npy.n == NUM_VIDEOS


def test_with_a_folder_it_goes_on_after_a_signal(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(flags(data)) == 0
    whole = capsys.readouterr().out
    wanted, out = flags(data, "--out", str(tmp_path / "out")), tmp_path / "out"
    embed, parts = evaluation.embed_videos, []

    def signalled(backbone: Any, load: Any, **options: Any) -> NDArray[np.float32]:
        parts.append(type(load).__name__)
        if len(parts) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return embed(backbone, load, **options)

    monkeypatch.setattr(evaluation, "embed_videos", signalled)
    assert main(wanted) == 75
    assert "the same command goes on where it stopped" in capsys.readouterr().err
    assert [path.parent.name for path in out.rglob("block-*")] == ["train"]
    kept = shutil.copytree(out / "unfinished", tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "embed_videos", embed)
        patch.setattr(TrainCrops, "__call__", None)  # not called again
        assert main(wanted) == 0
    assert capsys.readouterr().out == whole
    assert sorted(path.name for path in out.iterdir()) == ["results.jsonl", "test.npz", "train.npz"]
    shutil.copytree(kept, out / "unfinished")  # killed after the results were stored
    monkeypatch.setattr(evaluation, "evaluate", None)
    assert main(wanted) == 0
    assert capsys.readouterr().out == whole
    assert len(read_results(out / "results.jsonl")) == 2
    assert not (out / "unfinished").exists()


def in_splits(data: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Shards of a split each, of which the last one has fewer test videos; flags that name them."""
    for name in names:
        for part, seed in (("train", 0), ("test", 1000)):
            count = NUM_VIDEOS // 2 if part == "test" and name == names[-1] else NUM_VIDEOS
            base = folder / f"split_{name}" / part / "v"
            base.parent.mkdir(parents=True)
            write_shards(base, [record_of(n, seed) for n in range(count)])
    return [
        *flags(data, "--splits", ",".join(names)),
        *("--train_dataset_shards", f"{folder}/split_{{split}}/train/*"),
        *("--test_dataset_shards", f"{folder}/split_{{split}}/test/*"),
    ]


def test_several_splits(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    wanted = in_splits(data, tmp_path / "shards", ["1", "b"])
    monkeypatch.setitem(METHOD.weights[2].architecture, "width", WIDTH)
    monkeypatch.setattr(evaluation_results, "SETTINGS", {"image_size": SIZE})
    out, named = tmp_path / "out", ["--dataset", "hmdb51"]
    evaluate, calls = evaluation.evaluate, []

    def first_only(*parts: Any, **options: Any) -> evaluation.Evaluation:
        calls.append(len(parts[2]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*parts, **options)

    monkeypatch.setattr(evaluation, "evaluate", first_only)
    shutil.copy(data / "weights.npy", tmp_path / "29466668_1_0.npy")
    wanted += [*named, "--checkpoint_path", str(tmp_path / "29466668_1_0.npy"), "--out", str(out)]
    assert main(wanted) == 75
    assert "the same command goes on where it stopped" in capsys.readouterr().err
    assert main(wanted) == 0
    assert calls == [NUM_VIDEOS, NUM_VIDEOS // 2, NUM_VIDEOS // 2], "split 1 was not repeated"
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    found = json.loads(printed.out)
    assert list(found) == ["splits", "mean", "published"]
    assert list(found["splits"]) == ["1", "b"]
    for name in KEYS:
        pair = [found["splits"][split][name] for split in ("1", "b")]
        assert found["mean"][name] == np.mean(pair)
    assert found["published"] == {
        "weights": "va-1x",
        "top_1_test": {"1": 0.70131},
    }
    assert "with C = 0.0001: top-1 in percent is 70.131 (split 1)" in caplog.text
    lines = read_results(out / "results.jsonl")
    assert [(line.key.split, line.key.metric, line.n) for line in lines] == [
        *(("1", "top1", NUM_VIDEOS), ("1", "top5", NUM_VIDEOS)),
        *(("b", "top1", NUM_VIDEOS // 2), ("b", "top5", NUM_VIDEOS // 2)),
    ]
    assert {line.key.weights for line in lines} == {"va-1x"}
    assert lines[0].value == found["splits"]["1"]["top_1_test"]
    folders = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.npz"))]
    assert folders == [f"split_{s}/{part}.npz" for s in "1b" for part in ("test", "train")]


def test_one_of_the_splits(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def ranks(backbone: Any, train: Any, test: Any, **_: Any) -> evaluation.Evaluation:
        seen.append((train.name(0), test.name(0)))
        one, none = np.zeros(1, np.int64), evaluation.Features(np.zeros((0, 1), "f4"), np.zeros(0))
        return evaluation.Evaluation(evaluation.Ranks(one, one), none, none, [], [])

    monkeypatch.setattr(evaluation, "evaluate", ranks)
    wanted = in_splits(data, tmp_path, ["1", "2"])
    place = wanted.index("--splits")
    for words in (["--splits", "2"], ["--split", "2"]):
        assert main(wanted[:place] + words + wanted[place + 2 :]) == 0
        assert json.loads(capsys.readouterr().out) == dict.fromkeys(KEYS, 1.0)
    assert len(seen) == 2
    for of_train, of_test in seen:
        assert of_train.startswith(f"{tmp_path}/split_2/train/")
        assert of_test.startswith(f"{tmp_path}/split_2/test/")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--splits", "1,2"], "are the same shards for all of --splits 1,2; put {split}"),
        (["--splits", "1", "--split", "1"], "--split and --splits are both given"),
        (["--test_dataset_shards", "a/{split}/*"], "say which with --splits 1,2,3"),
    ],
)
def test_splits_that_do_not_go_together(
    words: list[str], message: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(data, *words)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("names", ["1,,2", "1,1", "", "../1"])
def test_names_that_are_no_splits(
    names: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags(data, "--splits", names))
    assert ended.value.code == 2
    assert "is not a list of splits such as 1 or 1,2,3" in capsys.readouterr().err


def spoiled(data: Path, base: Path, change: Any) -> str:
    """A pattern of training shards whose record 1 of shard 1 is changed."""
    for index in range(2):
        payloads = list(read_records(shard_path(data / "train", index, 2)))
        if index == 1:
            payloads[1] = encode_record(change(parse_record(payloads[1])))
        write_records(shard_path(base, index, 2), payloads)
    return f"{base}-*"


def changed(record: VideoRecord, **values: Any) -> VideoRecord:
    return VideoRecord(**{"frames": record.frames, "labels": record.labels, **values})


def black(height: int, width: int) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8))
    return data


INKS = simplejpeg.encode_jpeg(np.zeros((64, 96, 4), np.uint8), colorspace="CMYK")
SPOILED = {
    "no label": (lambda r: changed(r, labels=np.array([], np.int64)), "holds []"),
    "two labels": (lambda r: changed(r, labels=np.array([1, 2])), "holds [1, 2]"),
    "no frame": (lambda r: changed(r, frames=()), "no frame"),
    "inks": (lambda r: changed(r, frames=(*r.frames[:2], INKS)), "frame 2: a JPEG in YCCK"),
    "no JPEG": (lambda r: changed(r, frames=(*r.frames[:3], b"text")), "frame 3: 4 bytes"),
    "cut off": (lambda r: changed(r, frames=[j[:-200] for j in r.frames]), "does not decode"),
    "too small": (
        lambda r: changed(r, frames=(black(32, 48),)),
        "48x32 pixels; expected a shorter side above 32",
    ),
    "other size": (
        lambda r: changed(
            r, frames=(r.frames[0], simplejpeg.encode_jpeg(np.zeros((8, 8, 3), "u1")))
        ),
        "frame 1: 8x8 pixels, but frame 0 has 96x64",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_record_is_named(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = SPOILED[name]
    wanted = flags(data, "--train_dataset_shards", spoiled(data, tmp_path / "bad", change))
    assert main(wanted) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"{tmp_path}/bad-00001-of-00002, record 1" in printed.err
    assert message in printed.err


def test_class_mistakes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path / "one", [record_of(0, 0)] * 2)
    write_shards(tmp_path / "other", [changed(record_of(3, 0), labels=np.array([77]))] * 2)
    for part, pattern, message in (
        ("train", "one-*", "2 videos of 1 classes; expected 2"),
        ("test", "other-*", "other-00000-of-00002, record 0 is of class 77"),
    ):
        wanted = flags(data, f"--{part}_dataset_shards", str(tmp_path / pattern))
        assert main(wanted) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--batch_size", "0", "--batch_size is 0, expected 1 or more"),
        ("--image_size", "257", "--image_size is 257, expected 1 to 256"),
        ("--num_video_frames", "0", "--num_video_frames is 0"),
        ("--video_step", "-1", "--video_step is -1"),
        ("--video-step", "0", "--video_step is 0"),
        ("--train-epochs", "0", "--train-epochs is 0"),
        ("--workers", "-1", "--workers is -1"),
        ("--seed", "-1", "--seed is -1"),
        ("--seed", "4294967296", "--seed is 4294967296, expected 0 to 4294967295"),
        ("--svm_regularization", "0", "--svm_regularization is 0.0"),
        ("--svm_regularization", "nan", "--svm_regularization is nan"),
        ("--train_dataset_shards", "nothing*", "'nothing*' matches no file"),
        ("--checkpoint_path", "nothing.npy", "nothing.npy"),
        ("--device", "abacus", "device 'abacus' cannot be used"),
    ],
)
def test_wrong_flags(
    flag: str,
    value: str,
    message: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(flags(data, flag, value, "--out", str(out))) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"{PROG}: ")
    assert message in printed.err
    assert printed.out == ""
    assert not out.exists()


def test_a_checkpoint_of_a_run_is_taken(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_checkpoint(str(data / "weights.npy"))
    state = {"params": dict(found.params), "state": dict(found.state)}
    folder = save_checkpoint(tmp_path / "checkpoints", 2, state, facts={})
    seen = []

    def ranks(backbone: Any, *_: Any, **__: Any) -> evaluation.Evaluation:
        seen.append(backbone.feature_size)
        one, none = np.zeros(1, np.int64), evaluation.Features(np.zeros((0, 1), "f4"), np.zeros(0))
        return evaluation.Evaluation(evaluation.Ranks(one, one), none, none, [], [])

    monkeypatch.setattr(evaluation, "evaluate", ranks)
    for path in (tmp_path, folder):
        assert main(flags(data, "--checkpoint_path", str(path))) == 0
    assert seen == [2048 * WIDTH] * 2


def test_a_bad_record_of_any_split_leaves_nothing_behind(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = in_splits(data, tmp_path, ["1", "2"])
    write_shards(tmp_path / "split_2" / "test" / "v", [changed(record_of(0, 0), frames=())] * 2)
    monkeypatch.setattr(evaluation, "evaluate", None)
    assert main([*wanted, "--out", str(tmp_path / "out")]) == 2
    assert "split_2/test/v-00000-of-00002, record 0: image/encoded hol" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_absent_published_file_is_fetched_when_asked_for(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path))
    named = flags(data, "--checkpoint_path", "va-1x")
    assert main(named) == 2
    assert "or add --download" in capsys.readouterr().err
    asked = []

    def fetch(weights: str, *_: Any, download: bool, **__: Any) -> None:
        asked.append((weights, download))
        raise WeightsError("nothing is fetched in tests")

    monkeypatch.setattr(weights_files, "locate", fetch)
    assert main([*named, "--download", "yes"]) == 2
    assert "nothing is fetched in tests" in capsys.readouterr().err
    assert asked == [("va-1x", True)]


def test_an_interruption_promises_nothing(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", interrupt)
    assert main(flags(data)) == 75
    expected = f"{PROG}: interrupted; the same command starts from the beginning\n"
    assert capsys.readouterr().err == expected


def test_help_is_quick_and_the_original_line_is_read() -> None:
    code = (
        "import sys; from brave.evaluate_video_embeddings import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'jax', 'flax', 'sklearn', 'simplejpeg'} & set(sys.modules)"
    )
    original = (
        "--checkpoint_path CHECKPOINT.npy --train_dataset_shards '/tmp/hmdb51/split_1/train/*' "
        "--test_dataset_shards '/tmp/hmdb51/split_1/test/*' --svm_regularization 0.0001 "
        "--batch_size 8 --check-only"
    )
    for words in (["--help"], original.split()):
        subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.PIPE)
