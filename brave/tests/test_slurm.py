"""The batch scripts: their positional arguments end in flags that the commands take."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from brave.config import EvaluateVideoEmbeddings
from brave.experiment import main as experiment
from ssvideo_core.command_flags import RunRecipe
from ssvideo_core.config import parse
from ssvideo_core.recipes import find_recipe

SCRIPTS = Path(__file__).parents[1] / "slurm"
Run = Callable[..., list[list[str]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script with an srun and a python that write their words down; gives them by call."""
    written = tmp_path / "words"
    for name in ("srun", "python"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "" >> "{written}"\n')
        stub.chmod(0o755)

    def run(script: str, *words: str, **variables: str) -> list[list[str]]:
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", str(SCRIPTS / script), *words]
        subprocess.run(command, env={"PATH": path, **variables}, check=True, capture_output=True)
        calls = written.read_text().removesuffix("\n\n").split("\n\n")
        return [call.split("\n") for call in calls]

    return run


def test_both_data_sets_are_evaluated(run: Run) -> None:
    calls = run("evaluate.sh", "va-1x", "out", UCF101_SHARDS="u", BATCH_SIZE="4")
    assert all(call[1:4] == ["-u", "-m", "brave.evaluate_video_embeddings"] for call in calls)
    hmdb51, ucf101 = [parse(EvaluateVideoEmbeddings, call[4:], prog="test") for call in calls]
    assert (hmdb51.dataset, ucf101.dataset) == ("hmdb51", "ucf101")
    assert (hmdb51.out, ucf101.out) == (Path("out/hmdb51"), Path("out/ucf101"))
    assert (hmdb51.checkpoint_path, hmdb51.svm_regularization) == ("va-1x", 1e-4)
    assert ucf101.batch_size == 4
    assert [one.test_dataset_shards for one in ucf101.each_split()] == [
        (f"u/split_{split}/test/*",) for split in "123"
    ]
    assert ucf101.each_split()[0].train_dataset_shards == ("u/split_1/train/*",)


def test_training_is_a_recipe(run: Run) -> None:
    (call,) = run("pretrain.sh", "v-a-1x", "mine", "--config.random_seed=9", DATA_SHARDS="d")
    assert call[:4] == ["python", "-u", "-m", "brave"]
    assert call[4:7] == ["recipes", "run", "train-v-a-1x"]
    end = call.index("--")
    config = parse(RunRecipe, call[7:end], prog="test")
    assert (config.data, config.out) == ("d", Path("runs/mine"))
    recipe = find_recipe("brave", "train-v-a-1x")
    words = [*recipe.arguments(data="d", out="o"), *call[end + 1 :]]
    assert experiment([*words, "--check-only"]) == 0
    assert words[-3:] == ["--workers", "9", "--config.random_seed=9"]


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("evaluate.sh", ["w.npy"], "usage: sbatch evaluate.sh CHECKPOINT_PATH OUTPUT_DIR"),
        ("pretrain.sh", ["v-a-1x"], "usage: sbatch pretrain.sh VIEWS RUN [FLAG ...]"),
    ],
)
def test_wrong_words_end_a_script(script: str, words: list[str], message: str) -> None:
    command = ["bash", str(SCRIPTS / script), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr
