"""DMVR's values for its default steps on the same records (tests/golden/CASES.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from brave.dmvr import (
    crop_or_pad,
    looped,
    middle_offset,
    num_random_offsets,
    resample,
    spectrogram,
    spread_offsets,
    synced_crop,
    synced_offset,
)
from brave.dmvr_reading import AudioReading, FlowReading, ImageReading, LabelReading, read_batches
from brave.flow import displacements, flip_flow, resize_min_flow
from brave.images import resize_min
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.rekey import check_renamed

PIXELS = ("dmvr_resize", "dmvr_crop_or_pad", "dmvr_synced_crop")
FLOW = ("dmvr_flow_resize", "dmvr_flow_flip")
SOUND = ("dmvr_resample", "dmvr_spectrogram")
KINDS = ("dmvr_sampling", "dmvr_pipeline", *PIXELS, *FLOW, *SOUND)

golden = reference_cases("brave", KINDS)


@golden.kind("dmvr_sampling")
def _(case: Case) -> dict[str, Any]:
    length, form = case.length, {"num_frames": case.num_frames, "stride": case.stride}
    offsets = {f"offset{offset}": [offset] for offset in case.offsets}
    offsets["middle"] = [middle_offset(length, **form)]
    offsets[f"synced_{case.proportion}"] = [synced_offset(case.proportion, length)]
    for count in case.linspace_clips:
        offsets[f"linspace{count}"] = spread_offsets(length, count, **form)
    outputs = {
        name: np.concatenate([looped(offset, length, **form) for offset in found])
        for name, found in offsets.items()
    }
    return {**outputs, "random_offsets": [0, num_random_offsets(length, **form) - 1]}


@golden.kind("dmvr_resize")
def _(case: Case) -> dict[str, Any]:
    return {"frames": resize_min(case.frames, case.min_side)}


@golden.kind("dmvr_crop_or_pad")
def _(case: Case) -> dict[str, Any]:
    return {"frames": crop_or_pad(case.frames, case.height, case.width)}


@golden.kind("dmvr_synced_crop")
def _(case: Case) -> dict[str, Any]:
    proportions = tuple(case.proportions)
    return {"frames": synced_crop(case.frames, case.height, case.width, proportions=proportions)}


@golden.kind("dmvr_flow_resize")
def _(case: Case) -> dict[str, Any]:
    return {"flow": resize_min_flow(displacements(case.frames), case.min_side)}


@golden.kind("dmvr_flow_flip")
def _(case: Case) -> dict[str, Any]:
    return {"flow": flip_flow(displacements(case.frames))}


@golden.kind("dmvr_resample")
def _(case: Case) -> dict[str, Any]:
    return {"wave": resample(case.wave[: case.num_samples], case.rate_in, case.rate_out)}


def spectrogram_options(params: dict[str, Any]) -> dict[str, Any]:
    names = {"type": "kind", "sample_rate": "rate_hz"}
    return {names.get(name, name): value for name, value in params.items() if name != "wave"}


@golden.kind("dmvr_spectrogram")
def _(case: Case) -> dict[str, Any]:
    return {"features": spectrogram(case.wave, **spectrogram_options(case.params))}


@golden.kind("dmvr_pipeline")
def _(case: Case) -> dict[str, Any]:
    (shard,) = (path for path in case.file_paths if path.suffix != ".npz")
    audio = case.params["audio"]
    if audio is not None:
        features = case.params["spectrogram"] and spectrogram_options(case.params["spectrogram"])
        layout = "released" if case.released else "clips"
        audio = AudioReading(**audio, features=features, layout=layout)
    label = case.params["label"]
    batches = list(
        read_batches(
            str(shard),
            batch_size=case.batch_size,
            image=case.params["image"] and ImageReading(**case.params["image"]),
            flow=case.params["flow"] and FlowReading(**case.params["flow"]),
            audio=audio,
            label=LabelReading(num_classes=label["num_classes"], add_name=label["add_label_name"]),
        )
    )
    assert len(batches) == case.num_batches
    return {
        f"batch{number}:{name}": values
        for number, batch in enumerate(batches)
        for name, values in batch.items()
    }


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
