"""The original code's values of fine-tuning (tests/golden/CASES.md)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from gdt_stica.eval_data import select
from gdt_stica.eval_results import correct_answers
from ssvideo_core.datasets.splits import read_splits
from ssvideo_core.features import one_row_a_video
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.rekey import check_renamed

KINDS = ("hmdb_fold", "aggregate")
golden = reference_cases("gdt_stica", KINDS)


@golden.kind("hmdb_fold")
def _(case: Case) -> dict[str, Any]:
    """The list of each class that has files, in a folder as HMDB51 has it."""
    for name in {PurePosixPath(file).parts[-2] for file in case.files}:
        path = case.tmp_path / f"{name}_test_split{case.fold}.txt"
        path.write_text("\n".join(case.split_lines))
    split = read_splits(case.tmp_path, dataset="hmdb51")[str(case.fold)]
    return {"indices": select(case.files, getattr(split, case.split))}


@golden.kind("aggregate")
def _(case: Case) -> dict[str, Any]:
    order = np.argsort(case.video_ids, kind="stable")
    videos, scores = one_row_a_video(case.video_ids[order], case.logits[order], "scores")
    labels = np.asarray(case.labels_per_video)
    of_videos = correct_answers(scores, labels[videos])
    of_clips = correct_answers(case.logits, labels[case.video_ids])
    return {
        "video_acc1_acc5": [100 * answers.mean() for answers in of_videos.values()],
        "clip_acc1_acc5": [100 * answers.mean() for answers in of_clips.values()],
    }


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
