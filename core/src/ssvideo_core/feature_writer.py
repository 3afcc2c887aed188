"""Filling a feature folder: resumable after a kill at any moment, by any number of processes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from ssvideo_core.blocks import (
    Block,
    block_path,
    num_blocks,
    read_block,
    write_block,
)
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.features import (
    COMPLETE,
    FAILURES,
    REQUEST,
    SCHEMA,
    VIDEOS,
    FeatureInfo,
    FeatureSet,
    Row,
    info_from_json,
    open_features,
)
from ssvideo_core.files import remove_leftovers, replacing
from ssvideo_core.results import Provenance

_LOG = logging.getLogger(__name__)
_SOFTWARE = ("ssvideo-core", "numpy", "av")
_FIELDS = {field.name for field in fields(FeatureInfo)}
_FOUND = {"videos", "bad", "no_sound", "missing_samples", "request", "provenance", "versions"}
_NEEDED = _FIELDS - _FOUND
_OPTIONS = {"kind", "views", "keep", "batch_size"}
# What a provenance has elsewhere than among its options, or not at all.
_NO_OPTIONS = (_FIELDS - _OPTIONS) | {"seed", "fidelity", "version", "data_hash"}


class FeatureWriter:
    """A feature folder that is being filled.

    Opening it writes the work list and the request; `write` stores blocks in any order, from any
    process that opened it with the same request and work list; `finish` completes it once all
    blocks are there.

    request: JSON values. Needed: method, weights, backbone, modality, kind, fingerprint, clip (of
    `clip_to_json`), views, keep, feature_size, batch_size; seed, fidelity and version enter the
    provenance under their names, all others as its options. rows: (video_id, label, group), read
    once and not held. Raises ConfigError when the folder answers another request.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], rows: Iterable[Row]) -> None:
        if missing := _NEEDED - request.keys():
            raise ValueError(f"a request for features needs {sorted(missing)}")
        self.folder = _make_folder(Path(folder))
        with replacing(self.folder / VIDEOS) as file:
            count, data_hash = _write_rows(file, rows)
            if not count:
                raise DataError(f"there is no video to extract into {self.folder}")
            full = {**request, "videos": count, "data_hash": data_hash}
            self.request: dict[str, Any] = json.loads(json.dumps(full))
            stored = self._stored()
        request_text = json.dumps(self.request, sort_keys=True)
        self.digest = hashlib.sha256(request_text.encode()).hexdigest()
        self.num_videos = count
        now = software()
        if stored is None:
            stored = {"schema": SCHEMA, "request": self.request, "versions": now}
            _write_json(self.folder / REQUEST, stored)
        self._versions: dict[str, str] = stored["versions"]
        if self._versions != now:
            _LOG.warning("%s was begun with %s, now %s", self.folder, self._versions, now)

    def write(self, block: Block) -> None:
        """Store one block; the folder is complete again only after `finish`."""
        (self.folder / COMPLETE).unlink(missing_ok=True)
        write_block(self.folder, block, self.digest)

    def read(self, number: int) -> Block:
        """A stored block, verified; raises as `blocks.read_block`."""
        return read_block(self.folder, number, self.digest, self.num_videos)

    def finish(self) -> FeatureSet | None:
        """Complete the folder if all blocks are there, else return None.

        Writes failures.csv, then features.json. Raises DataError when more videos are bad than
        `allowed_failures`, or all are: such a folder is never complete, whoever extracted which
        share of it.
        """
        numbers = range(num_blocks(self.num_videos))
        if not all(block_path(self.folder, number).exists() for number in numbers):
            return None
        counts = Counter(bad=0, no_sound=0, missing_samples=0)
        with replacing(self.folder / FAILURES) as file:
            file.write(_line(("video_id", "reason")))
            for number in numbers:
                block = self.read(number)
                counts["missing_samples"] += block.missing_samples
                for failure in block.failures:
                    counts["bad" if failure.bad else "no_sound"] += 1
                    file.write(_line((failure.video_id, failure.reason)))
        if counts["bad"] > allowed_failures(self.num_videos):
            raise too_many_failed(self.folder, counts["bad"], self.num_videos)
        if 0 < counts["bad"] == self.num_videos - counts["no_sound"]:
            raise DataError(
                f"{self.folder}: {counts['bad']} of {self.num_videos} videos failed and none is "
                f"left; {FAILURES} there says why. Repair them and choose another folder"
            )
        _write_json(self.folder / COMPLETE, self._info(counts).to_json())
        remove_leftovers(self.folder)
        return open_features(self.folder)

    def _stored(self) -> dict[str, Any] | None:
        """The folder's extract.json, after making sure that it asks for the same."""
        path = self.folder / REQUEST
        try:
            stored = json.loads(path.read_bytes())
            there = stored["request"]
        except FileNotFoundError:
            if any(self.folder.glob("block-*.safetensors")):
                raise ConfigError(
                    f"{self.folder} holds blocks but no {REQUEST} that tells what they are: "
                    "choose another folder"
                ) from None
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is not the record of an extraction ({error!r}): choose another folder"
            ) from None
        if there != self.request:
            raise ConfigError(_differences(self.folder, there, self.request))
        return stored  # type: ignore[no-any-return]

    def _info(self, counts: Mapping[str, int]) -> FeatureInfo:
        request = self.request
        core = self._versions["ssvideo-core"]
        provenance = Provenance(
            fingerprint=request["fingerprint"],
            data_hash=request["data_hash"],
            clip=request["clip"],
            options={name: request[name] for name in sorted(request.keys() - _NO_OPTIONS)},
            seed=request.get("seed", 0),
            fidelity=request.get("fidelity", "default"),
            code_version=f"{request['method']} {request.get('version', '0')}, core {core}",
        )
        record = {name: request[name] for name in _NEEDED}
        record |= {"videos": self.num_videos, **counts, "request": self.digest}
        record |= {"provenance": asdict(provenance), "versions": self._versions}
        return info_from_json(record)


def allowed_failures(num_videos: int) -> int:
    """How many bad videos an extraction lists before it gives up: 1 %, but at least 3."""
    return max(num_videos // 100, 3)


def too_many_failed(folder: Path, bad: int, num_videos: int, last: str = "") -> DataError:
    """The error when `bad` is above `allowed_failures`; last: "video: reason" of one of them."""
    return DataError(
        f"{folder}: {bad} of {num_videos} videos failed, {allowed_failures(num_videos)} are "
        f"allowed (1 %, at least 3){last and '; the last one is ' + last}. Repair them and give "
        "the same command again: finished blocks are kept, with the failures they list, unless "
        "you delete their files; or extract a list without them into another folder"
    )


def software() -> dict[str, str]:
    """Versions of what turns videos into features, apart from the method."""
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{folder} is or lies below a file: choose another folder") from None
    return folder


def _write_rows(file: BinaryIO, rows: Iterable[Row]) -> tuple[int, str]:
    """Write the work list; returns the number of rows and the sha256 of the file."""
    digest, count = hashlib.sha256(), 0
    for row in chain([("video_id", "label", "group")], rows):
        line = _line([value or "" for value in row])
        file.write(line)
        digest.update(line)
        count += 1
    return count - 1, digest.hexdigest()


def _line(values: Sequence[str]) -> bytes:
    """One line of a CSV file."""
    # The csv module quotes a carriage return only if it is part of the line's end.
    hard = any("\r" in value for value in values)
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL if hard else csv.QUOTE_MINIMAL
    )
    writer.writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")


def _differences(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in sorted(there.keys() | now.keys()) if there.get(name) != now.get(name)]
    listed = "; ".join(f"{name}: {there.get(name)} there, {now.get(name)} now" for name in names)
    reasons = ""
    if "data_hash" in names:
        reasons += " The list of videos (ids, labels or groups) is another one."
    if "batch_size" in names:
        reasons += (
            " Another batch size changes the last digits of the features, and a folder is equal "
            "to the bit however often it was interrupted."
        )
    return (
        f"{folder} was begun with another request ({listed}).{reasons} Give the same request "
        "to continue it, or choose another folder"
    )
