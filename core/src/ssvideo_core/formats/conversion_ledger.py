"""What a conversion to shards has finished, so that the same command goes on after a stop."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssvideo_core.errors import ConfigError
from ssvideo_core.files import write_text
from ssvideo_core.formats.tfrecord import FAILURES, LEDGER


def check_folder(out: Path) -> None:
    """Raise ConfigError for a folder that holds something else than what a conversion began."""
    if (out / LEDGER).is_file() or not out.is_dir():
        return
    if any(entry.name[0] != "." for entry in out.iterdir()):
        raise ConfigError(
            f"{out} is not empty, and no {LEDGER} tells what it holds: choose another folder"
        )


class Ledger:
    """convert.json: the request of a folder, and what each finished shard holds.

    files: of each shard, what changes with its videos. Raises ConfigError when the folder has
    another request.
    """

    def __init__(self, out: Path, request: Mapping[str, Any], files: Mapping[Path, str]) -> None:
        self.out = out
        self._request = request
        self._files = {self._name(path): made_of for path, made_of in files.items()}
        self._shards = {
            name: shard
            for name, shard in self._read().items()
            if _is_whole(out / name, shard) and shard.get("files") == self._files.get(name)
        }
        self._write()

    def is_finished(self, path: Path) -> bool:
        """Whether the shard is there, whole and of the videos as they are now."""
        return self._name(path) in self._shards

    def finish(self, path: Path, records: int, failures: Mapping[str, str]) -> None:
        """Note a shard that is written: its number of records, and reasons by video without one."""
        name = self._name(path)
        self._shards[name] = {
            "records": records,
            "bytes": path.stat().st_size,
            "files": self._files[name],
            "failures": dict(failures),
        }
        self._write()

    def failures(self) -> dict[str, str]:
        """Reason by video of all finished shards."""
        return {k: v for shard in self._shards.values() for k, v in shard["failures"].items()}

    def failures_of(self, path: Path) -> dict[str, str]:
        """Reason by video of one finished shard."""
        return dict(self._shards[self._name(path)]["failures"])

    def num_records(self) -> int:
        """Records of all finished shards."""
        return sum(shard["records"] for shard in self._shards.values())

    def list_failures(self, failures: Mapping[str, str]) -> None:
        """Write failures.csv."""
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerows([("video_id", "reason"), *sorted(failures.items())])
        write_text(self.out / FAILURES, text.getvalue())

    def _read(self) -> dict[str, Any]:
        """The shards of a conversion that was begun before."""
        path = self.out / LEDGER
        try:
            stored = json.loads(path.read_bytes())
            there, shards = stored["request"], dict(stored["shards"])
        except FileNotFoundError:
            check_folder(self.out)
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is not the record of a conversion ({error!r}): choose another folder"
            ) from None
        now = self._request
        if there != now:
            names = [k for k in sorted(there.keys() | now.keys()) if there.get(k) != now.get(k)]
            listed = "; ".join(f"{k}: {there.get(k)} there, {now.get(k)} now" for k in names)
            raise ConfigError(
                f"{self.out} was begun with another request ({listed}). Give the same one to "
                "continue it, or choose another folder"
            )
        return shards

    def _write(self) -> None:
        record = {"request": self._request, "shards": self._shards}
        write_text(self.out / LEDGER, json.dumps(record, indent=1, sort_keys=True) + "\n")
        self.list_failures(self.failures())

    def _name(self, path: Path) -> str:
        return path.relative_to(self.out).as_posix()


def _is_whole(path: Path, shard: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == shard["bytes"]
