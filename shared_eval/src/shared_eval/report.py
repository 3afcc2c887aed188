"""One page about a comparison: everything inline, no scripts, nothing loaded, all text escaped.

The same results give the same bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

from ssvideo_core.errors import ConfigError
from ssvideo_core.protocols import parse_protocol
from ssvideo_core.results import Result

from shared_eval.items import is_untrained
from shared_eval.join import Block
from shared_eval.plot import svg
from shared_eval.record import Extracted, Invocation
from shared_eval.table import INTERVALS, Grid, grid, papers_grid

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
LEGEND = (
    "Dot and line: value and 95 % interval, one a split. Upright stroke: mean over splits. Hollow "
    "diamond: the paper's number, by its own protocol. Grey: untrained."
)


def html(
    blocks: Sequence[Block],
    every: Sequence[Block],
    papers: Sequence[Result],
    results: Sequence[Result],
    invocations: Sequence[Invocation],
) -> str:
    """The page.

    blocks: tables with pictures, at the top. every: tables of all metrics. papers: numbers that
    stand beside no row. results: for their provenance. invocations: what was done.
    """
    datasets = sorted({block.dataset for block in every} | {i.dataset for i in invocations})
    title = f"Methods compared on {', '.join(datasets) or 'nothing yet'}"
    sections = [
        *_problems(invocations),
        *_results(blocks),
        *_done(invocations),
        *_more(blocks, every),
        *_papers(papers),
        *_provenance(results),
        *_commands(invocations),
    ]
    style = resources.files("shared_eval").joinpath("data", "report.css").read_text("utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            *sections,
            "</body>",
            "</html>",
            "",
        ]
    )


def _problems(invocations: Sequence[Invocation]) -> Iterator[str]:
    problems = [problem for invocation in invocations for problem in invocation.problems]
    if problems:
        yield '<section class="problems">'
        yield "<h2>Not done</h2>"
        yield "<ul>"
        for problem in problems:
            where = f"<b>{escape(problem.subject)}</b>, {escape(problem.step)}"
            yield f"<li>{where}: <span>{escape(problem.message)}</span></li>"
        yield "</ul>"
        yield "</section>"


def _results(blocks: Sequence[Block]) -> Iterator[str]:
    yield "<section>"
    yield "<h2>Results</h2>"
    for block in blocks:
        yield f"<h3>{escape(block.title)}</h3>"
        yield f"<figure>{svg(block)}</figure>"
        yield from _table(grid(block))
    if blocks:
        yield f'<p class="small">{escape(INTERVALS)}<br>{escape(LEGEND)}</p>'
    else:
        yield "<p>There are no results.</p>"
    for name in dict.fromkeys(block.protocol for block in blocks):
        if about := _about(name):
            yield f'<p class="small"><b>{escape(name)}</b>: {escape(about)}</p>'
    yield "</section>"


def _about(protocol: str) -> str:
    try:
        return parse_protocol(protocol).protocol.description
    except ConfigError:  # a method's own
        return ""


def _done(invocations: Sequence[Invocation]) -> Iterator[str]:
    if not invocations:
        return
    yield "<section>"
    yield "<h2>What was run</h2>"
    for invocation in invocations:
        splits = "; ".join(
            f"split {name}: {train} training, {test} test"
            for name, (train, test) in invocation.splits.items()
        )
        yield (
            f"<p><b>{escape(invocation.dataset)}</b>: {invocation.videos} videos, "
            f"{invocation.classes} classes; {escape(splits)}. "
            f"{escape(', '.join(invocation.protocols))}.</p>"
        )
        yield from _table(_extractions(invocation.extracted))
    yield "<ul>"
    extracted = [e for invocation in invocations for e in invocation.extracted]
    for about in dict.fromkeys([*map(_method, extracted), *map(_software, extracted)]):
        yield f"<li>{escape(about)}</li>"
    yield "</ul>"
    yield "</section>"


def _method(extracted: Extracted) -> str:
    papers = f", arXiv {', '.join(extracted.arxiv)}" if extracted.arxiv else ""
    return f"{extracted.method}: {extracted.title} ({extracted.framework}{papers})"


def _software(extracted: Extracted) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in extracted.versions.items())
    return f"Features made with {versions}"


def _extractions(extracted: Sequence[Extracted]) -> Grid:
    headings = (
        *("method", "weights", "licence", "modality", "views", "features", "videos"),
        *("unreadable", "no sound"),
    )
    rows = tuple(
        (
            *(e.method, _weights(e), e.licence, e.modality, "×".join(map(str, e.views))),
            *(str(e.feature_size), str(e.videos), str(e.bad), str(e.no_sound)),
        )
        for e in extracted
    )
    return Grid("", headings, rows, ())


def _weights(extracted: Extracted) -> str:
    untrained = is_untrained(extracted.label) and extracted.label != "untrained"
    return f"{extracted.label} (untrained)" if untrained else extracted.label


def _more(blocks: Sequence[Block], every: Sequence[Block]) -> Iterator[str]:
    shown = {(block.dataset, block.protocol, block.metric) for block in blocks}
    further = [b for b in every if (b.dataset, b.protocol, b.metric) not in shown]
    if further:
        yield "<details><summary>Further metrics</summary>"
        for block in further:
            yield f"<h3>{escape(block.title)}</h3>"
            yield from _table(grid(block))
        yield "</details>"


def _papers(papers: Sequence[Result]) -> Iterator[str]:
    if papers:
        table = papers_grid(papers)
        yield "<details><summary>The papers' other numbers</summary>"
        yield f"<p>{escape(table.title)}.</p>"
        yield from _table(table)
        yield "</details>"


def _provenance(results: Sequence[Result]) -> Iterator[str]:
    made = [(result.key, result.provenance) for result in results if result.provenance]
    if made:
        headings = ("number", "encoder", "videos and split", "all of it", "software")
        rows = tuple(
            dict.fromkeys(
                (
                    f"{key.method} {key.weights} {key.modality}, {key.dataset} split {key.split}, "
                    f"{key.protocol}",
                    *(p.fingerprint[:16], p.data_hash[:16], p.digest[:16], p.code_version),
                )
                for key, p in made
            )
        )
        yield "<details><summary>Provenance</summary>"
        yield "<p>The first 16 digits of each sha256; results.jsonl has all of them.</p>"
        yield from _table(Grid("", headings, rows, ()))
        yield "</details>"


def _commands(invocations: Sequence[Invocation]) -> Iterator[str]:
    if invocations:
        lines = "\n".join(shlex.join(invocation.command) for invocation in invocations)
        yield "<section>"
        yield "<h2>To repeat it</h2>"
        yield f"<pre>{escape(lines)}</pre>"
        yield "</section>"


def _table(table: Grid) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield f"<thead>{_cells('th', table.headings)}</thead>"
    yield "<tbody>"
    yield from (_cells("td", row) for row in table.rows)
    yield "</tbody></table></div>"
    if table.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
        yield f'<ol class="small notes">{items}</ol>'


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"
