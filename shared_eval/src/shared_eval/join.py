"""Which numbers may stand in one table.

A block is one data set, protocol (with its version and views) and metric; its columns are splits,
its rows encoders. A paper's number stands beside a row when data set, method, weights, modality and
metric are the same; papers use protocols of their own, so it gets a column that names it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssvideo_core.datasets.official import OFFICIAL_COUNTS
from ssvideo_core.protocols import PROTOCOLS
from ssvideo_core.results import Result, canonical_json

from shared_eval.items import is_untrained
from shared_eval.papers import MEAN

RUN, PAPER = "run", "paper"
ALL_METRICS = "all"


@dataclass(frozen=True)
class Row:
    """One encoder.

    input: modality and size of a clip. encoder: hex digest of its tensors, clip and output, "" if
    unknown; it keeps apart what has the same names.
    """

    method: str
    weights: str
    backbone: str
    modality: str
    input: str
    encoder: str

    @property
    def untrained(self) -> bool:
        """Whether the weights never saw data."""
        return is_untrained(self.weights)

    @property
    def order(self) -> tuple[Any, ...]:
        """By method and modality, untrained weights before trained ones."""
        place = (self.method, self.modality, not self.untrained)
        return (*place, self.weights, self.backbone, self.input, self.encoder)


@dataclass(frozen=True)
class Column:
    """kind: RUN; MEAN over the splits of a row; or PAPER, whose protocol may be another one."""

    kind: str
    split: str
    protocol: str

    @property
    def title(self) -> str:
        """What stands above the column; a paper's takes two lines."""
        split = self.split if self.split == MEAN else f"split {self.split}"
        return split if self.kind != PAPER else f"paper: {self.protocol}\n{split}"


@dataclass(frozen=True)
class Cell:
    """One number, a fraction, with what must be said about it."""

    value: float
    interval: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """One table: cells by row and column, absent where there is no number; notes of columns."""

    dataset: str
    protocol: str
    metric: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Row, Column], Cell]
    notes: Mapping[Column, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Data set, what was measured and how."""
        name = self.protocol.partition("/")[0]
        about = f"{PROTOCOLS[name].title}, " if name in PROTOCOLS else ""
        return f"{self.dataset}: {about}{self.protocol}, {self.metric} in %"


def join(
    results: Iterable[Result],
    papers: Sequence[Result] = (),
    *,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> list[Block]:
    """Blocks of all results, with the papers' numbers that belong beside them.

    datasets, metrics: only these; all data sets if empty, and of each common protocol its first
    metric, of others all ("all" for all of all). Of several results with one key and encoder, the
    last is shown and the others are counted in its notes.
    """
    grouped: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        key = result.key
        if (not datasets or key.dataset in datasets) and _is_wanted(key, metrics):
            grouped[key.dataset, key.protocol, key.metric].append(result)
    order = {name: number for number, name in enumerate(PROTOCOLS)}

    def place(names: tuple[str, str, str]) -> tuple[Any, ...]:
        dataset, protocol, metric = names
        return (
            dataset,
            order.get(protocol.partition("/")[0], len(order)),
            protocol,
            _natural(metric),
        )

    return [_block(*names, grouped[names], papers) for names in sorted(grouped, key=place)]


def _is_wanted(key: Any, metrics: Sequence[str]) -> bool:
    if metrics:
        return ALL_METRICS in metrics or key.metric in metrics
    name = key.protocol.partition("/")[0]
    return name not in PROTOCOLS or key.metric == PROTOCOLS[name].metrics[0]


def _natural(metric: str) -> tuple[str, int]:
    """recall@5 before recall@10."""
    name, _, k = metric.partition("@")
    return name, int(k) if k.isdecimal() else 0


def row_of(result: Result) -> Row:
    """The row in which a result stands."""
    key, made = result.key, result.provenance
    encoder = ""
    if made is not None:
        parts = [made.fingerprint, made.clip, made.options.get("output"), made.fidelity]
        encoder = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    clip = made.clip if made is not None else {}
    return Row(
        key.method, key.weights, key.backbone, key.modality, _input(key.modality, clip), encoder
    )


def _input(modality: str, clip: Mapping[str, Any]) -> str:
    """ "rgb 8×56²", frames and pixels a side; "sound 2 s"; the modality if no more is known."""
    time, pixels = clip.get("time") or {}, clip.get("pixels") or {}
    if "num_samples" in time:
        return f"{modality} {time['num_samples'] / time['rate_hz']:.3g} s"
    if "num_frames" in time and "size" in pixels:
        return f"{modality} {time['num_frames']}×{pixels['size']}²"
    return modality


def _block(
    dataset: str, protocol: str, metric: str, results: Sequence[Result], papers: Sequence[Result]
) -> Block:
    found: dict[tuple[Row, str], list[Result]] = defaultdict(list)
    for result in results:
        found[row_of(result), result.key.split].append(result)
    rows = sorted({row for row, _ in found}, key=lambda row: row.order)
    splits = sorted({split for _, split in found}, key=lambda s: (not s.isdecimal(), len(s), s))
    cells = {
        (row, Column(RUN, split, protocol)): _cell(several)
        for (row, split), several in found.items()
    }
    columns = [Column(RUN, split, protocol) for split in splits]
    notes = {column: note for column in columns if (note := _different_videos(column, found))}
    mean = Column(MEAN, MEAN, protocol)
    if means := _means(dataset, rows, columns, cells):
        columns.append(mean)
        cells |= {(row, mean): cell for row, cell in means.items()}
    beside = _beside(dataset, metric, rows, columns, papers)
    columns += sorted({c for _, c in beside}, key=lambda c: (c.protocol, c.split))
    return Block(dataset, protocol, metric, tuple(rows), tuple(columns), cells | beside, notes)


def _cell(several: Sequence[Result]) -> Cell:
    last, notes = several[-1], []
    if last.failed:
        notes.append(f"{last.failed} videos of the split could not be used and are left out")
    if last.selected_on_test:
        notes.append("the best of several, selected by this very number on the test split")
    digests = {r.provenance.digest if r.provenance else "" for r in several}
    if len(digests) > 1:
        notes.append(f"the last of {len(digests)} results with this key; table.csv has all")
    return Cell(last.value, last.interval, tuple(notes))


def _different_videos(
    column: Column, found: Mapping[tuple[Row, str], Sequence[Result]]
) -> str | None:
    last = [several[-1] for (_, split), several in found.items() if split == column.split]
    hashes = {result.provenance.data_hash for result in last if result.provenance}
    if len(hashes) < 2:
        return None
    return (
        "its rows are not about the same videos: the lists, the labels, the groups or the videos "
        "that could not be used differ"
    )


def _means(
    dataset: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    cells: Mapping[tuple[Row, Column], Cell],
) -> dict[Row, Cell]:
    """Of rows that have every split: of the official three, or of all that any row has."""
    splits = {column.split for column in columns}
    if len(splits) < 2 or (dataset in OFFICIAL_COUNTS and not {"1", "2", "3"} <= splits):
        return {}
    means = {}
    for row in rows:
        values = [cells[row, column].value for column in columns if (row, column) in cells]
        if len(values) == len(columns):
            means[row] = Cell(sum(values) / len(values))
    return means


def _beside(
    dataset: str,
    metric: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    papers: Sequence[Result],
) -> dict[tuple[Row, Column], Cell]:
    """The papers' numbers of these rows; of several splits, those that this block shows."""
    shown = {column.split for column in columns}
    cells: dict[tuple[Row, Column], Cell] = {}
    for row in rows:
        stated: dict[str, list[Result]] = defaultdict(list)
        for paper in papers:
            key = paper.key
            if (key.dataset, key.metric, key.method) == (dataset, metric, row.method) and (
                (key.weights, key.modality) == (row.weights, row.modality)
            ):
                stated[key.protocol].append(paper)
        for protocol, several in stated.items():
            same = [paper for paper in several if paper.key.split in shown]
            means = [paper for paper in same if paper.key.split == MEAN]
            for paper in means or same or several:
                place = row, Column(PAPER, paper.key.split, protocol)
                cells[place] = _paper_cell(paper, cells.get(place))
    return cells


def _paper_cell(paper: Result, before: Cell | None) -> Cell:
    """A stated number; where a source states two, the first, and the second in its notes."""
    if before is not None:
        again = f"{paper.source}, {paper.details['model']}: {paper.details['stated']}"
        return Cell(before.value, None, (*before.notes, again))
    note = paper.details["note"]
    return Cell(paper.value, None, (f"{paper.source}: {note}",) if note else ())


def other_papers(blocks: Sequence[Block], papers: Sequence[Result]) -> list[Result]:
    """The numbers of papers about the methods of these blocks that stand beside no row."""
    methods = {row.method for block in blocks for row in block.rows}
    beside = {
        (row.method, row.weights, row.modality, block.dataset, block.metric, c.protocol, c.split)
        for block in blocks
        for row, c in block.cells
        if c.kind == PAPER
    }

    def names(key: Any) -> tuple[str, ...]:
        first = (key.method, key.weights, key.modality)
        return (*first, key.dataset, key.metric, key.protocol, key.split)

    return [p for p in papers if p.key.method in methods and names(p.key) not in beside]
