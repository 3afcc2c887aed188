"""Everything that is written about results: terminal, table.csv, table.md, report.html."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ssvideo_core.files import write_text
from ssvideo_core.results import Result

from shared_eval.join import ALL_METRICS, join, other_papers
from shared_eval.papers import paper_results
from shared_eval.record import Invocation
from shared_eval.report import html
from shared_eval.table import INTERVALS, Grid, as_csv, as_markdown, as_text, grid, papers_grid

MATCHING, ALL, NONE = "matching", "all", "none"


def grids(
    results: Sequence[Result], *, papers: str = MATCHING, metrics: Sequence[str] = ()
) -> list[Grid]:
    """The tables of these results.

    papers: "matching" puts the papers' numbers beside the rows they belong to, "all" adds a table
    of the methods' other numbers, "none" leaves them out. metrics: as in `join`.
    """
    stated = () if papers == NONE else paper_results()
    blocks = join(results, stated, metrics=metrics)
    others = other_papers(blocks, stated) if papers == ALL else []
    return [*map(grid, blocks), *([papers_grid(others)] if others else [])]


def papers_of(results: Sequence[Result], papers: str) -> list[Result]:
    """The papers' numbers that `grids` shows with these results, of every metric."""
    blocks = join(results, paper_results(), metrics=[ALL_METRICS])
    methods = {result.key.method for result in results}
    others = other_papers(blocks, paper_results())
    left_out = {MATCHING: others, ALL: [], NONE: paper_results()}[papers]
    return [p for p in paper_results() if p.key.method in methods and p not in left_out]


def write_tables(
    folder: Path, results: Sequence[Result], invocations: Sequence[Invocation] = ()
) -> None:
    """table.csv, table.md and report.html in `folder`, each whole or not at all.

    All metrics are in them; the CSV also has every number of the methods' papers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = join(results, paper_results(), metrics=[ALL_METRICS])
    write_text(folder / "table.csv", as_csv([*results, *papers_of(results, ALL)]))
    write_text(folder / "table.md", as_markdown(map(grid, every)) + f"\n{INTERVALS}\n")
    page = html(
        join(results, paper_results()),
        every,
        other_papers(every, paper_results()),
        results,
        invocations,
    )
    write_text(folder / "report.html", page)


def show(
    run: Path, results: Sequence[Result], invocations: Sequence[Invocation], *, papers: str
) -> None:
    """Write the tables of a run folder and print them, then what the last command did not do."""
    write_tables(run, results, invocations)
    print()
    print(as_text(grids(results, papers=papers)) or "there are no results\n")
    print(INTERVALS)
    for problem in invocations[-1].problems:
        print(f"not done: {problem}", file=sys.stderr)
    print(run / "report.html")
