"""Numbers with everything that is needed to compare and to repeat them, as JSON lines."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ssvideo_core.errors import DataError
from ssvideo_core.files import replacing

SCHEMA = 1


@dataclass(frozen=True)
class Key:
    """What a number is about; runs and rows of papers with equal keys stand side by side.

    weights: published name, "random", or the user's label. modality: rgb, flow, sound, or two
    joined by "+". split: "1", "2", "3", "all" or the user's name; "mean" of several.
    protocol: with its version and its views where it has them, as in "common-svm/1@10x3".
    """

    method: str
    weights: str
    backbone: str
    modality: str
    dataset: str
    split: str
    protocol: str
    metric: str


@dataclass(frozen=True)
class Provenance:
    """What a number depends on; JSON values only.

    fingerprint: of the encoder's tensors. data_hash: of the videos, labels, groups and the split.
    clip: a ClipSpec. fidelity: which quirks of the original hold.
    """

    fingerprint: str
    data_hash: str
    clip: Mapping[str, Any]
    options: Mapping[str, Any]
    seed: int
    fidelity: str
    code_version: str

    @property
    def digest(self) -> str:
        """sha256, in hex, of the fields as canonical JSON: equal digests need one run only."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """One number.

    value: a fraction in [0, 1] where the metric is one. interval: (low, high) of 95 %, or None
    where it is not known. n: how many videos the value is a mean over; None where not stated.
    failed: videos of the split that could not be used, in training or test; they are not part of
    `n`. selected_on_test: whether the best of several was picked by this very number.
    provenance: None for a row of a paper. source: "run", or where a paper states the number.
    details: what else was found on the way; nothing depends on it.
    """

    key: Key
    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    failed: int = 0
    selected_on_test: bool = False
    provenance: Provenance | None = None
    source: str = "run"
    details: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """One line for a person; fractions in percent."""
        key = self.key
        interval = ""
        if self.interval is not None:
            interval = " [{:.2f}, {:.2f}]".format(*(100 * end for end in self.interval))
        videos = "" if self.n is None else f", {self.n} videos"
        if "test_groups" in self.details:
            groups = self.details["test_groups"]
            videos += " (no groups known)" if groups == self.n else f" in {groups} groups"
        failed = f", {self.failed} left out" if self.failed else ""
        selected = ", selected on the test split" if self.selected_on_test else ""
        return (
            f"{key.method} {key.weights} {key.modality}, {key.dataset} split {key.split}, "
            f"{key.protocol}: {key.metric} {100 * self.value:.2f} %"
            f"{interval}{videos}{failed}{selected}"
        )


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted names, no spaces. ValueError for NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def append_results(path: Path, results: Iterable[Result]) -> None:
    """Add results to a file of JSON lines, all of them or none; makes the file and its folder.

    Several processes may append to one file at the same time. A value that is NaN or infinite is
    refused (ValueError).
    """
    lines = "".join(canonical_json({"schema": SCHEMA, **asdict(r)}) + "\n" for r in results)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        with replacing(path) as file:
            file.write(before + lines.encode())


def read_results(path: Path) -> list[Result]:
    """The results of a file that `append_results` wrote, in order; empty lines are allowed.

    Raises DataError, with the line, for anything that is no Result of this schema.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a label may hold U+2028
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected results as JSON lines") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}); expected JSON lines") from None
    numbered = enumerate(lines, start=1)
    return [_read_line(path, number, line) for number, line in numbered if line.strip()]


def _read_line(path: Path, number: int, line: str) -> Result:
    try:
        record = json.loads(line)
        schema = record.pop("schema")
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {SCHEMA}")
        record["key"] = Key(**record["key"])
        if record["provenance"] is not None:
            record["provenance"] = Provenance(**record["provenance"])
        if record["interval"] is not None:
            low, high = record["interval"]
            record["interval"] = (float(low), float(high))
        record["value"] = float(record["value"])
        return Result(**record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}, line {number}: not a result of schema {SCHEMA} ({error}); "
            "remove the line or run the evaluation again"
        ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the lock is on the folder itself, so no file is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
