from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.errors import DataError
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.run_weights import (
    START_FILE,
    UNTRAINED_FILE,
    find_checkpoint,
    find_description,
)
from ssvideo_core.weights.locate import ENCODER_FILE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two checkpoints, no encoder yet."""
    for step in (1, 2):
        save_checkpoint(tmp_path / "run/checkpoints", step, {"x": np.arange(step)}, facts={})
    return tmp_path / "run"


def test_a_run_before_its_end_means_its_newest_checkpoint(run: Path) -> None:
    newest = run / "checkpoints/ckpt-00000002"
    for given in (run, run / "checkpoints", newest):
        assert find_checkpoint(str(given), ()) == newest
    (newest / "manifest.json").write_text("{")
    assert find_checkpoint(str(run), ()) == run / "checkpoints/ckpt-00000001"


def test_what_else_weights_are_is_left_to_others(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = PublishedWeights(
        name="run", address="https://a/b", file="b", licence="", architecture={}
    )
    monkeypatch.chdir(run.parent)
    assert find_checkpoint("run", [record]) is None
    assert find_checkpoint("file.safetensors", ()) is None
    (run / ENCODER_FILE).touch()
    assert find_checkpoint(str(run), ()) is None


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint"):
        find_checkpoint(str(tmp_path), ())


def test_a_checkpoint_is_described_by_what_its_run_began_with(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = run / "checkpoints/ckpt-00000001"
    for name in (ENCODER_FILE, START_FILE, UNTRAINED_FILE):
        (run / name).touch()
        assert find_description(checkpoint) == run / name
    assert not caplog.text
    moved = checkpoint.rename(run.parent / "elsewhere")
    assert find_description(moved) is None
    assert f"{moved} is not in the folder of its run" in caplog.text
