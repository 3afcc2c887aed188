from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core.blocks import BLOCK_VIDEOS, MEAN_OF_VIEWS, block_path
from ssvideo_core.errors import ConfigError, DataError, DecodeError, NoSoundError
from ssvideo_core.extract import embed_videos, extract
from ssvideo_core.features import mean_of_views, open_features
from ssvideo_core.progress import Progress
from ssvideo_core.source import VideoEntry, open_source
from ssvideo_core.testing.fake_videos import TINY_RGB, TINY_SOUND, FakeEncoder, FakeVideos
from ssvideo_core.video import probe, read_views
from ssvideo_core.views import Clip, ClipSpec, Pixels, Samples, Spread, VideoInfo, View, plan

REQUEST = {"method": "fake", "weights": "random", "backbone": "none", "seed": 3}
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "extract_memory.py"
SMALL_RGB = ClipSpec("rgb", Spread(4, 1.0), Pixels(40, 32, 32), "repeat_last")
SMALL_SOUND = ClipSpec("sound", Samples(4000, 8000), None, "zeros")


def run(source: Any, out: Path, encoder: Any = None, **options: Any) -> Any:
    """`extract` with 2 x 1 views, six clips a batch; batches show in the numbers."""
    options = {"temporal": 2, "spatial": 1, "batch_size": 6, "request": REQUEST, **options}
    return extract(encoder or FakeEncoder(neighbours=0.1), source, out, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def plain_extract(
    encoder: Any, source: Any, videos: Sequence[int], temporal: int, spatial: int, batch_size: int
) -> dict[int, NDArray[np.float32]]:
    """Views of these videos, [V, D] each: all blocks' clips in lists, cut into batches."""
    result: dict[int, list[NDArray[np.float32]]] = {video: [] for video in videos}
    for first in range(0, len(source), BLOCK_VIDEOS):
        clips, owners = [], []
        for video in (v for v in videos if first <= v < first + BLOCK_VIDEOS):
            views = plan(source.info(video), encoder.clip, temporal=temporal, spatial=spatial)
            for clip in source.read(video, views):
                clips.append(clip.sound if encoder.clip.modality == "sound" else clip.frames)
                owners.append(video)
        for at in range(0, len(clips), batch_size):
            rows = encoder.embed(np.stack(clips[at : at + batch_size]))
            for owner, row in zip(owners[at : at + batch_size], rows, strict=True):
                result[owner].append(row)
    return {video: np.stack(rows) for video, rows in result.items()}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_rows_are_those_of_the_plain_way(tmp_path: Path, batch_size: int) -> None:
    source = FakeVideos(300, bad_every=150)
    encoder = FakeEncoder(neighbours=0.1)
    options = {"temporal": 2, "spatial": 3, "batch_size": batch_size}
    videos = [video for video in range(300) if video % 150]
    expected = plain_extract(encoder, source, videos, 2, 3, batch_size)

    views = run(source, tmp_path / "views", encoder, keep="views", **options)
    blocks = list(views.blocks())
    rows = np.concatenate([block.values for block in blocks])
    np.testing.assert_array_equal(rows, np.concatenate([expected[video] for video in videos]))
    np.testing.assert_array_equal(np.concatenate([b.video for b in blocks]), np.repeat(videos, 6))
    np.testing.assert_array_equal(np.concatenate([b.view for b in blocks]), [*range(6)] * 298)

    means = run(source, tmp_path / "video", encoder, keep="video", **options)
    ids, matrix = means.matrix()
    assert ids == [source.entry(video).video_id for video in videos]
    stacked = np.stack([mean_of_views(expected[video], "features") for video in videos])
    np.testing.assert_array_equal(matrix, stacked)
    np.testing.assert_array_equal(views.matrix()[1], matrix)
    assert set(next(means.blocks()).view) == {MEAN_OF_VIEWS}

    scores = run(source, tmp_path / "scores", encoder, kind="scores", **options)
    stacked = np.stack([mean_of_views(expected[video], "scores") for video in videos])
    np.testing.assert_array_equal(scores.matrix()[1], stacked)


def test_what_the_folder_says(tmp_path: Path) -> None:
    features = run(FakeVideos(10), tmp_path, request={**REQUEST, "output": "embedding"})
    info = features.info
    assert (info.method, info.weights, info.backbone, info.modality) == (
        *("fake", "random", "none", "rgb"),
    )
    assert (info.clip, info.views, info.batch_size, info.videos) == (TINY_RGB, (2, 1), 6, 10)
    assert info.provenance["options"] == {
        "batch_size": 6,
        "keep": "video",
        "kind": "features",
        "output": "embedding",
        "views": [2, 1],
    }
    assert (info.provenance["seed"], info.fingerprint) == (3, "f" * 64)
    assert features.labels == [str(video % 5) for video in range(10)]


def test_workers_and_shards_change_nothing(tmp_path: Path) -> None:
    source = FakeVideos(600, bad_every=120)
    expected = content(run(source, tmp_path / "plain").folder)
    for workers in (1, 2):
        assert content(run(source, tmp_path / str(workers), workers=workers).folder) == expected
    shards = tmp_path / "shards"
    assert run(source, shards, shard=(1, 2)) is None
    assert [path.name for path in sorted(shards.glob("block-*"))] == ["block-000001.safetensors"]
    with pytest.raises(DataError, match=r"is incomplete: 1 of 3 blocks \(600 videos\) are done"):
        open_features(shards)
    assert run(source, shards, shard=(0, 2)) is not None
    assert content(shards) == expected


def test_an_embedding_that_is_reused_memory(tmp_path: Path) -> None:
    class Reusing(FakeEncoder):
        memory = np.empty((6, 6), np.float32)

        def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
            self.memory[: len(clips)] = super().embed(clips)
            return self.memory[: len(clips)]

    source = FakeVideos(20)
    plain, reused = (
        run(source, tmp_path / type(e).__name__, e) for e in (FakeEncoder(), Reusing())
    )
    np.testing.assert_array_equal(plain.matrix()[1], reused.matrix()[1])


def test_too_many_bad_videos_end_it_at_the_same_video_each_time(tmp_path: Path) -> None:
    source = FakeVideos(1000, bad_every=80)
    message = (
        r"11 of 1000 videos failed, 10 are allowed \(1 %, at least 3\); the last one is "
        r"0/800\.mp4: 0/800\.mp4: a fake that cannot be read\. Repair them"
    )
    for workers in (0, 0, 2):
        with pytest.raises(DataError, match=message):
            run(source, tmp_path / "a", workers=workers)
        assert len(list((tmp_path / "a").glob("block-*"))) == 3
    # What was repaired meanwhile counts; finished blocks keep the failures they list.
    repaired = run(FakeVideos(1000), tmp_path / "a")
    assert (repaired.info.bad, len(repaired.failed)) == (10, 10)
    fresh = run(FakeVideos(1000), tmp_path / "b")
    for one, other in zip(list(repaired.blocks())[3:], list(fresh.blocks())[3:], strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_shards_share_one_limit(tmp_path: Path) -> None:
    source = FakeVideos(512, bad_every=86)  # 6 bad videos, 3 in each block; 5 are allowed
    assert run(source, tmp_path, shard=(1, 2)) is None
    with pytest.raises(DataError, match="6 of 512 videos failed, 5 are allowed"):
        run(source, tmp_path, shard=(0, 2))
    assert not (tmp_path / "features.json").exists()
    with pytest.raises(DataError, match="6 of 512 videos failed, 5 are allowed"):
        run(source, tmp_path)


def test_raise_stops_at_the_first_bad_video(tmp_path: Path) -> None:
    source = FakeVideos(300, bad_every=299)
    for workers in (0, 1):
        with pytest.raises(DecodeError) as raised:
            run(source, tmp_path / str(workers), on_bad="raise", workers=workers)
        assert str(raised.value) == "0/0.mp4: a fake that cannot be read"
    run(source, tmp_path / "skipped")
    with pytest.raises(DataError, match=r"block-000000.* lists a failed video, 0/0\.mp4: 0/0"):
        run(source, tmp_path / "skipped", on_bad="raise")
    block_path(tmp_path / "skipped", 0).unlink()
    block_path(tmp_path / "skipped", 1).unlink()
    again = run(FakeVideos(300), tmp_path / "skipped", on_bad="raise")
    assert content(again.folder) == content(run(FakeVideos(300), tmp_path / "good").folder)


@pytest.mark.parametrize("on_bad", ["skip", "raise"])
def test_videos_without_sound_are_listed_and_never_count(tmp_path: Path, on_bad: str) -> None:
    source = FakeVideos(40, silent_every=2)
    encoder = FakeEncoder(TINY_SOUND)
    features = run(source, tmp_path, encoder, on_bad=on_bad, keep="views")
    assert (features.info.bad, features.info.no_sound) == (0, 20)
    with (tmp_path / "failures.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["video_id", "reason"]
    assert rows[1:] == [[source.entry(video).video_id, "no sound"] for video in range(0, 40, 2)]
    expected = plain_extract(encoder, source, range(1, 40, 2), 2, 1, 6)
    stored = next(features.blocks())
    np.testing.assert_array_equal(stored.values, np.concatenate(list(expected.values())))
    clips = [
        clip
        for video in range(1, 40, 2)
        for clip in source.read(video, plan(source.info(video), TINY_SOUND, temporal=2, spatial=1))
    ]
    assert features.info.missing_samples == sum(clip.missing_samples for clip in clips)


@pytest.mark.parametrize("keep", ["video", "views"])
def test_a_list_without_any_sound(tmp_path: Path, keep: str) -> None:
    source = FakeVideos(5, silent_every=1)
    features = run(source, tmp_path, FakeEncoder(TINY_SOUND), keep=keep)
    assert (features.info.videos, features.info.no_sound) == (5, 5)
    ids, matrix = features.matrix()
    assert (ids, matrix.shape) == ([], (0, 6))


def test_an_embedding_that_is_not_finite_names_its_video(tmp_path: Path) -> None:
    class Overflowing(FakeEncoder):
        def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
            rows = super().embed(clips)
            # Clip 30 of block 1: video 256 + 15, view 0, of two views a video.
            self.seen = getattr(self, "seen", 0) + len(clips)
            if self.seen == 2 * 256 + 36:
                rows[0, 2] = np.inf
            return rows

    source = FakeVideos(300)
    with pytest.raises(DataError, match=r"view 0 of video '1/271\.mp4' has an embedding with NaN"):
        run(source, tmp_path / "resumed", Overflowing())
    assert [path.name for path in (tmp_path / "resumed").glob("block-*")] == [
        "block-000000.safetensors"
    ]
    plain = run(source, tmp_path / "plain", FakeEncoder())
    resumed = run(source, tmp_path / "resumed", FakeEncoder())
    assert content(resumed.folder) == content(plain.folder)


def test_an_encoder_that_breaks_its_contract(tmp_path: Path) -> None:
    class Double(FakeEncoder):
        def embed(self, clips: NDArray[Any]) -> NDArray[Any]:
            return super().embed(clips).astype(np.float64)

    with pytest.raises(ValueError, match=r"Double\.embed gave float64 \(6, 6\), expected float32"):
        run(FakeVideos(3), tmp_path, Double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "clips"}, "keep is 'clips', expected one of video, views"),
        ({"kind": "x"}, "kind is 'x', expected one of features, scores"),
        ({"on_bad": "replace"}, "on_bad is 'replace', expected one of skip, raise"),
        ({"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ({"shard": (2, 2)}, r"shard is \(2, 2\), expected \(i, n\) with 0 <= i < n"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(FakeVideos(3), tmp_path, **options)
    assert content(tmp_path) == {}


def test_a_request_cannot_contradict_the_encoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names \['fingerprint'\], which the extraction itself"):
        run(FakeVideos(3), tmp_path, request={**REQUEST, "fingerprint": "0"})


def test_another_request_does_not_touch_the_folder(tmp_path: Path) -> None:
    run(FakeVideos(3), tmp_path)
    before = content(tmp_path)
    other = FakeEncoder(neighbours=0.1, fingerprint="0" * 64)
    with pytest.raises(ConfigError, match=r"fingerprint: fff.* there, 000.* now"):
        run(FakeVideos(3), tmp_path, other)
    with pytest.raises(ConfigError, match=r"views: \[2, 1\] there, \[3, 1\] now"):
        run(FakeVideos(3), tmp_path, temporal=3)
    with pytest.raises(ConfigError, match="Another batch size changes the last digits"):
        run(FakeVideos(3), tmp_path, batch_size=7)
    assert content(tmp_path) == before
    assert run(FakeVideos(3), tmp_path, workers=1).info.videos == 3


def test_damaged_blocks_are_computed_anew_and_foreign_ones_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = FakeVideos(300)
    expected = content(run(source, tmp_path).folder)
    path = block_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        assert content(run(source, tmp_path).folder) == expected
    assert "block-000001.safetensors is damaged" in caplog.text
    other = run(source, tmp_path / "other", request={**REQUEST, "seed": 4})
    block_path(other.folder, 0).replace(block_path(tmp_path, 0))
    foreign = block_path(tmp_path, 0).read_bytes()
    with pytest.raises(DataError, match=r"block-000000.*with request .* does not belong here"):
        run(source, tmp_path)
    assert block_path(tmp_path, 0).read_bytes() == foreign


def test_progress_counts_what_was_there_before(tmp_path: Path) -> None:
    reports: list[Progress] = []
    source = FakeVideos(600, bad_every=299)
    run(source, tmp_path, shard=(0, 2))
    run(source, tmp_path, progress=reports.append)
    assert [(r.done, r.total, r.resumed) for r in reports] == [
        (344 + i, 600, 344) for i in range(1, 257)
    ]
    assert (reports[42].failed, reports[43].failed, reports[-1].failed) == (0, 1, 1)


SLOW = """
import sys
from pathlib import Path
from ssvideo_core.extract import extract
from ssvideo_core.testing.fake_videos import FakeEncoder, FakeVideos
extract(
    FakeEncoder(neighbours=0.1), FakeVideos(600, bad_every=120, delay_s=float(sys.argv[2])),
    Path(sys.argv[1]), temporal=2, spatial=1, batch_size=6,
    request={"method": "fake", "weights": "random", "backbone": "none", "seed": 3},
)
"""


def test_a_kill_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    expected = content(run(FakeVideos(600, bad_every=120), tmp_path / "plain").folder)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(folder), "0.005"])
    while not block_path(folder, 0).exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "features.json").exists()
    with pytest.raises(DataError, match=r"is incomplete: [12] of 3 blocks"):
        open_features(folder)
    (folder / ".block-000001.safetensors.cafe.tmp").write_bytes(b"half of a blo")
    subprocess.run([sys.executable, "-c", SLOW, str(folder), "0"], check=True)
    assert content(folder) == expected


def test_memory_does_not_grow_with_the_number_of_videos() -> None:
    peaks = []
    # A script imports those beside it, and keeps nothing.
    hidden = ("PYTHONSAFEPATH", "SSVIDEO_BENCHMARKS")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    for num_videos in (5_000, 20_000):
        command = [sys.executable, str(BENCHMARK), str(num_videos)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        peaks.append(float(done.stdout.splitlines()[-1].split(",")[2]))
    assert peaks[1] - peaks[0] < 3


def test_real_videos_give_the_rows_of_the_plain_way(tmp_path: Path, clips: Path) -> None:
    source = open_source(clips)
    for spec, views in ((SMALL_RGB, (2, 3)), (SMALL_SOUND, (3, 1))):
        encoder = FakeEncoder(spec, neighbours=0.1)
        options = {"temporal": views[0], "spatial": views[1], "keep": "views"}
        folder = tmp_path / spec.modality
        features = run(source, folder, encoder, **options)
        silent = [v for v in range(len(source)) if source.info(v).sound_rate_hz is None]
        absent = silent if spec is SMALL_SOUND else []
        assert features.failed == {source.entry(v).video_id: "no sound" for v in absent}
        videos = [video for video in range(len(source)) if video not in absent]
        expected = plain_extract(encoder, source, videos, *views, 6)
        stored = next(features.blocks())
        np.testing.assert_array_equal(stored.values, np.concatenate(list(expected.values())))
        again = run(source, tmp_path / f"{spec.modality} 2", encoder, workers=2, **options)
        assert content(again.folder) == content(folder)


def test_pictures_of_videos_are_not_taken_for_flow(tmp_path: Path, clips: Path) -> None:
    encoder = FakeEncoder(replace(SMALL_RGB, modality="flow"))
    with pytest.raises(ConfigError, match=r"takes optical flow.*extract-flow"):
        run(open_source(clips), tmp_path / "features", encoder)
    with pytest.raises(ConfigError, match="takes optical flow"):
        embed_videos(encoder, [clips / "one.mp4"])
    assert not (tmp_path / "features").exists()


def test_real_broken_videos_are_listed_with_the_reason(tmp_path: Path, clips: Path) -> None:
    """A damaged video too: features of what is left of it would pass for those of the whole."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("zero_bytes.mp4", "truncated_half.avi", "corrupt_middle.mp4"):
        shutil.copy(clips / "broken" / name, folder)
    shutil.copy(clips / "odd_321x241_vp9.mp4", folder)
    features = run(open_source(folder), tmp_path / "features", FakeEncoder(SMALL_RGB))
    assert features.matrix()[0] == ["odd_321x241_vp9.mp4"]
    assert features.failed.keys() == {p.name for p in folder.iterdir()} - {"odd_321x241_vp9.mp4"}
    assert "cannot open" in features.failed["zero_bytes.mp4"]
    assert "It ends after 120 frames" in features.failed["truncated_half.avi"]
    assert "It ends after 154 frames" in features.failed["corrupt_middle.mp4"]


class Listed:
    """A source over paths, written out."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def entry(self, index: int) -> VideoEntry:
        return VideoEntry(str(self.paths[index]), None, None, None)

    def info(self, index: int) -> VideoInfo:
        return probe(self.paths[index])

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        return read_views(self.paths[index], probe(self.paths[index]), views)


def test_embedding_a_few_paths(clips: Path) -> None:
    paths = [clips / "odd_321x241_vp9.mp4", clips / "k400_noaudio_armwrestling.mp4"] * 2
    encoder = FakeEncoder(SMALL_RGB, neighbours=0.1)
    rows = embed_videos(encoder, list(map(str, paths)), temporal=2, spatial=3, batch_size=5)
    views = plain_extract(encoder, Listed(paths), range(4), 2, 3, 5)
    means = np.stack([mean_of_views(views[video], "features") for video in range(4)])
    np.testing.assert_array_equal(rows, means, strict=True)
    by_workers = embed_videos(encoder, paths, temporal=2, spatial=3, batch_size=5, workers=1)
    np.testing.assert_array_equal(by_workers, rows)
    assert embed_videos(encoder, []).shape == (0, 6)


def test_embedding_raises_for_the_first_bad_path(clips: Path) -> None:
    good, bad = clips / "odd_321x241_vp9.mp4", clips / "broken" / "zero_bytes.mp4"
    with pytest.raises(DecodeError, match=r"zero_bytes\.mp4"):
        embed_videos(FakeEncoder(SMALL_RGB), [good, bad], temporal=1, spatial=1)
    with pytest.raises(NoSoundError, match="k400_noaudio_armwrestling"):
        silent = clips / "k400_noaudio_armwrestling.mp4"
        embed_videos(FakeEncoder(SMALL_SOUND), [silent], temporal=1, spatial=1)


def test_requests_are_stored_readably(tmp_path: Path) -> None:
    run(FakeVideos(3), tmp_path)
    stored = json.loads((tmp_path / "extract.json").read_text())["request"]
    assert stored["method"] == "fake" and stored["views"] == [2, 1] and stored["videos"] == 3
