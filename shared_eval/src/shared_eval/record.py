"""What was done in a run folder: who asked for what, what was extracted, what failed.

`run.json` has one entry a command; giving the same command again replaces its entry.
`evaluated.jsonl` says which evaluations are in results.jsonl, so that none is computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ssvideo_core.datasets.splits import Split
from ssvideo_core.errors import DataError
from ssvideo_core.feature_writer import software
from ssvideo_core.features import FeatureSet
from ssvideo_core.files import write_text
from ssvideo_core.results import Result, append_results, canonical_json, read_results
from ssvideo_core.runs import append_json_line

SCHEMA = 1
RESULTS, EVALUATED, RUN = "results.jsonl", "evaluated.jsonl", "run.json"
DESCRIBE, EXTRACT = "describe", "extract"


@dataclass(frozen=True)
class Problem:
    """What could not be done. subject: method@label; step: DESCRIBE, EXTRACT or an evaluation."""

    subject: str
    step: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}, {self.step}: {self.message}"


@dataclass(frozen=True)
class Extracted:
    """One feature folder. licence: of the weights; others: as in the folder's features.json."""

    method: str
    title: str
    framework: str
    arxiv: tuple[str, ...]
    label: str
    licence: str
    modality: str
    views: tuple[int, int]
    clip: Mapping[str, Any]
    feature_size: int
    fingerprint: str
    folder: str
    videos: int
    bad: int
    no_sound: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Invocation:
    """One `shared_eval run`. command: as typed. splits: name to (training, test) videos."""

    command: tuple[str, ...]
    data: str
    dataset: str
    videos: int
    classes: int
    splits: Mapping[str, tuple[int, int]]
    protocols: tuple[str, ...]
    extracted: tuple[Extracted, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_invocations(run: Path) -> list[Invocation]:
    """What was done in this folder, in order; empty where nothing was.

    Raises DataError when run.json is not what `write_invocation` wrote.
    """
    path = run / RUN
    if not path.exists():
        return []
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}, this version reads {SCHEMA}")
        return [_read(entry) for entry in record["invocations"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not the record of a run ({error}); choose another --out"
        ) from None


def _read(entry: Mapping[str, Any]) -> Invocation:
    lists = {
        "command": tuple(entry["command"]),
        "protocols": tuple(entry["protocols"]),
        "splits": {name: tuple(counts) for name, counts in entry["splits"].items()},
        "extracted": tuple(
            Extracted(**{**e, "views": tuple(e["views"]), "arxiv": tuple(e["arxiv"])})
            for e in entry["extracted"]
        ),
        "problems": tuple(Problem(**p) for p in entry["problems"]),
    }
    return Invocation(**{**entry, **lists})


def write_invocation(run: Path, invocation: Invocation) -> list[Invocation]:
    """Add one entry, or replace that of the same command; returns all of them, the new one last.

    What failed in an earlier command and is extracted now is no problem any more.
    """
    solved = {f"{e.method}@{e.label}" for e in invocation.extracted}
    entries = [
        replace(entry, problems=tuple(p for p in entry.problems if not _is_solved(p, solved)))
        for entry in read_invocations(run)
        if entry.command != invocation.command
    ]
    entries.append(invocation)
    record = {"schema": SCHEMA, "invocations": [asdict(entry) for entry in entries]}
    write_text(run / RUN, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return entries


def _is_solved(problem: Problem, solved: set[str]) -> bool:
    return problem.subject in solved and problem.step in (DESCRIBE, EXTRACT)


@dataclass
class Ledger:
    """The results of a run folder, and which evaluations they are of."""

    run: Path
    results: list[Result] = field(default_factory=list)
    _evaluated: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, run: Path) -> Ledger:
        """Read what is there. DataError when results.jsonl is damaged."""
        ledger = cls(run)
        if (run / RESULTS).exists():
            ledger.results = read_results(run / RESULTS)
        path = run / EVALUATED
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
                ledger._evaluated[entry["task"]] = entry["results"]
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a killed process: that evaluation is done again
        return ledger

    def has(self, task: str) -> bool:
        """Whether every result of this evaluation is in results.jsonl."""
        there = {_identity(result) for result in self.results}
        return task in self._evaluated and there.issuperset(self._evaluated[task])

    def add(self, task: str, results: Sequence[Result]) -> None:
        """Store the results of an evaluation, except those that are there already."""
        there = {_identity(result) for result in self.results}
        new = [result for result in results if _identity(result) not in there]
        if new:
            append_results(self.run / RESULTS, new)
        identities = [_identity(result) for result in results]
        append_json_line(self.run / EVALUATED, {"task": task, "results": identities})
        self.results += new
        self._evaluated[task] = identities


def evaluation(features: FeatureSet, label: str, split: Split, protocol: str) -> str:
    """Digest of all that an evaluation depends on."""
    parts = [
        features.info.request,
        sorted(features.failed),
        label,
        asdict(split),
        protocol,
        software()["ssvideo-core"],
    ]
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def _identity(result: Result) -> str:
    digest = result.provenance.digest if result.provenance else ""
    return hashlib.sha256(canonical_json([asdict(result.key), digest]).encode()).hexdigest()
