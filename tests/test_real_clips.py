"""GDT's encoders on the real clips: one command each, however it is run."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("gdt_stica")
FLAGS = {
    "rgb": ["--frames", "8", "--size", "56", "--architecture", "width=0.25", "--views", "2x1"],
    "sound": ["--modality", "sound", "--views", "2x1"],
}
WITHOUT_SOUND = 7


BLOCK = 256  # videos


def extract(modality: str, videos: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "gdt_stica", "extract", "--weights", "random"]
    words = [*command, "--videos", str(videos), "--out", str(out), *FLAGS[modality], *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return out.splitlines()[-1]


def wait_for(path: Path) -> None:
    """A fixed point: the work list is written, no block is."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.01)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("modality", FLAGS)
def test_equal_for_any_workers_and_after_a_kill(
    root: Path, tmp_path: Path, modality: str, monkeypatch
) -> None:
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    videos = root / "core/tests/data/clips"
    last = finish(extract(modality, videos, tmp_path / "plain"))
    silent = f", {WITHOUT_SOUND} without sound" if modality == "sound" else ""
    good = 12 - (WITHOUT_SOUND if modality == "sound" else 0)
    assert last == f"{tmp_path / 'plain'}: {good} of 12 videos, 0 failed{silent}"
    with (tmp_path / "plain" / "failures.csv").open(newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert reasons == ["no sound"] * (12 - good)

    finish(extract(modality, videos, tmp_path / "workers", "--workers", "2"))
    killed = extract(modality, videos, tmp_path / "killed")
    wait_for(tmp_path / "killed" / "extract.json")
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed" / "features.json").exists()
    finish(extract(modality, videos, tmp_path / "killed"))

    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    for other in ("workers", "killed"):
        assert sorted(path.name for path in (tmp_path / other).iterdir()) == names
        for name in names:
            assert (tmp_path / other / name).read_bytes() == (
                tmp_path / "plain" / name
            ).read_bytes()


def test_finished_blocks_survive_a_kill(root: Path, tmp_path: Path, monkeypatch) -> None:
    """A real clip under more names than a block holds; the kill comes after the first block."""
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(BLOCK + 24):
        shutil.copy(root / "core/tests/data/clips/rotated90_nasa.mp4", videos / f"{number:03}.mp4")
    finish(extract("rgb", videos, tmp_path / "plain"))
    killed = extract("rgb", videos, tmp_path / "killed")
    first = tmp_path / "killed" / "block-000000.safetensors"
    wait_for(first)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed" / "features.json").exists()
    written_ns = first.stat().st_mtime_ns
    finish(extract("rgb", videos, tmp_path / "killed"))
    assert first.stat().st_mtime_ns == written_ns
    assert contents(tmp_path / "killed") == contents(tmp_path / "plain")
