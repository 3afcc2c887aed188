"""The original code's values for what its evaluation does (tests/golden/CASES.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brave.crops import TestCrops
from brave.evaluation import Features, svm_ranks
from brave.images import cut, decode_jpeg, resize_bilinear, resize_min, resized_shape
from brave.records import LabelledVideos
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from ssvideo_core.evaluate.accuracy import group_average, top_k_accuracy
from ssvideo_core.evaluate.svm import fit_linear_svc
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record, parse
from ssvideo_core.formats.tfrecord import (
    DamagedRecordError,
    RecordFiles,
    masked_crc,
    read_records,
    record_offsets,
    write_records,
)
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.rekey import check_renamed

from brave import augmentations, sampling

SAMPLING = ("linspace_indices", "synced_indices", "extend_lengths", "random_start_support")
IMAGES = ("center_crop", "resize_min", "resize_min_shape", "resize_float", "random_crop")
JPEGS = ("jpeg_decode", "jpeg_crop", "jpeg_crop_resize", "jpeg_resize_crop", "multi_crop")
COLOURS = ("color", "gray", "flip")
CLASSIFIER = ("linear_svm", "top_k_accuracy", "group_average")
RECORDS = ("tfrecord_file", "tfrecord_header", "tfrecord_record", "tfrecord_damage", "masked_crc")
KINDS = (*SAMPLING, *IMAGES, *JPEGS, *COLOURS, *CLASSIFIER, *RECORDS)

golden = reference_cases("brave", KINDS)


def rows(case: Case) -> list[dict[str, int]]:
    """A table's arguments, one dictionary a row."""
    return [dict(zip(case.columns, row, strict=True)) for row in case.args.tolist()]


@golden.kind("linspace_indices")
def _(case: Case) -> dict[str, Any]:
    windows = sampling.linspace_windows(
        case.length, count=case.num, num_frames=case.frames, step=case.step
    )
    return {"start_end_step": np.array([(w.start, w.stop, w.step) for w in windows])}


@golden.kind("synced_indices")
def _(case: Case) -> dict[str, Any]:
    return {"result": np.array([sampling.synced_span(**row) for row in rows(case)])}


@golden.kind("extend_lengths")
def _(case: Case) -> dict[str, Any]:
    lengths = [sampling.extended_length(row["frames"], row["needed"]) for row in rows(case)]
    sound = [
        length // row["frames"] * row["frames"] * case.audio_per_frame
        for length, row in zip(lengths, rows(case), strict=True)
    ]
    return {"result": np.stack([lengths, sound], axis=1)}


@golden.kind("random_start_support")
def _(case: Case) -> dict[str, Any]:
    result = []
    for row in rows(case):
        rng = np.random.default_rng(0)
        drawn = [
            sampling.random_window(
                row["length"], num_frames=row["frames"], step=row["step"], rng=rng
            )
            for _ in range(1000)
        ]
        starts = {window.start for window in drawn}
        spans = {window.stop - window.start for window in drawn}
        result.append((min(starts), max(starts), len(starts), *spans))
    return {"result": np.array(result)}


@golden.kind("center_crop")
def _(case: Case) -> dict[str, Any]:
    boxes = [sampling.central_box(**row) for row in rows(case)]
    return {"result": np.array([(box.y, box.x, box.height, box.width) for box in boxes])}


@golden.kind("resize_min_shape")
def _(case: Case) -> dict[str, Any]:
    return {"result": np.array([resized_shape(**row) for row in rows(case)])}


@golden.kind("resize_min")
def _(case: Case) -> dict[str, Any]:
    return {"frames": resize_min(case.video, case.min_side)}


@golden.kind("resize_float")
def _(case: Case) -> dict[str, Any]:
    return {"frames": resize_bilinear(case.video[: case.num_frames], case.height, case.width)}


@golden.kind("random_crop")
def _(case: Case) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    limits: dict[str, Any] = {"area": tuple(case.area), "aspect": tuple(case.aspect)}
    limits |= {"min_covered": case.min_object_covered, "attempts": case.attempts}
    boxes = [
        sampling.distorted_box(case.height, case.width, rng, **limits) for _ in range(case.draws)
    ]
    whole = (case.height, case.width)
    kept = [box for box in boxes if (box.height, box.width) != whole]
    y, x, height, width = np.array([(b.y, b.x, b.height, b.width) for b in kept]).T
    with np.errstate(invalid="ignore"):
        values = {
            "area": height * width / (case.height * case.width),
            "aspect": width / height,
            "y": y / (case.height - height),
            "x": x / (case.width - width),
        }
    outputs = {name: np.nanpercentile(value, case.percentiles) for name, value in values.items()}
    return {"failure_rate": 1 - len(kept) / len(boxes), **outputs}


def decoded(jpegs: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack([decode_jpeg(jpeg.tobytes()) for jpeg in jpegs])


@golden.kind("jpeg_decode")
def _(case: Case) -> dict[str, Any]:
    return {"frames": decoded(case.jpegs)}


@golden.kind("jpeg_crop")
def _(case: Case) -> dict[str, Any]:
    return {"frames": cut(decoded(case.jpegs), sampling.Box(*case.window))}


@golden.kind("jpeg_crop_resize")
def _(case: Case) -> dict[str, Any]:
    frames = cut(decoded(case.jpegs), sampling.Box(*case.window))
    return {"frames": resize_bilinear(frames, case.size, case.size)}


@golden.kind("jpeg_resize_crop")
def _(case: Case) -> dict[str, Any]:
    frames = resize_min(decoded(case.jpegs), case.min_side)
    box = sampling.central_box(*frames.shape[1:3])
    down, right = (box.height - case.crop) // 2, (box.width - case.crop) // 2
    return {"frames": cut(frames, sampling.Box(box.y + down, box.x + right, case.crop, case.crop))}


@golden.kind("multi_crop")
def _(case: Case) -> dict[str, Any]:
    ends = np.cumsum(case.jpeg_lengths)
    frames = [part.tobytes() for part in np.split(case.jpeg_bytes, ends[:-1])]
    shard = case.tmp_path / "shard"
    write_records(shard, [encode_record(VideoRecord(frames, labels=np.array([case.label])))])
    videos = LabelledVideos(str(shard))
    crops = TestCrops(
        videos,
        case.num_frames,
        case.step,
        case.crop,
        short_side=case.initial_resize,
        temporal=case.temporal_crops,
        spatial=case.spatial_crops,
    )(0)
    clips = np.zeros((len(crops), case.num_frames, case.crop, case.crop, 3), np.uint8)
    for crop, target in zip(crops, clips, strict=True):
        crop.cut_into(target)
    return {"video_u8": clips, "labels": np.full((len(crops), 1), videos.facts(0).label)}


@golden.kind("color")
def _(case: Case) -> dict[str, Any]:
    draw = {name: case[name] for name in ("brightness", "saturation", "contrast", "hue")}
    brighter = case.video + np.float32(case.brightness)
    saturated = augmentations.change_saturation(brighter, case.saturation)
    contrasted = augmentations.change_contrast(saturated, case.contrast)
    return {
        "brightness": brighter,
        "saturation": saturated,
        "contrast": contrasted,
        "hue": augmentations.change_hue(contrasted, case.hue),
        "final": augmentations.change_colours(case.video, draw),
    }


@golden.kind("gray")
def _(case: Case) -> dict[str, Any]:
    return {"video": augmentations.to_grey(case.video)}


@golden.kind("flip")
def _(case: Case) -> dict[str, Any]:
    return {"video": augmentations.flip(case.video)}


def shares(scores: NDArray[Any], labels: NDArray[Any], ks: Any = (1, 5)) -> NDArray[np.float64]:
    return np.array(list(top_k_accuracy(scores, np.ravel(labels), ks, ties="higher").values()))


@golden.kind("linear_svm")
def _(case: Case) -> dict[str, Any]:
    labels = np.repeat(case.y_test, case.group)
    parts = Features(case.x_train, case.y_train), Features(case.x_test, labels)
    found = svm_ranks(*parts, C=case.C, group=case.group).accuracies
    outputs: dict[str, Any] = {
        f"{part}_accuracy": [found[f"top_{k}_{part}"] for k in (1, 5)] for part in ("train", "test")
    }
    scaler = StandardScaler().fit(case.x_train)
    x_train, x_test = scaler.transform(case.x_train), scaler.transform(case.x_test)
    for name, dual in (("primal", False), ("dual", True)):
        model = fit_linear_svc(x_train, case.y_train, case.C, dual=dual, tol=1e-8, max_iter=10**6)
        scores, _ = group_average(model.decision(x_test), labels, case.group)
        outputs[f"decision_{name}"] = scores
        outputs[f"top1_{name}"] = shares(scores, case.y_test, (1,))
    return outputs


@golden.kind("top_k_accuracy")
def _(case: Case) -> dict[str, Any]:
    return {"accuracy": shares(case.scores, case.labels, case.k)}


@golden.kind("group_average")
def _(case: Case) -> dict[str, Any]:
    scores, labels = group_average(case.scores, np.array(case.labels), case.group)
    return {"scores": scores, "labels": labels[:, None]}


def shard_of(case: Case) -> Path:
    """The record file among those of the case; the others hold expected values."""
    (path,) = (path for path in case.file_paths if path.suffix not in (".npz", ".json"))
    return path


@golden.kind("tfrecord_file")
def _(case: Case) -> dict[str, Any]:
    return {"num_records": len(RecordFiles([shard_of(case)]))}


@golden.kind("tfrecord_header")
def _(case: Case) -> dict[str, Any]:
    offset, length = record_offsets(shard_of(case))[case.record_index].tolist()
    payload = RecordFiles([shard_of(case)]).read(case.record_index)
    assert len(payload) == length
    header = shard_of(case).read_bytes()[offset : offset + 8]
    return {
        "length": length,
        "masked_crc_of_length": masked_crc(header),
        "masked_crc_of_data": masked_crc(payload),
    }


@golden.kind("masked_crc")
def _(case: Case) -> dict[str, Any]:
    return {"crc_check_strings": {text: masked_crc(text.encode()) for text in case.strings}}


@golden.kind("tfrecord_damage")
def _(case: Case) -> dict[str, Any]:
    delivered = 0
    with pytest.raises(DamagedRecordError) as caught:
        for _ in read_records(shard_of(case)):
            delivered += 1
    for part in (shard_of(case), f"record {case.record_index} ", f"byte {case.record_offset} "):
        assert str(part) in str(caught.value)
    lenient = list(read_records(shard_of(case), on_damage="skip_rest"))
    assert len(lenient) == delivered
    return {"records_before_error": delivered}


@golden.kind("tfrecord_record")
def _(case: Case) -> dict[str, Any]:
    records = list(read_records(shard_of(case)))
    assert len(records) == case.num_records
    data = records[case.record_index]
    example = parse(data)
    outputs: dict[str, Any] = {"record_bytes": len(data)}
    for name, value in example.context.items():
        texts = f"context:{name}" in case.strings
        outputs[f"context:{name}"] = [v.decode() for v in value] if texts else value
    for name, steps in example.lists.items():
        place = f"list:{name}"
        if name in case.image_lists:
            jpegs = [jpeg for (jpeg,) in steps]
            frames = [decode_jpeg(jpeg) for jpeg in jpegs]
            outputs[f"{place}:lengths"] = [len(jpeg) for jpeg in jpegs]
            outputs[f"{place}:first_decoded"] = frames[0]
            outputs[f"{place}:mean_per_frame"] = [frame.mean() for frame in frames]
        else:
            assert name in case.float_lists
            outputs[f"{place}:num_features"] = len(steps)
            outputs[f"{place}:values"] = steps[0]
    assert outputs.keys() == case.outputs.keys()
    return outputs


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
