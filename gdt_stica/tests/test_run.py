"""A run of main_gdt from its configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gdt_stica.config import MainGDT
from gdt_stica.data import TrainingVideos
from gdt_stica.run import run_gdt
from ssvideo_core.errors import DataError
from ssvideo_core.testing.fake_videos import FakeVideos

SMALL = {"device": "cpu", "width": 1 / 32, "clip_len": 4, "train_crop_size": 16}


def test_flags_of_the_other_model_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def found(*_: object, **__: object) -> TrainingVideos:
        return TrainingVideos(FakeVideos(16), np.arange(16), {})

    def stopped(*_: object, **__: object) -> None:
        raise DataError("as far as this test goes")

    monkeypatch.setattr("gdt_stica.pairing.find_videos", found)
    monkeypatch.setattr("gdt_stica.run.make_trainer", stopped)
    caplog.set_level("INFO")
    for flags in ({}, {"center_crop": True, "num_candidates": 3}):
        config = MainGDT(
            **SMALL, short_side=(16, 20), output_dir=tmp_path / str(len(flags)), **flags
        )
        with pytest.raises(DataError, match="as far as this test goes"):
            run_gdt(config, ["main_gdt"])
        said = [line for line in caplog.messages if "without effect" in line]
        assert said == (
            ["without effect with --model av_gdt: --center_crop --num_candidates"] if flags else []
        )
