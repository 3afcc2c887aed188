"""`python -m brave.download_hmdb`: HMDB51 as the shards that the paper's evaluation reads.

Unlike the original, labels are positions in one fixed list of classes, files are listed in order,
every frame is encoded by itself, archives with another MD5 are refused, and neither ffmpeg nor,
for unpacked videos, unrar is needed.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ssvideo_core.config import parse
from ssvideo_core.errors import EXIT_OK, ConfigError, DataError, exit_code

from brave.download_config import ADDRESS, SPLITS, VIDEOS, DownloadHMDB

PROG = "brave.download_hmdb"
DATASET = "hmdb51"

_LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return exit_code(PROG, lambda: _run(parse(DownloadHMDB, argv, prog=PROG)))


def _run(config: DownloadHMDB) -> int:
    from ssvideo_core.datasets.splits import find_splits
    from ssvideo_core.formats.conversion_ledger import check_folder
    from ssvideo_core.formats.convert_tfrecord import classes_of, convert, parts_of
    from ssvideo_core.formats.video_records import RecordForm
    from ssvideo_core.progress import ProgressLines
    from ssvideo_core.source import open_source
    from ssvideo_core.video_index import VideoIndex, default_index_path

    _check(config)
    check_folder(config.output_dir)
    folder = class_folders(config)
    source = open_source(folder, index=VideoIndex(default_index_path()))
    made = convert(
        source,
        config.output_dir,
        name=DATASET,
        parts=parts_of(source, find_splits(DATASET)),
        classes=classes_of(source, DATASET),
        num_shards=config.num_shards,
        form=RecordForm(sound_rate_hz=0),
        workers=config.workers,
        on_bad=config.on_bad,
        progress=ProgressLines(),
    )
    if made.failures:
        _LOG.warning(
            "%d videos are missing in the shards (%s), so that accuracies are not quite those of "
            "the whole test part",
            len(made.failures),
            config.output_dir / "failures.csv",
        )
    print(f"{config.output_dir}: {made.num_records} records in {len(made.shards)} files")
    return EXIT_OK


def class_folders(config: DownloadHMDB) -> Path:
    """The folder CLASS/video with all videos: the given one, or one made in the work folder.

    Raises what `ssvideo_core.datasets.prepare.prepare` does, and DataError when nothing is given.
    """
    from ssvideo_core.datasets.check import check_data
    from ssvideo_core.datasets.official import official_videos
    from ssvideo_core.datasets.prepare import prepare

    work = work_folder(config)
    if config.download and config.videos_archive is None and config.videos_dir is None:
        download(work)
    given, out = _given(config, work), work / DATASET
    splits = config.splits_archive
    if splits is None and (work / SPLITS).is_file():
        splits = work / SPLITS
    if splits is None and given.is_dir():
        report = check_data(DATASET, given, decode=False)
        # One split alone, in folders train and test, is complete in its way too.
        if report.mismatch is None and report.counts["videos"] == len(official_videos(DATASET)):
            return given
    prepare(
        DATASET,
        given,
        out,
        splits=splits,
        checksum=_checksum(config, given),
        decode=False,  # the conversion does
        rar_tool=config.unrar_command or None,
        say=_LOG.info,
    )
    return out


def work_folder(config: DownloadHMDB) -> Path:
    """For archives and unpacked videos; it may be absent."""
    return config.work_dir or Path(tempfile.gettempdir()) / "hmdb"


def download(work: Path) -> None:
    """Fetch the official archives that are not in `work` yet; their MD5 is checked when unpacked.

    Raises WeightsError, saying where to put the file by hand, for an address that does not answer
    or answers with something else.
    """
    from ssvideo_core.methods import PublishedWeights
    from ssvideo_core.weights.locate import OPEN, download_file

    for name in (VIDEOS, SPLITS):
        if not (work / name).is_file():
            _LOG.info("fetching %s/%s", ADDRESS, name)
            record = PublishedWeights(
                name=name, address=f"{ADDRESS}/{name}", file=name, licence="not stated"
            )
            download_file(record, work / name, OPEN)


def _given(config: DownloadHMDB, work: Path) -> Path:
    """Where the videos are, packed or not."""
    for path in (config.videos_archive, config.videos_dir):
        if path is not None:
            return path
    for path in (work / DATASET, work / VIDEOS):
        if path.exists():
            return path
    from ssvideo_core.datasets.prepare import KNOWN

    raise DataError(
        f"HMDB51 is not here, and the host it was published on is gone. Get {VIDEOS} "
        f"({KNOWN[VIDEOS]}) from somewhere else and put it at {work / VIDEOS}, or give "
        "--videos_archive FILE, or --videos_dir FOLDER with videos or archives at any depth; "
        "--download yes tries the address of before"
    )


def _checksum(config: DownloadHMDB, given: Path) -> str | None:
    """What the videos' archive must have; rar files are the official one, whatever their name."""
    from ssvideo_core.datasets.prepare import KNOWN

    if config.checksum or given.suffix.lower() != ".rar" or given.is_dir():
        return config.checksum or None
    return KNOWN[VIDEOS]


def _check(config: DownloadHMDB) -> None:
    """Raise ConfigError or DataError for what needs no work to be found wrong."""
    for name, value, low in (("num_shards", config.num_shards, 1), ("workers", config.workers, 0)):
        if value < low:
            raise ConfigError(f"--{name} is {value}, expected {low} or more")
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise DataError(f"--output_dir: {config.output_dir} is a file, expected a folder")
    if config.videos_archive is not None and config.videos_dir is not None:
        raise ConfigError("--videos_archive and --videos_dir are both given; give one of them")
    if config.videos_archive is not None and not config.videos_archive.is_file():
        raise DataError(f"--videos_archive: {config.videos_archive} is not a file")
    if config.videos_dir is not None and not config.videos_dir.is_dir():
        raise DataError(f"--videos_dir: {config.videos_dir} is not a folder")
    if config.splits_archive is not None and not config.splits_archive.exists():
        raise DataError(f"--splits_archive: {config.splits_archive} does not exist")


if __name__ == "__main__":
    raise SystemExit(main())
