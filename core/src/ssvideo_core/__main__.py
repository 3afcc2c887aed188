"""`python -m ssvideo_core`: what needs no method."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core import config as configs
from ssvideo_core.config import option
from ssvideo_core.errors import EXIT_OK, EXIT_USER, exit_code

USAGE = """usage: python -m ssvideo_core COMMAND [--help]

  prepare          HMDB51 or UCF101 as a checked folder
  check-data       compare a data set on disk with what it should be
  convert-data     videos to record files
  extract-flow     videos to folders of frames that show optical flow
  export           features for other tools
  import-features  features that other tools made"""


@dataclass(frozen=True)
class ConvertData:
    """Videos to record files (TFRecord, as BraVe and DMVR read them).

    With splits the files are OUT/split_K/train/NAME-00000-of-00010 and so on, without
    OUT/NAME-00000-of-00010. Given again after an interruption, the same command keeps finished
    files. The defaults are those of BraVe's own writer, which stored no sound.
    """

    videos: Path = option(help="folder of videos, or CSV with a column 'video'")
    out: Path = option(help="new folder for the files")
    to: str = option("tfrecord", help="format", choices=("tfrecord",))
    name: str = option("", help="beginning of the files' names; the data set's if absent")
    dataset: str = option(
        "", help="whose official classes and splits to use", choices=("", "hmdb51", "ucf101")
    )
    splits: tuple[str, ...] = option((), help="names of splits; all if absent", metavar="NAME")
    split_files: Path | None = option(None, help="CSV or folder with your own splits")
    num_shards: int = option(10, help="files of a part")
    rate: float = option(25.0, help="frames a second")
    short_side: int = option(256, help="pixels of the shorter side")
    max_seconds: float = option(20.0, help="what comes later is left out")
    quality: int = option(95, help="of the JPEGs, 1 to 100; 95 is about FFmpeg's qscale 1")
    sound: int = option(48000, help="samples a second; 0 leaves sound out")
    flow: str = option(
        "",
        help="optical flow beside the frames: tvl1, or dis, which is about 100 times as fast; "
        "needs the extra flow",
        choices=("", "tvl1", "dis"),
    )
    on_bad: str = option("skip", help="a video that cannot be read", choices=("skip", "raise"))
    workers: int = option(0, help="processes that decode", operational=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return EXIT_OK if words else EXIT_USER
    if words[0] not in _COMMANDS:
        print(f"no command '{words[0]}'\n{USAGE}", file=sys.stderr)
        return EXIT_USER
    prog = f"ssvideo_core {words[0]}"
    return exit_code(prog, lambda: _COMMANDS[words[0]](words[1:], prog))


def check_data(argv: Sequence[str], prog: str) -> int:
    """Compare a data set on disk with what it should be."""
    from ssvideo_core.commands import run_check_data

    return run_check_data(argv, prog=prog)


def convert_data(argv: Sequence[str], prog: str) -> int:
    """Videos to record files."""
    config = configs.parse(ConvertData, argv, prog=prog)
    from ssvideo_core.datasets.splits import find_splits
    from ssvideo_core.formats.convert_tfrecord import classes_of, convert, parts_of
    from ssvideo_core.formats.video_records import RecordForm
    from ssvideo_core.progress import ProgressLines
    from ssvideo_core.source import open_source
    from ssvideo_core.video_index import VideoIndex, default_index_path

    print(f"records: {config.out}")
    source = open_source(config.videos, index=VideoIndex(default_index_path()))
    for notice in source.notices:
        print(notice)
    splits = []
    if config.dataset or config.splits or config.split_files is not None:
        splits = find_splits(config.dataset, names=config.splits, files=config.split_files)
    form = RecordForm(
        rate_hz=config.rate,
        short_side=config.short_side,
        max_seconds=config.max_seconds,
        quality=config.quality,
        sound_rate_hz=config.sound,
        flow=config.flow,
    )
    made = convert(
        source,
        config.out,
        name=config.name or config.dataset or config.videos.absolute().stem,
        parts=parts_of(source, splits),
        classes=classes_of(source, config.dataset),
        num_shards=config.num_shards,
        form=form,
        workers=config.workers,
        on_bad=config.on_bad,
        progress=ProgressLines(),
    )
    listed = f" ({config.out / 'failures.csv'})" if made.failures else ""
    print(
        f"{config.out}: {made.num_records} records in {len(made.shards)} files, "
        f"{len(made.failures)} videos failed{listed}"
    )
    return EXIT_OK


def prepare(argv: Sequence[str], prog: str) -> int:
    """HMDB51 or UCF101 as a checked folder."""
    from ssvideo_core.datasets.prepare import main as prepare_main

    return prepare_main(argv, prog)


def extract_flow(argv: Sequence[str], prog: str) -> int:
    """Videos to folders of frames that show optical flow."""
    from ssvideo_core.formats.convert_flow import flow_main

    return flow_main(argv, prog)


def export(argv: Sequence[str], prog: str) -> int:
    """Features for other tools."""
    from ssvideo_core.feature_files import main as export_main

    return export_main(argv, prog)


def import_features(argv: Sequence[str], prog: str) -> int:
    """Features that other tools made."""
    from ssvideo_core.feature_import import main as import_main

    return import_main(argv, prog)


_COMMANDS: Mapping[str, Callable[[Sequence[str], str], int]] = {
    "prepare": prepare,
    "check-data": check_data,
    "convert-data": convert_data,
    "extract-flow": extract_flow,
    "export": export,
    "import-features": import_features,
}


if __name__ == "__main__":
    raise SystemExit(main())
