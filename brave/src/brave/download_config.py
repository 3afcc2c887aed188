"""The flags of `brave.download_hmdb`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.config import option

VIDEOS, SPLITS = "hmdb51_org.rar", "test_train_splits.rar"
ADDRESS = "https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10"


@dataclass(frozen=True)
class DownloadHMDB:
    """HMDB51 as shards for evaluate_video_embeddings: three splits, training and test.

    The host that HMDB51 was published on is gone, so give the videos with --videos_archive or
    --videos_dir, or put hmdb51_org.rar into the work folder. Files are OUTPUT_DIR/split_1/train/
    hmdb51-00000-of-00010 and so on, with 25 frames a second of the first 20 s, shorter side 256,
    without sound. After an interruption the same command goes on.
    """

    output_dir: Path = option(
        help="folder for the shards, empty or begun by the same command",
        flags=("--output_dir", "--output-dir"),
    )
    work_dir: Path | None = option(
        None,
        help="for archives and unpacked videos (default: hmdb in the system's temporary folder)",
        flags=("--work_dir", "--work-dir"),
    )
    unrar_command: str = option(
        "",
        help="unrar, bsdtar, 7zz or 7z, or a path to it; the first on PATH if absent. Only rar "
        "files need one",
        flags=("--unrar_command", "--unrar-command"),
    )
    num_shards: int = option(10, help="files of a part", flags=("--num_shards", "--num-shards"))
    videos_archive: Path | None = option(
        None,
        help=f"{VIDEOS}, or another archive of the videos",
        flags=("--videos_archive", "--videos-archive"),
    )
    videos_dir: Path | None = option(
        None,
        help="folder with all videos, or with archives of them, at any depth",
        flags=("--videos_dir", "--videos-dir"),
    )
    splits_archive: Path | None = option(
        None,
        help=f"{SPLITS}, another archive or a folder, to compare with the packaged lists",
        flags=("--splits_archive", "--splits-archive"),
    )
    checksum: str = option(
        "",
        help="of the videos' archive: sha256:…, md5:…, or none for any; that of rar files is known",
    )
    download: bool = option(False, help=f"try the address of before: {ADDRESS}", operational=True)
    on_bad: str = option("skip", help="a video that cannot be read", choices=("skip", "raise"))
    workers: int = option(0, help="processes that decode", operational=True)
