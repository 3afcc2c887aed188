"""What the papers state, as Results; `data/ORIGIN.md` says where the numbers are from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from importlib import resources

from ssvideo_core.results import Key, Result

MEAN = "mean"
_SOUND_DATASETS = ("esc50", "audioset")
_VICC_STREAMS = {"ViCC-RGB-2": "rgb", "ViCC-Flow-2": "flow", "ViCC-R+F-2": "rgb+flow"}


@lru_cache(maxsize=1)
def paper_results() -> tuple[Result, ...]:
    """Every stated number, in the order of the file, values as fractions.

    `source` is where it stands. Key.weights is the published name, or what the source calls the
    model where no weights were released; Key.split is "mean" of all splits, or "not stated".
    `details`: stated (the number as written, in percent), model, pretrain, frames, released
    (whether the weights are) and note; among the notes are the sources' own contradictions.
    """
    file = resources.files("shared_eval").joinpath("data", "papers.csv")
    rows = csv.DictReader(io.StringIO(file.read_text("utf-8"), newline=""))
    return tuple(_read(row) for row in rows)


def _read(row: Mapping[str, str]) -> Result:
    return Result(
        key=Key(
            method=row["method"],
            weights=row["weights"] or row["model"],
            backbone=row["backbone"],
            modality=_modality(row),
            dataset=row["dataset"],
            split=MEAN if row["split"].startswith("mean(") else row["split"],
            protocol=row["protocol"],
            metric=row["metric"],
        ),
        value=float(Decimal(row["value"]) / 100),
        source=row["source"],
        details={
            "stated": row["value"],
            "model": row["model"],
            "pretrain": row["pretrain"],
            "frames": int(row["frames"]) if row["frames"] else None,
            "released": bool(row["weights"]),
            "note": row["note"],
        },
    )


def _modality(row: Mapping[str, str]) -> str:
    """The file does not say it: it follows from the data set, the backbones or ViCC's names."""
    if row["dataset"] in _SOUND_DATASETS:
        return "sound"
    if " + " in row["backbone"]:
        return "rgb+sound"
    return _VICC_STREAMS.get(row["model"], "rgb")
