"""The facts of videos, kept between runs: a probe costs more than looking them up."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ssvideo_core.errors import ConfigError, DecodeError
from ssvideo_core.probing import probe
from ssvideo_core.views import VideoInfo

# Another name for every change of what `probe` finds, so that old facts are not taken for new ones.
_TABLE = "videos_3"
_WAIT_S = 60.0  # for other processes that write


class VideoIndex:
    """`probe`, remembered in an SQLite file under absolute path, size and time of change.

    path: of the file, made on first use; None remembers within this object only. Any number of
    processes may share one file. Copies by pickle and in forked processes open it anew. A video
    whose size or time of change differs is probed again; failed probes are not remembered.
    Losing the file loses nothing but time.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_connection": None, "_process": -1}

    def info(self, path: Path, video_id: str | None = None) -> VideoInfo:
        """The facts of one video. video_id: None is the file's name.

        Raises what `probe` raises, and ConfigError when the index file is damaged or cannot be
        written.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise DecodeError(f"cannot open {path}: {error.strerror}") from error
        key = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
        name = path.name if video_id is None else video_id
        row = self._execute(
            f"SELECT facts, pts FROM {_TABLE} WHERE path = ? AND size = ? AND mtime_ns = ?", key
        )
        if row is not None:
            return self._decode(row, name)
        info = probe(path, name)
        self._execute(
            f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?, ?)", key + _encode(info)
        )
        return info

    def _execute(self, statement: str, values: tuple[Any, ...]) -> Any:
        try:
            return self._connected().execute(statement, values).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if self.path is None else self.path,
                timeout=_WAIT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            # A killed process leaves a sound file without it; only a power cut may not.
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_TABLE} (path TEXT PRIMARY KEY, size INTEGER, "
                "mtime_ns INTEGER, facts TEXT, pts BLOB)"
            )
            self._process = os.getpid()
        return self._connection

    def _decode(self, row: tuple[str, bytes | None], video_id: str) -> VideoInfo:
        try:
            return _decode(row, video_id)
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"the index of videos {self.path} cannot be used: {error}. It holds only facts that "
            "are found again: delete it, or let $SSVIDEO_CACHE name another folder"
        )


def default_index_path() -> Path:
    """videos.sqlite in $SSVIDEO_CACHE, else in ~/.cache/ssvideo."""
    return (
        Path(os.environ.get("SSVIDEO_CACHE") or "~/.cache/ssvideo").expanduser() / "videos.sqlite"
    )


def _encode(info: VideoInfo) -> tuple[str, bytes | None]:
    facts = {name: value for name, value in vars(info).items() if name not in ("video_id", "pts")}
    text = json.dumps(facts | {"rate": str(info.rate), "time_base": str(info.time_base)})
    if info.pts is None:
        return text, None
    # Steps instead of times: mostly one value, which takes no space.
    return text, zlib.compress(np.diff(info.pts, prepend=0).astype("<i8").tobytes())


def _decode(row: tuple[str, bytes | None], video_id: str) -> VideoInfo:
    facts = json.loads(row[0])
    facts |= {"rate": Fraction(facts["rate"]), "time_base": Fraction(facts["time_base"])}
    pts = None
    if row[1] is not None:
        pts = np.cumsum(np.frombuffer(zlib.decompress(row[1]), "<i8"), dtype=np.int64)
    return VideoInfo(video_id=video_id, pts=pts, **facts)
