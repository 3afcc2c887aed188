"""The command on videos with captions, as users and clusters run it, in processes of its own."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.__main__ import main as gdt_stica_main
from gdt_stica.encoders import load_encoder
from gdt_stica.main_gdt import main
from ssvideo_core.testing.battery import (
    check_random_kills,
    check_ranks,
    check_resume,
    check_signal,
    check_workers,
    ranks,
)
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.views import Spread

WORDS = ["cut", "the", "onion", "don't", "stir", "now", "add", "salt", "water", "boil"]
TINY = [
    *("--model", "vid_text_gdt", "--dataset", "ht100m", "--decode_audio", "False"),
    *("--device", "cpu", "--width", "0.0625", "--batch_size", "4", "--epochs", "4"),
    *("--clip_len", "4", "--sample_rate", "8", "--train_crop_size", "16"),
    *("--print_freq", "1", "--lr_warmup_epochs", "2"),
]


def write_captions(path: Path, rows: Sequence[tuple[float, float, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("start", "end", "text"), *rows])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Path]:
    """videos/ID.mp4, captions/ID.csv, howto.csv, word files: 16 videos of 5 s, three captions."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("videos", "captions"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSVIDEO_CACHE", str(folder / "cache"))
        made = write_dataset(
            folder / "made", num_train=16, num_test=16, size=32, num_frames=80, workers=2
        )
        ids = []
        for number, video in enumerate(sorted((made / "videos").glob("*/*.mp4"))[:16]):
            ids.append(f"-video_{number}")
            video.rename(folder / "videos" / f"{ids[-1]}.mp4")
            texts = [" ".join(rng.choice(WORDS, size=4)) for _ in range(3)]
            times = ((0.0, 1.5), (1.5, 2.5), (2.0, 4.5))
            rows = [(*time, text) for time, text in zip(times, texts, strict=True)]
            write_captions(folder / "captions" / f"{ids[-1]}.csv", rows)
        (folder / "howto.csv").write_text("\n".join(["video_id", *ids]) + "\n")
        np.save(folder / "dict.npy", np.array(WORDS))
        table = torch.randn(len(WORDS) + 1, 300, generator=torch.Generator().manual_seed(0))
        torch.save(table, folder / "word2vec.pth")
        yield folder


class Command:
    """The training command on `data`, as the battery builds it."""

    def __init__(self, data: Path, *flags: str):
        self.flags = [
            *("--root_dir", str(data / "videos"), "--ht100m_caption_root", str(data / "captions")),
            *("--ht100m_csv", str(data / "howto.csv"), "--word2vec_dir", str(data)),
            *(*TINY, *flags),
        ]

    def __call__(self, out: Path, *, workers: int = 0, extra: Sequence[str] = ()) -> list[str]:
        words = ["--output_dir", str(out), "--workers", str(workers), *extra]
        return [sys.executable, "-m", "gdt_stica.main_gdt", *self.flags, *words]


def test_a_killed_run_ends_as_one_that_ran_through(data: Path, runs: Path) -> None:
    check_resume(Command(data), runs, ["batch:7", "save:2"])


def test_a_signal_saves_and_asks_to_be_queued_again(data: Path, runs: Path) -> None:
    check_signal(Command(data), runs)


def test_workers_change_nothing(data: Path, runs: Path) -> None:
    check_workers(Command(data), runs, workers=[2])


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path) -> None:
    """Data, statistics, negatives and gradients over the command; float64 is in test_training."""
    flags = ["--num_data_samples", "8", "--epochs", "1", "--lr_warmup_epochs", "0"]
    size = ["--train_crop_size", "32", "--clip_len", "8", "--width", "0.03125"]
    command = Command(data, *flags, *size, "--batch_size", "8", "--head_dropout", "0")
    one, two = tmp_path / "one", tmp_path / "two"
    check_ranks(
        command(one),
        ranks(command(two, extra=["--batch_size", "4"]), 2),
        single_out=one,
        distributed_out=two,
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.stress
def test_random_kills(data: Path, runs: Path) -> None:
    check_random_kills(Command(data), runs)


def test_the_run_folder(data: Path, runs: Path) -> None:
    run = runs / "straight"
    if not run.exists():
        assert main(Command(data)(run)[3:]) == 0
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "command.txt", "environment.json", "left-out.csv"} <= names
    encoder = load_encoder(str(run))
    assert encoder.clip.time == Spread(4, 1.0)  # 4 frames, 8 / 32 s apart
    assert encoder.architecture.model == "vid_text_gdt"
    untrained = load_encoder(str(run / "encoder-untrained.safetensors"))
    assert untrained.fingerprint != encoder.fingerprint
    rates = [json.loads(line)["lr"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(rates, np.repeat([1 / 300, 2 / 300, 0.01, 0.01], 4))


def test_the_smoke_recipe(data: Path, tmp_path: Path) -> None:
    words = ["recipes", "run", "smoke-text", "--data", str(data)]
    assert gdt_stica_main([*words, "--out", str(tmp_path / "run")]) == 0
    assert load_encoder(str(tmp_path / "run")).architecture.model == "vid_text_gdt"


@pytest.mark.parametrize(
    "flags",
    [
        ["--hypothesis", "i_reversal", "--center_crop"],
        ["--hypothesis", "9", "--num_candidates", "2"],
        ["--hypothesis", "v_shift", "--clip_len", "2", "--precision", "bfloat16"],
    ],
)
def test_other_settings_train(data: Path, tmp_path: Path, flags: list[str]) -> None:
    short = ["--num_data_samples", "4", "--epochs", "1"]
    assert main(Command(data, *short, *flags)(tmp_path)[3:]) == 0


def test_videos_that_cannot_be_used_are_left_out(data: Path, tmp_path: Path) -> None:
    videos, captions = tmp_path / "videos", tmp_path / "captions"
    for folder in (videos, captions):
        folder.mkdir()
    names = [f"-video_{number}" for number in range(8)]
    for name in names:
        (videos / f"{name}.mp4").symlink_to(data / "videos" / f"{name}.mp4")
        (captions / f"{name}.csv").symlink_to(data / "captions" / f"{name}.csv")
    (captions / "-video_0.csv").unlink()
    (captions / "-video_1.csv").unlink()
    write_captions(captions / "-video_1.csv", [(0, 2, "zzz"), (50, 52, "cut the onion")])
    (videos / "-video_2.mp4").unlink()
    (videos / "-video_2.mp4").write_bytes(b"no video")
    listed = tmp_path / "howto.csv"
    listed.write_text("\n".join(["video_id", "gone", *names]) + "\n")
    flags = ["--root_dir", str(videos), "--ht100m_caption_root", str(captions)]
    flags += ["--ht100m_csv", str(listed), "--epochs", "1"]
    assert main(Command(data, *flags)(tmp_path / "run")[3:]) == 0
    with (tmp_path / "run" / "left-out.csv").open(newline="") as file:
        left_out = {row["video"]: row["reason"] for row in csv.DictReader(file)}
    assert list(left_out) == ["gone.mp4", "-video_0.mp4", "-video_1.mp4", "-video_2.mp4"]
    wanted = ("no file in", "no captions", "no usable caption", "-video_2.mp4")
    for reason, text in zip(left_out.values(), wanted, strict=True):
        assert text in reason


def test_captions_that_vanish_are_counted(data: Path, tmp_path: Path, monkeypatch) -> None:
    """The video of a caption file that is gone when its sample is drawn is replaced and listed."""
    captions = tmp_path / "captions"
    captions.mkdir()
    for path in (data / "captions").iterdir():
        (captions / path.name).symlink_to(path)

    from gdt_stica import pairing

    find = pairing.find_captioned_videos

    def found_then_gone(*args: object, **options: object) -> object:
        found = find(*args, **options)  # type: ignore[arg-type]
        (captions / "-video_3.csv").unlink()
        return found

    monkeypatch.setattr(pairing, "find_captioned_videos", found_then_gone)
    flags = ["--ht100m_caption_root", str(captions), "--epochs", "1"]
    assert main(Command(data, *flags)(tmp_path / "run")[3:]) == 0
    (line,) = (tmp_path / "run" / "bad-videos.jsonl").read_text().splitlines()
    assert json.loads(line)["video"] == "-video_3.mp4"
    assert "no captions" in json.loads(line)["reason"]


def spoil(folder: Path, name: str) -> None:
    """Put something wrong where the flags of a case point to."""
    words = folder / "few-words"
    words.mkdir()
    np.save(words / "dict.npy", np.array(WORDS))
    torch.save(torch.zeros(len(WORDS), 300), words / "word2vec.pth")
    (folder / "empty").mkdir()
    (folder / "other.csv").write_text("name\na\n")
    (folder / "gone.csv").write_text("video_id\ngone\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "kinetics"], "only ht100m has texts"),
        (["--model", "av_gdt"], "only ht100m has texts"),
        (["--num_candidates", "0"], "--num_candidates 0"),
        (["--sample_rate", "0"], "--sample_rate 0"),
        (["--ht100m_caption_root", "{empty}"], "none of its 16 videos has more than 4.1 s"),
        (["--ht100m_csv", "nowhere.csv"], "--ht100m_csv"),
        (["--ht100m_csv", "{other.csv}"], "expected the names of columns, video_id among them"),
        (["--ht100m_csv", "{gone.csv}"], "holds none of the 1 videos"),
        (["--word2vec_dir", "{empty}"], "dict.npy"),
        (["--word2vec_dir", "{few-words}"], "dict.npy has 10 words, word2vec.pth 10 rows"),
        (["--batch_size", "17"], "the global batch size is 17"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    data: Path, tmp_path: Path, capsys, flags: list[str], message: str
) -> None:
    spoil(tmp_path, flags[0])
    placed = [str(tmp_path / flag[1:-1]) if flag.startswith("{") else flag for flag in flags]
    assert main(Command(data, *placed)(tmp_path / "run")[3:]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_captions_names_the_flag(capsys, tmp_path: Path) -> None:
    assert main([*TINY, "--output_dir", str(tmp_path)]) == 2
    assert "--ht100m_caption_root" in capsys.readouterr().err
