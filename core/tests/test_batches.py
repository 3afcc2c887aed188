from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ssvideo_core import batches as module
from ssvideo_core.batches import (
    NO_LABEL,
    BadVideos,
    Batch,
    Position,
    Replaced,
    Sample,
    SampleLoader,
    Task,
    ahead,
    batches,
    collate,
    steps_left,
    steps_per_epoch,
)
from ssvideo_core.blocks import NO_SOUND
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.randomness import epoch_order, generator
from ssvideo_core.source import open_source
from ssvideo_core.testing.fake_videos import FakeVideos
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.views import Clip

WAIT_S = 20


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # from here to the workers' path
    return importlib.import_module("batch_tasks")


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "what should happen did not"
        time.sleep(0.02)


def assert_same_arrays(first: Any, second: Any) -> None:
    if first is None or second is None:
        assert first is second
        return
    assert first.dtype == second.dtype
    assert np.array_equal(first, second)


def assert_same_batch(first: Batch, second: Batch) -> None:
    assert_same_arrays(first.index, second.index)
    assert_same_arrays(first.label, second.label)
    assert first.replaced == second.replaced
    for one, other in zip(first.views, second.views, strict=True):
        for name in ("frames", "sizes", "sound", "missing_samples"):
            assert_same_arrays(getattr(one, name), getattr(other, name))
        assert one.params.keys() == other.params.keys()
        for name, values in one.params.items():
            assert_same_arrays(values, other.params[name])


def assert_same_run(
    first: Iterable[tuple[Position, Batch]], second: Iterable[tuple[Position, Batch]]
) -> None:
    for (position, batch), (other_position, other) in zip(first, second, strict=True):
        assert position == other_position
        assert_same_batch(batch, other)


def clip_rows(batch: Batch) -> list[tuple[Any, ...]]:
    """Each sample of a batch without the padding that the others of the batch cause."""
    rows = []
    for row, index in enumerate(batch.index):
        row_values: list[Any] = [int(index), int(batch.label[row])]
        for view in batch.views:
            height, width = view.sizes[row]
            if view.frames is not None:
                assert not view.frames[row, :, height:].any()
                assert not view.frames[row, :, :, width:].any()
                row_values.append(view.frames[row, :, :height, :width].tobytes())
            if view.sound is not None:
                row_values.append(view.sound[row].tobytes())
            row_values += [int(view.missing_samples[row]), height, width]
            row_values += [(name, view.params[name][row].tobytes()) for name in view.params]
        rows.append(tuple(row_values))
    return rows


# Order, positions and processes


def test_positions_and_indices(tasks: ModuleType) -> None:
    run = list(batches(tasks.noise, num_samples=11, global_batch_size=4, epochs=3, seed=3))
    assert [position for position, _ in run] == [
        Position(0, 4), Position(1, 0), Position(1, 4), Position(2, 0), Position(2, 4),
        Position(3, 0),
    ]  # fmt: skip
    for number, (_, batch) in enumerate(run):
        epoch, start = number // 2, number % 2 * 4
        assert batch.index.tolist() == epoch_order(3, epoch, 11)[start : start + 4].tolist()
        assert batch.label.tolist() == [index % 7 for index in batch.index]
        for row, index in enumerate(batch.index.tolist()):
            expected = tasks.noise(Task(epoch, index))
            assert_same_arrays(batch.views[0].frames[row], expected.clips[0].frames)
            assert_same_arrays(batch.views[0].params["draw"][row], expected.params[0]["draw"])


def test_without_shuffling(tasks: ModuleType) -> None:
    run = batches(tasks.noise, num_samples=5, global_batch_size=2, epochs=2, seed=0, shuffle=False)
    assert [batch.index.tolist() for _, batch in run] == [[0, 1], [2, 3]] * 2


def test_the_same_for_any_number_of_workers(tasks: ModuleType) -> None:
    source = FakeVideos(40, bad_every=11, silent_every=9, delay_s=0.001)
    load = SampleLoader(source, tasks.pictures_and_sound, seed=7, labels=list(range(40)))
    runs = [
        list(batches(load, num_samples=40, global_batch_size=6, epochs=2, seed=7, workers=workers))
        for workers in (0, 1, 4)
    ]
    assert len(runs[0]) == 12
    reasons = {one.reason for _, batch in runs[0] for one in batch.replaced}
    assert NO_SOUND in reasons
    assert len(reasons) > 2
    assert_same_run(runs[0], runs[1])
    assert_same_run(runs[0], runs[2])


@pytest.mark.parametrize("workers", [(0, 0), (1, 0)])
def test_goes_on_after_a_stop(tasks: ModuleType, workers: tuple[int, int]) -> None:
    source = FakeVideos(50, bad_every=17)
    load = SampleLoader(source, tasks.pictures, seed=2)
    options = {"num_samples": 50, "global_batch_size": 6, "epochs": 7, "seed": 2, "world_size": 2}
    for rank in (0, 1):
        straight = batches(load, **options, rank=rank)
        expected = list(islice(straight, 40, 48))
        stopped = batches(load, **options, rank=rank, workers=workers[0])
        *_, (position, _) = islice(stopped, 40)
        stopped.close()
        assert position == Position(5, 0)
        position = Position.from_json(json.loads(json.dumps(position.to_json())))
        again = batches(load, **options, rank=rank, workers=workers[1], position=position)
        assert_same_run(islice(again, 8), expected)
        again.close()


def test_goes_on_in_the_middle_of_an_epoch(tasks: ModuleType) -> None:
    options = {"num_samples": 50, "global_batch_size": 6, "epochs": 3, "seed": 2}
    straight = list(batches(tasks.noise, **options))
    for number, (position, _) in enumerate(straight):
        assert_same_run(batches(tasks.noise, **options, position=position), straight[number + 1 :])


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batches_of_one(tasks: ModuleType, world_size: int) -> None:
    source = FakeVideos(33, silent_every=10)
    load = SampleLoader(source, tasks.pictures_and_sound, seed=1)
    options = {"num_samples": 33, "global_batch_size": 12, "epochs": 2, "seed": 1}
    alone = list(batches(load, **options))
    shares = [
        list(batches(load, **options, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    assert len(alone) == 4
    for (position, whole), *parts in zip(alone, *shares, strict=True):
        assert {position} == {part_position for part_position, _ in parts}
        assert clip_rows(whole) == [row for _, part in parts for row in clip_rows(part)]
        assert whole.replaced == tuple(one for _, part in parts for one in part.replaced)


def test_goes_on_with_another_number_of_processes(tasks: ModuleType) -> None:
    options = {"num_samples": 50, "epochs": 2, "seed": 4}
    began = list(islice(batches(tasks.noise, global_batch_size=6, **options), 3))
    position = began[-1][0]
    assert position == Position(0, 18)
    rest = [
        list(
            batches(
                tasks.noise, global_batch_size=8, **options, position=position, rank=r, world_size=4
            )
        )
        for r in range(4)
    ]
    used = [index for step in zip(*rest, strict=True) for _, b in step for index in b.index]
    # 18 + 4 x 8 = 50: no sample of the epoch is lost, none comes twice.
    assert sorted([*used[:32], *(i for _, b in began for i in b.index)]) == list(range(50))
    assert used[:32] == epoch_order(4, 0, 50)[18:].tolist()
    assert used[32:] == epoch_order(4, 1, 50)[:48].tolist()
    assert [p for p, _ in rest[0]][:5] == [
        Position(0, 26), Position(0, 34), Position(0, 42), Position(1, 0), Position(1, 8),
    ]  # fmt: skip


def test_what_does_not_fill_a_batch_is_dropped(tasks: ModuleType) -> None:
    options = {"num_samples": 50, "global_batch_size": 16, "epochs": 2, "seed": 4}
    for used in (40, 48, 50):
        run = list(batches(tasks.noise, **options, position=Position(0, used)))
        assert [p for p, _ in run] == [Position(1, 16), Position(1, 32), Position(2, 0)]
    assert list(batches(tasks.noise, **options, position=Position(2, 0))) == []


def test_epochs_follow_each_other_without_a_pause(tasks: ModuleType, tmp_path: Path) -> None:
    load = tasks.Marks(tmp_path)
    run = batches(load, num_samples=8, global_batch_size=4, epochs=3, seed=0, workers=2)
    next(run)
    assert next(run)[0] == Position(1, 0)
    # While the last batch of epoch 0 is used, workers are at those of epoch 1.
    wait_for(lambda: len([*tmp_path.glob("1-*")]) == 8)
    run.close()


def test_workers_go_on_while_a_batch_is_used(tasks: ModuleType, tmp_path: Path) -> None:
    # More than sockets hold: only a thread that takes results away lets the workers come so far.
    run = batches(
        tasks.Marks(tmp_path), num_samples=300, global_batch_size=60, epochs=1, seed=0, workers=1
    )
    next(run)
    wait_for(lambda: len([*tmp_path.iterdir()]) == 60 + 60 + 60 + 2)
    time.sleep(0.1)
    assert len([*tmp_path.iterdir()]) == 182  # and no further
    run.close()


def test_each_batch_is_collated_by_the_name_of_the_module(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(module, "collate", lambda samples: seen.append(len(samples)))
    assert list(batches(tasks.noise, num_samples=9, global_batch_size=4, epochs=1, seed=0))
    assert seen == [4, 4]


def test_steps_per_epoch() -> None:
    assert [steps_per_epoch(10, size) for size in (1, 3, 10)] == [10, 3, 1]
    for size in (0, 11):
        with pytest.raises(ConfigError, match=f"batch size is {size}, expected 1 to 10"):
            steps_per_epoch(10, size)


@pytest.mark.parametrize("size", [4, 5, 50])
@pytest.mark.parametrize("used", [0, 8, 47, 50])
@pytest.mark.parametrize("epoch", [0, 1, 2, 4])
def test_steps_left(tasks: ModuleType, size: int, used: int, epoch: int) -> None:
    options = {"num_samples": 50, "global_batch_size": size, "epochs": 2}
    position = Position(epoch, used)
    left = sum(1 for _ in batches(tasks.noise, **options, seed=0, position=position))
    assert steps_left(position, **options) == left


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"global_batch_size": 13}, "batch size is 13, expected 1 to 12"),
        ({"world_size": 3}, "batch of 4 samples is shared by 3 processes"),
        ({"world_size": 2, "rank": 2}, "processes, this one 2"),
        ({"position": Position(0, 13)}, "epoch 0 after 13 samples, but there are 12"),
        ({"position": Position(-1, 0)}, "epoch -1"),
    ],
)
def test_wrong_options(tasks: ModuleType, changed: dict[str, Any], message: str) -> None:
    options = {"num_samples": 12, "global_batch_size": 4, "epochs": 1, "seed": 0} | changed
    with pytest.raises(ConfigError, match=message):
        batches(tasks.noise, **options)


# Samples and replacements


def test_a_sample(tasks: ModuleType) -> None:
    source = FakeVideos(20)
    labels = [3 * k for k in range(5)]
    indices = np.array([4, 19, 7, 0, 2])
    load = SampleLoader(source, tasks.pictures_and_sound, seed=9, indices=indices, labels=labels)
    sample = pickle.loads(pickle.dumps(load))(Task(2, 1))
    views = tasks.pictures_and_sound(source.info(19), generator(9, 2, 1, "views"))
    assert (sample.index, sample.label, sample.replaced) == (1, 3, ())
    for clip, expected in zip(sample.clips, source.read(19, views), strict=True):
        assert_same_arrays(clip.frames, expected.frames)
        assert_same_arrays(clip.sound, expected.sound)
    for params, view in zip(sample.params, views, strict=True):
        assert params.keys() == view.params.keys()
        for name, values in view.params.items():
            assert_same_arrays(params[name], values)
    assert (len(load), load.name(Task(0, 2))) == (5, "2/7.mp4")
    assert SampleLoader(source, tasks.pictures, seed=0)(Task(0, 3)).label == NO_LABEL == -1


def test_draws_differ_between_samples_epochs_and_seeds(tasks: ModuleType) -> None:
    source = FakeVideos(1000)
    found = {
        tuple(
            float(SampleLoader(source, tasks.pictures_and_sound, seed=seed)(Task(epoch, index))
                  .clips[2].sound[0])
            for index in range(4)
        )
        for seed in range(3)
        for epoch in range(3)
    }  # fmt: skip
    assert len(found) == 9


@pytest.mark.parametrize("kind", ["unknown", "unreadable"])
def test_a_bad_video_is_replaced_by_the_next(tasks: ModuleType, kind: str) -> None:
    source = tasks.SomeBad(10, **{kind: (3, 8, 9)})
    load = SampleLoader(source, tasks.pictures, seed=6, labels=list(range(10, 20)))
    for asked, used in ((2, 2), (3, 4), (9, 0), (8, 0)):
        sample = load(Task(1, asked))
        # The generator of the task, from its start, however far the bad video came.
        views = tasks.pictures(source.info(used), generator(6, 1, asked, "views"))
        for clip, expected in zip(sample.clips, source.read(used, views), strict=True):
            assert_same_arrays(clip.frames, expected.frames)
        assert (sample.index, sample.label) == (used, used + 10)
        passed = range(asked, asked + (used - asked) % 10)
        assert [one.video_id for one in sample.replaced] == [f"{n % 5}/{n}.mp4" for n in passed]
    reason = {"unknown": "3 is no video", "unreadable": "3 ends early"}[kind]
    assert load(Task(0, 3)).replaced == (Replaced("3/3.mp4", reason),)


def test_a_replacement_stays_in_the_indices(tasks: ModuleType) -> None:
    source = FakeVideos(10, bad_every=10)
    load = SampleLoader(source, tasks.pictures, seed=0, indices=np.array([5, 0, 7]))
    sample = load(Task(0, 1))
    assert (sample.index, sample.replaced[0].video_id) == (2, "0/0.mp4")
    views = tasks.pictures(source.info(7), generator(0, 0, 1, "views"))
    assert_same_arrays(sample.clips[0].frames, source.read(7, views)[0].frames)


def test_a_video_without_sound_is_replaced_where_sound_is_wanted(tasks: ModuleType) -> None:
    source = FakeVideos(10, silent_every=4)
    sample = SampleLoader(source, tasks.pictures_and_sound, seed=0)(Task(0, 4))
    assert (sample.index, sample.replaced) == (5, (Replaced("4/4.mp4", NO_SOUND),))
    assert SampleLoader(source, tasks.pictures, seed=0)(Task(0, 4)).replaced == ()


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (FakeVideos(2, bad_every=1), "2 videos in a row of 2"),
        (FakeVideos(50, bad_every=1), "4 videos in a row of 50"),
        (FakeVideos(50, silent_every=1), "50 videos in a row of 50"),
        (FakeVideos(5000, silent_every=1), "1000 videos in a row of 5000"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_data_without_a_good_video_end_with_an_error(
    tasks: ModuleType, source: FakeVideos, count: str, workers: int
) -> None:
    load = SampleLoader(source, tasks.pictures_and_sound, seed=0)
    run = batches(
        load, num_samples=len(source), global_batch_size=2, epochs=1, seed=0, workers=workers
    )
    first = load.name(Task(0, int(epoch_order(0, 0, len(source))[0])))
    with pytest.raises(DataError, match=f"{count} cannot be used.*the first of them, {first}: "):
        next(run)


def test_a_bug_is_no_bad_video(tasks: ModuleType) -> None:
    with pytest.raises(ValueError, match="a bug"):
        SampleLoader(FakeVideos(5), tasks.outside, seed=0)(Task(0, 0))


def test_loaders_that_cannot_be(tasks: ModuleType) -> None:
    source = FakeVideos(4)
    for options, message in (
        ({"indices": np.array([], np.int64)}, "no videos to train on"),
        ({"indices": np.array([1, 4])}, "videos 1 to 4 of a source with 4 videos"),
        ({"indices": np.array([-1, 2])}, "videos -1 to 2"),
        ({"indices": np.array([1, 2]), "labels": [0, 0, 0, 0]}, "4 labels for 2 samples"),
    ):
        with pytest.raises(ConfigError, match=message):
            SampleLoader(source, tasks.pictures, seed=0, **options)


def test_real_videos(tasks: ModuleType, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", num_train=16, num_test=16, size=32)
    source = open_source(data / "videos")
    source.path(3).write_bytes(source.path(3).read_bytes()[:2000])
    load = SampleLoader(source, tasks.square, seed=0)
    runs = [
        list(batches(load, num_samples=32, global_batch_size=8, epochs=1, seed=0, workers=workers))
        for workers in (0, 2)
    ]
    assert_same_run(*runs)
    replaced = [one for _, batch in runs[0] for one in batch.replaced]
    assert [one.video_id for one in replaced] == [source.entry(3).video_id]
    assert "cannot open" in replaced[0].reason
    picture, both = runs[0][0][1].views
    assert (picture.frames.shape, picture.sound) == ((8, 3, 24, 24, 3), None)
    assert (both.frames.shape, both.sound.shape) == ((8, 1, 32, 32, 3), (8, 4000))
    assert np.abs(both.sound).max(axis=1).min() > 0.01


def test_broken_clips_are_replaced(tasks: ModuleType, clips: Path) -> None:
    source = open_source(clips / "broken")
    names = [source.entry(k).video_id for k in range(len(source))]
    load = SampleLoader(source, tasks.square, seed=0)
    sample = load(Task(0, names.index("random_bytes.mp4")))
    replaced = {one.video_id: one.reason for one in sample.replaced}
    assert [*replaced] == [
        "random_bytes.mp4", "truncated_half.avi", "truncated_half.mp4", "zero_bytes.mp4"
    ]  # fmt: skip
    assert replaced.pop("truncated_half.avi") == NO_SOUND
    assert all(f"cannot open {clips / 'broken' / name}" in why for name, why in replaced.items())
    # What comes before the damage can be used.
    assert names[sample.index] == "corrupt_middle.mp4"
    assert sample.clips[0].frames.shape == (3, 24, 24, 3)


# Collating


def sample_of(frames: Any, sound: Any = None, **params: Any) -> Sample:
    arrays = {name: np.array(value) for name, value in params.items()}
    return Sample(4, 1, (Clip(frames, sound, 2),), (arrays,))


@pytest.mark.parametrize("sizes", [[(3, 4)] * 3, [(3, 4), (5, 2), (1, 6)]])
def test_collate_equals_loops(sizes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(1, 256, (2, h, w, 3), np.uint8) for h, w in sizes]
    sounds = [rng.normal(size=5).astype(np.float32) for _ in sizes]
    params = [rng.random((2, 2)) for _ in sizes]
    samples = [
        sample_of(clip[:, ::1], sound, box=box, flip=True)
        for clip, sound, box in zip(clips, sounds, params, strict=True)
    ]
    (view,) = collate(samples).views
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    expected = np.zeros((3, 2, height, width, 3))
    for b, clip in enumerate(clips):
        for place in np.ndindex(clip.shape):
            expected[(b, *place)] = clip[place]
    assert view.frames.dtype == np.uint8
    assert np.array_equal(view.frames, expected)
    assert (view.sizes.dtype, view.sizes.tolist()) == (np.int64, [list(size) for size in sizes])
    assert_same_arrays(view.sound, np.array(sounds))
    assert_same_arrays(view.missing_samples, np.full(3, 2, np.int64))
    assert_same_arrays(view.params["box"], np.array(params))
    assert_same_arrays(view.params["flip"], np.ones(3, bool))


def test_collate_sound_alone() -> None:
    batch = collate([sample_of(None, np.ones(3, np.float32))] * 2)
    (view,) = batch.views
    assert view.frames is None
    assert_same_arrays(view.sizes, np.zeros((2, 2), np.int64))
    assert_same_arrays(batch.index, np.array([4, 4]))
    assert_same_arrays(batch.label, np.array([1, 1]))


def test_collate_keeps_the_order_of_what_was_replaced() -> None:
    clip, names = Clip(np.zeros((1, 2, 2, 3), np.uint8), None), ("a", "b", "c")
    first, second, third = (Replaced(name, "reason") for name in names)
    samples = [Sample(0, 0, (clip,), ({},), r) for r in ((first, second), (), (third,))]
    assert collate(samples).replaced == (first, second, third)


FRAMES = np.zeros((2, 3, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (sample_of(np.zeros((3, 3, 3, 3), np.uint8)), r"2 and 3 \(frames\)"),
        (sample_of(None, np.zeros(3, np.float32)), r"True and False \(frames or none\)"),
        (sample_of(FRAMES, np.zeros(3, np.float32)), r"False and True \(sound or none\)"),
        (sample_of(FRAMES, flip=True), r"\[\] and \['flip'\] \(params\)"),
        (Sample(0, 0, (), ()), r"1 and 0 \(views\)"),
    ],
)
def test_samples_that_make_no_batch(other: Sample, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collate([sample_of(FRAMES), other])


def test_sounds_that_make_no_batch() -> None:
    samples = [sample_of(None, np.zeros(n, np.float32)) for n in (3, 4)]
    with pytest.raises(ValueError, match=r"3 and 4 \(samples of sound\)"):
        collate(samples)


# One ahead


def test_ahead_makes_the_next_while_one_is_used() -> None:
    made = threading.Semaphore(0)
    threads = set()

    def items() -> Any:
        for number in range(4):
            threads.add(threading.get_ident())
            made.release()
            yield number

    results = ahead(items())
    assert not threads  # nothing before the first is asked for
    assert next(results) == 0
    assert made.acquire(timeout=WAIT_S)
    assert made.acquire(timeout=WAIT_S)  # number 1, which nobody asked for yet
    assert list(results) == [1, 2, 3]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_ahead_raises_in_turn_and_closes() -> None:
    closed = []

    def items(last: int) -> Any:
        try:
            yield from range(last)
            raise DataError("the end")
        finally:
            closed.append(last)

    results = ahead(items(2))
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(DataError, match="the end"):
        next(results)
    results = ahead(items(9))
    next(results)
    results.close()
    assert closed == [2, 9]


# The list of bad videos


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_bad_videos_are_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bad-videos.jsonl"
    bad = BadVideos(path, 1000)
    bad.add(())
    assert not path.exists()
    first, second, silent = (
        Replaced("a/ü.mp4", 'r\n"1"'),
        Replaced("b", "r2"),
        Replaced("c", NO_SOUND),
    )
    bad.add((first, first, silent))
    bad.add((first,))
    again = BadVideos(path, 1000)
    again.add((silent, second))
    expected = [(one.video_id, one.reason) for one in (first, silent, second)]
    assert [(line["video"], line["reason"]) for line in lines(path)] == expected
    assert (bad.num_bad, bad.num_silent) == (1, 1)
    assert (again.num_bad, again.num_silent) == (2, 1)


@pytest.mark.parametrize(("num_videos", "allowed"), [(10, 3), (399, 3), (400, 4), (1000, 10)])
def test_too_many_bad_videos(tmp_path: Path, num_videos: int, allowed: int) -> None:
    path = tmp_path / "bad-videos.jsonl"
    bad = BadVideos(path, num_videos)
    bad.add(Replaced(f"silent {n}", NO_SOUND) for n in range(num_videos))
    for n in range(allowed):
        bad.add((Replaced(f"bad {n}", "reason"),) * 2)
    message = f"{path}: {allowed + 1} of {num_videos} videos cannot be read, {allowed} are allowed"
    with pytest.raises(DataError, match=message + r".*the last one is another: damaged\. Repair"):
        bad.add((Replaced("another", "damaged"), Replaced("quiet", NO_SOUND)))
    assert len(lines(path)) == num_videos + allowed + 2
    # The same data again does not pass either.
    with pytest.raises(DataError, match=message):
        BadVideos(path, num_videos).add((Replaced("bad 0", "reason"),))


def test_processes_count_what_others_found(tmp_path: Path) -> None:
    path = tmp_path / "bad-videos.jsonl"
    first, second = BadVideos(path, 10), BadVideos(path, 10)
    first.add((Replaced("a", "r"), Replaced("b", "r")))
    second.add((Replaced("c", "r"), Replaced("a", "r")))
    assert [line["video"] for line in lines(path)] == ["a", "b", "c"]
    with pytest.raises(DataError, match="4 of 10 videos cannot be read"):
        first.add((Replaced("d", "r"),))


def test_a_line_that_a_kill_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "bad-videos.jsonl"
    path.write_text('{"video": "a", "reason": "r"}\n[]\n{"video": "b", "rea')
    bad = BadVideos(path, 10)
    assert bad.num_bad == 1
    bad.add((Replaced("b", "r"), Replaced("c", "r")))
    assert bad.num_bad == 3
    again = BadVideos(path, 10)
    again.add((Replaced("b", "r"), Replaced("c", "r")))
    assert again.num_bad == 3
    assert [line["video"] for line in map(json.loads, path.read_text().splitlines()[-2:])] == [
        "c", "b"
    ]  # fmt: skip


WRITER = """
import sys
from pathlib import Path
from ssvideo_core.batches import BadVideos, Replaced
bad = BadVideos(Path(sys.argv[1]), 10**6)
print("ready", flush=True)
sys.stdin.readline()
for n in range(300):
    bad.add([Replaced(f"{sys.argv[2]} {n}", "x" * (n % 50)), Replaced(f"both {n}", "y")])
"""


def test_two_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad-videos.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("left", "right")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=WAIT_S)
        assert writer.returncode == 0
    names = [line["video"] for line in lines(path)]
    assert set(names) == {f"{who} {n}" for who in ("left", "right", "both") for n in range(300)}
    # Only what both found at the same moment may stand there twice.
    assert all(names.count(f"left {n}") == 1 for n in range(300))
