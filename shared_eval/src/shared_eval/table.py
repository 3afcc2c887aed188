"""Tables for a terminal, Markdown, CSV and JSON lines. Numbers are rounded only here."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ssvideo_core.results import SCHEMA, Result, canonical_json

from shared_eval.items import is_untrained
from shared_eval.join import Block, Cell, Row

HEADINGS = ("method", "weights", "backbone", "input")
INTERVALS = (
    "[low, high]: 95 % interval over groups of test videos. A mean over splits has none: the "
    "splits share videos. Untrained: random weights that never saw data."
)
CSV_COLUMNS = (
    *("method", "weights", "untrained", "backbone", "modality", "dataset", "split", "protocol"),
    *("metric", "value", "low", "high", "n", "failed", "selected_on_test", "source", "fingerprint"),
    *("data_hash", "code_version", "note"),
)


@dataclass(frozen=True)
class Grid:
    """A block as text: a heading a column, then rows of the same length; notes are numbered.

    A heading may have several lines.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def percent(value: float) -> str:
    """0.623 to "62.3"."""
    return f"{100 * value:.1f}"


def cell_text(cell: Cell) -> str:
    """ "62.3 [59.9, 64.7]", or without interval where there is none."""
    if cell.interval is None:
        return percent(cell.value)
    low, high = cell.interval
    return f"{percent(cell.value)} [{percent(low)}, {percent(high)}]"


def row_texts(rows: Sequence[Row]) -> dict[Row, tuple[str, ...]]:
    """Method, weights, backbone and input of each row; what would look equal gets its digest."""
    texts = {}
    for row in rows:
        weights = row.weights
        if row.untrained and row.weights != "untrained":
            weights += " (untrained)"
        texts[row] = (row.method, weights, row.backbone, row.input)
    counts = Counter(texts.values())
    return {
        row: text if counts[text] == 1 else (text[0], f"{text[1]} #{row.encoder[:8]}", *text[2:])
        for row, text in texts.items()
    }


def grid(block: Block) -> Grid:
    """A block as text; what must be explained is followed by the number of its note."""
    notes: list[str] = []

    def marked(text: str, own: Iterable[str]) -> str:
        for note in own:
            if note not in notes:
                notes.append(note)
            text += f" ({notes.index(note) + 1})"
        return text

    def text(cell: Cell | None) -> str:
        return "" if cell is None else marked(cell_text(cell), cell.notes)

    titles = [marked(c.title, [block.notes[c]] if c in block.notes else []) for c in block.columns]
    names = row_texts(block.rows)
    rows = tuple(
        (*names[row], *(text(block.cells.get((row, column))) for column in block.columns))
        for row in block.rows
    )
    return Grid(block.title, (*HEADINGS, *titles), rows, tuple(notes))


def papers_grid(papers: Iterable[Result]) -> Grid:
    """Numbers of papers that stand beside no row, one a line."""
    rows = tuple(
        (
            *(p.key.method, p.key.weights, p.key.backbone, p.key.modality, p.key.dataset),
            *(p.key.split, p.key.protocol, p.key.metric, str(p.details["stated"])),
            "; ".join(filter(None, [p.source, str(p.details["note"])])),
        )
        for p in papers
    )
    return Grid(
        "In the papers: their data, weights and protocols, not comparable with the tables above; "
        "in %",
        (*HEADINGS, "dataset", "split", "protocol", "metric", "value", "source"),
        rows,
        (),
    )


def as_text(grids: Iterable[Grid]) -> str:
    """For a terminal: columns lined up, one empty line between tables."""
    parts = []
    for each in grids:
        notes = [f"  ({number}) {note}" for number, note in enumerate(each.notes, start=1)]
        parts.append("\n".join([each.title, *_text_table(each), *notes]) + "\n")
    return "\n".join(parts)


def as_markdown(grids: Iterable[Grid]) -> str:
    """GitHub's Markdown."""
    parts = []
    for each in grids:
        notes = [
            f"\n({number}) {_markdown(note)}" for number, note in enumerate(each.notes, start=1)
        ]
        title = f"### {_markdown(each.title)}\n"
        parts.append("\n".join([title, *_markdown_table(each), *notes]) + "\n")
    return "\n".join(parts)


def _text_table(table: Grid) -> list[str]:
    stacked = [heading.split("\n") for heading in table.headings]
    height = max(map(len, stacked))
    heads = list(zip(*([""] * (height - len(s)) + s for s in stacked), strict=True))
    widths = [max(map(len, column)) for column in zip(*heads, *table.rows, strict=True)]
    padded = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [*heads, *table.rows]
    ]
    return [*padded[:height], "-" * (sum(widths) + 2 * len(widths) - 2), *padded[height:]]


def _markdown_table(table: Grid) -> list[str]:
    lines = [table.headings, ("---",) * len(table.headings), *table.rows]
    return ["| " + " | ".join(_markdown(text) for text in line) + " |" for line in lines]


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\|*_`<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def as_csv(results: Iterable[Result]) -> str:
    """One line a number, values as fractions in full; results and papers alike."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(result) for result in results)
    return text.getvalue()


def _csv_row(result: Result) -> Mapping[str, object]:
    low, high = result.interval or ("", "")
    made = result.provenance
    return {
        **asdict(result.key),
        "untrained": _yes(is_untrained(result.key.weights)),
        "value": result.value,
        "low": low,
        "high": high,
        "n": "" if result.n is None else result.n,
        "failed": result.failed,
        "selected_on_test": _yes(result.selected_on_test),
        "source": result.source,
        "fingerprint": made.fingerprint if made else "",
        "data_hash": made.data_hash if made else "",
        "code_version": made.code_version if made else "",
        "note": result.details.get("note", ""),
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def as_json_lines(results: Iterable[Result]) -> str:
    """The lines that `results.read_results` reads."""
    return "".join(canonical_json({"schema": SCHEMA, **asdict(r)}) + "\n" for r in results)
